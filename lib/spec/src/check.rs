//! The check of a file against a table of keys: unknown keys, wrong types, values out of range, all at once.
//!
//! Works on the plain tree of values, so the same check serves YAML from a person and JSON from the workshop.
//! It never stops at the first finding, and it says the nearest known key where one looks meant.

use crate::finding::{Finding, nearest};
use crate::form::form_of;
use crate::keys::{Key, Kind, SHORT_FORMS, children, find};
use crate::quantity::{Seconds, Size};
use crate::secret;
use serde_json::Value;
use std::fmt;

/// One step into a tree of values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Into a mapping.
    Key(String),
    /// Into a mapping whose names are of the person's choosing.
    Name(String),
    /// Into a list, from 0.
    Index(usize),
}

/// The way from the top of a file to a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(pub Vec<Step>);

impl Path {
    fn key(&self, name: &str) -> Self {
        self.then(Step::Key(name.into()))
    }

    fn name(&self, name: &str) -> Self {
        self.then(Step::Name(name.into()))
    }

    fn index(&self, index: usize) -> Self {
        self.then(Step::Index(index))
    }

    fn then(&self, step: Step) -> Self {
        Self(self.0.iter().cloned().chain([step]).collect())
    }

    /// The path as the table of keys writes it: indices as `[]`, free names as `{}`.
    fn pattern(&self) -> String {
        self.render(|_| "{}".into(), |_| "[]".into())
    }

    fn render(&self, name: impl Fn(&str) -> String, index: impl Fn(usize) -> String) -> String {
        self.0.iter().fold(String::new(), |mut text, step| {
            match step {
                Step::Key(key) if text.is_empty() => text.push_str(key),
                Step::Key(key) => {
                    text.push('.');
                    text.push_str(key);
                }
                Step::Name(free) => text.push_str(&name(free)),
                Step::Index(number) => text.push_str(&index(*number)),
            }
            text
        })
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(|name| format!(".{name}"), |number| format!("[{number}]")))
    }
}

/// A finding with the way to the value it is about.
#[derive(Clone, Debug)]
pub struct Located {
    /// The way to the value.
    pub path: Path,
    /// Whether the finding is about the key itself and not about its value.
    pub on_key: bool,
    /// The finding, without file and place.
    pub finding: Finding,
}

/// Checks a whole file against a table.
pub fn check(value: &Value, table: &[Key]) -> Vec<Located> {
    let mut checker = Checker { table, found: Vec::new() };
    match value {
        Value::Object(_) => checker.section(value, &Path::default(), ""),
        Value::Null => checker.missing(&serde_json::Map::new(), &Path::default(), ""),
        _ => checker.report(&Path::default(), false, "the file has to be a mapping of keys to values", "`board: NAME`"),
    }
    checker.found
}

/// Checks a layer, which may leave out at the top what a whole file must have.
pub fn check_layer(value: &Value, table: &[Key]) -> Vec<Located> {
    let mut found = check(value, table);
    let required = |key: &str| find(table, key).is_some_and(|entry| entry.required);
    found.retain(|located| !(located.path.0.is_empty() && required(&located.finding.key)));
    found
}

/// Replaces the short forms by what they stand for.
pub fn expand(value: &mut Value) {
    for (section, key_for) in SHORT_FORMS {
        if let Some(Value::String(text)) = value.get(*section) {
            let long = serde_json::json!({ key_for(text): text });
            value[*section] = long;
        }
    }
}

struct Checker<'a> {
    table: &'a [Key],
    found: Vec<Located>,
}

