//! `bakelite retry`: what has failed too often is tried again, by a person's word.

use crate::error::FirstbootError;
use crate::relocate;
use bakelite_plan::restore::RESTORED;
use bakelite_plan::restore::trial::ROLLED_BACK;
use bakelite_spec::answer::Answer;
use bakelite_spec::apps;
use bakelite_spec::attempts::{Attempts, PATH};
use bakelite_spec::event::UnitState;
use bakelite_spec::records::RolledBack;
use bakelite_spec::status::{Status, paths};
use bakelite_spec::tried;
use bakelite_spec::update::{Ended, LAST};
use bakelite_sys::{durable, read_text, socket, terminal};
use std::collections::BTreeMap;
use std::path::Path;

/// Forgets the faults that were counted, and has init run both passes again; what it gave up is started, too.
///
/// # Errors
/// When the record can't be written, or init can't be asked.
pub fn retry(answer: Answer) -> Result<(), FirstbootError> {
    let mut attempts = Attempts::read(&read_text(PATH).unwrap_or_default());
    for (step, tries) in &attempts.steps {
        terminal::print(&answer.said(&format!("{step} has failed {} time(s): {}", tries.faults, tries.text)));
    }
    attempts.forget_faults();
    forget_restored()?;
    forget_update()?;
    durable::write_durable(PATH, attempts.text().as_bytes(), 0o600)?;
    let ask = |words: &str| socket::ask(Path::new(paths::CONTROL), words, relocate::LIMIT);
    ask("refit")?;
    let status = read_text(paths::STATUS).ok().and_then(|text| serde_json::from_str::<Status>(&text).ok());
    let units = status.map(|status| status.units).unwrap_or_default();
    for name in given_up(units.iter().map(|(name, unit)| (name.as_str(), unit.state))) {
        ask(&format!("start {name}"))?;
    }
    terminal::print(&answer.said("It is tried again now; `bakelite status` says how it goes."));
    Ok(())
}

/// What was said of restored backups was read; which line they began stays known.
fn forget_restored() -> Result<(), FirstbootError> {
    let known = read_text(ROLLED_BACK).ok().and_then(|text| serde_json::from_str::<RolledBack>(&text).ok());
    if let Some(known) = known {
        let forgotten = RolledBack { sets: BTreeMap::new(), ..known };
        let text = serde_json::to_vec(&forgotten).map_err(FirstbootError::WriteReport)?;
        durable::write_durable(ROLLED_BACK, &text, 0o600)?;
    }
    Ok(durable::remove_file(RESTORED)?)
}

/// That an update or a bundle of apps went back or failed was read; one that went well stays known.
fn forget_update() -> Result<(), FirstbootError> {
    let text = |path: &str| read_text(path).unwrap_or_default();
    let update = serde_json::from_str::<Ended>(&text(LAST)).is_ok_and(|ended| !ended.why.is_empty());
    let apps = serde_json::from_str::<apps::Ended>(&text(apps::LAST)).is_ok_and(|ended| !ended.why.is_empty());
    let gone = [(LAST, update), (apps::LAST, apps), (tried::PATH, true)];
    Ok(gone.into_iter().filter(|(_, goes)| *goes).try_for_each(|(path, _)| durable::remove_file(path))?)
}

/// The units that are to be started: firstboot's own passes run by init's own order.
fn given_up<'a>(units: impl Iterator<Item = (&'a str, UnitState)>) -> Vec<&'a str> {
    let own = ["early", "settle", "born", "upkeep"];
    units.filter(|(name, state)| *state == UnitState::GivenUp && !own.contains(name)).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_given_up_is_started() {
        let units = [("early", UnitState::GivenUp), ("k3s", UnitState::GivenUp), ("time", UnitState::Failed)];
        assert_eq!(given_up(units.into_iter()), ["k3s"]);
    }
}
