//! Forecast: what each step would do to a machine as it is now, and why, in the same words as it is done.
//!
//! A forecast, not a script: what a step finds out or changes, a later one may decide upon.

use crate::facts::Facts;
use crate::step::{Decision, EARLY, SETTLE, Step, UPKEEP};
use crate::{Settings, attempts};
use bakelite_spec::account::FaultReport;
use bakelite_spec::fault::Fault;
use bakelite_spec::status::paths;
use serde::Serialize;

/// What a step would do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// The step's name.
    pub step: &'static str,
    /// The kind of its decision.
    pub decision: &'static str,
    /// Why.
    pub why: String,
    /// What is wrong, if anything is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<FaultReport>,
    /// Whether k3s isn't started before it goes on.
    pub stops: bool,
}

/// All steps, one a line, with what a person has to do where one can't go on.
pub fn text(facts: &Facts, settings: &Settings) -> String {
    let (upkeep, starts): (Vec<Line>, Vec<Line>) =
        lines(facts, settings).into_iter().partition(|line| UPKEEP.iter().any(|step| step.name == line.step));
    let mut text: String = starts.iter().map(Line::words).collect();
    if starts.iter().any(|line| line.stops) {
        text.push_str("k3s isn't started before that.\n");
    }
    text.extend(upkeep.iter().map(Line::words));
    text
}

/// All steps in their order.
pub fn lines(facts: &Facts, settings: &Settings) -> Vec<Line> {
    let mut lines = pass(EARLY, facts, settings);
    if lines.iter().all(|line| !line.stops) {
        lines.extend(pass(SETTLE, facts, settings));
    }
    // Before that it would only say that it waits.
    if facts.has(paths::GOOD) {
        lines.extend(pass(UPKEEP, facts, settings));
    }
    lines
}

/// The steps of a pass.
fn pass(steps: &[Step], facts: &Facts, settings: &Settings) -> Vec<Line> {
    let mut lines = Vec::new();
    for step in steps {
        let decision = attempts::decide(step, facts, settings);
        lines.push(Line {
            step: step.name,
            decision: decision.kind(),
            why: decision.why().into(),
            fault: fault(&decision).map(FaultReport::from),
            stops: decision.stops(),
        });
        if decision.stops() && step.ends_the_pass {
            break;
        }
    }
    lines
}

impl Line {
    fn words(&self) -> String {
        let fault = self.fault.as_ref();
        let fault = fault.map(|fault| format!("{:21}{}; {}: {}\n", "", fault.code, fault.who, fault.hint));
        format!("{:<11} {:<8} {}\n{}", self.step, self.decision, self.why, fault.unwrap_or_default())
    }
}

fn fault(decision: &Decision) -> Option<&Fault> {
    match decision {
        Decision::Warn(fault) | Decision::Without(fault) | Decision::Refuse(fault) => Some(fault),
        Decision::Wait(_, fault) | Decision::Reboot(_, fault) => fault.as_ref(),
        Decision::Done(_) | Decision::Skip(_) | Decision::Run(..) => None,
    }
}
