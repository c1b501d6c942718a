//! Home: where the cluster's data lives, and the mounts that show it.
//!
//! Without a word of a person's it lives on the data disk, if there is one; what a person moved back to the card stays
//! there, as state says *card*, until a person moves it again. While state says *moving*, either medium may be the home, so
//! the disk is needed (law 9). A data disk of this node with the higher epoch rules, whatever the card says: as the home,
//! or, where it says that the cluster left it, against a card from before. An old copy is never started again.

mod moves;

use crate::Settings;
use crate::action::Action;
use crate::data_disk;
use crate::disk::{Data, Disk};
use crate::facts::{Amount, Facts};
use crate::step::{Decision, publish};
use crate::{identity, old_copy};
use bakelite_spec::fault::{Code, Fault};
use bakelite_spec::places::{self, Shown};
use bakelite_spec::records::{DiskHome, FORMAT, Home, Intent, Move, Place};
use bakelite_spec::status::paths;
pub use moves::fits;
use serde::Serialize;

/// State's record.
pub const HOME: &str = "/var/lib/bakelite/home.json";
/// The data disk's record.
pub const DISK_HOME: &str = "/disk/bakelite/home.json";
/// An act that isn't finished.
pub const INTENT: &str = "/var/lib/bakelite/intent.json";
/// That a copy on the data disk is whole; its text is the intent that it was made for.
pub const COPIED: &str = "/disk/bakelite/copied.json";
/// The same of a copy on the card.
pub const COPIED_ON_CARD: &str = "/var/lib/bakelite/copied.json";

/// Which move a person wants at once, in one word; k3s was stopped for it. Gone with the move, or with this boot.
pub const AT_ONCE: &str = "/run/bakelite/move-now";
/// The word for the way to the data disk, and for the way back.
pub const TO_DISK: &str = "promote";
/// See there.
pub const TO_CARD: &str = "demote";

/// Room that has to be left over after a move.
const SPARE: u64 = 1 << 30;

/// State's record, if it can be read.
pub fn of(facts: &Facts) -> Option<Home> {
    serde_json::from_str(facts.file(HOME)?).ok()
}

/// The act that isn't finished, if there is one.
pub(crate) fn intent(facts: &Facts) -> Option<Intent> {
    serde_json::from_str(facts.file(INTENT)?).ok()
}

/// A record as it is written.
pub fn json(record: &impl Serialize) -> String {
    serde_json::to_string(record).map_or_else(|_| String::new(), |text| text + "\n")
}

/// Decides where the cluster lives.
pub fn decide(facts: &Facts, settings: &Settings) -> Decision {
    if facts.has(HOME) && of(facts).is_none() {
        let text = format!("{HOME} can't be read, and where the cluster lives isn't guessed");
        return Decision::Refuse(Fault::new(Code::IdentityConflict, text));
    }
    if facts.vanished {
        return data_disk::vanished();
    }
    let Some((disk, data)) = facts.attached() else { return without(facts, settings) };
    let Some(node) = identity::of(facts).map(|identity| identity.node) else {
        return Decision::Wait("this machine has no identity yet".into(), None);
    };
    let state = of(facts);
    let on_disk = data.content.as_ref().and_then(|content| content.home.as_ref()).filter(|home| home.node == node);
    let demotes = moves::intended(facts, Move::Demotion).is_some_and(|intent| intent.disk == data.guid);
    if let Some(left) = on_disk.filter(|home| home.left)
        && !demotes
        && state.as_ref().is_none_or(|home| home.epoch < left.epoch)
    {
        let text =
            format!("the cluster of {node} went on to a card that isn't here; {} holds an older copy", disk.words());
        return Decision::Refuse(Fault::new(Code::DatabaseOlder, text));
    }
    if let Some(home) = &state
        && home.moving.is_none()
    {
        match &home.place {
            Place::Disk(name) if name.guid == data.guid => {
                if wish(facts) == Some(Move::Demotion) {
                    let demote = || moves::demote(facts, (disk, data), node.clone(), home.epoch);
                    return show(facts, disk, false).unwrap_or_else(demote);
                }
                let done = || Decision::Done(format!("k3s's data lives on {}", disk.words()));
                return unmark(facts, disk, on_disk, home).or_else(|| show(facts, disk, true)).unwrap_or_else(done);
            }
            Place::Card if !on_disk.is_some_and(|on_disk| adopts(Some(home), on_disk, data)) => {
                let promotes = wish(facts) == Some(Move::Promotion);
                return if promotes { moves::promote(facts, (disk, data), node) } else { stay(facts) };
            }
            _ => {}
        }
    }
    if let Some(on_disk) = on_disk
        && adopts(state.as_ref(), on_disk, data)
    {
        let home =
            Home { format: FORMAT, place: Place::Disk(disk.data_name(data)), moving: None, epoch: on_disk.epoch };
        let why = format!("the cluster of {node} lives on {}", disk.words());
        return Decision::Run(why, publish(facts, HOME, json(&home), 0o600).into_iter().collect());
    }
    match facts.on_card {
        Some(Amount { files: 0, .. }) | None => settle_in(facts, disk, data, node),
        Some(_) => moves::promote(facts, (disk, data), node),
    }
}

