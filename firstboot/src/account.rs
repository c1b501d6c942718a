//! `report.json` on the boot partition: what this machine did and why, for whoever has the card in a laptop.
//!
//! Written after a good boot, and when what is wrong has stayed so for half a minute; only where it says something new.
//! Nothing live is replaced (law 3): the new text is written beside as `report.new` and made durable, the old one is
//! removed, the new one gets the name; each is durable before the next. So whoever reads it after a cut takes
//! `report.json`, and where there is none `report.new`, which is whole then. A writing that fails never stops anything.

use crate::boot_partition;
use crate::disks::Looked;
use crate::error::FirstbootError;
use crate::{layers, probe};
use bakelite_plan::facts::Facts;
use bakelite_plan::{apps, cluster, home, identity, seed};
use bakelite_spec::account::{AVAILABLE, Account, FORMAT, FaultReport, GOOD, NAME};
use bakelite_spec::event::Outcome;
use bakelite_spec::records::Place;
use bakelite_spec::status::{Report, Status, paths};
use bakelite_spec::update::LAST;
use bakelite_sys::{SysError, durable, fat, machine};
use serde::de::DeserializeOwned;
use std::path::Path;

/// The new one while it is written.
const NEW: &str = "report.new";
/// The passes in their order.
const PASSES: [&str; 3] = ["early", "settle", "born"];

/// Writes the account, if it says something new.
///
/// # Errors
/// When the boot partition can't be read or written.
pub fn write(root: &Path) -> Result<Outcome, FirstbootError> {
    let Some(device) = boot_partition::device(root)? else { return Ok(Outcome::GoOn) };
    let account = account(root)?;
    let before = fat::look(&device, |boot| Ok::<_, SysError>(read(boot)))?;
    if account.says_more_than(before.as_ref()) {
        let text = serde_json::to_string_pretty(&account).map_err(FirstbootError::WriteReport)? + "\n";
        fat::change(&device, |boot| put(boot.root, &text, &|| boot.sync()))?;
        log::info!("wrote {NAME} onto the boot partition");
    }
    Ok(Outcome::GoOn)
}

/// The account that counts in a folder.
fn read(boot: &Path) -> Option<Account> {
    [NAME, NEW].into_iter().find_map(|name| json(&boot.join(name)))
}

/// Puts a new account in place; `sync` makes each step durable.
fn put(boot: &Path, text: &str, sync: &dyn Fn() -> Result<(), SysError>) -> Result<(), SysError> {
    let (name, new) = (boot.join(NAME), boot.join(NEW));
    if !name.exists() && json::<Account>(&new).is_some() {
        // A cut came before the last step: what counts gets its name, and isn't lost meanwhile.
        durable::rename(&new, &name)?;
        sync()?;
    }
    durable::remove_file(&new)?;
    sync()?;
    durable::write_whole(&new, text.as_bytes(), 0o644)?;
    sync()?;
    durable::remove_file(&name)?;
    sync()?;
    durable::rename(&new, &name)?;
    sync()
}

fn json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// What is to be told of this machine now.
///
/// # Errors
/// When the settings can't be read.
pub fn account(root: &Path) -> Result<Account, FirstbootError> {
    let at = |path: &str| root.join(path.trim_start_matches('/'));
    let (facts, settings) = (probe::facts(root, &Looked::by_early(root), 0), layers::settings(root)?);
    let status: Status = json(&at(paths::STATUS)).unwrap_or_default();
    let reports: Vec<Report> = PASSES.iter().filter_map(|pass| json(&at(paths::REPORTS).join(pass))).collect();
    Ok(Account {
        format: FORMAT,
        written: machine::clock(),
        version: settings.manifest.version.clone(),
        image: settings.manifest.image.clone(),
        slot: status.slot,
        node: identity::of(&facts).map(|identity| identity.node).unwrap_or_default(),
        serial: machine::serial(root),
        cluster: cluster::of(&facts).map_or_else(String::new, |born| cluster::id(&born)),
        home: lives(&facts),
        payload: settings.manifest.payload.title(),
        disks: disks(&facts),
        faults: status.faults.iter().map(FaultReport::from).collect(),
        warnings: reports.iter().flat_map(|report| report.warnings.clone()).collect(),
        steps: reports.into_iter().flat_map(|report| report.steps).collect(),
        seed: seed::acknowledged(&facts),
        last_good: json(&at(GOOD)),
        available: json(&at(AVAILABLE)),
        last_update: json(&at(LAST)),
        apps: apps::of(&facts).over(&settings.manifest).cloned(),
        last_apps: apps::last(&facts),
    })
}

