//! A layer that was written for one machine, laid upon what was baked and checked as a build checks it.
//!
//! The machine does so with what it finds, and the flasher with what it is about to write: both come to the same answer.

use crate::appliance::Appliance;
use crate::board::Board;
use crate::finding::{Finding, Severity};
use crate::layers::{Effective, Layer, fixed};
use crate::rules;
use crate::yaml::Document;

/// Checks a layer and lays it on top.
///
/// # Errors
/// What is wrong with it by itself or with what is below; what was wrong before isn't its fault.
pub fn lay(below: &Effective, board: &Board, layer: Layer, document: &Document) -> Result<Effective, Vec<Finding>> {
    let mut values = document.value.clone();
    if layer == Layer::Seed {
        values.as_object_mut().and_then(|all| all.remove("seed"));
    }
    let with = below.clone().with(layer, &values);
    let before = errors(below, board);
    let mut findings = fixed(layer, &values);
    findings.extend(errors(&with, board).into_iter().filter(|finding| !before.contains(finding)));
    let placed = |finding: Finding| {
        let place = document.place_of(&finding.key);
        Finding { file: document.file().into(), place, ..finding }
    };
    if findings.is_empty() { Ok(with) } else { Err(findings.into_iter().map(placed).collect()) }
}

/// One line for a fault: the first finding, and how many there are besides.
pub fn line(findings: &[Finding]) -> String {
    let first = findings.first().map(ToString::to_string).unwrap_or_default();
    match findings.len() {
        0 | 1 => first,
        count => format!("{first} (and {} more)", count - 1),
    }
}

/// What the rules across keys say of an appliance.
fn errors(effective: &Effective, board: &Board) -> Vec<Finding> {
    let appliance = match Appliance::from_values(&effective.values) {
        Ok(appliance) => appliance,
        Err(error) => return vec![Finding::error("", error.to_string(), "")],
    };
    let across = rules::findings(&appliance, board).into_iter().map(|(_, finding)| finding);
    let all = across.chain(rules::user::findings(&appliance)).chain(rules::k3s::findings(&appliance));
    all.filter(|finding| finding.severity == Severity::Error).collect()
}
