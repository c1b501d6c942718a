//! One pass: each step decides, what it wants is done, and it is asked again until it wants nothing more.
//!
//! Law 2: the world is looked at anew after each round. The report is written whatever happens.

use crate::error::FirstbootError;
use crate::world::World;
use bakelite_plan::Settings;
use bakelite_plan::step::{Decision, Step};
use bakelite_spec::event::Outcome;
use bakelite_spec::status::{Report, StepReport};

/// How often a step may want something before it counts as a defect.
const ROUNDS: usize = 8;

/// Runs a pass and tells what init is to do.
///
/// # Errors
/// When an action can't be done, or a step never ends.
pub fn run(pass: &str, steps: &[Step], world: &mut impl World, settings: &Settings) -> Result<Outcome, FirstbootError> {
    let mut report = Report { pass: pass.into(), ..Report::default() };
    let result = run_steps(steps, world, settings, &mut report);
    world.report(&report)?;
    result?;
    Ok(if report.faults.is_empty() { Outcome::GoOn } else { Outcome::Refused })
}

fn run_steps(
    steps: &[Step],
    world: &mut impl World,
    settings: &Settings,
    report: &mut Report,
) -> Result<(), FirstbootError> {
    for step in steps {
        for round in 0.. {
            let decision = (step.decide)(&world.facts(), settings);
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
            match decision {
                Decision::Run(_, _) if round == ROUNDS => return Err(FirstbootError::Endless(step.name)),
                Decision::Run(_, actions) => actions.iter().try_for_each(|action| world.apply(action).map(drop))?,
                Decision::Warn(fault) => {
                    report.warnings.push(format!("{} ({}): {}", fault.text, fault.code.name(), fault.hint));
                    break;
                }
                Decision::Refuse(fault) => {
                    report.faults.push(fault);
                    if step.ends_the_pass {
                        return Ok(());
                    }
                    break;
                }
                Decision::Done(_) | Decision::Skip(_) => break,
            }
        }
    }
    Ok(())
}