/// Which move is wished for: the one that was begun, unless a person now wants the other way, else what a person wants.
pub fn wish(facts: &Facts) -> Option<Move> {
    match facts.file(AT_ONCE).map(str::trim_end) {
        Some(TO_DISK) => Some(Move::Promotion),
        Some(TO_CARD) => Some(Move::Demotion),
        _ => intent(facts).and_then(|intent| intent.act.as_move()),
    }
}

/// Whether the data disk's word that it is the home counts.
fn adopts(state: Option<&Home>, on_disk: &DiskHome, data: &Data) -> bool {
    match state {
        _ if on_disk.left => false,
        None => true,
        Some(home) if home.moving.as_ref().is_some_and(|moving| moving.guid == data.guid) => true,
        Some(home) => on_disk.epoch > home.epoch,
    }
}

/// No data disk is in use.
fn without(facts: &Facts, settings: &Settings) -> Decision {
    match data_disk::decide(facts, settings) {
        Decision::Wait(why, fault) => Decision::Wait(why, fault),
        Decision::Refuse(fault) => Decision::Refuse(fault),
        Decision::Run(why, _) => Decision::Wait(why, None),
        _ if of(facts).is_some_and(|home| home.needs().is_none()) => stay(facts),
        _ => Decision::Done("k3s's data lives on the card".into()),
    }
}

/// A demotion that a person took back after the disk had said that the cluster left it.
fn unmark(facts: &Facts, disk: &Disk, on_disk: Option<&DiskHome>, home: &Home) -> Option<Decision> {
    let left = on_disk.filter(|on_disk| on_disk.left)?;
    let stays = DiskHome { epoch: home.epoch, left: false, ..left.clone() };
    let actions = publish(facts, DISK_HOME, json(&stays), 0o600).into_iter().collect();
    Some(Decision::Run(format!("k3s's data stays on {}", disk.words()), actions))
}

/// What isn't shown yet of a medium's folders.
fn shows<'a>(
    facts: &'a Facts,
    medium: &'a str,
    places: impl Iterator<Item = Shown> + 'a,
) -> impl Iterator<Item = Action> {
    places.filter_map(move |place| {
        let folder = format!("{medium}/{}", place.folder);
        let shown = facts.shown.get(place.at) == Some(&folder);
        (!shown).then(|| Action::Show { folder, place: place.at.into(), mode: place.mode })
    })
}

/// What a move has left behind once it is over; another act's intent is that act's own.
fn leftovers<'a>(facts: &'a Facts) -> impl Iterator<Item = Action> + 'a {
    let is_of_a_move = intent(facts).is_none_or(|intent| intent.act.as_move().is_some());
    let left = [INTENT, COPIED, COPIED_ON_CARD].into_iter().filter(move |path| is_of_a_move && facts.has(path));
    left.map(|path| Action::Remove { path: path.into() })
}

/// A promotion that came to its end leaves a mark of what is still on the card; before its intent goes.
fn marks_old_copy(facts: &Facts) -> Option<Action> {
    let promoted = moves::intended(facts, Move::Promotion)?;
    let epoch = promoted.from_epoch + 1;
    of(facts).filter(|home| home.epoch == epoch)?;
    publish(facts, old_copy::RECORD, old_copy::mark(&promoted.disk, epoch), 0o600)
}

/// The data disk is the home; `None` where it is shown already. A move that came this far is over once state says so.
fn show(facts: &Facts, disk: &Disk, over: bool) -> Option<Decision> {
    let mut actions = Vec::new();
    if over {
        actions.extend(marks_old_copy(facts));
        actions.extend(leftovers(facts));
    }
    actions.extend(shows(facts, paths::DATA_MOUNT, places::on_disk()));
    (!actions.is_empty()).then(|| Decision::Run(format!("k3s's data is shown from {}", disk.words()), actions))
}

/// The card is the home by a person's word, whatever data disk there is.
fn stay(facts: &Facts) -> Decision {
    let mut actions: Vec<Action> = leftovers(facts).collect();
    // What is on the card is the cluster itself.
    actions.extend(facts.has(old_copy::RECORD).then(|| Action::Remove { path: old_copy::RECORD.into() }));
    actions.extend(shows(facts, paths::STATE_MOUNT, places::OF_EITHER.iter().copied()));
    let of_disk =
        |place: &&Shown| facts.shown.get(place.at).is_some_and(|folder| folder.starts_with(paths::DATA_MOUNT));
    actions.extend(places::OF_DISK.iter().filter(of_disk).map(|place| Action::Hide { place: place.at.into() }));
    let done = "k3s's data lives on the card, as a person wished; `bakelite storage promote` moves it to a data disk";
    Decision::of(actions, done, "k3s's data is shown from the card")
}

/// There is nothing to move: the home is the disk from the start.
fn settle_in(facts: &Facts, disk: &Disk, data: &Data, node: String) -> Decision {
    let epoch = of(facts).map_or(0, |home| home.epoch);
    let on_disk = DiskHome { format: FORMAT, node, epoch, left: false };
    let home = Home { format: FORMAT, place: Place::Disk(disk.data_name(data)), moving: None, epoch };
    let actions = [publish(facts, DISK_HOME, json(&on_disk), 0o600), publish(facts, HOME, json(&home), 0o600)];
    let why = format!("k3s's data will live on {}", disk.words());
    Decision::Run(why, actions.into_iter().flatten().collect())
}
