//! The check of a file against a table of keys: unknown keys, wrong types, values out of range, all at once.
//!
//! Works on the plain tree of values, so the same check serves YAML from a person and JSON from the workshop.
//! It never stops at the first finding, and it says the nearest known key where one looks meant.

use crate::finding::{Finding, nearest};
use crate::keys::{Form, Key, Kind, children, find};
use crate::quantity::{Seconds, Size};
use serde_json::Value;
use std::fmt;
use std::net::IpAddr;

/// One step into a tree of values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Into a mapping.
    Key(String),
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

    fn index(&self, index: usize) -> Self {
        self.then(Step::Index(index))
    }

    fn then(&self, step: Step) -> Self {
        Self(self.0.iter().cloned().chain([step]).collect())
    }

    /// The path as the table of keys writes it: indices as `[]`.
    fn pattern(&self) -> String {
        self.render(|_| "[]".into())
    }

    fn render(&self, index: impl Fn(usize) -> String) -> String {
        self.0.iter().fold(String::new(), |mut text, step| {
            match step {
                Step::Key(name) if text.is_empty() => text.push_str(name),
                Step::Key(name) => {
                    text.push('.');
                    text.push_str(name);
                }
                Step::Index(number) => text.push_str(&index(*number)),
            }
            text
        })
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(|number| format!("[{number}]")))
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

/// Replaces the short forms by what they stand for; today these are those of `k3s`.
pub fn expand(value: &mut Value) {
    if let Some(Value::String(text)) = value.get("k3s") {
        let name = if matches!(text.as_str(), "rehearsal" | "none") { "payload" } else { "version" };
        let long = serde_json::json!({ name: text });
        value["k3s"] = long;
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
        Kind::Section | Kind::Free => "a mapping",
        Kind::Text(_) | Kind::Choice(_) => "a text",
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
        _ => String::new(),
    }
}

/// Whether a text has its form; else what is wrong and what to try.
fn form_of(form: Form, text: &str) -> Result<(), (String, String)> {
    let (good, what, example): (bool, &str, &str) = match form {
        Form::Any => (!text.trim().is_empty(), "empty", "a value, or leave the key out"),
        Form::BoardName => {
            (is_word(text, "-_"), "not the name of a board", "`bakelite new --list` for the boards there are")
        }
        Form::HostnamePattern => return hostname_pattern(text),
        Form::K3sVersion => {
            (is_k3s_version(text), "not a k3s release", "a version such as `v1.36.2+k3s1`, `rehearsal` or `none`")
        }
        Form::SshKey => (
            is_ssh_key(text),
            "not a public ssh key",
            "the whole line of a `.pub` file, such as `ssh-ed25519 AAAA… me@laptop`",
        ),
        Form::OwnerKey => {
            (is_owner_key(text), "not an owner's public key", "the `ed25519:…` that `bakelite new` printed")
        }
        Form::AgeRecipient => (
            text.len() == 62
                && text
                    .strip_prefix("age1")
                    .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())),
            "not an age recipient",
            "the `age1…` that `bakelite new` printed",
        ),
        Form::Mac => (
            text.split(':').count() == 6
                && text.split(':').all(|pair| pair.len() == 2 && u8::from_str_radix(pair, 16).is_ok()),
            "not a MAC address",
            "six pairs such as `dc:a6:32:01:02:03`",
        ),
        Form::Cidr => (is_cidr(text), "not an address with a prefix length", "`192.168.1.10/24`"),
        Form::Address => (text.parse::<IpAddr>().is_ok(), "not an address", "an address such as `192.168.1.1`"),
        Form::Host => (
            text.parse::<IpAddr>().is_ok() || is_word(&text.to_lowercase(), ".-"),
            "not a host name or address",
            "`pool.ntp.org` or `192.168.1.1`",
        ),
        Form::Package => {
            (text.len() >= 2 && is_word(text, "+.-"), "not a package name", "the name that `apt-cache policy` knows")
        }
        Form::Mirror => (
            ["http://", "https://", "file://", "/"].iter().any(|start| text.starts_with(start)),
            "not a mirror",
            "an http:// or https:// address, or the absolute path of a local mirror",
        ),
    };
    if good { Ok(()) } else { Err((format!("`{text}` is {what}"), example.into())) }
}

