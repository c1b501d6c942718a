//! `bakelite factory`: a line at work, the pass, and its record. Exit status: 0 done, 1 a device or medium isn't good,
//! 2 the line is wrong.

use crate::arguments::{Factory, FactoryAct, RecordForm};
use crate::flash::fail;
use crate::media::Media;
use crate::progress::Screen;
use bakelite_flash::FlashError;
use bakelite_flash::factory::device::State;
use bakelite_flash::factory::export::{Form, export, verdict};
use bakelite_flash::factory::ports::HostPorts;
use bakelite_flash::factory::{self, FactoryEvent, Merged, Mode, Told, Verdict};
use bakelite_flash::flash::{FlashEvent, Listen};
use bakelite_spec::causes::words;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

/// Runs what was typed.
pub fn factory(arguments: Factory, screen: &Screen) -> ExitCode {
    let done = match (arguments.act, arguments.line) {
        (Some(FactoryAct::Pass { line, media }), _) => {
            media.iter().try_fold(true, |good, medium| Ok(pass(&line, medium, screen)? && good))
        }
        (Some(FactoryAct::Merge { line, sticks }), _) => merge(&line, &sticks, screen),
        (Some(FactoryAct::Record { line, form }), _) => show(&line, form, screen),
        (None, Some(line)) => {
            let mode = Mode { once: arguments.once || arguments.board.is_some(), board: arguments.board };
            work(&line, arguments.operator, &mode, screen)
        }
        (None, None) => Ok(true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(&error, screen),
    }
}

/// The line's display: the media's, and a line of its own for what was done.
struct Shown<'a> {
    screen: &'a Screen,
    media: Media<'a>,
    all_good: AtomicBool,
}

impl Listen for Shown<'_> {
    fn event(&self, event: &FlashEvent) {
        self.media.event(event);
    }
}

impl Told for Shown<'_> {
    fn line(&self, event: &FactoryEvent) {
        let is_bad = match event {
            FactoryEvent::Ended { good, .. } => !good,
            FactoryEvent::Judged { verdict, .. } => *verdict != Verdict::Good,
            FactoryEvent::Silent { .. } => true,
            FactoryEvent::Began { .. } | FactoryEvent::Note { .. } => false,
        };
        if is_bad {
            self.all_good.store(false, Ordering::SeqCst);
        }
        if self.screen.json {
            self.screen.value(&json!(event));
            return;
        }
        let text = match event {
            FactoryEvent::Began { row, port, medium } => format!("row {row}: {port} ({medium})"),
            FactoryEvent::Ended { row, port, good: true, text } => {
                format!("row {row}: GOOD, {text}; take it out of {port}")
            }
            FactoryEvent::Ended { row, port, text, .. } => format!("row {row}: FAILED at {port}: {text}"),
            FactoryEvent::Judged { row, verdict } => format!("row {row}: {}", judged(verdict)),
            FactoryEvent::Silent { row, text } => format!("row {row}: FAILED: {text}; its medium may still show why"),
            FactoryEvent::Note { text } => text.clone(),
        };
        self.media.above(&text);
    }
}

fn judged(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Good => "PASSED by its own report".into(),
        Verdict::NotYet(why) => format!("not yet: {why}"),
        Verdict::Bad(why) => format!("FAILED by its own report: {why}"),
    }
}

fn work(line: &Path, operator: Option<String>, mode: &Mode, screen: &Screen) -> Result<bool, FlashError> {
    let factory = factory::Factory::open(line, operator)?;
    let ports = HostPorts::new(&factory.configuration().ports);
    let (rows, free) = factory.rows()?;
    screen.detail(&format!("{rows} rows, {free} of them free; {} ports", factory.configuration().ports.len()));
    let shown = Shown { screen, media: Media::new(screen), all_good: AtomicBool::new(true) };
    let done = factory.run(&ports, mode, &shown);
    shown.media.finish();
    done?;
    Ok(shown.all_good.into_inner())
}

fn pass(line: &Path, medium: &Path, screen: &Screen) -> Result<bool, FlashError> {
    let factory = factory::Factory::open(line, None)?;
    match factory.pass(medium) {
        Ok((device, verdict)) => {
            if screen.json {
                screen.value(&json!({ "event": "judged", "row": device.row, "verdict": verdict }));
            } else {
                screen.line(&format!("row {}: {}", device.row, judged(&verdict)));
            }
            Ok(verdict == Verdict::Good)
        }
        Err(error @ FlashError::Record { .. }) => Err(error),
        Err(error) => {
            screen.problem(&words(&error));
            Ok(false)
        }
    }
}

fn merge(line: &Path, sticks: &[PathBuf], screen: &Screen) -> Result<bool, FlashError> {
    let factory = factory::Factory::open(line, None)?;
    let mut is_all_taken = true;
    for stick in sticks {
        for (attempt, merged) in factory.merge(stick)? {
            is_all_taken &= !matches!(merged, Merged::Refused(_));
            if screen.json {
                screen.value(
                    &json!({ "event": "merged", "row": attempt.row, "ticket": attempt.ticket, "result": merged }),
                );
                continue;
            }
            let what = match merged {
                Merged::Taken => "taken over".into(),
                Merged::Known => "known already".into(),
                Merged::Refused(why) => format!("REFUSED: {why}"),
            };
            screen.line(&format!("row {} ({}): {what}", attempt.row, attempt.board.words()));
        }
    }
    Ok(is_all_taken)
}

fn show(line: &Path, form: RecordForm, screen: &Screen) -> Result<bool, FlashError> {
    let factory = factory::Factory::open(line, None)?;
    let devices = factory.devices()?;
    match form {
        RecordForm::Csv => print!("{}", export(&devices, Form::Csv, line)?),
        RecordForm::Json => print!("{}", export(&devices, Form::Json, line)?),
        RecordForm::Table => {
            for device in &devices {
                let why = if device.why.is_empty() { String::new() } else { format!(" ({})", device.why) };
                screen.line(&format!("{:<12} {:<20} {}{why}", device.row, device.node, verdict(device)));
            }
            let (rows, free) = factory.rows()?;
            let passed = devices.iter().filter(|device| device.state == State::Passed).count();
            let waiting = devices.iter().filter(|device| device.state == State::Written).count();
            screen.line(&format!("{rows} rows: {passed} good, {waiting} written and not heard of, {free} free"));
        }
    }
    Ok(true)
}
