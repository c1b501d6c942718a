//! The mirror: a plain copy of k3s's database on the data disk, which the keeper brings up to date between its backups.
//!
//! It may be newer than any set, so it is a rung of the ladder before them. It belongs to one line of the database: revisions
//! of another one say nothing.

use super::{Note, note};
use crate::action::Action;
use crate::facts::Facts;
use crate::home::json;
use bakelite_spec::records::ClusterBorn;
use serde::{Deserialize, Serialize};

/// The mirror; there is one only where k3s's data is on a data disk.
pub const MIRROR: &str = "/disk/bakelite/mirror/state.db";
/// Which line it is of.
pub const LINE: &str = "/disk/bakelite/mirror/line.json";
/// What it goes by, in place of a set.
pub const MIRRORED: &str = "the mirror of the database";

/// The line of a database that a mirror is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Line {
    /// The node.
    pub node: String,
    /// The number of the line, as in cluster-born.
    pub epoch: u64,
}

impl Line {
    /// The line that a cluster is in.
    pub fn of(born: &ClusterBorn) -> Self {
        Self { node: born.node.clone(), epoch: born.epoch }
    }
}

/// What is to be had of the mirror.
pub(super) enum Rung {
    /// There is none of this line.
    Nothing,
    /// It has to be copied and proved first.
    Stage(Action),
    /// Its copy is whole, newer than the best of the rest, and unpacked.
    Staged(Note),
    /// Why it can't be used.
    Unusable(String),
}

/// Looks at the mirror; only one that is newer than `than` is worth it.
pub(super) fn rung(facts: &Facts, born: &ClusterBorn, than: u64) -> Rung {
    let line = facts.file(LINE).and_then(|text| serde_json::from_str::<Line>(text).ok());
    if line.is_none_or(|line| line != Line::of(born)) {
        return Rung::Nothing;
    }
    match &facts.mirrored {
        None => {
            let note = json(&Note::of_own(MIRRORED, born));
            Rung::Stage(Action::StageMirror { note, known: born.revision, than })
        }
        Some(why) if !why.is_empty() => Rung::Unusable(why.clone()),
        Some(_) => match note(facts).filter(|note| note.set == MIRRORED) {
            Some(note) => Rung::Staged(note),
            None => Rung::Nothing,
        },
    }
}
