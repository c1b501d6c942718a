//! Blank: a cluster in which nobody has put anything yet. A stick takes its place as if there were none.
//!
//! What k3s and the image put there by themselves is noted at the first good boot, in the boot in which the cluster was born
//! and in no other: what is there later may be somebody's. A cluster without the note, of another line than its first, or
//! with a single name beyond the note is never blank.

use crate::Settings;
use crate::action::Action;
use crate::cluster::{self, DATABASE};
use crate::facts::Facts;
use crate::step::Decision;
use bakelite_spec::records::{ClusterBorn, Datastore};
use bakelite_spec::status::paths;

/// The names of what is there by itself.
pub const BASELINE: &str = "/var/lib/bakelite/baseline.json";
/// That the cluster was born in this boot.
pub const BORN_NOW: &str = "/run/bakelite/born-in-this-boot";
/// So many names of somebody's are said.
const NAMED: usize = 3;

/// Whether a cluster may be blank, as far as that can be told without looking at its names.
pub(super) fn may_be(facts: &Facts, born: &ClusterBorn) -> bool {
    born.epoch == 0 && facts.has(BASELINE) && !facts.payload_ran
}

/// What is somebody's, for a person; empty where all is there by itself, `None` before it was looked at.
pub(super) fn objects(facts: &Facts) -> Option<String> {
    let beyond = facts.beyond_baseline.as_ref()?;
    let more = beyond.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some(beyond.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ") + &more)
}

/// Notes what is there by itself.
pub fn note(facts: &Facts, settings: &Settings) -> Decision {
    let born = cluster::of(facts);
    if cluster::datastore(settings) != Datastore::Sqlite || born.as_ref().is_none_or(|born| born.epoch > 0) {
        return Decision::Skip("the cluster isn't of its first line".into());
    }
    if facts.has(BASELINE) {
        return Decision::Done("what was there by itself is noted".into());
    }
    if !facts.has(BORN_NOW) || !facts.has(paths::GOOD) {
        return Decision::Skip("what is there by itself is noted in the good boot of its birth only".into());
    }
    let action = Action::NoteBaseline { database: DATABASE.into(), baseline: BASELINE.into() };
    Decision::Run("what is in the cluster by itself is noted".into(), vec![action])
}
