//! One pass: each step decides, what it wants is done, and it is asked again until it wants nothing more.
//!
//! Law 2: the world is looked at anew after whatever was done to it. The report is written whatever happens.

use crate::error::FirstbootError;
use crate::world::World;
use bakelite_plan::action::Action;
use bakelite_plan::facts::Facts;
use bakelite_plan::step::{Decision, Step};
use bakelite_plan::{Settings, attempts};
use bakelite_spec::event::Outcome;
use bakelite_spec::fault::Fault;
use bakelite_spec::status::{Report, StepReport};

/// How often a step may want something before it counts as a defect.
const ROUNDS: usize = 12;

/// Runs a pass and tells what init is to do.
///
/// # Errors
/// When an action can't be done, or a step never ends.
pub fn run(pass: &str, steps: &[Step], world: &mut impl World, settings: &Settings) -> Result<Outcome, FirstbootError> {
    let mut report = Report { pass: pass.into(), ..Report::default() };
    let result = run_steps(steps, world, settings, &mut report);
    world.report(&report)?;
    result
}

fn run_steps(
    steps: &[Step],
    world: &mut impl World,
    settings: &Settings,
    report: &mut Report,
) -> Result<Outcome, FirstbootError> {
    let mut outcome = Outcome::GoOn;
    let mut seen = None;
    for step in steps {
        let ended = run_step(step, world, settings, report, &mut seen)
            .or_else(|error| counted(step, world, settings, report, error));
        let ended = match (ended, step.fails_as) {
            // What fails with a disk must not keep an operator out: the other steps are still done.
            (Err(error), Some(code)) => {
                let error = bakelite_sys::words(&error);
                log::error!("{}: {error}", step.name);
                seen = None;
                note(report, Fault::new(code, error));
                Outcome::TryAgain
            }
            (ended, _) => ended?,
        };
        outcome = outcome.graver(ended);
        if ended != Outcome::GoOn && step.ends_the_pass {
            break;
        }
    }
    Ok(outcome)
}

/// One step. `seen` is the world as it is since the last thing that was done to it.
fn run_step(
    step: &Step,
    world: &mut impl World,
    settings: &Settings,
    report: &mut Report,
    seen: &mut Option<Facts>,
) -> Result<Outcome, FirstbootError> {
    for round in 0..=ROUNDS {
        let decision = attempts::decide(step, seen.get_or_insert_with(|| world.facts()), settings);
        // What was done counts more than that there was nothing left to do afterwards.
        if round == 0 || decision.kind() != "done" {
            log::info!("{}: {}", step.name, decision.why());
            report.steps.retain(|reported| reported.step != step.name);
            report.steps.push(StepReport {
                step: step.name.into(),
                decision: decision.kind().into(),
                why: decision.why().into(),
            });
        }
        let (outcome, fault) = match decision {
            Decision::Warn(fault) => {
                report.warnings.push(format!("{} ({}): {}", fault.text, fault.code.name(), fault.hint));
                (Outcome::GoOn, None)
            }
            Decision::Run(why, actions) => {
                let facts = seen.take().unwrap_or_else(|| world.facts());
                match attempts::begin(&facts, settings, step.name, &why, &actions) {
                    Ok(noted) => {
                        keep(world, noted);
                    }
                    Err(counted) => {
                        keep(world, Some(counted));
                        continue;
                    }
                }
                if actions.iter().any(Action::touches_a_medium) {
                    world.tell(&format!("{}: {why}", step.name));
                }
                actions.iter().try_for_each(|action| world.apply(action).map(drop))?;
                continue;
            }
            Decision::Done(_) | Decision::Skip(_) => (Outcome::GoOn, None),
            Decision::Without(fault) => (Outcome::GoOn, Some(fault)),
            Decision::Wait(_, fault) => (Outcome::TryAgain, fault),
            Decision::Reboot(why, fault) => {
                report.reboot.get_or_insert(why);
                (Outcome::Reboot, fault)
            }
            Decision::Refuse(fault) => (Outcome::Refused, Some(fault)),
        };
        if outcome == Outcome::GoOn {
            let noted = seen.as_ref().and_then(|facts| attempts::end(facts, step.name));
            if keep(world, noted) {
                *seen = None;
            }
        }
        fault.into_iter().for_each(|fault| note(report, fault));
        return Ok(outcome);
    }
    Err(FirstbootError::Endless(step.name))
}

/// Counts a fault that a step returned. After the last try it is a refusal: what comes after is done where it may be.
fn counted(
    step: &Step,
    world: &mut impl World,
    settings: &Settings,
    report: &mut Report,
    error: FirstbootError,
) -> Result<Outcome, FirstbootError> {
    let text = bakelite_sys::words(&error);
    let (noted, last) = attempts::fail(&world.facts(), settings, step.name, &text);
    keep(world, Some(noted));
    let (outcome, fault) = match last {
        Some(Decision::Without(fault)) => (Outcome::GoOn, fault),
        Some(Decision::Refuse(fault)) => (Outcome::Refused, fault),
        _ => return Err(error),
    };
    log::error!("{}: {text}", step.name);
    step.fails_as.into_iter().for_each(|code| note(report, Fault::new(code, &text)));
    note(report, fault);
    Ok(outcome)
}

/// Keeps the record of attempts, if there is something to note; whether there was. A medium that doesn't take it is told of
/// by whatever it was about.
fn keep(world: &mut impl World, noted: Option<Action>) -> bool {
    let Some(noted) = noted else { return false };
    if let Err(error) = world.apply(&noted) {
        log::warn!("{}", bakelite_sys::words(&error));
    }
    true
}

/// Two steps may find the same wrong; it is told once.
fn note(report: &mut Report, fault: Fault) {
    if !report.faults.contains(&fault) {
        report.faults.push(fault);
    }
}

#[cfg(test)]
mod tests;
