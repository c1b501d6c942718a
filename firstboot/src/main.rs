//! The fitter: makes the machine fit its description, before every start of k3s. Called by init as `firstboot PASS`.
//!
//! `early` prepares what network, time and ssh read; `settle` what k3s reads. `facts` and `plan` only look. The exit
//! status is the contract with init (spec's `Outcome`), which is systemd's as well.

mod disks;
mod error;
mod latency;
mod layers;
mod moving;
mod pass;
mod payload;
mod placed;
mod probe;
mod sealing;
mod storage;
mod world;

use bakelite_plan::forecast;
use bakelite_plan::step::{BORN, EARLY, SETTLE};
use bakelite_spec::event::Outcome;
use disks::Looked;
use error::FirstbootError;
use std::path::Path;
use std::process::ExitCode;
use world::Machine;

fn main() -> ExitCode {
    bakelite_sys::kmsg::start();
    let command = std::env::args().nth(1).unwrap_or_default();
    match run(&command) {
        Ok(outcome) => ExitCode::from(outcome.status().unwrap_or(1)),
        Err(error) => {
            log::error!("{command}: {}", bakelite_sys::words(&error));
            eprintln!("firstboot {command}: {}", bakelite_sys::words(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(command: &str) -> Result<Outcome, FirstbootError> {
    let root = Path::new("/");
    let after_early = || Machine::new(root, Looked::by_early(root));
    match command {
        "early" => {
            let mut machine = Machine::new(root, Looked::default());
            let outcome = pass::run("early", EARLY, &mut machine, &layers::settings(root)?)?;
            machine.leave_looks()?;
            Ok(outcome)
        }
        "settle" => pass::run("settle", SETTLE, &mut after_early(), &layers::settings(root)?),
        "born" => pass::run("born", BORN, &mut after_early(), &layers::settings(root)?),
        "facts" => {
            println!(
                "{}",
                serde_json::to_string_pretty(&probe::facts(root, &Looked::by_early(root), 0))
                    .map_err(FirstbootError::WriteReport)?
            );
            Ok(Outcome::GoOn)
        }
        "plan" => {
            let (facts, settings) = (probe::facts(root, &Looked::by_early(root), 0), layers::settings(root)?);
            print!("{}", forecast::text(&facts, &settings));
            Ok(Outcome::GoOn)
        }
        other => Err(FirstbootError::UnknownPass(other.into())),
    }
}
