//! Forecast: what each step would do to a machine as it is now, and why, in the same words as it is done.
//!
//! A forecast, not a script: what a step finds out or changes, a later one may decide upon.

use crate::facts::Facts;
use crate::step::{Decision, EARLY, SETTLE, Step, UPKEEP};
use crate::{Settings, attempts};
use bakelite_spec::fault::Fault;
use bakelite_spec::status::paths;
use std::fmt::Write;

/// All steps, one a line, with what a person has to do where one can't go on.
pub fn text(facts: &Facts, settings: &Settings) -> String {
    let mut text = String::new();
    if !pass(EARLY, facts, settings, &mut text) || !pass(SETTLE, facts, settings, &mut text) {
        text.push_str("k3s isn't started before that.\n");
    }
    // Before that it would only say that it waits.
    if facts.has(paths::GOOD) {
        pass(UPKEEP, facts, settings, &mut text);
    }
    text
}

/// The steps of a pass; whether what comes after it is done.
fn pass(steps: &[Step], facts: &Facts, settings: &Settings, text: &mut String) -> bool {
    let mut goes_on = true;
    for step in steps {
        let decision = attempts::decide(step, facts, settings);
        // Writing to a text can't fail.
        let _ = writeln!(text, "{:<11} {:<8} {}", step.name, decision.kind(), decision.why());
        if let Some(fault) = fault(&decision) {
            let _ = writeln!(text, "{:21}{}; {}: {}", "", fault.code.name(), fault.who.words(), fault.hint);
        }
        goes_on &= !decision.stops();
        if decision.stops() && step.ends_the_pass {
            break;
        }
    }
    goes_on
}

fn fault(decision: &Decision) -> Option<&Fault> {
    match decision {
        Decision::Warn(fault) | Decision::Without(fault) | Decision::Reboot(fault) | Decision::Refuse(fault) => {
            Some(fault)
        }
        Decision::Wait(_, fault) => fault.as_ref(),
        Decision::Done(_) | Decision::Skip(_) | Decision::Run(..) => None,
    }
}
