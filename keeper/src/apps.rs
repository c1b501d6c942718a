//! Apps that a bundle has brought and that are tried: whether k3s has deployed them, and all that was available is so again.
//!
//! They prove themselves while k3s runs, or what was there before counts again: one record says so, and the passes that are
//! asked for after it put that where k3s looks. Must never leave a record that names a file it has removed.

use crate::trial::{self, Steady};
use crate::{KeeperError, backup};
use bakelite_datastore::workloads::Workloads;
use bakelite_plan::Settings;
use bakelite_plan::apps::{Verdict, verdict};
use bakelite_plan::home::json;
use bakelite_spec::apps::{Apps, LAST, MISSING, RECORD, Record, STORE, Trial, addon};
use bakelite_spec::status::paths;
use bakelite_spec::update::{self, LOCK, some_of};
use bakelite_sys::sum::pour;
use bakelite_sys::{durable, lock, machine, names_in, read_text, socket, words};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

/// What init answers in.
const SOON: Duration = Duration::from_secs(30);

/// What is tried.
pub fn tried() -> Option<Record> {
    let record = Record::read(&read_text(RECORD).ok()?)?;
    record.tried().is_some().then_some(record)
}

/// The watch over apps that are tried.
#[derive(Debug, Default)]
pub struct Watch {
    steady: Steady,
    told: Option<String>,
}

impl Watch {
    /// Looks, where apps are tried, and ends that; whether they are.
    pub fn look(&mut self, settings: &Settings) -> bool {
        let Some(record) = tried() else {
            *self = Self::default();
            return false;
        };
        if let Err(error) = self.judge(&record, settings) {
            log::warn!("{}", words(&error));
        }
        true
    }

    fn judge(&mut self, record: &Record, settings: &Settings) -> Result<(), KeeperError> {
        let boot = machine::boot(Path::new("/"));
        let (Some(apps), Some(trial)) = (&record.apps, &record.trial) else { return Ok(()) };
        if trial.boot != boot {
            // It has yet to be counted.
            return Ok(());
        }
        let node = backup::born().map(|born| born.node).unwrap_or_default();
        let missing = trial::look(&node, |seen| missing(trial, &manifests(apps), seen));
        if self.told.as_deref() != Some(missing.as_str()) {
            durable::replace(MISSING, missing.as_bytes(), 0o644)?;
            log::info!("of {} {}", apps.words(), if missing.is_empty() { "nothing is missing" } else { &missing });
            self.told = Some(missing.clone());
        }
        let is_steady = self.steady.holds(missing.is_empty(), Instant::now());
        let patience = settings.appliance.update.patience.0;
        match verdict(trial, machine::uptime().as_secs(), patience, &missing, is_steady) {
            Verdict::Wait => Ok(()),
            Verdict::Good => end(record, &record.proved(), ""),
            Verdict::Back(why) => end(record, &record.undone(), &why),
        }
    }
}

/// Ends what is tried. What became of it is noted first: the record is what commits.
fn end(record: &Record, after: &Record, why: &str) -> Result<(), KeeperError> {
    let ended = record.ended(machine::clock(), why);
    durable::write_durable(LAST, json(&ended).as_bytes(), 0o600)?;
    durable::write_durable(RECORD, json(after).as_bytes(), 0o600)?;
    durable::remove_file(MISSING)?;
    log::info!("{}", ended.words());
    if let Some(_held) = lock::try_take(Path::new(LOCK))? {
        sweep(after)?;
    }
    Ok(socket::ask(Path::new(paths::CONTROL), "refit", SOON)?)
}

/// Removes what no bundle needs any more. What a cut leaves of it goes before k3s's next start.
fn sweep(record: &Record) -> Result<(), KeeperError> {
    let kept = record.digests();
    for name in names_in(STORE).into_iter().filter(|name| !kept.contains(name.as_str())) {
        durable::remove_tree(&Path::new(STORE).join(name))?;
    }
    Ok(durable::sync_folder(Path::new(STORE))?)
}

/// The sums of a bundle's manifests where k3s reads them, secrets filled in, by the names that k3s knows them by; empty where one
/// isn't there.
fn manifests(apps: &Apps) -> BTreeMap<String, String> {
    let manifests = apps.files.iter().filter(|file| bakelite_spec::apps::manifest_name(&file.to).is_some());
    let sum = |path: &str| File::open(path).and_then(|file| pour(file, std::io::sink())).map(|(_, sum)| sum);
    manifests.map(|file| (addon(file.name()).to_string(), sum(&file.to).unwrap_or_default())).collect()
}

/// What is missing, in words; nothing where all is there.
fn missing(trial: &Trial, manifests: &BTreeMap<String, String>, seen: &Workloads) -> String {
    let is_deployed = |(name, sum): &(&String, &String)| seen.deployed.get(*name) == Some(*sum);
    let not_yet: Vec<String> =
        manifests.iter().filter(|manifest| !is_deployed(manifest)).map(|(name, _)| name.clone()).collect();
    if !not_yet.is_empty() {
        return format!("k3s hasn't deployed {}", some_of(&not_yet));
    }
    let own = trial.own.iter().filter(|name| seen.rolled_out.get(*name) != Some(&true)).cloned();
    let all: BTreeSet<String> = update::missing(&trial.workloads, &seen.available).chain(own).collect();
    if all.is_empty() {
        return String::new();
    }
    format!("not available: {}", some_of(&all.into_iter().collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_k3s_has_not_deployed_or_rolled_out_is_missing() {
        let trial = Trial {
            workloads: vec!["deployments/default/old".into()],
            own: vec!["deployments/default/till".into()],
            ..Trial::default()
        };
        let manifests = [("bakelite-till".to_string(), "new".to_string())].into();
        let name = |name: &str| format!("deployments/default/{name}");
        let seen = |sum: &str, rolled: bool, old: bool| Workloads {
            available: [(name("old"), old), (name("till"), true)].into(),
            rolled_out: [(name("old"), old), (name("till"), rolled)].into(),
            deployed: [("bakelite-till".to_string(), sum.to_string())].into(),
            ..Workloads::default()
        };
        let of = |seen: &Workloads| missing(&trial, &manifests, seen);
        assert_eq!(of(&seen("old", true, true)), "k3s hasn't deployed bakelite-till");
        assert_eq!(of(&seen("new", false, false)), "not available: deployments/default/old, deployments/default/till");
        assert_eq!(of(&seen("new", false, true)), "not available: deployments/default/till");
        assert_eq!(of(&seen("new", true, true)), "");
        assert!(of(&Workloads { rolled_out: BTreeMap::new(), ..seen("new", true, true) }).contains("till"));
    }
}
