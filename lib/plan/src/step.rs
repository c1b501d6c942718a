//! Steps: the order in which a machine is made fit, and what a decision is.

use crate::action::Action;
use crate::facts::Facts;
use crate::{Settings, address, debris, identity, k3s_config, payload, placed, settings};
use bakelite_spec::fault::Fault;

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
            Self::Warn(_) => "warn",
            Self::Refuse(_) => "refuse",
        }
    }

    /// Why.
    pub fn why(&self) -> &str {
        match self {
            Self::Done(why) | Self::Skip(why) | Self::Run(why, _) => why,
            Self::Warn(fault) | Self::Refuse(fault) => &fault.text,
        }
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
    Step { name: "identity", ends_the_pass: false, decide: identity::decide },
    Step { name: "settings", ends_the_pass: false, decide: settings::decide },
    Step { name: "files", ends_the_pass: false, decide: placed::decide_early },
];

/// Before every start of the payload.
pub const SETTLE: &[Step] = &[
    Step { name: "debris", ends_the_pass: true, decide: debris::decide },
    Step { name: "payload", ends_the_pass: true, decide: payload::decide },
    Step { name: "placed", ends_the_pass: true, decide: placed::decide_settle },
    Step { name: "address", ends_the_pass: true, decide: address::decide },
    Step { name: "k3s-config", ends_the_pass: true, decide: k3s_config::decide },
];

/// A file that a step wants on a medium: nothing to do where it is like that.
pub(crate) fn publish(facts: &Facts, path: &str, text: String, mode: u32) -> Option<Action> {
    (facts.file(path) != Some(text.as_str())).then(|| Action::Publish { path: path.into(), text, mode })
}

/// A file that a step wants in /run.
pub(crate) fn tell(facts: &Facts, path: &str, text: String, mode: u32) -> Option<Action> {
    (facts.file(path) != Some(text.as_str())).then(|| Action::Tell { path: path.into(), text, mode })
}
