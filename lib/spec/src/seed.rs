//! The seed: `seed.yaml` on the boot partition, which the flasher writes for one machine and that machine takes once.
//!
//! It holds an appliance's keys, and in `seed:` what is about this machine alone: the node it is for, the flasher's ticket,
//! values for a pattern's `{seed.NAME}`, `secrets`, and `fresh`. Read here for both, so that the flasher refuses what the
//! machine would. A value is never repeated in words: it may be a secret in the wrong place.

use crate::check::{Path, Step};
use crate::keys::APPLIANCE;
use crate::secret::SecretRef;
use crate::yaml::{Document, place_in};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The file's name.
pub const NAME: &str = "seed.yaml";
/// With these words a file begins that was taken.
pub const TAKEN: &str = "taken ";
/// A longer file is none of ours.
pub const LIMIT: u64 = 64 << 10;
/// What a machine overwrites the `true` of `fresh` with, once it has left the wish for a reset.
pub const MARK: &str = "done";
/// The secret with which a machine proves its report to the line that flashed it.
pub const PASS_KEY: &str = "bakelite.pass";

/// A seed, read.
#[derive(Clone, Debug)]
pub struct Seed {
    /// The node that it is for, if it says so.
    pub node: Option<String>,
    /// By which the flasher knows again what it wrote.
    pub ticket: Option<String>,
    /// Where the flasher's line hears reports.
    pub pass: Option<SocketAddr>,
    /// Whether the machine is to forget all it was, and hasn't yet.
    pub fresh: bool,
    /// What `{seed.NAME}` in a pattern stands for.
    pub values: BTreeMap<String, String>,
    /// Its secrets by their names.
    pub secrets: BTreeMap<String, String>,
    /// The appliance's keys that it sets.
    pub settings: Value,
    /// The text as it was read.
    pub document: Document,
}

impl Seed {
    /// Reads a seed.
    ///
    /// # Errors
    /// What is wrong with it, without a value.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| format!("{NAME} is no text"))?;
        let document = Document::read_seed(NAME, text, APPLIANCE)
            .map_err(|findings| findings.first().map(ToString::to_string).unwrap_or_default())?;
        let mut settings = document.value.clone();
        let own = settings.as_object_mut().and_then(|all| all.remove("seed")).unwrap_or_else(|| json!({}));
        let map = own.as_object().ok_or_else(|| problem("`seed` takes names with values"))?;
        let (values, secrets) = (BTreeMap::new(), BTreeMap::new());
        let mut seed = Self { node: None, ticket: None, pass: None, fresh: false, values, secrets, settings, document };
        for (key, value) in map {
            seed.read(text, key, value)?;
        }
        Ok(seed)
    }

    fn read(&mut self, text: &str, key: &str, value: &Value) -> Result<(), String> {
        match (key, value) {
            ("secrets", Value::Object(given)) => {
                for (name, value) in given {
                    if SecretRef::of(&json!({ "secret": name })).is_none() {
                        let what = "a secret's name has lower-case letters, digits, `-`, `_` and `.`";
                        return Err(problem(what));
                    }
                    let value = scalar(value).filter(|value| !value.is_empty());
                    let value = value.ok_or_else(|| problem(&format!("`seed.secrets.{name}` isn't a text")))?;
                    self.secrets.insert(name.clone(), value);
                }
            }
            ("fresh", Value::Bool(true)) if place_of_fresh(text).is_none() => {
                return Err(problem("`seed.fresh` has to be written as `fresh: true`"));
            }
            ("fresh", Value::Bool(fresh)) => self.fresh = *fresh,
            ("fresh", Value::String(word)) if is_marked(word) => {}
            ("fresh", _) => return Err(problem("`seed.fresh` takes true")),
            ("node", _) => {
                let what = "`seed.node` isn't a node's name: lower-case letters, digits and `-`";
                self.node = Some(scalar(value).filter(|node| is_node(node)).ok_or_else(|| problem(what))?);
            }
            ("ticket", _) => {
                let what = "`seed.ticket` isn't one: letters, digits and `-`, at most 64";
                self.ticket = Some(scalar(value).filter(|text| is_ticket(text)).ok_or_else(|| problem(what))?);
            }
            ("pass", _) => {
                let what = "`seed.pass` isn't an address with a port, such as 192.0.2.1:7411";
                let address = scalar(value).and_then(|text| text.parse().ok());
                self.pass = Some(address.ok_or_else(|| problem(what))?);
            }
            // The machine's own word in what it keeps of a seed.
            ("took", _) => return Err(problem("`seed.took` is no name for a value")),
            _ => {
                let value = scalar(value).ok_or_else(|| problem(&format!("`seed.{key}` isn't a text or a number")))?;
                self.values.insert(key.into(), value);
            }
        }
        Ok(())
    }

    /// The keys that it sets, each by its dotted name; of secrets only the names.
    pub fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        leaves(&self.settings, "", &mut keys);
        keys.extend(self.node.iter().map(|_| "seed.node".to_string()));
        keys.extend(self.pass.iter().map(|_| "seed.pass".to_string()));
        keys.extend(self.values.keys().map(|name| format!("seed.{name}")));
        keys.extend(self.secrets.keys().map(|name| format!("seed.secrets.{name}")));
        keys
    }
}

