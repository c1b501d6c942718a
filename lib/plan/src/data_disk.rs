//! Data disk: which disk holds this machine's data, and whether one may be made to.
//!
//! Law 5: a disk is written only with a permit: it is blank, it is ours and was never born, or a person named it. Law 9:
//! a disk that state names and that is missing is waited for; nothing takes its place. Whatever is refused is only read.

use crate::Settings;
use crate::action::Action;
use crate::claim::Choice;
use crate::disk::{Content, Data, Disk, Proof};
use crate::facts::Facts;
use crate::restore::lost_disk;
use crate::step::{Decision, tell};
use crate::{claim, cluster, home, identity};
use bakelite_spec::appliance::{Claim, Storage, WithoutDisk};
use bakelite_spec::fault::{Code, Fault};
use bakelite_spec::records::{DiskName, Home};
use serde::{Deserialize, Serialize};

/// Which disks there are and since when, for this boot.
pub const DEVICES: &str = "/run/bakelite/devices.json";
/// However often disks come and go, it is decided after so many times `storage.settle`.
const AT_MOST: u64 = 3;

/// Since when the disks are the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Devices {
    disks: Vec<String>,
    /// Seconds since the kernel started, at the first look.
    first: u64,
    /// The same, at the last change.
    since: u64,
}

/// Decides about the data disk.
pub fn decide(facts: &Facts, settings: &Settings) -> Decision {
    if !facts.state_is_durable {
        return Decision::Skip("without a state partition no data disk is used".into());
    }
    if facts.vanished {
        return vanished();
    }
    if let Some((disk, _)) = facts.attached() {
        return Decision::Done(format!("{} is the data disk", disk.words()));
    }
    let home = home::of(facts);
    let needed = home.as_ref().and_then(Home::needs);
    let ours: Vec<(&Disk, &Data)> = facts.data_partitions().filter(|(_, data)| data.born).collect();
    let is_needed = |data: &Data| needed.is_some_and(|needed| needed.guid == data.guid);
    if let [(disk, data)] = ours[..]
        && is_needed(data)
    {
        return attach(disk, data);
    }
    let unseen: Vec<_> = ours.iter().filter(|(_, data)| data.content.is_none() && data.damaged.is_none()).collect();
    if !unseen.is_empty() {
        let actions = unseen.iter().map(|(_, data)| Action::LookInto { guid: data.guid.clone() }).collect();
        return Decision::Run("looking into the data disks that are here".into(), actions);
    }
    match needed {
        Some(needed) => known(facts, settings, &ours, needed, home.as_ref().map_or(0, |home| home.epoch)),
        None if !ours.is_empty() => found(facts, settings, &ours),
        None => claim(facts, settings),
    }
}

/// The disk behind the mount is gone: what k3s reads and writes there fails, and only a restart brings the mount in order.
pub(crate) fn vanished() -> Decision {
    Decision::restart_for(Fault::new(Code::DataDiskMissing, "the data disk was pulled out while it was in use"))
}

/// Whether the identity has to wait for what becomes of the data disk.
pub fn withholds(decision: &Decision) -> bool {
    matches!(decision, Decision::Run(..) | Decision::Wait(..) | Decision::Refuse(_))
}

fn attach(disk: &Disk, data: &Data) -> Decision {
    if let Some(why) = &data.damaged {
        return Decision::Refuse(Fault::new(Code::DataDiskDamaged, format!("{}: {why}", disk.words())));
    }
    let why = format!("{} is the data disk of this machine", disk.words());
    Decision::Run(why, vec![Action::Attach { guid: data.guid.clone() }])
}

fn content(data: &Data) -> Option<&Content> {
    data.content.as_ref()
}

