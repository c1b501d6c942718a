//! `bakelite storage promote` and `demote`: the move to a data disk at once, instead of at the next boot, and the way back.
//!
//! Only asks: init stops k3s and has early and settle run, which move and start k3s as at a boot. What can be known to
//! fail is refused before k3s is stopped.

use crate::disks::Looked;
use crate::error::FirstbootError;
use crate::{layers, probe};
use bakelite_plan::disk::Disk;
use bakelite_plan::facts::Facts;
use bakelite_plan::home::{self, AT_ONCE, TO_CARD, TO_DISK};
use bakelite_spec::answer::Answer;
use bakelite_spec::records::{DiskName, Move};
use bakelite_spec::status::paths;
use bakelite_sys::{durable, socket, terminal};
use std::path::Path;
use std::time::Duration;

/// How long init may take to answer: while workloads end it hears nothing, and k3s has a minute, its pods half of one.
pub const LIMIT: Duration = Duration::from_secs(180);

/// Begins a move, and says what to look at.
///
/// # Errors
/// When there is nothing to move or no room for it, or init can't be asked.
pub fn begin(answer: Answer, word: &str) -> Result<(), FirstbootError> {
    let root = Path::new("/");
    let (mut facts, settings) = (probe::facts(root, &Looked::by_early(root), 0), layers::settings(root)?);
    let Some(unit) = settings.manifest.payload.kind.unit() else {
        return Err(FirstbootError::NothingToMove("this image has no payload".into()));
    };
    if facts.attached().is_some() {
        probe::weigh(&mut facts);
    }
    may(word, &facts).map_err(FirstbootError::NothingToMove)?;
    at_once(word, unit)?;
    let to = if word == TO_DISK { "the disk, if one may be used" } else { "the card" };
    let text = format!("k3s has stopped, and its data moves to {to}; it starts again after that.");
    terminal::print(&answer.said(&format!("{text} `bakelite status` says how far it is.")));
    Ok(())
}

/// Has init stop k3s for what a word says, run both passes, and start it again.
pub(crate) fn at_once(word: &str, unit: &str) -> Result<(), FirstbootError> {
    let ask = |words: &str| socket::ask(Path::new(paths::CONTROL), words, LIMIT);
    durable::replace(AT_ONCE, word.as_bytes(), 0o644)?;
    if let Err(error) = ask("stop-workloads") {
        durable::remove_file(AT_ONCE)?;
        return Err(error.into());
    }
    ask("refit")?;
    Ok(ask(&format!("start {unit}"))?)
}

/// Whether there is something to do.
fn may(word: &str, facts: &Facts) -> Result<(), String> {
    let home = home::of(facts).and_then(|home| home.needs().cloned());
    let attached = facts.attached().map(|(disk, _)| disk.words());
    match (word, home) {
        // A way back that isn't finished is taken back by this.
        (TO_DISK, Some(_)) if home::wish(facts) == Some(Move::Demotion) => Ok(()),
        (TO_DISK, Some(DiskName { words, .. })) => Err(format!("it lives on a data disk already ({words})")),
        (TO_DISK, None) if !facts.disks.iter().any(is_other) => Err("there is no other disk".into()),
        (TO_DISK, None) => attached.map_or(Ok(()), |disk| home::fits(Move::Promotion, &disk, facts)),
        (TO_CARD, Some(_)) => match attached {
            Some(disk) => home::fits(Move::Demotion, &disk, facts),
            None => Err("the data disk that it lives on isn't here".into()),
        },
        _ => Err("it lives on the card already".into()),
    }
}

fn is_other(disk: &Disk) -> bool {
    !disk.boot
}

#[cfg(test)]
mod tests {
    use super::*;
    use bakelite_plan::disk::Data;
    use bakelite_plan::facts::Amount;

    fn machine(home: &str, attached: bool) -> Facts {
        let data = Data { attached, born: true, guid: "g".into(), ..Data::default() };
        let ssd = Disk { name: "sda".into(), data: Some(data), ..Disk::default() };
        let disks = vec![Disk { boot: true, ..Disk::default() }, ssd];
        let files = [(home::HOME.to_string(), home.to_string())].into();
        let amount = |gib: u64| Some(Amount { bytes: gib << 30, files: 9 });
        Facts {
            disks,
            files,
            on_card: amount(2),
            on_disk: amount(5),
            free_on_card: 5 << 30,
            free_on_disk: 99 << 30,
            ..Facts::default()
        }
    }

    #[test]
    fn a_move_that_can_be_known_to_fail_is_refused_before_k3s_is_stopped() {
        let there = r#"{"format":1,"place":{"disk":{"guid":"g","words":"w"}},"epoch":1}"#;
        let card = r#"{"format":1,"place":"card","epoch":2}"#;
        assert_eq!(may(TO_CARD, &machine(there, true)), Ok(()));
        assert_eq!(may(TO_DISK, &machine(card, true)), Ok(()));
        let full = Facts { free_on_card: 3 << 30, ..machine(there, true) };
        let text = may(TO_CARD, &full).unwrap_err();
        assert_eq!(
            text,
            "sda (0 B) holds 5 GiB in 9 files, and the card has room for 5 GiB; 1 GiB have to be left over"
        );
        for (word, facts, why) in [
            (TO_CARD, machine(card, true), "on the card already"),
            (TO_CARD, machine(there, false), "isn't here"),
            (TO_DISK, machine(there, true), "on a data disk already (w)"),
            (TO_DISK, Facts { disks: Vec::new(), ..machine(card, true) }, "no other disk"),
        ] {
            assert!(may(word, &facts).unwrap_err().contains(why), "{why}");
        }
    }
}
