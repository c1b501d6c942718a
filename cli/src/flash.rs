//! `bakelite flash`: words, a question where nobody was named, and one display for all media.
//!
//! Exit status: 0 all are good, 1 one isn't, 2 the words are wrong or a disk was refused: then nothing was written.

use crate::arguments::Flash;
use crate::media::Media;
use crate::progress::Screen;
use bakelite_flash::FlashError;
use bakelite_flash::disks::{self, Disk};
use bakelite_flash::flash::Done;
use bakelite_flash::seed::word;
use bakelite_flash::wanted::{self, Outcome, Wanted};
use bakelite_spec::causes;
use bakelite_spec::quantity::Size;
use serde_json::json;
use std::io::{IsTerminal, Write, stderr, stdin};
use std::path::Path;
use std::process::ExitCode;

/// The words are wrong, or a disk may not be overwritten.
const USAGE: u8 = 2;

/// Flashes, and tells what came of it.
pub fn flash(arguments: Flash, screen: &Screen) -> ExitCode {
    match run(arguments, screen) {
        Ok(code) => code,
        Err(error) => fail(&error, screen),
    }
}

/// Tells an error; its exit status.
pub fn fail(error: &FlashError, screen: &Screen) -> ExitCode {
    screen.error(error);
    if error.is_usage() { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
}

fn run(arguments: Flash, screen: &Screen) -> Result<ExitCode, FlashError> {
    let sets = arguments.sets.iter().map(|text| word(text)).collect::<Result<_, _>>()?;
    let mut wanted = Wanted {
        image: arguments.image,
        map: arguments.bmap,
        targets: arguments.devices,
        seed: arguments.seed,
        sets,
        rows: arguments.table.map(|table| (table, arguments.rows)),
    };
    if wanted.targets.is_empty() {
        match ask(&wanted, screen)? {
            Some(device) => wanted.targets.push(device),
            None => return Ok(ExitCode::from(USAGE)),
        }
    }
    let ready = wanted::prepare(&wanted)?;
    for target in &ready.targets {
        screen.detail(&format!("{}: {}", target.name, target.words()));
    }
    let media = Media::new(screen);
    let outcomes = ready.flash(!arguments.no_probe, &media);
    media.finish();
    outcomes.iter().for_each(|outcome| tell(outcome, screen));
    let all_good = outcomes.iter().all(|outcome| outcome.result.is_ok());
    Ok(if all_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Lists what could be meant, and asks which; `None` where somebody thought better of it.
fn ask(wanted: &Wanted, screen: &Screen) -> Result<Option<String>, FlashError> {
    let offered = wanted::offered(wanted)?;
    for (number, disk) in (1..).zip(&offered) {
        if screen.json {
            screen.value(&json!({ "event": "candidate", "disk": disk }));
        } else {
            eprintln!("{number:>3}  {}", line(disk));
        }
    }
    if !screen.json {
        let others = wanted::not_offered(&disks::disks(Path::new("/")));
        others.iter().for_each(|(disk, why)| eprintln!("     {disk}: {why}"));
    }
    if screen.json || !stdin().is_terminal() || !stderr().is_terminal() {
        return Err(FlashError::NobodyToAsk);
    }
    if offered.is_empty() {
        let why = "there is no card or stick that the image fits onto; plug one in";
        return Err(FlashError::NoSuchDisk(why.into()));
    }
    let answer = read(&format!("Which one [1-{}]? ", offered.len()));
    let chosen = answer.parse::<usize>().ok().and_then(|number| offered.get(number.checked_sub(1)?));
    let Some(disk) = chosen else { return Ok(None) };
    let answer = read(&format!("Everything on {} is lost. Type yes: ", line(disk)));
    Ok((answer == "yes").then(|| disk.device().display().to_string()))
}

fn line(disk: &Disk) -> String {
    let holds = if disk.holds.is_empty() { "nothing that is known".into() } else { disk.holds.join(", ") };
    let port = if disk.port.is_empty() { String::new() } else { format!(", port {}", disk.port) };
    format!("{}  {}{port}; on it: {holds}", disk.device().display(), disk.words())
}

fn read(question: &str) -> String {
    eprint!("{question}");
    let _ = stderr().flush();
    let mut answer = String::new();
    let _ = stdin().read_line(&mut answer);
    answer.trim().to_lowercase()
}

fn tell(outcome: &Outcome, screen: &Screen) {
    match &outcome.result {
        Ok(done) if screen.json => {
            let seed: serde_json::Map<String, serde_json::Value> =
                outcome.seed.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
            screen.value(&json!({ "event": "flashed", "target": outcome.name, "done": done, "seed": seed }));
        }
        Ok(done) => {
            screen.line(&format!("{}: {}", outcome.name, words(done)));
            outcome.seed.iter().for_each(|(key, value)| screen.line(&format!("  {key} = {value}")));
        }
        Err(error) if screen.json => {
            let text = causes::words(error);
            screen.value(&json!({ "event": "failed", "target": outcome.name, "text": text }));
        }
        Err(error) => screen.problem(&format!("{}: {}", outcome.name, causes::words(error))),
    }
}

/// What was done, in one line.
pub fn words(done: &Done) -> String {
    let speed = |bytes: u64, seconds: f64| Size((bytes as f64 / seconds.max(0.001)) as u64).human();
    let cleared = match done.cleared {
        0 => String::new(),
        bytes => format!(", {} of what was there before made zeros", Size(bytes).human()),
    };
    format!(
        "good: {} written in {:.1} s ({}/s){cleared}, {} read back in {:.1} s ({}/s)",
        Size(done.written).human(),
        done.write_seconds,
        speed(done.written, done.write_seconds),
        Size(done.verified).human(),
        done.verify_seconds,
        speed(done.verified, done.verify_seconds),
    )
}