/// The dotted names of all that isn't a section.
fn leaves(value: &Value, prefix: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) if SecretRef::of(value).is_none() => {
            for (name, value) in map {
                let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                leaves(value, &key, found);
            }
        }
        _ if !prefix.is_empty() => found.push(prefix.into()),
        _ => {}
    }
}

fn problem(what: &str) -> String {
    format!("{NAME}: {what}")
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Whether a word is the mark, or was cut in the middle of its writing.
fn is_marked(word: &str) -> bool {
    let either = |(one, (old, new)): (char, (char, char))| one == old || one == new;
    word.len() == MARK.len() && word.chars().zip("true".chars().zip(MARK.chars())).all(either)
}

/// Where the word `true` of `fresh` stands, in bytes.
pub fn place_of_fresh(text: &str) -> Option<usize> {
    let path = Path(["seed", "fresh"].map(|name| Step::Key(name.into())).to_vec());
    let place = place_in(text, 0, &path)?;
    let line: usize = text.split_inclusive('\n').take(place.line.checked_sub(1)?).map(str::len).sum();
    let column = text.get(line..)?.char_indices().nth(place.column.checked_sub(1)?)?.0;
    text.get(line + column..)?.starts_with("true").then_some(line + column)
}

/// Another one would become a name that it isn't equal to.
fn is_node(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| letter(byte) || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_ticket(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_without_a_value() {
        for (text, words) in [
            ("network: {wait: soon}\n", "seed.yaml:1:17: network.wait"),
            ("seed: {secrets: {wifi: [hunter2]}}\n", "seed.secrets.wifi"),
            ("seed: {secrets: {\"../x\": hunter2}}\n", "a secret's name"),
            ("seed: {node: Hunter2}\n", "isn't a node's name"),
            ("seed: {ticket: \"hunter 2\"}\n", "`seed.ticket`"),
            ("seed: {pass: \"hunter2:7411\"}\n", "`seed.pass`"),
            ("seed: hunter2\n", "takes names"),
            ("seed: {number: {a: hunter2}}\n", "seed.number"),
            ("seed: {fresh: hunter2}\n", "`seed.fresh` takes true"),
            ("seed: {fresh: !!bool \"true\"}\n", "written as `fresh: true`"),
        ] {
            let why = Seed::parse(text.as_bytes()).unwrap_err();
            assert!(why.contains(words) && !why.contains("hunter2"), "{why}");
        }
    }

    #[test]
    fn its_keys_are_told_and_no_values() {
        let text = "hostname: shop-1\nnetwork: {wait: 3}\nssh: {keys: []}\n\
                    seed: {node: shop-1, ticket: a-1, number: 7, secrets: {wifi: hunter2}}\n";
        let seed = Seed::parse(text.as_bytes()).unwrap();
        let keys = ["hostname", "network.wait", "ssh.keys", "seed.node", "seed.number", "seed.secrets.wifi"];
        assert_eq!(seed.keys(), keys);
        assert_eq!((seed.ticket.as_deref(), seed.values.len()), (Some("a-1"), 1));
    }

    #[test]
    fn the_word_of_a_new_life_is_found_where_it_stands() {
        assert_eq!(place_of_fresh("hostname: \"Bäckerei\" # ü\nseed: {a: \"ß\", fresh: true}"), Some(50));
        for cut in 0..=MARK.len() {
            let word = [&MARK[..cut], &"true"[cut..]].concat();
            let seed = Seed::parse(format!("seed: {{fresh: {word}}}\n").as_bytes()).unwrap();
            assert_eq!(seed.fresh, cut == 0, "{word}");
        }
    }
}