fn is_word(text: &str, also: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || also.contains(c))
}

fn is_k3s_version(text: &str) -> bool {
    let Some((version, build)) = text.strip_prefix('v').and_then(|rest| rest.split_once('+')) else { return false };
    let release = version.split_once('-').map_or(version, |(release, _)| release);
    let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    release.split('.').count() == 3
        && release.split('.').all(number)
        && version.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-')
        && build.strip_prefix("k3s").is_some_and(number)
}

fn is_ssh_key(text: &str) -> bool {
    let mut words = text.split_ascii_whitespace();
    let (Some(kind), Some(body)) = (words.next(), words.next()) else { return false };
    let known = ["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa"];
    !text.contains(['\n', '\r'])
        && known.contains(&kind)
        && body.starts_with("AAAA")
        && body.len() >= 40
        && body.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b))
}

fn is_owner_key(text: &str) -> bool {
    text.strip_prefix("ed25519:")
        .is_some_and(|key| key.len() == 43 && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/".contains(&b)))
}

fn is_cidr(text: &str) -> bool {
    let Some((address, prefix)) = text.split_once('/') else { return false };
    match (address.parse::<IpAddr>(), prefix.parse::<u8>()) {
        (Ok(IpAddr::V4(_)), Ok(prefix)) => prefix <= 32,
        (Ok(IpAddr::V6(_)), Ok(prefix)) => prefix <= 128,
        _ => false,
    }
}

/// The placeholders that a host name may hold.
pub const HOSTNAME_PLACEHOLDERS: &[&str] = &["serial", "mac", "board"];

fn hostname_pattern(text: &str) -> Result<(), (String, String)> {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, after)) = after.split_once('}') else {
            return Err((format!("`{text}` opens a brace and doesn't close it"), "`{serial}`".into()));
        };
        if !HOSTNAME_PLACEHOLDERS.contains(&name) {
            let hint = nearest(name, HOSTNAME_PLACEHOLDERS.iter().copied()).unwrap_or("serial");
            return Err((format!("`{{{name}}}` is not a known placeholder"), format!("`{{{hint}}}`")));
        }
        plain.push_str(before);
        plain.push('0');
        rest = after;
    }
    plain.push_str(rest);
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && is_word(label, "-")
    };
    if plain.len() <= 63 && label(&plain) && plain != "localhost" {
        Ok(())
    } else {
        Err((
            format!("`{text}` is not a node name"),
            "lower-case letters, digits and `-`, such as `shop-{serial}`".into(),
        ))
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

    #[test]
    fn forms() {
        let good = |form, text| form_of(form, text).is_ok();
        assert!(good(Form::HostnamePattern, "shop-{serial}"));
        assert!(!good(Form::HostnamePattern, "shop-{seriel}"));
        assert!(!good(Form::HostnamePattern, "Shop"));
        assert!(!good(Form::HostnamePattern, "a.b"));
        assert!(!good(Form::HostnamePattern, "localhost"));
        assert!(good(Form::K3sVersion, "v1.36.2+k3s1"));
        assert!(good(Form::K3sVersion, "v1.36.2-rc1+k3s1"));
        assert!(!good(Form::K3sVersion, "1.36.2"));
        assert!(!good(Form::K3sVersion, "v1.36.2/../+k3s1"));
        assert!(good(Form::Cidr, "10.0.0.1/8") && !good(Form::Cidr, "10.0.0.1/33") && !good(Form::Cidr, "10.0.0.1"));
        assert!(!good(Form::SshKey, "ssh-ed25519 AAAA\ncommand"));
    }
}
