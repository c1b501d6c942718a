//! A stand-in for k3s in tests of storage, backup and boot: its outer contract and nothing else.
//! What is copied, and from where, stands in README.md. It depends on nothing of Bakelite, spawns nothing, and never calls
//! itself k3s; nothing may be claimed of k3s from it.

mod agent;
mod bootstrap;
mod certificates;
mod config;
mod datastore;
mod deploy;
mod environment;
mod error;
mod flags;
mod habits;
mod images;
mod kubectl;
mod load;
mod logrus;
mod notify;
mod objects;
mod paths;
mod run;
mod seal;
mod serve;
mod server;
mod stop;
mod token;
mod yaml;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use config::{Role, Settings};
use error::Error;
use habits::Habits;
use paths::Root;
use run::End;
use stop::Stop;

const TOOLS: [&str; 3] = ["kubectl", "crictl", "ctr"];
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args_os().map(|text| text.to_string_lossy().into_owned()).collect();
    let root = take_root(&mut arguments);
    let called_as = arguments.first().map(Path::new).and_then(Path::file_name).unwrap_or_default();
    let called_as = called_as.to_string_lossy();
    let command = arguments.get(1).map(String::as_str).unwrap_or_default();
    if let Some(tool) = TOOLS.into_iter().find(|tool| *tool == called_as || *tool == command) {
        let from = if tool == called_as { 1 } else { 2 };
        return kubectl::run(tool, &arguments[from..], &root);
    }
    let role = match command {
        "server" => Role::Server,
        "agent" => Role::Agent,
        "--version" | "-v" => {
            println!("rehearsal stand-in (not k3s) version v{VERSION}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("usage: rehearsal-k3s [--root DIR] server|agent|--version [flags of k3s]");
            return ExitCode::FAILURE;
        }
    };
    logrus::start(false);
    match start(role, &arguments[2..], &root) {
        Ok(End::Stopped) => ExitCode::SUCCESS,
        Ok(End::ShutdownRequested(reason)) => {
            log::error!("Shutdown request received: \"{reason}\"");
            ExitCode::SUCCESS
        }
        Err(error) => {
            if let Error::UnknownFlag(_) = &error {
                eprintln!("Incorrect Usage: {error}");
            }
            logrus::fatal(&error.fatal_words());
            ExitCode::FAILURE
        }
    }
}

/// `--root DIR` may stand anywhere and isn't k3s's; the environment says the same.
fn take_root(arguments: &mut Vec<String>) -> Root {
    let mut prefix = std::env::var_os("REHEARSAL_ROOT").filter(|text| !text.is_empty()).map(PathBuf::from);
    if let Some(at) = arguments.iter().position(|text| text == "--root" || text.starts_with("--root=")) {
        let argument = arguments.remove(at);
        prefix = match argument.strip_prefix("--root=") {
            Some(path) => Some(path.into()),
            None if at < arguments.len() => Some(arguments.remove(at).into()),
            None => prefix,
        };
    }
    Root::new(prefix)
}

fn start(role: Role, arguments: &[String], root: &Root) -> Result<End, Error> {
    let environment = |name: &str| std::env::var(name).ok();
    let settings = Settings::load(role, arguments, environment, root)?;
    logrus::start(settings.is_on("debug"));
    settings.warnings.iter().for_each(|warning| log::warn!("{warning}"));
    let pace = environment("REHEARSAL_PACE").and_then(|text| text.parse().ok()).unwrap_or(1.0);
    let stop = Stop::new(pace);
    stop.listen()?;
    let count = habits::count_start(&root.at("/run/rehearsal-starts")).unwrap_or_else(|error| {
        log::warn!("Starts aren't counted: {error}");
        1
    });
    let command_line = std::fs::read_to_string(root.at("/proc/cmdline")).unwrap_or_default();
    let file = std::fs::read_to_string(root.at("/etc/rehearsal-habits")).ok();
    let habits = Habits::parse(environment("REHEARSAL_HABITS").as_deref(), file.as_deref(), &command_line, count);
    log::info!("Starting rehearsal stand-in (not k3s) v{VERSION}, {} start {count} of this boot", role.name());
    if !habits.active().is_empty() {
        log::warn!("Bad habits of this start: {:?}", habits.active());
    }
    habits.unknown.iter().for_each(|name| log::warn!("Unknown habit {name}, ignored"));
    environment::check(&settings, root, SystemTime::now())?;
    if let Some(end) = run::misbehave_at_start(&habits, &stop) {
        return end;
    }
    match role {
        Role::Server => server::run(&settings, root, &habits, &stop),
        Role::Agent => agent::run(&settings, root, &habits, &stop),
    }
}
