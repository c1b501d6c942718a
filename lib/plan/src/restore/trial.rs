//! Trial: a restored set has to prove itself by a good boot. Where k3s doesn't come so far upon it, and its last words blame
//! what it was given, all that was there before comes back (k3s.md 3.4, step 8).
//!
//! Only what was restored in place of something usable is tried like that: what the ladder brings is the best there is. A
//! full disk or a missing cgroup takes nothing back. The act has its intent and its epoch as every other; a set that was
//! taken back isn't tried again unasked.

use crate::Settings;
use crate::action::Action;
use crate::certificates::RENEWED;
use crate::cluster;
use crate::facts::Facts;
use crate::home::{self, DISK_HOME, HOME, INTENT, json};
use crate::identity::{self, Identity, RECORD};
use crate::restore::{AT_ONCE, RESTORED, aside};
use crate::seal;
use crate::step::{Decision, publish};
use bakelite_spec::fault::{Code, Fault};
use bakelite_spec::records::{Act, Before, ClusterBorn, DiskHome, FORMAT, Home, Intent, RestoreTrial, RolledBack};
use bakelite_spec::status::paths;

/// The trial's record.
pub const TRIAL: &str = paths::RESTORE_TRIAL;
/// The sets that were taken back.
pub const ROLLED_BACK: &str = "/var/lib/bakelite/rolled-back.json";

/// Who this machine is, for the case that it has to be so again.
pub(super) fn before(facts: &Facts) -> Before {
    let node = identity::of(facts).map(|identity| identity.node).unwrap_or_default();
    Before { node, cluster: cluster::of(facts) }
}