impl Checker<'_> {
    fn report(&mut self, path: &Path, on_key: bool, problem: impl Into<String>, hint: impl Into<String>) {
        let finding = Finding::error(path.to_string(), problem, hint);
        self.found.push(Located { path: path.clone(), on_key, finding });
    }

    fn section(&mut self, value: &Value, path: &Path, pattern: &str) {
        let Value::Object(map) = value else {
            let names: Vec<_> = children(self.table, pattern).map(|(name, _)| name).collect();
            return self.report(
                path,
                false,
                format!("is {}, not a section", kind_of(value)),
                format!("a mapping with {}", names.join(", ")),
            );
        };
        for (name, value) in map {
            let path = path.key(name);
            let known = children(self.table, pattern).find(|(known, _)| known == name).map(|(_, key)| *key);
            match known {
                Some(key) => self.value(value, &path, key.kind),
                None => {
                    let names: Vec<&str> = children(self.table, pattern).map(|(name, _)| name).collect();
                    let hint = nearest(name, names.iter().copied())
                        .map(|near| format!("`{near}`"))
                        .unwrap_or_else(|| format!("one of {}", names.join(", ")));
                    self.report(&path, true, "is not a known key", hint);
                }
            }
        }
        self.missing(map, path, pattern);
    }

    fn missing(&mut self, map: &serde_json::Map<String, Value>, path: &Path, pattern: &str) {
        let missing: Vec<_> =
            children(self.table, pattern).filter(|(name, key)| key.required && !map.contains_key(*name)).collect();
        for (name, key) in missing {
            let first = key.meaning.trim_end_matches('.');
            let finding = Finding::error(path.key(name).to_string(), "is missing", format!("`{name}: …` ({first})"));
            self.found.push(Located { path: path.clone(), on_key: false, finding });
        }
    }

    fn value(&mut self, value: &Value, path: &Path, kind: Kind) {
        match (kind, value) {
            (Kind::Section, _) => self.section(value, path, &path.pattern()),
            (Kind::Free, Value::Object(_)) => {}
            (Kind::Records, Value::Array(entries)) => {
                for (number, entry) in entries.iter().enumerate() {
                    let path = path.index(number);
                    let pattern = path.pattern();
                    self.section(entry, &path, &pattern);
                }
            }
            (Kind::List(of), Value::Array(entries)) => {
                for (number, entry) in entries.iter().enumerate() {
                    self.value(entry, &path.index(number), *of);
                }
            }
            (Kind::Map(of), Value::Object(entries)) => {
                for (name, entry) in entries {
                    self.value(entry, &path.name(name), *of);
                }
            }
            (Kind::Named, Value::Object(entries)) => {
                for (name, entry) in entries {
                    let path = path.name(name);
                    let pattern = path.pattern();
                    self.section(entry, &path, &pattern);
                }
            }
            (Kind::Secret, _) => {
                if let Err((problem, hint)) = secret::check(value) {
                    self.report(path, false, problem, hint);
                }
            }
            (Kind::SecretOr(form), Value::String(_)) => self.value(value, path, Kind::Text(form)),
            (Kind::SecretOr(_), _) => self.value(value, path, Kind::Secret),
            (Kind::Number(low, high), Value::Number(number)) => {
                if !number.as_u64().is_some_and(|number| (low..=high).contains(&number)) {
                    let hint = format!("a whole number from {low} to {high}");
                    self.report(path, false, format!("`{number}` is out of range"), hint);
                }
            }
            (Kind::Flag, Value::Bool(_)) => {}
            (Kind::Choice(words), Value::String(word)) if words.contains(&word.as_str()) => {}
            (Kind::Choice(words), Value::String(word)) => {
                let hint = match nearest(word, words.iter().copied()) {
                    Some(near) => format!("`{near}`"),
                    None => words.join(", "),
                };
                self.report(path, false, format!("`{word}` is none of {}", words.join(", ")), hint);
            }
            (Kind::Size(low, high), _) => {
                self.quantity(value, path, Size::parse, low, high, Size::human, "`20G` or `512MiB`")
            }
            (Kind::Duration(low, high), _) => {
                self.quantity(
                    value,
                    path,
                    Seconds::parse,
                    low,
                    high,
                    |seconds| format!("{} s", seconds.0),
                    "`15s` or `2m`",
                );
            }
            (Kind::Text(form), Value::String(text)) => {
                if let Err((problem, hint)) = form_of(form, text) {
                    self.report(path, false, problem, hint);
                }
            }
            _ => self.report(path, false, format!("is {}, not {}", kind_of(value), name_of(kind)), example_of(kind)),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one body for sizes and durations, which differ in just these")]
    fn quantity<Q: PartialOrd>(
        &mut self,
        value: &Value,
        path: &Path,
        parse: impl Fn(&str) -> Option<Q>,
        low: Q,
        high: Q,
        human: impl Fn(Q) -> String,
        example: &str,
    ) {
        let text = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        match parse(&text) {
            None => self.report(path, false, format!("`{text}` is not a quantity"), example),
            Some(quantity) if quantity < low || quantity > high => {
                let (low, high) = (human(low), human(high));
                self.report(path, false, format!("`{text}` is out of range"), format!("a value from {low} to {high}"));
            }
            Some(_) => {}
        }
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "empty",
        Value::Bool(_) => "a flag",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Section | Kind::Free | Kind::Map(_) | Kind::Named => "a mapping",
        Kind::Number(..) => "a number",
        Kind::Secret => "a reference to a secret",
        Kind::Text(_) | Kind::SecretOr(_) | Kind::Choice(_) => "a text",
        Kind::Flag => "true or false",
        Kind::Size(..) => "a size",
        Kind::Duration(..) => "a duration",
        Kind::List(_) => "a list",
        Kind::Records => "a list of mappings",
    }
}

fn example_of(kind: Kind) -> String {
    match kind {
        Kind::Flag => "`true` or `false`, without quotes".into(),
        Kind::List(_) | Kind::Records => "`[…]`, or one line for each entry that begins with `- `".into(),
        Kind::Text(_) => "quotes around it, if it is meant as a text".into(),
        Kind::Choice(words) => words.join(", "),
        Kind::Number(low, high) => format!("a whole number from {low} to {high}"),
        Kind::Map(_) | Kind::Named => "one line for each entry, such as `name: …`".into(),
        _ => String::new(),
    }
}

/// The value at a dotted key without indices, if it is there.
pub fn value_at<'a>(tree: &'a Value, key: &str) -> Option<&'a Value> {
    key.split('.').try_fold(tree, |value, name| value.get(name))
}

