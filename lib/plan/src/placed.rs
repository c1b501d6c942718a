//! Placed files: what the image brings for places that aren't in it: files with secrets in them below /run, registries,
//! manifests and charts where k3s looks for them.
//!
//! No secret comes near a decision: whether a file is as it has to be is a fact, and filling it in is the action's. A
//! file goes away again when the image no longer brings it; only what the record says was placed here is ever removed.

use crate::action::Action;
use crate::facts::{Facts, PlacedState};
use crate::k3s_config::CHANGED;
use crate::step::{Decision, publish};
use crate::{Settings, apps};
use bakelite_spec::fault::{Code, Fault};
use bakelite_spec::manifest::{Manifest, Pass, PlacedFile};
use std::collections::BTreeSet;

/// What was placed on media, as a list of paths.
pub const RECORD: &str = "/var/lib/bakelite/placed.json";
/// What k3s reads only at its start; manifests, charts and archives it looks at by itself.
const READ_AT_START: &str = "/etc/rancher/";

/// Decides about the files that live in /run.
pub fn decide_early(facts: &Facts, settings: &Settings) -> Decision {
    let manifest = apps::laid(facts, settings);
    let (actions, lacking) = differing(facts, &manifest, Pass::Early);
    conclude(actions, &lacking, &manifest, Pass::Early)
}

/// Decides about the files on media.
pub fn decide_settle(facts: &Facts, settings: &Settings) -> Decision {
    let manifest = apps::laid(facts, settings);
    let wanted: BTreeSet<&str> = of_pass(&manifest, Pass::Settle).map(|file| file.to.as_str()).collect();
    let recorded = facts.file(RECORD).and_then(|text| serde_json::from_str::<BTreeSet<String>>(text).ok());
    let recorded = recorded.unwrap_or_default();
    let (places, lacking) = differing(facts, &manifest, Pass::Settle);
    let stale: Vec<Action> = recorded
        .iter()
        .filter(|path| !wanted.contains(path.as_str()) && facts.has(path))
        .map(|path| Action::Remove { path: path.clone() })
        .collect();
    // Noted before it is placed, and forgotten after it is gone: a cut in between leaves nothing that nobody knows of.
    let all: BTreeSet<&str> = recorded.iter().map(String::as_str).chain(wanted.iter().copied()).collect();
    let noted = if stale.is_empty() { wanted } else { all };
    let record =
        (facts.has(RECORD) || !noted.is_empty()).then(|| publish(facts, RECORD, json(&noted), 0o600)).flatten();
    let restart = places.iter().chain(&stale).any(|action| match action {
        Action::Place(file) => file.to.starts_with(READ_AT_START),
        Action::Remove { path } => path.starts_with(READ_AT_START),
        _ => false,
    });
    let told = restart.then(|| Action::Tell { path: CHANGED.into(), text: "registries.yaml\n".into(), mode: 0o644 });
    let actions = told.into_iter().chain(record).chain(places).chain(stale).collect();
    conclude(actions, &lacking, &manifest, Pass::Settle)
}

fn of_pass(manifest: &Manifest, pass: Pass) -> impl Iterator<Item = &PlacedFile> {
    manifest.user.placed.iter().filter(move |file| file.pass == pass)
}

/// What has to be placed, and the files that can't be for want of secrets.
fn differing(facts: &Facts, manifest: &Manifest, pass: Pass) -> (Vec<Action>, Vec<String>) {
    let (mut actions, mut lacking) = (Vec::new(), Vec::new());
    for file in of_pass(manifest, pass) {
        match facts.placed.get(&file.to) {
            Some(PlacedState::Same) => {}
            Some(PlacedState::Lacks(names)) => lacking.push(format!("{} needs {}", file.to, names.join(", "))),
            Some(PlacedState::Differs) | None => actions.push(Action::Place(file.clone())),
        }
    }
    (actions, lacking)
}

fn conclude(actions: Vec<Action>, lacking: &[String], manifest: &Manifest, pass: Pass) -> Decision {
    let count = of_pass(manifest, pass).count();
    if actions.is_empty() && !lacking.is_empty() {
        return Decision::Warn(Fault::new(Code::SecretMissing, lacking.join("; ")));
    }
    let run = format!("{count} file(s) of the image get their place");
    if actions.is_empty() && count == 0 {
        return Decision::Skip("the image brings no files for other places".into());
    }
    Decision::of(actions, format!("{count} file(s) of the image are in their place"), run)
}

fn json(paths: &BTreeSet<&str>) -> String {
    serde_json::to_string(paths).map_or_else(|_| String::new(), |text| text + "\n")
}
