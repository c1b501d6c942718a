//! `bakelite restore SET [--replaces ID] [--dry-run]` and `bakelite rekey [ID]`: a person's words at the machine.
//!
//! A word is written down and init is asked to stop k3s and to run both passes, which follow it as they would follow one in
//! bakelite.yaml. What can be known to fail is refused before k3s is stopped; the set is opened to its end.

use crate::disks::Looked;
use crate::error::FirstbootError;
use crate::world::Machine;
use crate::{layers, names, probe, relocate};
use bakelite_plan::restore::blank::BASELINE;
use bakelite_plan::restore::preview::preview;
use bakelite_plan::restore::{AT_ONCE, WORD, Word};
use bakelite_plan::{Settings, cluster};
use bakelite_spec::answer::Answer;
use bakelite_sys::{durable, terminal};
use std::path::Path;

/// What is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    set: String,
    replaces: String,
    dry_run: bool,
}

fn wanted(words: &[&str]) -> Option<Wanted> {
    let mut wanted = Wanted::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--dry-run" => wanted.dry_run = true,
            "--replaces" => wanted.replaces = words.next()?.to_string(),
            set if !set.starts_with('-') && wanted.set.is_empty() => wanted.set = set.into(),
            _ => return None,
        }
    }
    (!wanted.set.is_empty()).then_some(wanted)
}

/// Restores a set: opens it, says what would be lost, and has it done.
///
/// # Errors
/// When the words mean nothing, the set isn't taken, or init can't be asked.
pub fn restore(answer: Answer, words: &[&str]) -> Result<(), FirstbootError> {
    let unknown = || FirstbootError::UnknownWords(format!("restore {}", words.join(" ")));
    let wanted = wanted(words).ok_or_else(unknown)?;
    let root = Path::new("/");
    let settings = layers::settings(root)?;
    let mut machine = Machine::new(root, Looked::default());
    machine.look_for_sets()?;
    if Path::new(BASELINE).exists() {
        machine.looked.beyond_baseline = Some(names::beyond(Path::new(BASELINE))?);
    }
    let facts = probe::facts(root, &machine.looked, 0);
    let (found, text) =
        preview(&facts, &settings, &wanted.set, &wanted.replaces).map_err(FirstbootError::NotRestored)?;
    terminal::print(&answer.said(&format!("{text}.")));
    machine.prove_set(found)?;
    terminal::print(&answer.said("It is whole, and its token opens it."));
    let word =
        Word { set: found.key(), replaces: wanted.replaces, source: Some(found.source.clone()), ..Word::default() };
    follow(answer, &settings, &word, wanted.dry_run)
}

/// Seals the cluster's keys with a new token, where a person names the cluster; else says how.
///
/// # Errors
/// When there is no cluster of that name, or init can't be asked.
pub fn rekey(answer: Answer, words: &[&str]) -> Result<(), FirstbootError> {
    let root = Path::new("/");
    let facts = probe::facts(root, &Looked::by_early(root), 0);
    let refuse = |text: String| Err(FirstbootError::NotRestored(text));
    let Some(id) = cluster::of(&facts).map(|born| cluster::id(&born)) else {
        return refuse("there is no cluster on this machine whose keys could be sealed anew".into());
    };
    match words {
        [] => refuse(format!(
            "This gives the cluster {id} a new token, for one that is lost: k3s is stopped for it, and other nodes need \
             the new one to join. To do it, type bakelite rekey {id}"
        )),
        [name] if *name == id => {
            follow(answer, &layers::settings(root)?, &Word { rekey: id, ..Word::default() }, false)
        }
        [name] => refuse(format!("this machine's cluster is {id}, and not {name}")),
        _ => Err(FirstbootError::UnknownWords(format!("rekey {}", words.join(" ")))),
    }
}

/// Writes a word down and has it followed at once.
fn follow(answer: Answer, settings: &Settings, word: &Word, dry_run: bool) -> Result<(), FirstbootError> {
    let Some(unit) = settings.manifest.payload.kind.unit() else {
        return Err(FirstbootError::NotRestored("this image has no payload".into()));
    };
    if dry_run {
        terminal::print(&answer.said("Nothing was done."));
        return Ok(());
    }
    let text = serde_json::to_vec(word).map_err(FirstbootError::WriteReport)?;
    durable::write_durable(WORD, &text, 0o600)?;
    if let Err(error) = relocate::at_once(AT_ONCE, unit) {
        durable::remove_file(WORD)?;
        return Err(error);
    }
    let text = "k3s has stopped, and starts again when it is done. `bakelite status` says how far it is.";
    terminal::print(&answer.said(text));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_a_set_and_what_it_replaces() {
        let found = wanted(&["newest", "--replaces", "shop-1.abc.0", "--dry-run"]).unwrap();
        assert_eq!(found, Wanted { set: "newest".into(), replaces: "shop-1.abc.0".into(), dry_run: true });
        for words in [&[][..], &["--dry-run"], &["a", "b"], &["a", "--replaces"], &["a", "--force"]] {
            assert_eq!(wanted(words), None, "{words:?}");
        }
    }
}