/// Where the cluster lives, in words.
fn lives(facts: &Facts) -> String {
    match home::of(facts) {
        Some(home) => match (home.moving, home.place) {
            (Some(disk), _) => format!("moving to {}", disk.words),
            (None, Place::Disk(disk)) => disk.words,
            (None, Place::Card) => "the card".into(),
        },
        None => "the card".into(),
    }
}

/// The disks, without the names that change from boot to boot.
fn disks(facts: &Facts) -> Vec<String> {
    let words = facts.disks.iter().map(|disk| {
        let words = disk.words();
        let words = words.split_once(" (").map_or(words.as_str(), |(_, rest)| rest.trim_end_matches(')'));
        let what = match &disk.data {
            _ if disk.boot => "boot medium",
            Some(data) if data.attached => "data disk",
            Some(_) => "a data disk that isn't in use",
            None => "left alone",
        };
        format!("{words}, {}: {what}", disk.kind())
    });
    let mut words: Vec<String> = words.collect();
    words.sort();
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::{machine, write as put_file};
    use bakelite_sys::names_in;
    use std::cell::Cell;

    fn text(node: &str) -> String {
        serde_json::to_string(&Account { node: node.into(), ..Account::default() }).unwrap()
    }

    #[test]
    fn a_reader_always_finds_a_whole_one_wherever_it_is_cut() {
        for first in 0..6 {
            for second in 0..6 {
                let folder = tempfile::tempdir().unwrap();
                put(folder.path(), &text("one"), &|| Ok(())).unwrap();
                for (node, cut) in [("two", first), ("three", second)] {
                    let left = Cell::new(cut);
                    let sync = || {
                        left.set(left.get() - 1);
                        let cut = || SysError::Read { path: "cut".into(), source: std::io::ErrorKind::Other.into() };
                        if left.get() < 0 { Err(cut()) } else { Ok(()) }
                    };
                    let before = read(folder.path()).unwrap().node;
                    let done = put(folder.path(), &text(node), &sync).is_ok();
                    let after = read(folder.path()).unwrap().node;
                    assert!(after == node || !done && after == before, "{first} {second}: {after}");
                }
                put(folder.path(), &text("four"), &|| Ok(())).unwrap();
                assert_eq!(names_in(folder.path()), [NAME]);
                assert_eq!(read(folder.path()).unwrap().node, "four");
            }
        }
    }

    #[test]
    fn it_tells_what_was_done_and_no_secret() {
        let root = machine("k3s: rehearsal\n");
        let put_file = |path: &str, text: &str| put_file(root.path(), path, text);
        put_file(identity::RECORD, "{\"format\":1,\"node\":\"shop-1\"}");
        put_file(identity::TOKEN, "hunter2token");
        put_file("/var/lib/bakelite/secrets/till", "hunter2secret");
        let report = |pass: &str, step: &str| {
            let why = format!("{step} is well");
            let steps = vec![bakelite_spec::status::StepReport { step: step.into(), decision: "done".into(), why }];
            serde_json::to_string(&Report { pass: pass.into(), steps, ..Report::default() }).unwrap()
        };
        put_file(&format!("{}/settle", paths::REPORTS), &report("settle", "home"));
        put_file(&format!("{}/early", paths::REPORTS), &report("early", "identity"));
        let account = account(root.path()).unwrap();
        assert_eq!((account.node.as_str(), account.home.as_str()), ("shop-1", "the card"));
        let steps: Vec<&str> = account.steps.iter().map(|step| step.step.as_str()).collect();
        assert_eq!(steps, ["identity", "home"]);
        assert!(!serde_json::to_string(&account).unwrap().contains("hunter2"));
    }
}
