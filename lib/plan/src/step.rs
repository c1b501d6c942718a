//! Steps: the order in which a machine is made fit, and what a decision is.

use crate::action::Action;
use crate::facts::Facts;
use crate::restore::{blank, leftovers, trial};
use crate::{
    Settings, address, apps, backup, certificates, cluster, cmdline, data_disk, database, debris, firewall, home,
    identity, k3s_config, latency, old_copy, payload, placed, proxy, restore, seal, seed, settings, time, trim, update,
};
use bakelite_spec::fault::{Code, Fault};

/// What a step decides. Every variant says why, for a person.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Nothing to do: the world already says so.
    Done(String),
    /// Not for this machine.
    Skip(String),
    /// To be done, in this order; the last one makes it count.
    Run(String, Vec<Action>),
    /// It can't be done now, but what comes after doesn't depend on it.
    Warn(Fault),
    /// Not as it was meant, and the machine goes on without it; a person should see it all the time.
    Without(Fault),
    /// Not yet: what is waited for, and what is wrong if that is more than a matter of seconds.
    Wait(String, Option<Fault>),
    /// Only a restart of the machine helps, and perhaps something is wrong.
    Reboot(String, Option<Fault>),
    /// It could be done, but it would be wrong.
    Refuse(Fault),
}

impl Decision {
    /// Its kind, as reports have it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Done(_) => "done",
            Self::Skip(_) => "skip",
            Self::Run(..) => "run",
            Self::Without(_) => "without",
            Self::Wait(..) => "wait",
            Self::Reboot(..) => "reboot",
            Self::Warn(_) => "warn",
            Self::Refuse(_) => "refuse",
        }
    }

    /// Why.
    pub fn why(&self) -> &str {
        match self {
            Self::Done(why) | Self::Skip(why) | Self::Run(why, _) | Self::Wait(why, _) | Self::Reboot(why, _) => why,
            Self::Warn(fault) | Self::Without(fault) | Self::Refuse(fault) => &fault.text,
        }
    }

    /// A restart that mends what is wrong.
    pub(crate) fn restart_for(fault: Fault) -> Self {
        Self::Reboot(fault.text.clone(), Some(fault))
    }

    /// Whether what comes after it has to wait.
    pub fn stops(&self) -> bool {
        matches!(self, Self::Wait(..) | Self::Reboot(..) | Self::Refuse(_))
    }

    /// `Run` where there is something to do, else `Done`.
    pub(crate) fn of(actions: Vec<Action>, done: impl Into<String>, run: impl Into<String>) -> Self {
        if actions.is_empty() { Self::Done(done.into()) } else { Self::Run(run.into(), actions) }
    }
}

/// One step.
#[derive(Clone, Copy)]
pub struct Step {
    /// Its name in reports.
    pub name: &'static str,
    /// Whether a refusal of it ends the pass.
    pub ends_the_pass: bool,
    /// As what it is told if an action of it fails, where that must not end the pass.
    pub fails_as: Option<Code>,
    /// What it decides.
    pub decide: fn(&Facts, &Settings) -> Decision,
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Before network, time and ssh. A refusal doesn't end it: whatever is wrong, an operator with a key gets in.
pub const EARLY: &[Step] = &[
    Step { name: "update", ends_the_pass: false, fails_as: Some(Code::UpdateTakenBack), decide: update::decide_early },
    Step { name: "data-disk", ends_the_pass: false, fails_as: Some(Code::DataDiskDamaged), decide: data_disk::decide },
    Step { name: "seed", ends_the_pass: false, fails_as: Some(Code::SeedRefused), decide: seed::decide },
    Step { name: "restore", ends_the_pass: false, fails_as: Some(Code::RestoreRefused), decide: restore::decide_early },
    Step { name: "identity", ends_the_pass: false, fails_as: None, decide: identity::decide },
    Step { name: "settings", ends_the_pass: false, fails_as: None, decide: settings::decide },
    Step { name: "firewall", ends_the_pass: false, fails_as: Some(Code::FirewallRefused), decide: firewall::decide },
    Step { name: "files", ends_the_pass: false, fails_as: None, decide: placed::decide_early },
    Step { name: "seal", ends_the_pass: false, fails_as: Some(Code::DataDiskDamaged), decide: seal::decide },
];

/// Before every start of the payload.
pub const SETTLE: &[Step] = &[
    Step { name: "home", ends_the_pass: true, fails_as: None, decide: home::decide },
    Step { name: "update", ends_the_pass: true, fails_as: None, decide: update::decide },
    Step { name: "restore", ends_the_pass: true, fails_as: None, decide: restore::decide },
    Step { name: "latency", ends_the_pass: false, fails_as: None, decide: latency::decide },
    Step { name: "cmdline", ends_the_pass: true, fails_as: Some(Code::KernelArguments), decide: cmdline::decide },
    Step { name: "integrity", ends_the_pass: true, fails_as: None, decide: cluster::integrity },
    Step { name: "database", ends_the_pass: true, fails_as: None, decide: database::decide },
    Step { name: "debris", ends_the_pass: true, fails_as: None, decide: debris::decide },
    Step { name: "tls", ends_the_pass: true, fails_as: None, decide: certificates::decide },
    Step { name: "apps", ends_the_pass: true, fails_as: None, decide: apps::decide },
    Step { name: "payload", ends_the_pass: true, fails_as: None, decide: payload::decide },
    Step { name: "placed", ends_the_pass: true, fails_as: None, decide: placed::decide_settle },
    Step { name: "address", ends_the_pass: true, fails_as: None, decide: address::decide },
    Step { name: "time", ends_the_pass: true, fails_as: None, decide: time::decide },
    Step { name: "proxy", ends_the_pass: true, fails_as: None, decide: proxy::decide },
    Step { name: "k3s-config", ends_the_pass: true, fails_as: None, decide: k3s_config::decide },
    Step { name: "backup", ends_the_pass: false, fails_as: None, decide: backup::decide },
    Step { name: "updated", ends_the_pass: true, fails_as: None, decide: update::hand_over },
];

/// Once the payload is ready for the first time.
pub const BORN: &[Step] = &[
    Step { name: "written", ends_the_pass: true, fails_as: None, decide: payload::born },
    Step { name: "born", ends_the_pass: true, fails_as: None, decide: cluster::born },
];

/// Once a day in a boot that counts as good: what may take its time, and nobody waits for.
pub const UPKEEP: &[Step] = &[
    Step { name: "restored", ends_the_pass: false, fails_as: None, decide: trial::prove },
    Step { name: "baseline", ends_the_pass: false, fails_as: None, decide: blank::note },
    Step { name: "aside", ends_the_pass: false, fails_as: None, decide: leftovers::decide },
    Step { name: "old-copy", ends_the_pass: false, fails_as: None, decide: old_copy::decide },
    Step { name: "old-apps", ends_the_pass: false, fails_as: None, decide: apps::leave_to_the_image },
    Step { name: "trim", ends_the_pass: false, fails_as: None, decide: trim::decide },
];

/// A file that a step wants on a medium: nothing to do where it is like that.
pub(crate) fn publish(facts: &Facts, path: &str, text: String, mode: u32) -> Option<Action> {
    (facts.file(path) != Some(text.as_str())).then(|| Action::Publish { path: path.into(), text, mode })
}

/// A file that a step wants in /run.
pub(crate) fn tell(facts: &Facts, path: &str, text: String, mode: u32) -> Option<Action> {
    (facts.file(path) != Some(text.as_str())).then(|| Action::Tell { path: path.into(), text, mode })
}
