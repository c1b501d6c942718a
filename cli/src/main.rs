//! The counter: the `bakelite` command. Arguments in; words, progress and exit codes out; no logic.
//!
//! Exit status: 0 done, 1 it could not be done (lint: a rule failed), 2 the arguments or the configuration are wrong,
//! 3 lint could not make every check. With `--host` it is the machine's own (docs/commands.md).

mod arguments;
mod explain;
mod factory;
mod flash;
mod inspect;
mod lint;
mod media;
mod plan;
mod progress;
mod remote;
mod run;
mod simulate;

use arguments::{Arguments, Build, Bundle, Command, Inputs, Stick};
use bakelite_flash::FlashError;
use bakelite_flash::installer::{rows, rows_of_line};
use bakelite_image::bundle::{self, MakeError};
use bakelite_image::recovery::Installer;
use bakelite_image::stick::{self, StickError, Wanted};
use bakelite_image::workshop::{self, Options};
use bakelite_image::{BuildError, boards, start};
use bakelite_spec::keys::{APPLIANCE, BOARD};
use bakelite_spec::quantity::Size;
use bakelite_spec::schema::schema;
use bakelite_vm::VmError;
use clap::Parser;
use progress::Screen;
use remote::{Remote, RemoteError};
use std::process::ExitCode;
use std::time::Instant;

const APPLIANCE_TITLE: &str = "A Bakelite appliance";
const BOARD_TITLE: &str = "A Bakelite board";

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    match Remote::read(&words).and_then(|remote| remote.map(|remote| remote.run()).transpose()) {
        Ok(None) => {}
        Ok(Some(status)) => return ExitCode::from(status),
        Err(error) => {
            Screen::new(false).error(&error);
            return ExitCode::from(if matches!(error, RemoteError::NoSsh | RemoteError::Tool(_)) { 1 } else { 2 });
        }
    }
    let arguments = Arguments::parse();
    let screen = Screen::new(arguments.json);
    match execute(arguments.command, &screen) {
        Ok(code) => code,
        Err(
            CommandError::Build(BuildError::Config { findings })
            | CommandError::Bundle(MakeError::Build(BuildError::Config { findings }))
            | CommandError::Rows(FlashError::Build(BuildError::Config { findings })),
        ) => {
            screen.findings(&findings);
            ExitCode::from(2)
        }
        Err(CommandError::Rows(error)) if error.is_usage() => {
            screen.error(&error);
            ExitCode::from(2)
        }
        Err(error) => {
            screen.error(&error);
            ExitCode::FAILURE
        }
    }
}

