//! The quiet profile: what keeps an idle server from writing 1.6 GB a day.
//!
//! Three parts of the API server renew a lease of their own every 10 s for the sake of other servers, and the kubelet one
//! for the sake of a controller that looks every few seconds. The only server of a cluster needs none of them
//! (k3s.md 11.3: 24 rows a minute become 2, with nothing lost). Never with several servers. A k3s that refuses one
//! of the gates says so in its last words; the profile is then dropped for that version.

use crate::Settings;
use crate::action::Action;
use crate::facts::Facts;
use crate::step::publish;
use bakelite_spec::appliance::Quiet as Wish;
use bakelite_spec::fault::Code;

/// The k3s version that refused the profile, on state.
pub const REFUSED: &str = "/var/lib/bakelite/quiet-refused";
/// Arguments of the API server. Both gates together: with the first alone it does not start.
pub const API_SERVER: &[&str] = &[
    "feature-gates=APIServerIdentity=false,UnknownVersionInteroperabilityProxy=false",
    "endpoint-reconciler-type=master-count",
];
/// The kubelet renews its lease each quarter of this time, in seconds.
pub const LEASE_SECONDS: u32 = 160;
/// The controller has to wait longer than the lease is valid.
pub const CONTROLLER: &str = "node-monitor-grace-period=200s";

/// What is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quiet {
    /// All of it.
    On,
    /// All but the node's lease: agents are looked after as often as k3s does by itself.
    WithAgents,
    /// Nothing: the appliance says so, or has several servers.
    Off,
    /// Nothing: this k3s refuses it.
    Refused,
}

impl Quiet {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::On => "quiet while idle",
            Self::WithAgents => "quiet while idle but for its agents",
            Self::Off => "with k3s's own leases",
            Self::Refused => "with k3s's own leases, as this version refuses the quiet profile",
        }
    }
}

/// What is done on this machine.
pub fn of(facts: &Facts, settings: &Settings) -> Quiet {
    let k3s = &settings.appliance.k3s;
    if k3s.quiet == Wish::Off || !k3s.is_single_server() {
        return Quiet::Off;
    }
    if facts.file(REFUSED).map(str::trim) == Some(settings.manifest.payload.version.as_str()) || was_refused(facts) {
        return Quiet::Refused;
    }
    if k3s.agents { Quiet::WithAgents } else { Quiet::On }
}

/// Whether the last start ended because of the profile.
fn was_refused(facts: &Facts) -> bool {
    facts.last_start().and_then(|start| start.fault).is_some_and(|fault| fault.code == Code::K3sRefusesQuiet)
}

/// Keeps the version that refused it.
pub(super) fn remember(facts: &Facts, settings: &Settings) -> Option<Action> {
    let version = &settings.manifest.payload.version;
    (of(facts, settings) == Quiet::Refused).then(|| publish(facts, REFUSED, format!("{version}\n"), 0o600)).flatten()
}
