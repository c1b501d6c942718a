//! Findings: what is wrong in what a person wrote, where, and what to type instead.
//!
//! Checks collect findings and go on, so that a person sees all of them at once. One line each:
//! `file:line:column: key: what is wrong; try …`.

use serde::Serialize;
use std::fmt;

/// Whether a finding stops the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file can't be used as it is.
    Error,
    /// The file can be used; a person should know this.
    Warning,
}

/// A line and a column, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file as it was named by the person; empty where the value came from no file.
    pub file: String,
    /// Where in the file, when it is known.
    pub place: Option<Place>,
    /// The dotted key, such as `network.links[0].address`; empty for the whole file.
    pub key: String,
    /// What is wrong, in lower case, without a full stop.
    pub problem: String,
    /// What to do, ready to be put behind "try "; empty when there is nothing to say.
    pub hint: String,
    /// Whether it stops the work.
    pub severity: Severity,
}

impl Finding {
    /// An error at a key, not yet tied to a file.
    pub fn error(key: impl Into<String>, problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            file: String::new(),
            place: None,
            key: key.into(),
            problem: problem.into(),
            hint: hint.into(),
            severity: Severity::Error,
        }
    }

    /// A warning at a key, not yet tied to a file.
    pub fn warning(key: impl Into<String>, problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(key, problem, hint) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            write!(f, "{}:", self.file)?;
            if let Some(place) = self.place {
                write!(f, "{}:{}:", place.line, place.column)?;
            }
            write!(f, " ")?;
        }
        if self.severity == Severity::Warning {
            write!(f, "warning: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}", self.problem)?;
        if !self.hint.is_empty() {
            write!(f, "; try {}", self.hint)?;
        }
        Ok(())
    }
}

/// Whether any finding stops the work.
pub fn stops(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.severity == Severity::Error)
}

/// The candidate nearest to `word` by edit distance, where one is near enough to be a slip of the hand.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(word.len()) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_reads_as_one_line() {
        let mut finding = Finding::error("hostnam", "is not a known key", "`hostname`");
        finding.file = "shop.yaml".into();
        finding.place = Some(Place { line: 3, column: 1 });
        assert_eq!(finding.to_string(), "shop.yaml:3:1: hostnam: is not a known key; try `hostname`");
    }

    #[test]
    fn the_nearest_name_is_a_slip_not_a_guess() {
        let known = ["hostname", "k3s", "network", "ssh"];
        assert_eq!(nearest("hostnam", known), Some("hostname"));
        assert_eq!(nearest("netwrok", known), Some("network"));
        assert_eq!(nearest("k3", known), Some("k3s"));
        assert_eq!(nearest("bluetooth", known), None);
    }
}
