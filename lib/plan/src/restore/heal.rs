//! Healing: the ladder for a database that can't be used, in place of a refusal (k3s.md 3.10).
//!
//! First what can be made of the damaged one, then the newer of the mirror and the newest set on this machine's own media,
//! then stopping. What was lost is said. Nothing of it while k3s may be running.

use super::choose::newest_of;
use super::mirror::{self, Rung};
use super::{HEALED, Note, Source, intend, note};
use crate::Settings;
use crate::action::Action;
use crate::facts::Facts;
use crate::home::json;
use crate::step::Decision;
use bakelite_spec::fault::Fault;
use bakelite_spec::records::ClusterBorn;

/// Decides about a database that `fault` speaks of. `readable` is the revision of one that is whole, and old or empty: it has
/// no better state in it, and only a newer one may take its place.
pub fn heal(facts: &Facts, settings: &Settings, born: &ClusterBorn, fault: Fault, readable: Option<u64>) -> Decision {
    if facts.payload_ran {
        return Decision::Refuse(fault);
    }
    let blank = Note::of_own(HEALED, born);
    let mut text = fault.text.clone();
    if readable.is_none() {
        match &facts.climbed {
            None => {
                let action = Action::Climb { note: json(&blank), known: born.revision };
                return Decision::Run(format!("{text}; what can be saved of it is put into a copy"), vec![action]);
            }
            Some(why) if !why.is_empty() => text.push_str(&format!(". Nothing can be made of it: {why}")),
            Some(_) => {
                if let Some(note) = note(facts).filter(|note| note.set == HEALED) {
                    let why = format!("{text}; {}", note.said);
                    return Decision::Run(why, intend(facts, &note, None).into_iter().collect());
                }
            }
        }
    }
    if facts.sets.is_none() {
        return Decision::Run(format!("{text}; looking for a backup"), vec![Action::LookForSets]);
    }
    let newest = newest_of(facts, &born.node, &[Source::Card, Source::Disk], settings)
        .and_then(|found| Some((found, Note::of(found)?)))
        .filter(|(_, note)| readable.is_none_or(|revision| note.revision > revision));
    let than = newest.as_ref().map(|(_, note)| note.revision).max(readable).unwrap_or(0);
    match mirror::rung(facts, born, than) {
        Rung::Stage(action) => {
            return Decision::Run(format!("{text}; the mirror of it is copied and proved"), vec![action]);
        }
        Rung::Staged(note) => {
            let why = format!("{text}; the mirror of it takes its place, at revision {}, {}", note.revision, note.said);
            return Decision::Run(why, intend(facts, &note, None).into_iter().collect());
        }
        Rung::Unusable(why) => text.push_str(&format!(". Its mirror isn't used: {why}")),
        Rung::Nothing => {}
    }
    let Some((found, wanted)) = newest else {
        return Decision::Refuse(Fault {
            text: format!("{text}. There is no newer backup of it on this machine"),
            ..fault
        });
    };
    if note(facts).as_ref() != Some(&wanted) {
        let why = format!("{text}; {} is unpacked and proved", found.words());
        return Decision::Run(why, vec![Action::StageSet { set: wanted.set.clone(), note: json(&wanted) }]);
    }
    let behind = born.revision.saturating_sub(wanted.revision);
    let why = format!("{text}; {} takes its place, {behind} revisions behind what was known", found.words());
    Decision::Run(why, intend(facts, &wanted, None).into_iter().collect())
}
