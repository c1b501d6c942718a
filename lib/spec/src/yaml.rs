//! A person's YAML: read, checked against a table of keys, each finding with its line and column.
//!
//! The tree of values comes from the YAML library, which keeps no places; a place is found by reading the text once
//! more and stopping, on purpose, at the value in question: the library then says where it stopped. That way there
//! is one YAML parser, not two.

use crate::check::{Located, Path, Step, check, check_layer, expand};
use crate::finding::{Finding, Place};
use crate::keys::{Key, SHORT_FORMS};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::fmt;

/// A YAML file with its text, so that places can be found in it.
#[derive(Clone, Debug)]
pub struct Document {
    file: String,
    text: String,
    /// The tree of values, short forms expanded.
    pub value: Value,
}

impl Document {
    /// Reads a text and checks it against a table. `file` is the name that findings carry.
    ///
    /// # Errors
    /// All findings when one of them stops the work: a YAML error, unknown keys, wrong types, values out of range.
    pub fn read(file: &str, text: &str, table: &[Key]) -> Result<Self, Vec<Finding>> {
        Self::read_with(file, text, |value| check(value, table))
    }

    /// Reads a layer of settings: like [`Self::read`], but nothing has to be in it, and an empty text is an empty layer.
    ///
    /// # Errors
    /// All findings when one of them stops the work.
    pub fn read_layer(file: &str, text: &str, table: &[Key]) -> Result<Self, Vec<Finding>> {
        Self::read_with(file, text, |value| check_layer(value, table))
    }

    /// Reads the layer of one machine that the flasher writes: like [`Self::read_layer`], with a section `seed` of its own
    /// that isn't looked into here.
    ///
    /// # Errors
    /// All findings.
    pub fn read_seed(file: &str, text: &str, table: &[Key]) -> Result<Self, Vec<Finding>> {
        Self::read_with(file, text, |value| {
            let mut value = value.clone();
            value.as_object_mut().and_then(|all| all.remove("seed"));
            check_layer(&value, table)
        })
    }

    fn read_with(file: &str, text: &str, check: impl Fn(&Value) -> Vec<Located>) -> Result<Self, Vec<Finding>> {
        // By way of the library's own tree, which refuses a key that stands twice.
        let tree: serde_yaml::Value = serde_yaml::from_str(text).map_err(|error| vec![syntax_error(file, &error)])?;
        let mut value = serde_json::to_value(tree).map_err(|error| {
            let hint = "quotes around keys that aren't plain words";
            vec![Finding { file: file.into(), ..Finding::error("", error.to_string(), hint) }]
        })?;
        expand(&mut value);
        let document = Self { file: file.into(), text: text.into(), value };
        let findings: Vec<Finding> = check(&document.value).into_iter().map(|found| document.placed(found)).collect();
        if findings.is_empty() { Ok(document) } else { Err(findings) }
    }

    /// The name that findings carry.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Ties a finding to this file, with line and column where the text shows them.
    pub fn placed(&self, located: Located) -> Finding {
        let place = self.locate(&located.path, located.on_key);
        Finding { file: self.file.clone(), place, ..located.finding }
    }

    /// The place of the key or the entry at a dotted path such as `files[1].to`, where this file has it.
    pub fn place_of(&self, key: &str) -> Option<Place> {
        let mut steps = Vec::new();
        for part in key.split('.') {
            let (name, index) = part.split_once('[').map_or((part, None), |(name, rest)| (name, Some(rest)));
            steps.push(Step::Key(name.into()));
            if let Some(index) = index.and_then(|rest| rest.strip_suffix(']')) {
                steps.push(Step::Index(index.parse().ok()?));
            }
        }
        self.locate(&Path(steps), true)
    }

    fn locate(&self, path: &Path, on_key: bool) -> Option<Place> {
        let mut steps = path.0.as_slice();
        // A short form has been expanded: what stands in the text is the value of the section itself.
        let is_short =
            |step: &Step| matches!(step, Step::Key(name) if SHORT_FORMS.iter().any(|(known, _)| known == name));
        if steps.len() == 2 && is_short(&steps[0]) && self.stop_at(steps, on_key).is_none() {
            steps = &steps[..1];
        }
        self.stop_at(steps, on_key)
    }

    fn stop_at(&self, steps: &[Step], on_key: bool) -> Option<Place> {
        stop_at(serde_yaml::Deserializer::from_str(&self.text), steps, on_key)
    }
}

/// The place of a value in one of the documents of a text, counted from 0.
pub fn place_in(text: &str, document: usize, path: &Path) -> Option<Place> {
    stop_at(serde_yaml::Deserializer::from_str(text).nth(document)?, &path.0, false)
}

fn stop_at(deserializer: serde_yaml::Deserializer<'_>, steps: &[Step], on_key: bool) -> Option<Place> {
    let error = Seek { steps, on_key }.deserialize(deserializer).err()?;
    let message = error.to_string();
    let location = message.contains(STOPPED).then(|| error.location())??;
    Some(Place { line: location.line(), column: location.column() })
}

