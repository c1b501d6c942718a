//! The fitter: makes the machine fit its description, before every start of k3s. Called by init as `firstboot PASS`, and by
//! the operator as `bakelite …`.
//!
//! `early` prepares what network, time and ssh read; `settle` what k3s reads; `upkeep` looks after media; `report` tells of all on
//! the boot partition; `keeper` stays, and makes the backups; `medic` runs from a recovery stick before all of them. The exit
//! status is the contract with init (spec's `Outcome`), which is systemd's as well.

mod account;
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
mod names;
mod operator;
mod overlay;
mod pass;
mod payload;
mod placed;
mod probe;
mod put_back;
mod rekey;
mod relocate;
mod replace;
mod reset;
mod restore;
mod retry;
mod sealing;
mod seed;
mod sets;
mod storage;
mod to_line;
mod trim;
mod update;
mod world;

use bakelite_keeper::pull;
use bakelite_plan::home::{TO_CARD, TO_DISK};
use bakelite_plan::reset::STEPS;
use bakelite_plan::step::{BORN, EARLY, SETTLE, UPKEEP};
use bakelite_plan::{forecast, table};
use bakelite_spec::answer::{Answer, Ended};
use bakelite_spec::event::Outcome;
use bakelite_spec::quantity::Size;
use bakelite_sys::terminal;
use disks::Looked;
use error::FirstbootError;
use operator::support::{self, Target};
use operator::{kubeconfig, logs, status};
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;
use update::{address, stage};
use world::Machine;

/// The name under which this program is the operator's command.
const OPERATOR: &str = "bakelite";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if words.first().is_some_and(|program| Path::new(program).file_name().is_some_and(|name| name == OPERATOR)) {
        let (answer, words) = Answer::take(&words[1..]);
        let ended = operate(answer, &words).unwrap_or_else(|error| {
            eprint!("{}", answer.failed(&bakelite_sys::words(&error)));
            error.ended()
        });
        return ExitCode::from(ended.status());
    }
    bakelite_sys::kmsg::start();
    if let ["medic", stick, own] = words.get(1..).unwrap_or_default() {
        let mut machine = Machine::new(Path::new("/"), Looked::default());
        return match bakelite_recovery::run(stick, own, &mut machine) {
            Ok(outcome) => ExitCode::from(outcome.status().unwrap_or(1)),
            Err(error) => {
                println!("the medic stopped: {}", bakelite_sys::words(&error));
                ExitCode::FAILURE
            }
        };
    }
    if let [stage::WORD, device, program] = words.get(1..).unwrap_or_default() {
        let error = stage::enter(device, program).err();
        eprintln!("{}", error.as_ref().map_or_else(String::new, |error| bakelite_sys::words(error)));
        return ExitCode::FAILURE;
    }
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
    if reset::is_due(root) {
        return pass::run("early", STEPS, &mut machine, &settings);
    }
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
fn operate(answer: Answer, words: &[&str]) -> Result<Ended, FirstbootError> {
    let root = Path::new("/");
    let settings = || layers::settings(root);
    let mut ended = Ended::Well;
    match words {
        ["help"] | ["--help"] | [] => drop(terminal::print(operator::HELP)),
        ["version"] => {
            let manifest = settings()?.manifest;
            let (version, image, payload) = (&manifest.version, &manifest.image, manifest.payload.title());
            let value = json!({ "version": version, "image": image, "payload": payload });
            terminal::print(&answer.one(&value, || format!("Bakelite {version}, image {image}, {payload}")));
        }
        ["status"] => {
            let (page, text, how) = status::look(root)?;
            terminal::print(&answer.one(&page, || text));
            ended = how;
        }
        ["logs", rest @ ..] => logs::show(root, answer, rest)?,
        ["kubeconfig"] => give_kubeconfig(root, answer, None)?,
        ["kubeconfig", "--server", server] => give_kubeconfig(root, answer, Some(server))?,
        ["support"] => give_support(root, answer, Target::Memory)?,
        ["support", "--stick"] => give_support(root, answer, Target::Stick)?,
        ["support", "-o", "-"] => give_support(root, answer, Target::Output)?,
        ["support", "-o", file] => give_support(root, answer, Target::File(file))?,
        ["config", rest @ ..] => config::run(answer, rest)?,
        ["facts"] => {
            let facts = probe::facts(root, &Looked::by_early(root), 0);
            terminal::print(&answer.one(&facts, || table::text(&facts)));
        }
        ["plan"] => {
            let (facts, settings) = (probe::facts(root, &Looked::by_early(root), 0), settings()?);
            let lines = forecast::lines(&facts, &settings);
            terminal::print(&answer.many(&lines, || forecast::text(&facts, &settings)));
        }
        ["storage", word @ (TO_DISK | TO_CARD)] => relocate::begin(answer, word)?,
        ["reset", rest @ ..] => operator::reset::begin(root, answer, rest)?,
        ["restore", rest @ ..] => replace::restore(answer, rest)?,
        ["rekey", rest @ ..] => replace::rekey(answer, rest)?,
        ["update", rest @ ..] => update::run(answer, rest)?,
        ["retry"] => retry::retry(answer)?,
        ["serve-sets"] => {
            let asked = std::env::var(pull::ASKED).unwrap_or_default();
            pull::serve(&asked, &mut std::io::stdout().lock())?;
        }
        ["backup", rest @ ..] => bakelite_keeper::operate(answer, rest, &settings()?)?,
        ["wear"] => bakelite_keeper::wear(answer)?,
        _ => return Err(FirstbootError::UnknownWords(words.join(" "))),
    }
    Ok(ended)
}

fn give_kubeconfig(root: &Path, answer: Answer, server: Option<&str>) -> Result<(), FirstbootError> {
    let (config, doubt) = kubeconfig::read(root, server)?;
    let yaml = kubeconfig::yaml(&config)?;
    doubt.iter().for_each(|doubt| eprintln!("{doubt}"));
    terminal::print(&answer.one(&config, || yaml));
    Ok(())
}

fn give_support(root: &Path, answer: Answer, target: Target<'_>) -> Result<(), FirstbootError> {
    let (path, bytes) = support::make(root, target)?;
    if target != Target::Output {
        let value = json!({ "file": path, "bytes": bytes });
        terminal::print(&answer.one(&value, || format!("{} ({})", path.display(), Size(bytes).human())));
    }
    Ok(())
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
        "keeper" => {
            let settings = || layers::settings(root).ok();
            bakelite_keeper::serve(&settings, &update::stick::look, address::ask_apart, &|| to_line::begin(root))
        }
        address::WORD => {
            println!("{}", json!(address::look(&layers::settings(root)?)));
            Ok(Outcome::GoOn)
        }
        other => Err(FirstbootError::UnknownPass(other.into())),
    }
}
