//! Words of a person's: which set takes the place of which cluster, or that a cluster's keys are to be sealed anew.
//!
//! They stand in the settings (`restore` in bakelite.yaml), in a file that `bakelite restore` leaves, or on a stick. Each
//! names the cluster that it is about by its id, and the act that it permits gives that another one: so it is spent, and a
//! cut anywhere spends it no sooner than the act. Where there is no cluster, or a blank one, a word needs to name none.

use super::Source;
use super::choose::Asked;
use crate::Settings;
use crate::cluster;
use crate::facts::Facts;
use serde::{Deserialize, Serialize};

/// The file that the operator's command leaves.
pub const WORD: &str = "/var/lib/bakelite/restore-word.json";
/// In the file that says what k3s was stopped for: a restore, at once.
pub const AT_ONCE: &str = "restore";

/// A word. Its form on a stick and in the command's file is that of `restore` in the settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Word {
    /// A set's file name, with its node's in front or not, or `newest`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub set: String,
    /// The id of the cluster that it replaces.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub replaces: String,
    /// The id of the cluster whose keys are sealed with a new token.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub rekey: String,
    /// The stick that it is on: it speaks of the sets there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

impl Word {
    /// The sets that it asks for.
    pub(super) fn asks(&self) -> Asked<'_> {
        Asked { name: Some(&self.set), source: self.source.as_ref(), ..Asked::default() }
    }
}

/// All words that there are, a person's settings first.
fn all(facts: &Facts, settings: &Settings) -> Vec<Word> {
    let restore = &settings.appliance.restore;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let of_settings =
        Word { set: text(&restore.set), replaces: text(&restore.replaces), rekey: text(&restore.rekey), source: None };
    let by_command = facts.file(WORD).and_then(|text| serde_json::from_str::<Word>(text).ok());
    [Some(of_settings), by_command].into_iter().flatten().chain(facts.words.iter().cloned()).collect()
}

/// The word that counts: it asks for a set, and names the cluster that is here, or none where there is none.
pub(super) fn of(facts: &Facts, settings: &Settings) -> Option<Word> {
    let id = cluster::of(facts).map_or_else(String::new, |born| cluster::id(&born));
    all(facts, settings).into_iter().find(|word| !word.set.is_empty() && word.replaces == id)
}

/// The word that names no cluster, for one that is blank.
pub(super) fn of_nobody(facts: &Facts, settings: &Settings) -> Option<Word> {
    all(facts, settings).into_iter().find(|word| !word.set.is_empty() && word.replaces.is_empty())
}

/// Whether a person wants something done to the cluster that is here: then what it lacks may be about to come.
pub fn asks(facts: &Facts, settings: &Settings) -> bool {
    asks_rekey(facts, settings) || of(facts, settings).is_some()
}

/// Whether a person wants the keys of the cluster that is here sealed with a new token: at the machine or its card. No stick
/// says so.
pub fn asks_rekey(facts: &Facts, settings: &Settings) -> bool {
    let id = cluster::of(facts).map(|born| cluster::id(&born));
    id.is_some_and(|id| all(facts, settings).iter().any(|word| word.source.is_none() && word.rekey == id))
}
