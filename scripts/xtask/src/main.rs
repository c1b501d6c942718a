//! The repository's own checks (`cargo xtask check`) and the scenarios in virtual machines (`cargo xtask vm`).
//!
//! Not part of the product: nothing in the house depends on it.

mod arrows;
mod authority;
mod bundles;
mod check;
mod damage;
mod door;
mod drawn;
mod fetch;
mod hardware;
mod line;
mod list;
mod look;
mod media;
mod player;
mod ports;
mod recovery;
mod releases;
mod replay;
mod runner;
mod scenario;
mod server;
mod steps;
mod stick;
mod times;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Checks of the repository, and scenarios in virtual machines.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Look for what the house rules forbid: one line a finding
    Check,
    /// Run scenarios from scripts/scenarios against images
    Vm {
        /// List the scenarios and end
        #[arg(long)]
        list: bool,
        /// Write the appliances that the chosen scenarios need into this folder, list them, and end
        #[arg(long)]
        appliances: Option<PathBuf>,
        /// Run only scenarios of this name
        #[arg(long)]
        only: Vec<String>,
        /// Which scenarios, and how often each
        #[arg(long, value_enum, default_value = "smoke")]
        set: scenario::Set,
        /// The folder with APPLIANCE.img for each appliance
        #[arg(long, required_unless_present_any = ["list", "appliances"])]
        image_dir: Option<PathBuf>,
        /// Where logs of failed scenarios are kept
        #[arg(long, default_value = "target/bakelite/scenarios")]
        logs: PathBuf,
        /// The number that random moments come from
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How many scenarios run at a time; on two cores three, as each waits for a while
        #[arg(long, default_value_t = 3)]
        jobs: usize,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Check => check::run(),
        Task::Vm { list, appliances, only, set, image_dir, logs, seed, jobs } => {
            let choice = list::Choice { only, set };
            match (appliances, image_dir) {
                (Some(folder), _) => runner::prepare(&choice, &folder),
                // Steps run commands in folders of their own.
                (None, Some(image_dir)) if !list => std::path::absolute(image_dir)
                    .map_err(Into::into)
                    .and_then(|image_dir| runner::run(&choice, &runner::Places { image_dir, logs }, seed, jobs)),
                (None, _) => list::print(&choice),
            }
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
