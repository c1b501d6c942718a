//! Node conditions: what of the watch's faults the cluster is told about its node, as node-problem-detector tells it. Pure.
//!
//! A small fixed set of types, each there from the start: `True` means a problem, `False` that there is none, as with
//! node-problem-detector's own (`KernelDeadlock`, `KubeletUnhealthy`). Kubernetes does nothing by them itself; alerts do.
//! The kubelet leaves conditions alone that aren't its own.

use bakelite_spec::backup::Every;
use bakelite_spec::fault::{Code, Fault};
use bakelite_spec::set::date;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// One type of condition.
struct Kind {
    name: &'static str,
    /// Whether it is about what only a node with k3s's database has.
    of_database: bool,
    /// Reason and message where nothing is wrong.
    well: (&'static str, &'static str),
    /// The faults that are told by it, the gravest first, each with its reason.
    faults: &'static [(Code, &'static str)],
}

const KINDS: &[Kind] = &[
    Kind {
        name: "DatastoreUnhealthy",
        of_database: true,
        well: (
            "DatastoreIsHealthy",
            "k3s's database is whole, can be written, and is as large and quick as it should be",
        ),
        faults: &[
            (Code::K3sDatabaseDamaged, "DatabaseDamaged"),
            (Code::K3sDiskFull, "DatastoreDiskFull"),
            (Code::DatabaseLarge, "DatabaseLarge"),
            (Code::DatabaseSlow, "DatabaseSlow"),
        ],
    },
    Kind {
        name: BACKUP,
        of_database: true,
        well: ("BackupIsHealthy", "the last backup was made and opened again, and the last drill brought one back"),
        faults: &[
            (Code::BackupFailing, "BackupFailing"),
            (Code::BackupDrill, "BackupDrillFailed"),
            (Code::BackupTarget, "BackupTargetFailing"),
            (Code::BackupRoom, "BackupsRemovedEarly"),
        ],
    },
    Kind {
        name: "CertificatesExpiring",
        of_database: false,
        well: ("CertificatesAreValid", "k3s's certificates hold, or are renewed in time"),
        faults: &[(Code::CertificatesExpire, "CertificatesExpiring")],
    },
    Kind {
        name: "StorageMediumWorn",
        of_database: false,
        well: ("StorageMediaAreHealthy", "no medium says that it is near its end, and none is estimated to be"),
        faults: &[(Code::MediumWorn, "StorageMediumWorn")],
    },
];
const BACKUP: &str = "BackupUnhealthy";
const OFF: (&str, &str) = ("BackupsAreOff", "backups are turned off in the appliance");

/// One condition of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Its type.
    pub kind: &'static str,
    /// Whether something is wrong.
    pub is_problem: bool,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, for a person: each fault with its code.
    pub message: String,
}

/// The conditions of a node; `has_database` where k3s keeps the cluster's data in a database of this machine.
/// `every` is how often it is backed up.
pub fn conditions(faults: &[Fault], every: &Every, has_database: bool) -> Vec<Condition> {
    KINDS.iter().filter(|kind| has_database || !kind.of_database).map(|kind| condition(kind, faults, every)).collect()
}

fn condition(kind: &Kind, faults: &[Fault], every: &Every) -> Condition {
    let mut found = kind.faults.iter().flat_map(|(code, reason)| {
        faults.iter().filter(move |fault| fault.code == *code).map(move |fault| (*reason, fault))
    });
    let Some((reason, gravest)) = found.next() else {
        let is_off = kind.name == BACKUP && *every == Every::Off;
        let (reason, message) = if is_off { OFF } else { kind.well };
        return Condition { kind: kind.name, is_problem: false, reason, message: message.into() };
    };
    let words = |fault: &Fault| format!("{}: {}", fault.code.name(), fault.text);
    let message = found.fold(words(gravest), |all, (_, fault)| format!("{all}; {}", words(fault)));
    Condition { kind: kind.name, is_problem: true, reason, message }
}

/// What the cluster was told, and what it still has to be told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    /// In which start of k3s it was told: a node that was deleted meanwhile comes back without.
    start: Option<f64>,
    conditions: Vec<Condition>,
    /// Since when each has its status, in seconds since 1970.
    since: BTreeMap<&'static str, i64>,
}

impl Told {
    /// Whether there is something to tell. `start` is the start of k3s that is ready now, by init's seconds.
    pub fn lacks(&self, start: f64, conditions: &[Condition]) -> bool {
        self.start != Some(start) || self.conditions != conditions
    }

    /// What is told once these are. `now` is in seconds since 1970.
    pub fn then(&self, start: f64, conditions: &[Condition], now: i64) -> Self {
        let status = |told: &[Condition], kind| {
            told.iter().find(|condition| condition.kind == kind).map(|condition| condition.is_problem)
        };
        let since = |condition: &Condition| {
            let is_as_before = status(&self.conditions, condition.kind) == Some(condition.is_problem);
            let before = self.since.get(condition.kind).copied().filter(|_| is_as_before);
            (condition.kind, before.unwrap_or(now))
        };
        Self { start: Some(start), since: conditions.iter().map(since).collect(), conditions: conditions.to_vec() }
    }

