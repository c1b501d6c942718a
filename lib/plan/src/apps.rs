//! Apps that a bundle has laid over those of the image: what counts, and what each boot does about one that is tried.
//!
//! One record says what counts, and lies beside the files that it names (spec's `apps`). Steps that put archives, manifests
//! and charts where k3s looks for them ask [`laid`], so whatever a cut leaves, the next pass makes it what the record says:
//! the old as a whole, or the new. What is tried is judged while k3s runs ([`verdict`]); here it is counted in how many
//! boots, and what a record can't be kept for is undone. A file in the store goes only while k3s hasn't run yet in a boot,
//! as no bundle is taken then.

use crate::Settings;
use crate::action::Action;
use crate::facts::Facts;
use crate::home::json;
use crate::step::{Decision, publish};
use bakelite_spec::apps::{Apps, Ended, LAST, RECORD, Record, STARTS, STORE, Trial};
use bakelite_spec::fault::{Code, Fault};
use bakelite_spec::manifest::Manifest;
use bakelite_spec::status::paths;
use bakelite_spec::update;
use std::collections::BTreeSet;

mod judge;
pub use judge::judge;

/// The record; without one, or where it can't be read, nothing is laid over the image.
pub fn of(facts: &Facts) -> Record {
    facts.file(RECORD).and_then(Record::read).unwrap_or_default()
}

/// What the machine is to have: the image's manifest, and what is laid over it.
pub fn laid(facts: &Facts, settings: &Settings) -> Manifest {
    of(facts).lay(&settings.manifest)
}

/// What became of the last bundle.
pub fn last(facts: &Facts) -> Option<Ended> {
    serde_json::from_str(facts.file(LAST)?).ok()
}

/// Decides, before anything is put where k3s looks for it.
pub fn decide(facts: &Facts, settings: &Settings) -> Decision {
    if facts.file(RECORD).is_some_and(|text| Record::read(text).is_none()) {
        let text = format!("{RECORD} can't be read, and the image's own apps are in their place");
        return Decision::Without(Fault::new(Code::UpdateTakenBack, text));
    }
    let record = of(facts);
    if let Some(lost) = record.over(&settings.manifest).and_then(|apps| lost(facts, apps)) {
        let why = format!("{lost} isn't in the store any more; bring the bundle once more");
        // Of what has proved itself nothing is deleted for it: k3s has deployed it.
        return match &record.trial {
            Some(_) => undo(facts, &record, &why),
            None => Decision::Without(Fault::new(Code::UpdateTakenBack, why)),
        };
    }
    if let (Some(apps), Some(trial)) = (&record.apps, &record.trial) {
        if trial.boot != facts.boot {
            return start(facts, &record, apps, trial);
        }
        return Decision::Done(format!("{} are tried", apps.words()));
    }
    let leftovers = leftovers(facts, &record);
    if !leftovers.is_empty() && !facts.payload_ran {
        let why = format!("{} folder(s) that no bundle needs go", leftovers.len());
        return Decision::Run(why, leftovers);
    }
    match (last(facts).filter(|last| !last.why.is_empty()), record.over(&settings.manifest)) {
        (Some(last), _) => Decision::Without(Fault::new(Code::UpdateTakenBack, last.words())),
        (None, Some(apps)) => Decision::Done(format!("{} are laid over the image's own", apps.words())),
        (None, None) => Decision::Done("the apps are the image's own".into()),
    }
}

/// The first file of a bundle that isn't there whole.
pub(crate) fn lost(facts: &Facts, apps: &Apps) -> Option<String> {
    apps.stored().find(|(path, size)| facts.stored.get(path) != Some(size)).map(|(path, _)| path)
}

/// What is in the store and isn't named by the record.
fn leftovers(facts: &Facts, record: &Record) -> Vec<Action> {
    let kept = record.digests();
    let folders: BTreeSet<&str> = facts.stored.keys().filter_map(|path| path.split('/').next()).collect();
    let goes = folders.into_iter().filter(|folder| !kept.contains(folder));
    goes.map(|folder| Action::RemoveFolder { path: format!("{STORE}/{folder}") }).collect()
}

/// A boot with something that has yet to prove itself: it is counted, as a machine that never gets so far as to judge is none to
/// stay in.
fn start(facts: &Facts, record: &Record, apps: &Apps, trial: &Trial) -> Decision {
    if trial.starts == 0 {
        return undo(facts, record, &format!("in {STARTS} starts of the machine they didn't prove themselves"));
    }
    let counted = Trial { boot: facts.boot.clone(), since: facts.uptime, starts: trial.starts - 1, ..trial.clone() };
    let why = format!("{} are tried; {} more starts are left", apps.words(), counted.starts);
    let counted = Record { trial: Some(counted), ..record.clone() };
    Decision::Run(why, publish(facts, RECORD, json(&counted), 0o600).into_iter().collect())
}

/// What was there before counts again. Why is noted first: the record is what commits.
fn undo(facts: &Facts, record: &Record, why: &str) -> Decision {
    let ended = record.ended(facts.clock, why);
    let noted = publish(facts, LAST, json(&ended), 0o600);
    let undone = publish(facts, RECORD, json(&record.undone()), 0o600);
    Decision::Run(ended.words(), noted.into_iter().chain(undone).collect())
}

/// How what is tried ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not yet.
    Wait,
    /// They are what counts.
    Good,
    /// What was there before counts again, for this reason.
    Back(String),
}

/// Judges what is tried, by what is known so many seconds after the kernel started: what is missing in words, and whether nothing
/// has been missing for a while. `patience` are the seconds that it may take in a boot.
pub fn verdict(trial: &Trial, uptime: u64, patience: u64, missing: &str, is_steady: bool) -> Verdict {
    if is_steady && missing.is_empty() {
        return Verdict::Good;
    }
    if uptime.saturating_sub(trial.since) < patience {
        return Verdict::Wait;
    }
    let what = if missing.is_empty() { "it isn't steady" } else { missing };
    Verdict::Back(format!("after {patience} s something is still missing: {what}"))
}

/// Decides, in a boot that counts as good, about apps that the image contains: what an update could still go back to stays.
pub fn leave_to_the_image(facts: &Facts, settings: &Settings) -> Decision {
    let record = of(facts);
    let is_over = record.is_contained(&settings.manifest) && record.trial.is_none();
    let (Some(apps), true, false) = (&record.apps, is_over && facts.has(paths::GOOD), facts.has(update::PATH)) else {
        return Decision::Done("no apps are left to the image".into());
    };
    let goes = record.digests().into_iter().map(|digest| Action::RemoveFolder { path: format!("{STORE}/{digest}") });
    let left = publish(facts, RECORD, json(&record.left_to_the_image()), 0o600);
    let why = format!("the image is as new as {}, which go", apps.words());
    Decision::Run(why, left.into_iter().chain(goes).collect())
}

#[cfg(test)]
mod tests;
