//! A lost data disk: a blank one in its place is claimed, and the newest set from the card is restored onto it.
//!
//! Law 9: nothing else takes a lost disk's place. The intent comes first and names the lost one: from then on the new disk
//! becomes the home, with the next epoch. Should the old one come back before that is done, nothing is restored; should it
//! come back later, it waits for a person.

use super::choose::newest_of;
use super::trial::before;
use super::{FoundSet, Source, line};
use crate::Settings;
use crate::action::Action;
use crate::cluster;
use crate::disk::{Data, Disk};
use crate::facts::Facts;
use crate::home::{self, INTENT, json};
use crate::step::{Decision, publish};
use bakelite_spec::records::{Act, DiskName, FORMAT, Intent};

/// The act, if it is under way.
fn under_way(facts: &Facts) -> Option<Intent> {
    home::intent(facts).filter(|intent| intent.act == Act::Replacement)
}

/// The newest set of this machine's own cluster on its card.
pub(super) fn newest<'a>(facts: &'a Facts, settings: &Settings) -> Option<&'a FoundSet> {
    newest_of(facts, &cluster::of(facts)?.node, &[Source::Card], settings)
}

/// Whether the disk that was lost is in use again.
pub(super) fn is_back(facts: &Facts, intent: &Intent) -> bool {
    intent.act == Act::Replacement && facts.attached().is_some_and(|(_, data)| data.guid == intent.disk)
}

/// The intent to restore a set in place of a lost disk.
pub(super) fn intend(facts: &Facts, lost: &str, found: &FoundSet) -> Option<Action> {
    let (act, disk, set) = (Act::Replacement, lost.to_string(), found.key());
    let revision = found.manifest.as_ref().map_or(0, |manifest| manifest.revision);
    let (from_epoch, before) = (line(facts), Some(before(facts)));
    publish(facts, INTENT, json(&Intent { format: FORMAT, act, from_epoch, disk, revision, set, before }), 0o600)
}

/// Decides about the disks that are here while the one that state names is missing; `None` where nothing can be done.
pub fn decide(facts: &Facts, settings: &Settings, lost: &DiskName, blank: Option<&Disk>) -> Option<Decision> {
    if under_way(facts).is_none() {
        let blank = blank?;
        cluster::of(facts)?;
        if facts.sets.is_none() {
            let why = format!(
                "the data disk ({}) is missing and {} is blank: looking for a backup",
                lost.words,
                blank.words()
            );
            return Some(Decision::Run(why, vec![Action::LookForSets]));
        }
        let found = newest(facts, settings)?;
        let why =
            format!("the data disk ({}) is lost; {} is restored onto {}", lost.words, found.words(), blank.words());
        return Some(Decision::Run(why, intend(facts, &lost.guid, found).into_iter().collect()));
    }
    if let Some((disk, data)) = facts.data_partitions().find(|(_, data)| !data.born) {
        let why = format!("{} becomes the data disk in place of the lost one", disk.words());
        return Some(Decision::Run(why, vec![Action::Bear { guid: data.guid.clone() }]));
    }
    let node = cluster::of(facts)?.node;
    let is_new = |data: &Data| {
        data.content.as_ref().is_some_and(|content| {
            let nobody_elses = content.seal.as_ref().is_none_or(|seal| seal.node == node)
                && content.home.as_ref().is_none_or(|home| home.node == node);
            content.cluster.is_none() && nobody_elses
        })
    };
    if let Some((disk, data)) = facts.data_partitions().find(|(_, data)| data.damaged.is_none() && is_new(data)) {
        let why = format!("{} is the data disk in place of the lost one", disk.words());
        return Some(Decision::Run(why, vec![Action::Attach { guid: data.guid.clone() }]));
    }
    let blank = blank?;
    let why = format!("{} is blank, and becomes the data disk in place of the lost one", blank.words());
    Some(Decision::Run(why, vec![Action::Claim { disk: blank.key() }]))
}