/// State names a disk, and it isn't the only one of ours here.
fn known(facts: &Facts, settings: &Settings, ours: &[(&Disk, &Data)], needed: &DiskName, epoch: u64) -> Decision {
    let same: Vec<_> = ours.iter().filter(|(_, data)| data.guid == needed.guid).collect();
    match same[..] {
        [(disk, data)] => return attach(disk, data),
        [(one, _), (two, _), ..] => {
            let text = format!("{} and {} are copies of one data disk", one.words(), two.words());
            return Decision::Refuse(Fault::new(Code::DataDiskForeign, text));
        }
        [] => {}
    }
    // The line of the database went on elsewhere: a card from before, or one whose last write was lost.
    let node = identity::of(facts).map(|identity| identity.node);
    let newer = ours.iter().find(|(_, data)| {
        let home = content(data).and_then(|content| content.home.as_ref());
        home.is_some_and(|home| Some(&home.node) == node.as_ref() && home.epoch > epoch)
    });
    if let Some((disk, data)) = newer {
        return attach(disk, data);
    }
    if let Some(wait) = unsettled(facts, &settings.appliance.storage) {
        return wait;
    }
    let missing = format!("the data disk ({}) with this machine's cluster is missing", needed.words);
    let others: Vec<_> = facts
        .disks
        .iter()
        .filter(|disk| !disk.boot && claim::reason(disk, &settings.appliance.storage).is_none())
        .collect();
    let unproved: Vec<_> = others.iter().filter(|disk| disk.proof.is_none() && disk.data.is_none()).collect();
    if !unproved.is_empty() {
        let actions = unproved.iter().map(|disk| Action::Prove { disk: disk.key(), look_into: false }).collect();
        return Decision::Run(format!("{missing}; looking whether another one is in its place"), actions);
    }
    let other = others.into_iter().find(|disk| disk.proof == Some(Proof::Blank));
    if let Some(decision) = lost_disk::decide(facts, settings, needed, other) {
        return decision;
    }
    let fault = match other {
        Some(other) => Fault::new(Code::DataDiskReplaced, format!("{missing}; {} is not used for it", other.words())),
        None => Fault::new(Code::DataDiskMissing, missing),
    };
    let on_card = settings.appliance.storage.without_disk == Some(WithoutDisk::RunOnCard);
    if on_card && cluster::of(facts).is_none() {
        return Decision::Without(fault);
    }
    Decision::Wait(fault.text.clone(), Some(fault))
}

/// State names no disk, and there are some of ours.
fn found(facts: &Facts, settings: &Settings, ours: &[(&Disk, &Data)]) -> Decision {
    let node = identity::of(facts).map(|identity| identity.node);
    // A missing seal is written again where the disk's own record of its cluster names this node.
    let node_of = |data: &Data| {
        let content = content(data)?;
        let sealed = content.seal.as_ref().map(|seal| seal.node.clone());
        sealed.or_else(|| content.cluster.as_ref().map(|born| born.node.clone()).filter(|of| Some(of) == node.as_ref()))
    };
    let fitting: Vec<_> = match &node {
        Some(node) => ours.iter().filter(|(_, data)| node_of(data).as_ref() == Some(node)).collect(),
        None => ours.iter().filter(|(_, data)| node_of(data).is_some()).collect(),
    };
    let is_empty = |data: &Data| content(data).is_some_and(Content::is_empty);
    let used = ours.iter().filter(|(_, data)| !is_empty(data)).count();
    match fitting[..] {
        [(disk, data)] if node.is_some() || used == 1 => return attach(disk, data),
        [(one, _), (two, _), ..] => {
            let epoch = |data: &Data| content(data).and_then(|content| Some(content.home.as_ref()?.epoch));
            let mut by_epoch: Vec<_> = fitting.iter().map(|(disk, data)| (epoch(data), disk, data)).collect();
            by_epoch.sort_by_key(|(epoch, ..)| std::cmp::Reverse(*epoch));
            if let [(best, disk, data), (second, ..), ..] = by_epoch[..]
                && node.is_some()
                && best > second
            {
                return attach(disk, data);
            }
            let text = format!("{} and {} are both data disks, and only one of them can be", one.words(), two.words());
            return Decision::Refuse(Fault::new(Code::DataDiskForeign, text));
        }
        _ => {}
    }
    let storage = &settings.appliance.storage;
    if let Some((disk, data)) = ours.iter().find(|(_, data)| is_empty(data)).filter(|_| used == 0 || node.is_some()) {
        // It was made by this machine, and then the power went: it is as good as a blank one.
        let wait = unsettled(facts, storage).filter(|_| node.is_none());
        return wait.unwrap_or_else(|| attach(disk, data));
    }
    let named = |disk: &Disk| storage.serial.as_ref().is_some_and(|serial| disk.is_named(serial));
    if ours.iter().any(|(disk, _)| named(disk)) {
        return claim(facts, settings);
    }
    let Some((disk, data)) = ours.first() else { return claim(facts, settings) };
    if let Some(why) = &data.damaged {
        return Decision::Refuse(Fault::new(Code::DataDiskDamaged, format!("{}: {why}", disk.words())));
    }
    let of = node_of(data).or_else(|| content(data)?.cluster.as_ref().map(|born| born.node.clone()));
    let whose = of.map_or("has no seal that can be read".into(), |of| format!("is a data disk of {of}"));
    let who = node.map_or("a machine without an identity".into(), |node| node);
    let fault = Fault::new(Code::DataDiskForeign, format!("{} {whose}; this is {who}", disk.words()));
    if cluster::of(facts).is_some() { Decision::Without(fault) } else { Decision::Refuse(fault) }
}

