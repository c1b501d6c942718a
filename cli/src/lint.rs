//! `bakelite lint`: one line a rule, and an exit status that tells a failed rule from a broken check.

use crate::progress::Screen;
use bakelite_image::lint::{self, Outcome, Severity, Verdict};
use std::path::Path;
use std::process::ExitCode;

/// A check could not be made.
const UNKNOWN: u8 = 3;

pub fn lint(image: &Path, screen: &Screen) -> ExitCode {
    let verdicts = match lint::lint(image) {
        Ok(verdicts) => verdicts,
        Err(error) => {
            screen.error(&error);
            return ExitCode::from(UNKNOWN);
        }
    };
    for verdict in &verdicts {
        if screen.json {
            screen.value(&serde_json::json!({ "event": "verdict", "verdict": verdict }));
        } else {
            show(verdict, screen);
        }
    }
    let failed =
        |verdict: &Verdict| verdict.severity == Severity::Error && matches!(verdict.outcome, Outcome::Failed(_));
    let unknown = verdicts.iter().filter(|verdict| matches!(verdict.outcome, Outcome::Unknown(_))).count();
    let failures = verdicts.iter().filter(|verdict| failed(verdict)).count();
    let image = image.display();
    screen.line(&format!("{image}: {} rules, {failures} failed, {unknown} could not be checked", verdicts.len()));
    match (failures, unknown) {
        (0, 0) => ExitCode::SUCCESS,
        (0, _) => ExitCode::from(UNKNOWN),
        _ => ExitCode::FAILURE,
    }
}

fn show(verdict: &Verdict, screen: &Screen) {
    let (word, found) = match (&verdict.outcome, verdict.severity) {
        (Outcome::Proved, _) => ("proved", &[][..]),
        (Outcome::Failed(found), Severity::Error) => ("FAILED", &found[..]),
        (Outcome::Failed(found), Severity::Warning) => ("warning", &found[..]),
        (Outcome::Unknown(why), _) => ("unknown", std::slice::from_ref(why)),
    };
    screen.line(&format!("{word:<8} {}", verdict.rule));
    found.iter().for_each(|what| screen.line(&format!("         {what}")));
}
