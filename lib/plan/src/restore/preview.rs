//! Preview: what a restore that a person asks for would do, before anything is stopped.

use super::choose::{Asked, Choice, choose};
use super::{FoundSet, Note, blank};
use crate::facts::Facts;
use crate::{Settings, cluster};
use bakelite_spec::set::instant;

/// The set that is meant, and what would become of what is here.
///
/// # Errors
/// Why it isn't taken, and what to type.
pub fn preview<'a>(
    facts: &'a Facts,
    settings: &Settings,
    set: &str,
    replaces: &str,
) -> Result<(&'a FoundSet, String), String> {
    let sets = facts.sets.as_deref().unwrap_or_default();
    let found = match choose(facts, sets, settings, Asked { name: Some(set), ..Asked::default() }) {
        Choice::Set(found, _) => found,
        Choice::Nothing(why) => return Err(why),
        Choice::Refused(fault) => return Err(fault.text),
    };
    let (Some(manifest), Some(note)) = (&found.manifest, Note::of(found)) else {
        return Err(format!("{} can't be opened", found.words()));
    };
    let mut text = format!(
        "{}: {} at revision {}, with k3s {}, made {}{}",
        found.words(),
        manifest.node,
        manifest.revision,
        manifest.k3s,
        instant(manifest.made),
        note.lacking()
    );
    let Some(born) = cluster::of(facts) else {
        return if replaces.is_empty() { Ok((found, text)) } else { Err("there is no cluster here to replace".into()) };
    };
    let id = cluster::id(&born);
    let is_blank =
        born.epoch == 0 && facts.has(blank::BASELINE) && blank::objects(facts).is_some_and(|all| all.is_empty());
    if replaces.is_empty() && !is_blank {
        let line = format!("bakelite restore {set} --replaces {id}");
        return Err(format!("{text}\nThis machine has the cluster {id}. To replace it, type {line}"));
    }
    if !replaces.is_empty() && replaces != id {
        return Err(format!("this machine's cluster is {id}, and not {replaces}"));
    }
    let revision = facts.database.as_ref().map_or(born.revision, |database| database.revision);
    let hours = (facts.clock - manifest.made).max(0) / 3600;
    text += &if manifest.row == born.row {
        let lost = revision.saturating_sub(manifest.revision);
        format!("\n{lost} revisions of {id}, all since then ({hours} hours), are lost")
    } else {
        format!("\nIt is of another cluster: all of {id}, at revision {revision}, is lost")
    };
    text += "; what is here now is moved aside, and comes back if k3s can't live with the backup";
    Ok((found, text))
}
