//! Home: where the cluster's data lives, the mounts that show it, and the move from the card to a data disk.
//!
//! The switch of a move is three durable writes: state says *moving*, the disk says *home*, state says *there*. While
//! state says *moving*, either medium may be the home, so the disk is needed (law 9). A data disk of this node with the
//! higher epoch is the home, whatever the card says. The old copy on the card stays and is never started again.

use crate::Settings;
use crate::action::Action;
use crate::data_disk;
use crate::disk::{Data, Disk};
use crate::facts::{Amount, Facts};
use crate::identity;
use crate::step::{Decision, publish};
use bakelite_spec::fault::{Code, Fault};
use bakelite_spec::places;
use bakelite_spec::quantity::Size;
use bakelite_spec::records::{Act, DiskHome, FORMAT, Home, Intent, Place};
use bakelite_spec::status::paths;
use serde::Serialize;

/// State's record.
pub const HOME: &str = "/var/lib/bakelite/home.json";
/// The data disk's record.
pub const DISK_HOME: &str = "/disk/bakelite/home.json";
/// An act that isn't finished.
pub const INTENT: &str = "/var/lib/bakelite/intent.json";
/// That a copy on the data disk is whole; its text is the intent that it was made for.
pub const COPIED: &str = "/disk/bakelite/copied.json";

/// That a person wants the move at once; k3s was stopped for it. Gone with the move, or with this boot.
pub const AT_ONCE: &str = "/run/bakelite/promote-now";

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
pub(crate) fn json(record: &impl Serialize) -> String {
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
    let there = state.as_ref().is_some_and(|home| {
        home.moving.is_none() && matches!(&home.place, Place::Disk(name) if name.guid == data.guid)
    });
    if there {
        return show(facts, disk);
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
        Some(amount) => promote(facts, (disk, data), node, amount),
    }
}

/// Whether the data disk's word that it is the home counts.
fn adopts(state: Option<&Home>, on_disk: &DiskHome, data: &Data) -> bool {
    match state {
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
        _ => Decision::Done("k3s's data lives on the card".into()),
    }
}

/// The data disk is the home.
fn show(facts: &Facts, disk: &Disk) -> Decision {
    let shows = places::on_disk().filter_map(|place| {
        let folder = format!("{}/{}", paths::DATA_MOUNT, place.folder);
        let shown = facts.shown.get(place.at) == Some(&folder);
        (!shown).then(|| Action::Show { folder, place: place.at.into(), mode: place.mode })
    });
    // A move that came this far is over once state says so.
    let mut actions: Vec<Action> = Vec::new();
    let is_of_a_move = intent(facts).is_none_or(|intent| intent.act == Act::Promotion);
    for path in [INTENT, COPIED] {
        if facts.has(path) && is_of_a_move {
            actions.push(Action::Remove { path: path.into() });
        }
    }
    actions.extend(shows);
    let words = disk.words();
    Decision::of(actions, format!("k3s's data lives on {words}"), format!("k3s's data is shown from {words}"))
}

/// There is nothing to move: the home is the disk from the start.
fn settle_in(facts: &Facts, disk: &Disk, data: &Data, node: String) -> Decision {
    let epoch = of(facts).map_or(0, |home| home.epoch);
    let on_disk = DiskHome { format: FORMAT, node, epoch };
    let home = Home { format: FORMAT, place: Place::Disk(disk.data_name(data)), moving: None, epoch };
    let actions = [publish(facts, DISK_HOME, json(&on_disk), 0o600), publish(facts, HOME, json(&home), 0o600)];
    let why = format!("k3s's data will live on {}", disk.words());
    Decision::Run(why, actions.into_iter().flatten().collect())
}

/// What is on the card moves to the disk.
fn promote(facts: &Facts, (disk, data): (&Disk, &Data), node: String, amount: Amount) -> Decision {
    let state = of(facts);
    let from_epoch = state.as_ref().map_or(0, |home| home.epoch);
    let intended = intent(facts);
    if intended.as_ref().is_some_and(|intent| intent.act != Act::Promotion) {
        return Decision::Done("the cluster stays on the card until it is restored".into());
    }
    let words = format!("{} in {} files", Size(amount.bytes).human(), amount.files);
    if intended.is_none() {
        if facts.payload_ran {
            let text = format!("the cluster ({words}) moves to {} at the next boot", disk.words());
            return Decision::Done(text);
        }
        if amount.bytes + SPARE > facts.free_on_disk {
            let free = Size(facts.free_on_disk).human();
            let text = format!(
                "the card holds {words}, and {} has {free} free; {} have to be left over",
                disk.words(),
                Size(SPARE).human()
            );
            return Decision::Without(Fault::new(Code::DataDiskSmall, text));
        }
    }
    // If k3s ran on the card meanwhile, a copy that was begun before is of no use: the revision tells.
    let revision = facts.database.as_ref().map_or(0, |database| database.revision);
    let (act, set) = (Act::Promotion, String::new());
    let wanted = Intent { format: FORMAT, act, from_epoch, disk: data.guid.clone(), revision, set };
    let intent = intended.filter(|intent| *intent == wanted);
    if intent.is_none() {
        let why = format!("the cluster ({words}) is to move from the card to {}", disk.words());
        let actions = publish(facts, INTENT, json(&wanted), 0o600).into_iter().collect();
        return Decision::Run(why, actions);
    }
    if facts.file(COPIED) != Some(json(&wanted).as_str()) {
        let why = format!("the cluster ({words}) moves from the card to {}", disk.words());
        return Decision::Run(why, vec![Action::CopyHome { amount }]);
    }
    let epoch = from_epoch + 1;
    let name = disk.data_name(data);
    let moving = Home { format: FORMAT, place: Place::Card, moving: Some(name.clone()), epoch: from_epoch };
    let on_disk = DiskHome { format: FORMAT, node, epoch };
    let there = Home { format: FORMAT, place: Place::Disk(name), moving: None, epoch };
    let switch = [publish(facts, HOME, json(&moving), 0o600), publish(facts, DISK_HOME, json(&on_disk), 0o600)];
    let last = publish(facts, HOME, json(&there), 0o600);
    let actions = switch.into_iter().chain([last]).flatten().collect();
    Decision::Run(format!("the copy is whole, and {} becomes the cluster's home", disk.words()), actions)
}