/// No disk of ours is born: one may be made.
fn claim(facts: &Facts, settings: &Settings) -> Decision {
    let storage = &settings.appliance.storage;
    if identity::of(facts).is_none()
        && let Some(wait) = unsettled(facts, storage)
    {
        return wait;
    }
    let half: Vec<_> = facts.data_partitions().filter(|(_, data)| !data.born).collect();
    if let Some((disk, data)) = half.first() {
        let why = format!("{} becomes the data disk of this machine", disk.words());
        return Decision::Run(why, vec![Action::Bear { guid: data.guid.clone() }]);
    }
    let others: Vec<&Disk> = facts.disks.iter().filter(|disk| !disk.boot).collect();
    match claim::choose(&others, storage) {
        Choice::Look(disks) => {
            let look_into = storage.claim == Claim::EmptyFilesystem;
            let actions = disks.iter().map(|disk| Action::Prove { disk: disk.key(), look_into }).collect();
            Decision::Run("looking whether a disk is blank".into(), actions)
        }
        Choice::Take(disk, permit) => {
            let why = format!("{} becomes the data disk of this machine: {permit}", disk.words());
            Decision::Run(why, vec![Action::Claim { disk: disk.key() }])
        }
        Choice::None(refused) => without(storage, &refused),
    }
}

/// No disk can be the data disk.
fn without(storage: &Storage, refused: &[(&Disk, String)]) -> Decision {
    let waits = storage.without_disk == Some(WithoutDisk::Wait);
    if let Some(words) = claim::refusal(storage, refused) {
        let fault = Fault::new(Code::DataDiskRefused, format!("no disk may be used for data. {words}"));
        return if waits { Decision::Refuse(fault) } else { Decision::Without(fault) };
    }
    let beside = refused.iter().map(|(disk, why)| format!(" ({} is left alone: {why})", disk.name));
    let beside: String = beside.collect();
    if waits {
        let fault = Fault::new(
            Code::DataDiskMissing,
            format!("there is no data disk, and `storage.without-disk: wait` is set{beside}"),
        );
        return Decision::Wait(fault.text.clone(), Some(fault));
    }
    Decision::Done(format!("there is no data disk; data stays on the card{beside}"))
}

/// Waits until no disk has come or gone for some time.
pub(crate) fn unsettled(facts: &Facts, storage: &Storage) -> Option<Decision> {
    let mut disks: Vec<String> = facts.disks.iter().map(|disk| format!("{} {}", disk.name, disk.key())).collect();
    disks.sort();
    let known: Option<Devices> = facts.file(DEVICES).and_then(|text| serde_json::from_str(text).ok());
    let Some(known) = known.clone().filter(|known| known.disks == disks) else {
        let first = known.map_or(facts.uptime, |known| known.first);
        let devices = Devices { disks, first, since: facts.uptime };
        let action = tell(facts, DEVICES, serde_json::to_string(&devices).unwrap_or_default(), 0o644)?;
        return Some(Decision::Run("noting which disks there are".into(), vec![action]));
    };
    let quiet = facts.uptime.saturating_sub(known.since);
    let all = facts.uptime.saturating_sub(known.first);
    // A second less: the next look should not come just too early.
    let waits = quiet + 1 < storage.settle.0 && all < AT_MOST * storage.settle.0;
    let left = storage.settle.0.saturating_sub(quiet);
    waits.then(|| Decision::Wait(format!("waiting whether another disk appears, {left} s"), None))
}
