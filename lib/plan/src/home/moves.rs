//! The two moves: promotion from the card to the data disk, demotion back. One engine, one intent, one order.
//!
//! What moves is copied whole and compared; only then three durable writes switch over. Of a promotion these are: state
//! says *moving*, the disk says *home*, state says *there*. Of a demotion: state has the intent, the disk says *left*,
//! state says *card*; until the last one the disk is needed, and what it says counts only with an epoch that is newer.

use super::{COPIED, COPIED_ON_CARD, DISK_HOME, HOME, INTENT, SPARE, intent, json, of};
use crate::action::Action;
use crate::cluster;
use crate::disk::{Data, Disk};
use crate::facts::{Amount, Facts};
use crate::step::{Decision, publish};
use bakelite_spec::fault::{Code, Fault};
use bakelite_spec::quantity::Size;
use bakelite_spec::records::{Act, DiskHome, FORMAT, Home, Intent, Move, Place};

/// An amount for a person.
fn words(amount: Amount) -> String {
    format!("{} in {} files", Size(amount.bytes).human(), amount.files)
}

/// Why what is to move doesn't fit where it is to go. What an earlier move has left there makes room.
///
/// # Errors
/// The numbers, for a person.
pub fn fits(way: Move, disk: &str, facts: &Facts) -> Result<(), String> {
    let (on_card, on_disk) = (facts.on_card.unwrap_or_default(), facts.on_disk.unwrap_or_default());
    let (from, moves, to, room) = match way {
        Move::Promotion => ("the card", on_card, disk, facts.free_on_disk + on_disk.bytes),
        Move::Demotion => (disk, on_disk, "the card", facts.free_on_card + on_card.bytes),
    };
    if moves.bytes + SPARE <= room {
        return Ok(());
    }
    let (moves, room, spare) = (words(moves), Size(room).human(), Size(SPARE).human());
    Err(format!("{from} holds {moves}, and {to} has room for {room}; {spare} have to be left over"))
}

/// The move that was begun, if it is this one.
pub(super) fn intended(facts: &Facts, way: Move) -> Option<Intent> {
    intent(facts).filter(|intent| intent.act == Act::Move(way))
}

/// What is on the card moves to the disk.
pub(super) fn promote(facts: &Facts, (disk, data): (&Disk, &Data), node: String) -> Decision {
    let from_epoch = {
        let epoch = of(facts).map_or(0, |home| home.epoch);
        cluster::of(facts).map_or(epoch, |born| born.epoch.max(epoch))
    };
    let amount = facts.on_card.unwrap_or_default();
    if let Some(decision) = copied(facts, Move::Promotion, (disk, data), amount, from_epoch) {
        return decision;
    }
    let epoch = from_epoch + 1;
    let name = disk.data_name(data);
    let moving = Home { format: FORMAT, place: Place::Card, moving: Some(name.clone()), epoch: from_epoch };
    let on_disk = DiskHome { format: FORMAT, node, epoch, left: false };
    let there = Home { format: FORMAT, place: Place::Disk(name), moving: None, epoch };
    let switch = [publish(facts, HOME, json(&moving), 0o600), publish(facts, DISK_HOME, json(&on_disk), 0o600)];
    let last = publish(facts, HOME, json(&there), 0o600);
    let actions = switch.into_iter().chain([last]).flatten().collect();
    Decision::Run(format!("the copy is whole, and {} becomes the cluster's home", disk.words()), actions)
}

/// What is on the disk, which is shown, moves back to the card, as a person wished.
pub(super) fn demote(facts: &Facts, (disk, data): (&Disk, &Data), node: String, from_epoch: u64) -> Decision {
    let amount = facts.on_disk.unwrap_or_default();
    if let Some(decision) = copied(facts, Move::Demotion, (disk, data), amount, from_epoch) {
        return decision;
    }
    let epoch = from_epoch + 1;
    let left = DiskHome { format: FORMAT, node, epoch, left: true };
    let there = Home { format: FORMAT, place: Place::Card, moving: None, epoch };
    let switch = [publish(facts, DISK_HOME, json(&left), 0o600), publish(facts, HOME, json(&there), 0o600)];
    let why = "the copy is whole, and the card becomes the cluster's home".into();
    Decision::Run(why, switch.into_iter().flatten().collect())
}

/// All of a move but the switch: the intent and the copy. `None` once the copy is whole.
fn copied(facts: &Facts, way: Move, (disk, data): (&Disk, &Data), amount: Amount, from_epoch: u64) -> Option<Decision> {
    if intent(facts).is_some_and(|intent| intent.act.as_move().is_none()) {
        return Some(Decision::Done("the cluster stays where it is until it is restored".into()));
    }
    let what = words(amount);
    let (from, to, mark, too_small) = match way {
        Move::Promotion => ("the card".to_string(), disk.words(), COPIED, Code::DataDiskSmall),
        Move::Demotion => (disk.words(), "the card".to_string(), COPIED_ON_CARD, Code::CardSmall),
    };
    let intended = intended(facts, way);
    if intended.is_none() {
        // The way back is a person's word, for which k3s was stopped; this one can wait.
        if way == Move::Promotion && facts.payload_ran {
            return Some(Decision::Done(format!("the cluster ({what}) moves to {to} at the next boot")));
        }
        if let Err(text) = fits(way, &disk.words(), facts) {
            return Some(Decision::Without(Fault::new(too_small, text)));
        }
    }
    // If k3s ran meanwhile, a copy that was begun before is of no use: the revision tells.
    let revision = facts.database.as_ref().map_or(0, |database| database.revision);
    let (act, disk) = (Act::Move(way), data.guid.clone());
    let wanted = Intent { format: FORMAT, act, from_epoch, disk, revision, set: String::new(), before: None };
    if intended.as_ref() != Some(&wanted) {
        let why = format!("the cluster ({what}) is to move from {from} to {to}");
        return Some(Decision::Run(why, publish(facts, INTENT, json(&wanted), 0o600).into_iter().collect()));
    }
    if facts.file(mark) != Some(json(&wanted).as_str()) {
        let why = format!("the cluster ({what}) moves from {from} to {to}");
        return Some(Decision::Run(why, vec![Action::CopyHome { way, amount }]));
    }
    None
}
