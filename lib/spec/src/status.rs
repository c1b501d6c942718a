//! `/run/bakelite/status.json` (always there, by init), `last-start.json` (how the payload's last start went), and
//! what firstboot leaves for init in /run/bakelite.

use crate::event::UnitState;
use crate::fault::Fault;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where things are while the machine runs.
pub mod paths {
    /// The baked settings: manifest.json, appliance.json, units.json.
    pub const BAKED: &str = "/run/bakelite/baked";
    /// Which disk this machine was booted from, by init.
    pub const MEDIUM: &str = "/run/bakelite/medium.json";
    /// init's status.
    pub const STATUS: &str = "/run/bakelite/status.json";
    /// What the payload gets into its environment besides its unit's, as lines `NAME=value`.
    pub const PAYLOAD_ENVIRONMENT: &str = "/run/bakelite/payload.env";
    /// The proxy's part of the payload's environment; a value may be a reference to a secret.
    pub const PROXY_ENVIRONMENT: &str = "/run/bakelite/proxy.env";
    /// How the payload's last start went; the same name below [`STATE`].
    pub const LAST_START: &str = "/run/bakelite/last-start.json";
    /// There, if the boot before this one was not ended in order; by init.
    pub const UNCLEAN: &str = "/run/bakelite/unclean";
    /// There, if the machine's own clock was behind what is known at least; by init.
    pub const CLOCK_LIFTED: &str = "/run/bakelite/clock-lifted";
    /// There, and not empty, once this boot counts as good; by init.
    pub const GOOD: &str = "/run/bakelite/good";
    /// What firstboot's last pass decided, for the screen and for init.
    pub const REPORT: &str = "/run/bakelite/report.json";
    /// The folder with the last report of each pass of this boot.
    pub const REPORTS: &str = "/run/bakelite/reports";
    /// What the keeper has found, for the screen and for init.
    pub const WATCH: &str = "/run/bakelite/watch.json";
    /// The node's name, by firstboot.
    pub const HOSTNAME: &str = "/run/bakelite/hostname";
    /// The keys that may log in; absent or empty: no ssh.
    pub const AUTHORIZED_KEYS: &str = "/run/bakelite/authorized_keys";
    /// init's control socket (SEQPACKET, root only).
    pub const CONTROL: &str = "/run/bakelite/control";
    /// There, while k3s has yet to prove itself upon a restored backup; by firstboot.
    pub const RESTORE_TRIAL: &str = "/var/lib/bakelite/restore-trial.json";
    /// Settings that are being tried, until they are confirmed; in memory, so that a restart undoes them.
    pub const TRIAL: &str = "/run/bakelite/trial.yaml";
    /// Settings applied on the device and confirmed.
    pub const APPLIED: &str = "/var/lib/bakelite/settings/applied.yaml";
    /// What is kept of a seed that was taken, as JSON.
    pub const SEED: &str = "/var/lib/bakelite/settings/seed.yaml";
    /// The last accepted `bakelite.yaml`.
    pub const OVERLAY: &str = "/var/lib/bakelite/settings/overlay.yaml";
    /// The state partition's mount point.
    pub const STATE_MOUNT: &str = "/state";
    /// The data disk's mount point.
    pub const DATA_MOUNT: &str = "/disk";
    /// Bakelite's own folder on the state partition, as it is seen in the running system.
    pub const STATE: &str = "/var/lib/bakelite";
    /// Our programs and the payload in the system partition.
    pub const LIBRARY: &str = "/usr/lib/bakelite";
}

/// The status of the machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    /// Bakelite's version.
    pub version: String,
    /// The image's id.
    pub image: String,
    /// The slot it runs from.
    pub slot: String,
    /// The node's name.
    pub hostname: String,
    /// Addresses by link name.
    pub addresses: BTreeMap<String, Vec<String>>,
    /// What the machine is doing, in a few words.
    pub doing: String,
    /// Seconds from the kernel's start to the payload's READY, in this boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<f64>,
    /// Whether this boot counts as good.
    pub good: bool,
    /// The payload: `k3s v1.36.2+k3s1`, `rehearsal`, `none`.
    pub payload: String,
    /// A debug image.
    pub debug: bool,
    /// The state of each unit.
    pub units: BTreeMap<String, UnitStatus>,
    /// What is wrong now.
    pub faults: Vec<Fault>,
    /// What the keeper watches over; its faults are among the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch: Option<Watch>,
}

/// What the keeper has found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Watch {
    /// What is wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
    /// The newest backup of this boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<Backup>,
    /// The last drill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<Drill>,
    /// A restart of k3s that is planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
    /// The sizes of k3s's database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<Database>,
}

/// A restart of k3s that is planned and announced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Restart {
    /// When, in seconds since 1970.
    pub at: i64,
    /// Why, as a sentence.
    pub why: String,
}

/// The sizes of k3s's database, in bytes but for the rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Database {
    /// Its file.
    pub bytes: u64,
    /// The -wal beside it.
    pub log: u64,
    /// Pages that hold nothing.
    pub free: u64,
    /// Revisions since the last compaction.
    pub uncompacted: u64,
    /// Statements of the last hour that took longer than a second.
    pub slow: usize,
}

/// How the last drill went: the newest set, restored into a scratch folder and checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Drill {
    /// When, in seconds since 1970.
    pub at: i64,
    /// The set.
    pub set: String,
    /// Whether it came back whole.
    pub good: bool,
    /// In words: what came back, or what was wrong.
    pub said: String,
    /// When the last good one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_good: Option<i64>,
}

/// A backup that was opened again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Backup {
    /// Its file name.
    pub set: String,
    /// When it was made, in seconds since 1970.
    pub made: i64,
    /// The revision of the database in it.
    pub revision: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Claims whose data isn't in it.
    pub lacks: Vec<String>,
    /// The newest set that the target has got in this boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// The state of one unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct UnitStatus {
    /// Its state.
    pub state: UnitState,
    /// Its main process, while there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// How often it was started in this boot.
    pub starts: u32,
    /// The last thing it said by STATUS= or how it ended.
    pub detail: String,
}

/// How the payload's last start went, by init, in /run and on state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LastStart {
    /// Seconds from the kernel's start to the start of the process.
    pub started: f64,
    /// Seconds from the kernel's start to READY.
    pub ready_at: Option<f64>,
    /// Seconds from the kernel's start to its end.
    pub ended: Option<f64>,
    /// The exit status.
    pub status: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What the classifier of last words makes of it.
    pub fault: Option<Fault>,
}

/// What firstboot leaves for init and the screen after a pass.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// `early` or `settle`.
    pub pass: String,
    /// The decision of each step, in order.
    pub steps: Vec<StepReport>,
    /// What needs a human.
    pub faults: Vec<Fault>,
    /// What a person should know although nothing is wrong.
    pub warnings: Vec<String>,
    /// Why the machine has to be restarted; the same words restart it once a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reboot: Option<String>,
}

/// The decision of one step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StepReport {
    /// The step's name.
    pub step: String,
    /// `done`, `skip`, `run`, `warn` or `refuse`.
    pub decision: String,
    /// Why, as a sentence.
    pub why: String,
}
