//! Answers to an operator: a table for a person, one JSON object a line for a program, and what the exit status means.
//!
//! Each command of the device answers through here, so that all are alike. Pure: printing is the caller's.

use serde::Serialize;
use serde_json::json;

/// How a command ended, by its exit status. docs/commands.md has the same table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It is done; what was looked at is well.
    Well,
    /// It could not be done, or what was looked at needs a person.
    Badly,
    /// The words or the settings that were given are wrong; nothing was changed.
    Refused,
    /// Not yet: the machine is still coming up, or what was asked for isn't there so far.
    NotYet,
}

impl Ended {
    /// The exit status.
    pub fn status(self) -> u8 {
        match self {
            Self::Well => 0,
            Self::Badly => 1,
            Self::Refused => 2,
            Self::NotYet => 3,
        }
    }
}

/// For whom an answer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// A program reads it.
    pub json: bool,
}

/// The word that asks for JSON, wherever it stands.
const JSON: &str = "--json";

impl Answer {
    /// Takes the word for JSON out of the others.
    pub fn take<'a>(words: &[&'a str]) -> (Self, Vec<&'a str>) {
        let rest: Vec<&str> = words.iter().copied().filter(|word| *word != JSON).collect();
        (Self { json: rest.len() < words.len() }, rest)
    }

    /// One answer: the value on one line, or the text with a line end.
    pub fn one(self, value: &impl Serialize, text: impl FnOnce() -> String) -> String {
        if self.json { line(value) } else { ended(text()) }
    }

    /// What was done, in words.
    pub fn said(self, text: &str) -> String {
        self.one(&json!({ "event": "result", "text": text }), || text.into())
    }

    /// What went wrong, in words.
    pub fn failed(self, text: &str) -> String {
        self.one(&json!({ "event": "error", "text": text }), || text.into())
    }

    /// Many answers: a value a line, or the text with a line end.
    pub fn many<T: Serialize>(self, values: &[T], text: impl FnOnce() -> String) -> String {
        if self.json { values.iter().map(line).collect() } else { ended(text()) }
    }
}

/// A value as one line.
fn line(value: &impl Serialize) -> String {
    // What isn't JSON has no keys that are texts; no answer is such a thing.
    serde_json::to_string(value).unwrap_or_default() + "\n"
}

fn ended(mut text: String) -> String {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// The width of the names of [`pairs`].
const NAMES: usize = 11;

/// Names with their values, one a line. Further lines of a value, and values without a name, stand below it.
pub fn pairs(rows: &[(&str, String)]) -> String {
    let lines = rows.iter().flat_map(|(name, value)| {
        value.lines().enumerate().map(move |(number, line)| (if number == 0 { *name } else { "" }, line))
    });
    lines.map(|(name, line)| format!("{name:<NAMES$} {line}\n")).collect()
}

/// A table with a head. Columns whose head ends in `>` hold numbers and stand at the right.
pub fn columns(head: &[&str], rows: &[Vec<String>]) -> String {
    let shown: Vec<String> = head.iter().map(|name| name.trim_end_matches('>').to_string()).collect();
    let all: Vec<&Vec<String>> = std::iter::once(&shown).chain(rows).collect();
    let width = |column: usize| {
        all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for row in all {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let width = widths.get(column).copied().unwrap_or(0);
            if head.get(column).is_some_and(|name| name.ends_with('>')) {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            }
        });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// How long ago something was, in seconds, for a person: `40 s ago`, `3 h ago`.
pub fn ago(seconds: i64) -> String {
    const UNITS: &[(i64, &str)] = &[(86_400, "days"), (3600, "h"), (60, "min"), (1, "s")];
    if seconds < 0 {
        return "in the future".into();
    }
    // Two of the larger unit at least: `90 min` says more than `1 h`.
    let (length, name) = UNITS.iter().find(|(length, _)| seconds >= 2 * length).unwrap_or(&(1, "s"));
    format!("{} {name} ago", seconds / length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_a_unit_of_which_there_are_some() {
        for (seconds, text) in
            [(0, "0 s ago"), (119, "119 s ago"), (5400, "90 min ago"), (90_000, "25 h ago"), (864_000, "10 days ago")]
        {
            assert_eq!(ago(seconds), text);
        }
        assert_eq!(ago(-5), "in the future");
    }

    #[test]
    fn a_program_gets_a_line_a_value_and_a_person_the_text() {
        let (answer, words) = Answer::take(&["backup", "--json", "list"]);
        assert_eq!((answer.json, words), (true, vec!["backup", "list"]));
        assert_eq!(answer.one(&json!({"a": "x\ny"}), String::new), "{\"a\":\"x\\ny\"}\n");
        assert_eq!(answer.many(&[1, 2], String::new), "1\n2\n");
        assert_eq!(answer.said("done"), "{\"event\":\"result\",\"text\":\"done\"}\n");
        let (answer, words) = Answer::take(&["status"]);
        assert_eq!((answer.json, words.len()), (false, 1));
        assert_eq!(answer.one(&0, || "well".into()), "well\n");
        assert_eq!(answer.many::<u8>(&[], String::new), "");
    }

    #[test]
    fn tables_are_aligned_and_long_values_go_on_below() {
        let rows = [("node", "shop-1".to_string()), ("fault", "no disk\nplug it in".into())];
        assert_eq!(pairs(&rows), "node        shop-1\nfault       no disk\n            plug it in\n");
        let rows = [vec!["one".into(), "9".to_string(), "x".into()], vec!["three".into(), "100".into(), String::new()]];
        let text = "SET    SIZE  PLACE\none       9  x\nthree   100\n";
        assert_eq!(columns(&["SET", "SIZE>", "PLACE"], &rows), text);
    }

    #[test]
    fn each_end_has_a_status_of_its_own() {
        let all = [Ended::Well, Ended::Badly, Ended::Refused, Ended::NotYet].map(Ended::status);
        assert_eq!(all, [0, 1, 2, 3]);
    }
}