/// Whether a dotted key is in the table, entries of free mappings included.
pub fn is_known(table: &[Key], key: &str) -> bool {
    let mut prefix = key;
    loop {
        match (find(table, prefix), prefix == key) {
            (Some(_), true) => return true,
            (Some(entry), false) => return matches!(entry.kind, Kind::Free),
            (None, _) => match prefix.rsplit_once('.') {
                Some((shorter, _)) => prefix = shorter,
                None => return false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::APPLIANCE;
    use serde_json::json;

    fn lines(mut value: Value) -> Vec<String> {
        expand(&mut value);
        check(&value, APPLIANCE).into_iter().map(|located| located.finding.to_string()).collect()
    }

    #[test]
    fn a_board_alone_is_a_valid_appliance() {
        assert_eq!(lines(json!({"board": "qemu-x86_64"})), Vec::<String>::new());
        assert_eq!(lines(json!({"board": "qemu-x86_64", "k3s": "rehearsal"})), Vec::<String>::new());
    }

    #[test]
    fn all_findings_come_at_once() {
        let found = lines(json!({
            "hostnam": "x", "debug": "yes", "k3s": {"payload": "rehersal"}, "image": {"slot-size": "1M"},
            "ssh": {"keys": ["hello"]}, "network": {"links": [{"adress": "1.2.3.4"}], "wait": "soon"},
        }));
        assert_eq!(found.len(), 8, "{found:#?}");
        assert!(found.iter().any(|line| line.contains("network.links[0].adress: is not a known key; try `address`")));
        assert!(found.iter().any(|line| line.contains("board: is missing")));
        assert!(
            found
                .iter()
                .any(|line| line.contains("k3s.payload: `rehersal` is none of") && line.ends_with("`rehearsal`"))
        );
    }
}