/// What was taken back.
pub fn rolled_back(facts: &Facts) -> RolledBack {
    facts.file(ROLLED_BACK).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

fn of_cluster(facts: &Facts) -> Option<u64> {
    cluster::of(facts).map(|born| born.epoch)
}

fn record(facts: &Facts) -> Option<RestoreTrial> {
    serde_json::from_str(facts.file(TRIAL)?).ok()
}

/// The trial that a restore begins when its data is in place.
pub(super) fn begin(facts: &Facts, intent: &Intent) -> Option<Action> {
    let Some(before) = intent.before.clone() else { return gone(facts, TRIAL) };
    let trial = RestoreTrial { format: FORMAT, epoch: intent.from_epoch + 1, set: intent.set.clone(), before };
    publish(facts, TRIAL, json(&trial), 0o600)
}

/// The trial that is on: the database is still of the line that it began.
pub fn on(facts: &Facts) -> Option<RestoreTrial> {
    record(facts).filter(|trial| home::intent(facts).is_none() && of_cluster(facts) == Some(trial.epoch))
}

/// k3s's last words, where they say that it can't live with what it was given.
fn blame(facts: &Facts) -> Option<String> {
    let start = facts.last_start().filter(|start| start.ready_at.is_none())?;
    let fault = start.fault?;
    let is = match fault.code {
        Code::K3sDatabaseDamaged | Code::K3sWrongToken | Code::K3sHangs | Code::K3sFailing => true,
        // Once they are set aside: k3s makes them anew.
        Code::K3sStaleCertificates => {
            facts.file(RENEWED).is_some_and(|renewed| renewed != format!("{}\n", start.started))
        }
        _ => false,
    };
    is.then(|| format!("{}: {}", fault.code.name(), fault.text))
}

/// Takes a set back that k3s can't live with; `None` as long as nothing is known against it.
pub(super) fn judge(facts: &Facts) -> Option<Decision> {
    let trial = on(facts)?;
    let words = blame(facts)?;
    let mut failed = rolled_back(facts);
    (failed.format, failed.epoch) = (FORMAT, trial.epoch + 1);
    failed.sets.insert(trial.set.clone(), words.clone());
    let intent = Intent {
        format: FORMAT,
        act: Act::RollBack,
        from_epoch: trial.epoch,
        disk: facts.attached().map(|(_, data)| data.guid.clone()).unwrap_or_default(),
        revision: trial.before.cluster.as_ref().map_or(0, |born| born.revision),
        set: trial.set.clone(),
        before: None,
    };
    let why = format!("k3s can't live with {} ({words}); what was there before comes back", trial.set);
    let records = [publish(facts, ROLLED_BACK, json(&failed), 0o600), publish(facts, INTENT, json(&intent), 0o600)];
    Some(Decision::Run(why, records.into_iter().flatten().collect()))
}

/// From the intent to the end. Each action may be done twice, so a cut anywhere begins here again.
pub(super) fn finish(facts: &Facts, settings: &Settings, intent: &Intent) -> Decision {
    let Some(trial) = record(facts).filter(|trial| trial.epoch == intent.from_epoch) else {
        let text = format!("{} is to be taken back, and {TRIAL} doesn't say what was there before", intent.set);
        return Decision::Refuse(Fault::new(Code::RestoreUnfinished, text));
    };
    let epoch = intent.from_epoch + 1;
    let attached = facts.attached();
    let has_disk = attached.is_some();
    let node = trial.before.node.clone();
    let mut actions = Vec::new();
    if facts.payload_ran
        && let Some(unit) = settings.manifest.payload.kind.unit()
    {
        actions.push(Action::StopWorkloads { unit: unit.into() });
        actions.push(Action::Tell { path: home::AT_ONCE.into(), text: AT_ONCE.into(), mode: 0o644 });
    }
    let aside = aside(trial.epoch);
    actions.extend([Action::PutBack { aside: aside.clone() }, Action::GiveBackIdentity { aside }]);
    let identity = (!node.is_empty()).then(|| Identity { format: 1, node: node.clone() });
    let on_disk = DiskHome { format: FORMAT, node, epoch, left: false };
    let home = home::of(facts).map(|home| Home { epoch, ..home });
    let born = trial.before.cluster.map(|born| json(&ClusterBorn { epoch, ..born }));
    let cluster_of = |path: &str| match &born {
        Some(born) => publish(facts, path, born.clone(), 0o600),
        None => gone(facts, path),
    };
    let records = [
        identity.and_then(|identity| publish(facts, RECORD, json(&identity), 0o600)),
        publish(facts, DISK_HOME, json(&on_disk), 0o600).filter(|_| has_disk),
        home.and_then(|home| publish(facts, HOME, json(&home), 0o600)),
        cluster_of(cluster::ON_DISK).filter(|_| has_disk),
        cluster_of(cluster::ON_STATE),
        attached.map(|(_, data)| seal::again(data)),
        gone(facts, RESTORED),
        // It was a start upon another database.
        gone(facts, paths::LAST_START),
    ];
    actions.extend(records.into_iter().flatten());
    // The trial last: without it the act couldn't be ended, and once the line is another one it counts no more.
    actions.extend([INTENT, TRIAL].map(|path| Action::Remove { path: path.into() }));
    Decision::Run(format!("{} was taken back: what was there before is in its place again", trial.set), actions)
}

/// A trial of a line that is over.
pub(super) fn stale(facts: &Facts) -> Option<Action> {
    gone(facts, TRIAL).filter(|_| on(facts).is_none())
}

/// Removes a file if it is there.
pub(super) fn gone(facts: &Facts, path: &str) -> Option<Action> {
    facts.has(path).then(|| Action::Remove { path: path.into() })
}

/// What a person should see as long as nothing better was restored.
pub(super) fn said(facts: &Facts) -> Option<Fault> {
    let failed = rolled_back(facts).sets;
    let each: Vec<String> = failed.iter().map(|(set, words)| format!("{set} was taken back ({words})")).collect();
    (!each.is_empty()).then(|| Fault::new(Code::RestoreTakenBack, each.join("; ")))
}

/// Ends a trial in a boot that counts as good.
pub fn prove(facts: &Facts, _: &Settings) -> Decision {
    if on(facts).is_none() {
        return Decision::Done("no restored backup has to prove itself".into());
    }
    if !facts.has(paths::GOOD) {
        return Decision::Skip("a restored backup has to prove itself by a good boot".into());
    }
    let records = [gone(facts, ROLLED_BACK), gone(facts, TRIAL)];
    Decision::Run("k3s is well upon the restored backup".into(), records.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests;