    /// The same as a strategic merge patch of the node's status: lists of conditions are merged by their types.
    pub fn patch(&self, now: i64) -> Value {
        let one = |condition: &Condition| {
            json!({
                "type": condition.kind,
                "status": if condition.is_problem { "True" } else { "False" },
                "reason": condition.reason,
                "message": condition.message,
                "lastHeartbeatTime": rfc3339(now),
                "lastTransitionTime": rfc3339(self.since.get(condition.kind).copied().unwrap_or(now)),
            })
        };
        json!({ "status": { "conditions": self.conditions.iter().map(one).collect::<Vec<_>>() } })
    }
}

/// A moment in seconds since 1970, as Kubernetes has it.
fn rfc3339(seconds: i64) -> String {
    let second = seconds.rem_euclid(86_400);
    format!("{}T{:02}:{:02}:{:02}Z", date(seconds), second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(faults: &[Fault]) -> Vec<Condition> {
        conditions(faults, &Every::Auto, true)
    }

    fn of<'a>(conditions: &'a [Condition], kind: &str) -> &'a Condition {
        conditions.iter().find(|condition| condition.kind == kind).unwrap()
    }

    #[test]
    fn each_type_is_there_from_the_start_and_is_false_while_nothing_is_wrong() {
        let well = all(&[Fault::new(Code::UpdateRefused, "is nobody's condition")]);
        assert_eq!(well.len(), KINDS.len());
        assert!(well.iter().all(|condition| !condition.is_problem && !condition.message.is_empty()));
        let agent: Vec<&str> = conditions(&[], &Every::Auto, false).iter().map(|condition| condition.kind).collect();
        assert_eq!(agent, ["CertificatesExpiring", "StorageMediumWorn"]);
        assert_eq!(of(&conditions(&[], &Every::Off, true), BACKUP).reason, "BackupsAreOff");
        // Reasons are CamelCase words, as the API's conventions have them.
        let reasons = KINDS.iter().flat_map(|kind| kind.faults.iter().map(|(_, reason)| *reason).chain([kind.well.0]));
        for reason in reasons {
            assert!(reason.starts_with(char::is_uppercase) && reason.chars().all(char::is_alphanumeric), "{reason}");
        }
    }

    #[test]
    fn the_gravest_gives_the_reason_and_all_are_in_the_message() {
        let faults = [
            Fault::new(Code::BackupRoom, "3 went early"),
            Fault::new(Code::BackupDrill, "s doesn't come back"),
            Fault::new(Code::MediumWorn, "SD1"),
            Fault::new(Code::MediumWorn, "SD2"),
        ];
        let found = all(&faults);
        let backup = of(&found, BACKUP);
        assert_eq!((backup.is_problem, backup.reason), (true, "BackupDrillFailed"));
        assert_eq!(backup.message, "backup-drill: s doesn't come back; backup-room: 3 went early");
        assert_eq!(of(&found, "StorageMediumWorn").message, "medium-worn: SD1; medium-worn: SD2");
        assert!(!of(&found, "DatastoreUnhealthy").is_problem);
    }

    #[test]
    fn it_is_told_when_it_changes_and_once_after_each_start() {
        let (well, ill) = (all(&[]), all(&[Fault::new(Code::BackupFailing, "no room")]));
        let told = Told::default();
        assert!(told.lacks(1.0, &well));
        let told = told.then(1.0, &well, 100);
        assert!(!told.lacks(1.0, &well) && told.lacks(1.0, &ill) && told.lacks(2.0, &well));
        let ill = told.then(1.0, &ill, 200);
        let patch = ill.patch(200);
        let conditions = patch["status"]["conditions"].as_array().unwrap();
        let backup = conditions.iter().find(|condition| condition["type"] == BACKUP).unwrap();
        assert_eq!(
            (&backup["status"], &backup["reason"], &backup["lastTransitionTime"]),
            (&json!("True"), &json!("BackupFailing"), &json!("1970-01-01T00:03:20Z"))
        );
        let other = conditions.iter().find(|condition| condition["type"] == "DatastoreUnhealthy").unwrap();
        assert_eq!(
            (&other["status"], &other["lastTransitionTime"], &other["lastHeartbeatTime"]),
            (&json!("False"), &json!("1970-01-01T00:01:40Z"), &json!("1970-01-01T00:03:20Z"))
        );
        // Another reason, or another start, is no transition.
        let later = ill.then(2.0, &all(&[Fault::new(Code::BackupTarget, "x")]), 300);
        assert_eq!(later.since[BACKUP], 200);
    }
}