/// What stopped a command.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error(transparent)]
    Machine(#[from] VmError),
    #[error(transparent)]
    Rows(#[from] FlashError),
    #[error(transparent)]
    Stick(#[from] StickError),
    #[error(transparent)]
    Bundle(#[from] MakeError),
}

/// Does as told. Nothing may have gone wrong, and yet what was waited for didn't happen, or a rule doesn't hold.
fn execute(command: Command, screen: &Screen) -> Result<ExitCode, CommandError> {
    match command {
        Command::New { list: true, .. } => {
            for (name, _) in boards::BOARDS {
                let board = boards::board(name).map_err(|findings| BuildError::Config { findings })?;
                screen.line(&format!("{name:<18} {}", board.description));
            }
        }
        Command::New { board, file, .. } => {
            let key = start::new(&board.unwrap_or_default(), &file.unwrap_or_default())?;
            screen.line(&format!(
                "Made an appliance and a key pair. {} opens your backups and signs for your machines:",
                key.display()
            ));
            screen.line("keep it safe, and never put it on a device.");
        }
        Command::Check { config: path, site } => {
            let (config, warnings) = workshop::check(&path)?;
            warnings.iter().for_each(|warning| screen.line(&warning.to_string()));
            if site {
                workshop::ask_site(&config)?;
            }
            screen.line(&format!("{}: good, for {} ({})", path.display(), config.board_name, config.board.description));
        }
        Command::Explain { key, config } => explain::explain(&key, config.as_deref(), screen)?,
        Command::Schema { of } => {
            let (table, title) = match of {
                arguments::Schema::Appliance => (APPLIANCE, APPLIANCE_TITLE),
                arguments::Schema::Board => (BOARD, BOARD_TITLE),
            };
            screen.line(&serde_json::to_string_pretty(&schema(table, title)).unwrap_or_default());
        }
        Command::Lock { inputs, output } => {
            let options = Options { lock: output, ..options(inputs) };
            let (path, lock) = workshop::lock(&options, screen)?;
            screen.finish();
            let bytes = lock.packages.iter().map(|package| package.size).sum();
            screen.line(&format!("{}: {} packages, {}", path.display(), lock.packages.len(), Size(bytes).human()));
            for left in &lock.left_out {
                screen.detail(&format!("left out: {} ({}), wanted by {}", left.name, left.why, left.wanted_by));
            }
        }
        Command::Simulate { config, machine } => screen.line(simulate::simulate(&config, &machine)?.trim_end()),
        Command::Fetch { inputs, lock } => {
            let (path, lock) = workshop::fetch(&Options { lock, ..options(inputs) }, screen)?;
            screen.finish();
            let packages = lock.packages.iter().chain(&lock.tools);
            let bytes =
                packages.clone().map(|package| package.size).chain(lock.payload.iter().map(|file| file.size)).sum();
            let files = packages.count() + lock.payload.len();
            screen.line(&format!("{}: {files} files, {}, are in the cache", path.display(), Size(bytes).human()));
        }
        Command::Build(build) => build_image(build, screen)?,
        Command::Bundle(arguments) => make_bundle(arguments, screen)?,
        Command::Plan { inputs, lock } => {
            let plan = workshop::plan(&Options { lock, ..options(inputs) }, screen)?;
            screen.finish();
            plan::show(&plan, screen);
        }
        Command::Inspect { image, path, content } => {
            return Ok(inspect::inspect(&image, path.as_deref(), content, screen)?);
        }
        Command::Lint { image } => return Ok(lint::lint(&image, screen)),
        Command::Stick(Stick { folder, sets, nodes, key, days }) => {
            let wanted = Wanted { folder: &folder, key: &key, nodes: &nodes, days, sets: &sets };
            for path in stick::make(&wanted)? {
                screen.line(&path.display().to_string());
            }
            screen.line("Whoever holds this stick can open these sets. Unmount it before you pull it out.");
        }
        Command::Flash(arguments) => return Ok(flash::flash(arguments, screen)),
        Command::Factory(arguments) => return Ok(factory::factory(arguments, screen)),
        Command::Run(arguments) => {
            let happened = run::run(&arguments, screen)?;
            return Ok(if happened { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn options(inputs: Inputs) -> Options {
    Options {
        config: inputs.config,
        mirror: inputs.mirror,
        without_suites: inputs.without_suites.iter().map(|suite| suite.ending().to_string()).collect(),
        cache: inputs.cache,
        offline: inputs.offline,
        ..Options::default()
    }
}

/// Names in a line that a person reads to its end; `None` where there are none.
fn some_of(names: &[String]) -> Option<String> {
    const SHOWN: usize = 8;
    let shown = names.get(..SHOWN).unwrap_or(names).join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => (!names.is_empty()).then_some(shown),
        more => Some(format!("{shown} and {more} more; `bakelite plan --json` has all of them")),
    }
}

fn build_image(build: Build, screen: &Screen) -> Result<(), CommandError> {
    let started = Instant::now();
    let config = &build.inputs.config;
    let (rows, image) = match (&build.line, &build.rows) {
        (Some(line), _) => rows_of_line(line, config).map(|(rows, image)| (Some(rows), Some(image)))?,
        (None, Some(table)) => (Some(rows(table, build.seed.as_deref(), config)?), None),
        (None, None) => (None, None),
    };
    let installer = build.installer.then_some(Installer { rows, image });
    let options = Options { lock: build.lock, force: build.force, ..options(build.inputs) };
    let is_stick = build.recovery || build.installer;
    let built = match build.key.as_ref().filter(|_| is_stick) {
        Some(key) => workshop::build_recovery(&options, key, installer.as_ref(), &build.output, screen)?,
        None => workshop::build(&options, &build.output, screen)?,
    };
    screen.finish();
    if let Some(names) = some_of(&built.missing_firmware) {
        screen.detail(&format!("firmware that modules ask for and no package brings: {names}"));
    }
    let (manifest, layout) = (&built.manifest, &built.layout);
    let (kind, system) = match (build.recovery, build.installer) {
        (true, _) => ("recovery stick of image", String::new()),
        (_, true) => ("installer stick of image", String::new()),
        _ => {
            let room = layout.partitions.get(2).map_or(0, |slot| slot.length);
            ("image", format!("system {} of {}, ", Size(manifest.system.length).human(), Size(room).human()))
        }
    };
    screen.line(&format!(
        "{}: {kind} {} for {}, payload {}, {system}{} in all, {:.1} s",
        build.output.display(),
        manifest.image,
        manifest.board_name,
        manifest.payload.title(),
        Size(layout.length).human(),
        started.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// An appliance is YAML; anything else is an image.
fn make_bundle(arguments: Bundle, screen: &Screen) -> Result<(), MakeError> {
    let started = Instant::now();
    let Bundle { inputs, output, key, from, apps, after, until, drops, lock, force } = arguments;
    let (from, drops) = (from.as_deref(), &drops[..]);
    let wanted = bundle::Wanted { output: &output, key: &key, after: &after, until: &until, from, drops, force };
    let is_appliance = inputs.config.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
    let made = if apps {
        bundle::make_apps(&inputs.config, &wanted)?
    } else if is_appliance {
        workshop::bundle(&Options { lock, ..options(inputs) }, &wanted, screen)?
    } else {
        bundle::make(&inputs.config, &wanted)?
    };
    screen.finish();
    made.notes.iter().for_each(|note| screen.detail(note));
    let bytes = made.bundle.parts.iter().map(|part| part.member().0).sum();
    screen.line(&format!(
        "{}: {}, {}, {:.1} s",
        output.display(),
        made.bundle.words(),
        Size(bytes).human(),
        started.elapsed().as_secs_f64()
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_schemas_are_current() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../board-configs/schema");
        for (name, table, title) in [("appliance", APPLIANCE, APPLIANCE_TITLE), ("board", BOARD, BOARD_TITLE)] {
            let committed = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap_or_default();
            let current = serde_json::to_string_pretty(&schema(table, title)).unwrap_or_default() + "\n";
            assert_eq!(committed, current, "run: bakelite schema {name} > board-configs/schema/{name}.json");
        }
    }
}
