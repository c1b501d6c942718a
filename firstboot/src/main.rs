//! The fitter: makes the machine fit its description, before every start of k3s. Called by init as `firstboot PASS`, and by
//! the operator as `bakelite …`.
//!
//! `early` prepares what network, time and ssh read; `settle` what k3s reads; `upkeep` looks after media; `report` tells of all on
//! the boot partition; `keeper` stays, and makes the backups. `facts` and `plan` only look. The exit
//! status is the contract with init (spec's `Outcome`), which is systemd's as well.

mod account;
mod blank;
mod boot_partition;
mod config;
mod disks;
mod effort;
mod error;
mod ladder;
mod latency;
mod layers;
mod loader;
mod moving;
mod overlay;
mod pass;
mod payload;
mod placed;
mod probe;
mod put_back;
mod rekey;
mod relocate;
mod replace;
mod restore;
mod retry;
mod sealing;
mod seed;
mod sets;
mod storage;
mod trim;
mod world;

use bakelite_plan::home::{TO_CARD, TO_DISK};
use bakelite_plan::step::{BORN, EARLY, SETTLE, UPKEEP};
use bakelite_plan::{forecast, table};
use bakelite_spec::event::Outcome;
use disks::Looked;
use error::FirstbootError;
use std::path::Path;
use std::process::ExitCode;
use world::Machine;

/// The name under which this program is the operator's command.
const OPERATOR: &str = "bakelite";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if words.first().is_some_and(|program| Path::new(program).file_name().is_some_and(|name| name == OPERATOR)) {
        return match operate(&words[1..]) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{}", bakelite_sys::words(&error));
                ExitCode::FAILURE
            }
        };
    }
    bakelite_sys::kmsg::start();
    let command = words.get(1..).unwrap_or_default().join(" ");
    match run(&command) {
        Ok(outcome) => ExitCode::from(outcome.status().unwrap_or(1)),
        Err(error) => {
            log::error!("{command}: {}", bakelite_sys::words(&error));
            eprintln!("firstboot {command}: {}", bakelite_sys::words(&error));
            ExitCode::FAILURE
        }
    }
}

/// Runs early, and once more where a seal brought settings along: the machine has to be reachable as before.
fn early(root: &Path) -> Result<Outcome, FirstbootError> {
    overlay::look()?;
    let settings = layers::settings(root)?;
    let mut machine = Machine::new(root, Looked::default());
    let mut outcome = pass::run("early", EARLY, &mut machine, &settings)?;
    let again = layers::settings(root)?;
    if again.appliance != settings.appliance {
        machine = Machine::new(root, Looked::default());
        outcome = pass::run("early", EARLY, &mut machine, &again)?;
    }
    machine.leave_looks()?;
    Ok(outcome)
}

/// What the operator types on the machine.
fn operate(words: &[&str]) -> Result<(), FirstbootError> {
    match words {
        ["config", rest @ ..] => config::run(rest),
        ["facts" | "plan"] | ["facts", "--json"] => run(&words.join(" ")).map(drop),
        ["storage", word @ (TO_DISK | TO_CARD)] => relocate::begin(word),
        ["restore", rest @ ..] => replace::restore(rest),
        ["rekey", rest @ ..] => replace::rekey(rest),
        ["retry"] => retry::retry(),
        ["backup", rest @ ..] => Ok(bakelite_keeper::operate(rest, &layers::settings(Path::new("/"))?)?),
        _ => Err(FirstbootError::UnknownWords(words.join(" "))),
    }
}

fn run(command: &str) -> Result<Outcome, FirstbootError> {
    let root = Path::new("/");
    let after = |pass, steps| {
        let mut machine = Machine::new(root, Looked::by_early(root));
        effort::told(pass, || pass::run(pass, steps, &mut machine, &layers::settings(root)?))
    };
    match command {
        "early" => effort::told(command, || early(root)),
        "settle" => after("settle", SETTLE),
        "born" => after("born", BORN),
        "upkeep" => after("upkeep", UPKEEP),
        "report" => account::write(root),
        "keeper" => bakelite_keeper::serve(&|| layers::settings(root).ok()),
        "facts" => {
            print!("{}", table::text(&probe::facts(root, &Looked::by_early(root), 0)));
            Ok(Outcome::GoOn)
        }
        "facts --json" => {
            let facts = probe::facts(root, &Looked::by_early(root), 0);
            println!("{}", serde_json::to_string_pretty(&facts).map_err(FirstbootError::WriteReport)?);
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