fn syntax_error(file: &str, error: &serde_yaml::Error) -> Finding {
    let place = error.location().map(|location| Place { line: location.line(), column: location.column() });
    let message = error.to_string();
    let problem = message.split(" at line ").next().unwrap_or(&message).to_string();
    Finding { file: file.into(), place, ..Finding::error("", problem, "mending the YAML at this place") }
}

const STOPPED: &str = "stopped here on purpose";

/// Walks down to a value (or its key) and fails there.
struct Seek<'a> {
    steps: &'a [Step],
    on_key: bool,
}

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(STOPPED)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((step, rest)) = self.steps.split_first() else { return Err(A::Error::custom(STOPPED)) };
        while let Some(found) = map.next_key_seed(KeySeek { step, stop: self.on_key && rest.is_empty() })? {
            if found {
                map.next_value_seed(Seek { steps: rest, on_key: self.on_key })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let Some((step, rest)) = self.steps.split_first() else { return Err(A::Error::custom(STOPPED)) };
        let Step::Index(wanted) = step else { return Ok(()) };
        for _ in 0..*wanted {
            if entries.next_element::<IgnoredAny>()?.is_none() {
                return Ok(());
            }
        }
        entries.next_element_seed(Seek { steps: rest, on_key: self.on_key })?;
        Ok(())
    }
}

/// Reads a mapping's key, tells whether it is the wanted one, and fails there if that is asked for.
struct KeySeek<'a> {
    step: &'a Step,
    stop: bool,
}

impl<'de> DeserializeSeed<'de> for KeySeek<'_> {
    type Value = bool;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeek<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<bool, E> {
        let found = matches!(self.step, Step::Key(wanted) | Step::Name(wanted) if wanted == name);
        if found && self.stop { Err(E::custom(STOPPED)) } else { Ok(found) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::APPLIANCE;

    fn lines(text: &str) -> Vec<String> {
        match Document::read("shop.yaml", text, APPLIANCE) {
            Ok(_) => Vec::new(),
            Err(findings) => findings.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn findings_carry_line_and_column() {
        let found = lines(
            "board: qemu-x86_64\nhostnam: a\nnetwork:\n  links:\n    - mac: dc:a6:32:01:02:03\n      adress: 1.2.3.4/24\n    - dhcp: 3\n",
        );
        assert_eq!(found[0], "shop.yaml:2:1: hostnam: is not a known key; try `hostname`");
        assert!(
            found[1].starts_with("shop.yaml:6:7: network.links[0].adress: is not a known key; try `address`"),
            "{}",
            found[1]
        );
        assert!(
            found[2].starts_with("shop.yaml:7:13: network.links[1].dhcp: is a number, not true or false"),
            "{}",
            found[2]
        );
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn entries_of_lists_have_their_places_in_each_document() {
        let text = "board: qemu-x86_64\nfiles:\n  - {text: a, to: /etc/a}\n  - text: b\n    to: /etc/b\n";
        let document = Document::read("shop.yaml", text, APPLIANCE).unwrap();
        assert_eq!(document.place_of("files[1].to"), Some(Place { line: 5, column: 5 }));
        assert_eq!(document.place_of("files[7].to"), None);
        let path = Path(vec![Step::Key("kind".into())]);
        assert_eq!(place_in("kind: A\n---\n# two\nkind: B\n", 1, &path), Some(Place { line: 4, column: 7 }));
        assert_eq!(place_in("kind: A\n", 1, &path), None);
    }

    #[test]
    fn a_secret_that_is_written_out_has_its_place_and_is_not_repeated() {
        let text = "board: qemu-x86_64\nregistries:\n  configs:\n    r.example:5000:\n      auth: {username: u, password: hunter2}\n";
        let found = lines(text);
        assert_eq!(
            found,
            [
                "shop.yaml:5:37: registries.configs.r.example:5000.auth.password: is written out; a secret must not be in \
              an image; try `{secret: NAME}`, or `{seed: NAME}` for a value that the flasher brings"
            ]
        );
        assert!(lines(&text.replace("hunter2", "{secret: registry}")).is_empty());
        let found = lines(&text.replace("password", "pasword"));
        assert!(found[0].contains("auth.pasword: is not a known key; try `password`"), "{found:?}");
        assert!(!found[0].contains("hunter2"));
    }

    #[test]
    fn the_short_form_of_k3s_has_its_place() {
        let found = lines("board: qemu-x86_64\nk3s: 1.36\n");
        assert!(found[0].starts_with("shop.yaml:2:6: k3s: is a number, not a section"), "{}", found[0]);
        let found = lines("board: qemu-x86_64\nk3s: reharsal\n");
        assert!(found[0].starts_with("shop.yaml:2:6: k3s.version: `reharsal` is not a k3s release"), "{}", found[0]);
    }

    #[test]
    fn syntax_errors_and_duplicate_keys_say_where() {
        assert!(lines("board: [\n").first().is_some_and(|line| line.starts_with("shop.yaml:")));
        let found = lines("board: a\nboard: b\n");
        assert!(found[0].contains("duplicate"), "{}", found[0]);
        assert!(lines("").first().is_some_and(|line| line.contains("board: is missing")));
        assert!(lines("- a\n").first().is_some_and(|line| line.contains("has to be a mapping")));
    }
}
