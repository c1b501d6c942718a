//! Units: the small table of programs that init keeps running. Written by the workshop, read by init.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Unit {
    /// Its name, unique in the table; also the name of its cgroup below `bakelite.slice`.
    pub name: String,
    /// What it is in the machine's life.
    pub role: Role,
    /// Program and arguments; the program by its absolute path.
    pub command: Vec<String>,
    /// Environment variables besides PATH, HOME and (with [`Readiness::Notify`]) NOTIFY_SOCKET.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Files with more of them, lines `NAME=value`, read at each start; an absent one has none. A value may have
    /// references to secrets in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment_files: Vec<String>,
    /// Files that it reads only when it starts: it is started again when firstboot has written others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reads: Vec<String>,
    /// Names of units that must be done (one-shots) or ready before this one starts.
    #[serde(default)]
    pub after: Vec<String>,
    /// Only started while this file is there and not empty; looked at whenever the unit could start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs_file: Option<String>,
    /// Whether it ends by itself, or is kept running.
    pub kind: Kind,
    /// When it counts as ready.
    pub readiness: Readiness,
    /// Seconds from SIGTERM to SIGKILL.
    pub stop_seconds: u64,
    /// Seconds that a start may take before it counts as hanging; `None` for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_seconds: Option<u64>,
    /// A one-shot that ended well is started again after so many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_seconds: Option<u64>,
    /// A TCP port on this machine that has to accept connections once the unit is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alive_port: Option<u16>,
    /// The limit of open files; `None` for the kernel's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_files: Option<u64>,
    /// oom_score_adj from -1000 to 1000.
    #[serde(default)]
    pub oom_score: i16,
}

/// What a unit is in the machine's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// firstboot's pass before network, time and ssh.
    Early,
    /// Network, time, ssh, console: what stays up in every refusal.
    Access,
    /// firstboot's pass before each start of the payload.
    Settle,
    /// firstboot's pass once the payload is ready for the first time.
    Born,
    /// firstboot's pass that looks after media, in boots that count as good.
    Upkeep,
    /// k3s or the rehearsal. Its processes are not killed with it (containers live on).
    Payload,
    /// A program of the user's own. Whatever it does, the machine's own life goes on.
    User,
}

/// Whether a unit ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Ends by itself; its exit status is an [`crate::event::Outcome`].
    Oneshot,
    /// Is kept running; each end that wasn't asked for is a failure, exit status 0 included.
    Service,
}

/// When a unit counts as ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Readiness {
    /// As soon as its process runs.
    Started,
    /// When it says READY=1.
    Notify,
}
