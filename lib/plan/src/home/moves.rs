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
use bakelite_spec::records::{Act, DiskHome, FORMAT, Home, Intent, Place};

/// An amount for a person.
fn words(amount: Amount) -> String {
    format!("{} in {} files", Size(amount.bytes).human(), amount.files)
}

/// Why what is to move doesn't fit where it is to go. What an earlier move has left there makes room.
///
/// # Errors
/// The numbers, for a person.
pub fn fits(act: Act, disk: &str, facts: &Facts) -> Result<(), String> {
    let (on_card, on_disk) = (facts.on_card.unwrap_or_default(), facts.on_disk.unwrap_or_default());
    let (from, moves, to, room) = match act {
        Act::Promotion => ("the card", on_card, disk, facts.free_on_disk + on_disk.bytes),
        Act::Demotion => (disk, on_disk, "the card", facts.free_on_card + on_card.bytes),
        // What a set needs is compared when it is unpacked.
        Act::Restore | Act::Replacement => return Ok(()),
    };
    if moves.bytes + SPARE <= room {
        return Ok(());
    }
    let (moves, room, spare) = (words(moves), Size(room).human(), Size(SPARE).human());
    Err(format!("{from} holds {moves}, and {to} has room for {room}; {spare} have to be left over"))
}

/// A set that is being put in place comes first.
fn awaits_restore(facts: &Facts) -> Option<Decision> {
    intent(facts)
        .filter(|intent| matches!(intent.act, Act::Restore | Act::Replacement))
        .map(|_| Decision::Done("the cluster stays where it is until it is restored".into()))
}

/// What is on the card moves to the disk.
pub(super) fn promote(facts: &Facts, (disk, data): (&Disk, &Data), node: String) -> Decision {
    if let Some(waits) = awaits_restore(facts) {
        return waits;
    }
    let amount = facts.on_card.unwrap_or_default();
    let epoch = of(facts).map_or(0, |home| home.epoch);
    let from_epoch = cluster::of(facts).map_or(epoch, |born| born.epoch.max(epoch));
    let intended = intent(facts).filter(|intent| intent.act == Act::Promotion);
    let what = words(amount);
    if intended.is_none() {
        if facts.payload_ran {
            let text = format!("the cluster ({what}) moves to {} at the next boot", disk.words());
            return Decision::Done(text);
        }
        if let Err(text) = fits(Act::Promotion, &disk.words(), facts) {
            return Decision::Without(Fault::new(Code::DataDiskSmall, text));
        }
    }
    let wanted = wanted(facts, Act::Promotion, from_epoch, data);
    if intended.as_ref() != Some(&wanted) {
        let why = format!("the cluster ({what}) is to move from the card to {}", disk.words());
        return Decision::Run(why, publish(facts, INTENT, json(&wanted), 0o600).into_iter().collect());
    }
    if facts.file(COPIED) != Some(json(&wanted).as_str()) {
        let why = format!("the cluster ({what}) moves from the card to {}", disk.words());
        return Decision::Run(why, vec![Action::CopyHome { act: Act::Promotion, amount }]);
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
    if let Some(waits) = awaits_restore(facts) {
        return waits;
    }
    let amount = facts.on_disk.unwrap_or_default();
    let intended = intent(facts).filter(|intent| intent.act == Act::Demotion);
    let what = words(amount);
    if intended.is_none()
        && let Err(text) = fits(Act::Demotion, &disk.words(), facts)
    {
        return Decision::Without(Fault::new(Code::CardSmall, text));
    }
    let wanted = wanted(facts, Act::Demotion, from_epoch, data);
    if intended.as_ref() != Some(&wanted) {
        let why = format!("the cluster ({what}) is to move from {} to the card", disk.words());
        return Decision::Run(why, publish(facts, INTENT, json(&wanted), 0o600).into_iter().collect());
    }
    if facts.file(COPIED_ON_CARD) != Some(json(&wanted).as_str()) {
        let why = format!("the cluster ({what}) moves from {} to the card", disk.words());
        return Decision::Run(why, vec![Action::CopyHome { act: Act::Demotion, amount }]);
    }
    let epoch = from_epoch + 1;
    let left = DiskHome { format: FORMAT, node, epoch, left: true };
    let there = Home { format: FORMAT, place: Place::Card, moving: None, epoch };
    let switch = [publish(facts, DISK_HOME, json(&left), 0o600), publish(facts, HOME, json(&there), 0o600)];
    let why = "the copy is whole, and the card becomes the cluster's home".into();
    Decision::Run(why, switch.into_iter().flatten().collect())
}

/// If k3s ran meanwhile, a copy that was begun before is of no use: the revision tells.
fn wanted(facts: &Facts, act: Act, from_epoch: u64, data: &Data) -> Intent {
    let revision = facts.database.as_ref().map_or(0, |database| database.revision);
    Intent { format: FORMAT, act, from_epoch, disk: data.guid.clone(), revision, set: String::new() }
}
