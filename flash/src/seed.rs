//! A seed for one machine: made from a file, `KEY=VALUE` words and rows of a table, checked, put onto the medium, read back.
//!
//! Checked with the table of keys and upon the image's own settings, by the same code as on the machine: what that would
//! refuse is never written. Secrets are shown and told by their names only, and go nowhere but onto the medium.

use crate::error::FlashError;
use bakelite_disk::press::Target;
use bakelite_image::opened::fat as reader;
use bakelite_image::write::fat::{self, Window};
use bakelite_spec::board::Board;
use bakelite_spec::check::value_at;
use bakelite_spec::finding::nearest;
use bakelite_spec::keys::{APPLIANCE, Kind, find};
use bakelite_spec::laid;
use bakelite_spec::layers::{Effective, Layer};
use bakelite_spec::seed::{LIMIT, NAME, Seed};
use serde_json::{Map, Value, json};
use std::cell::RefCell;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// What is shown in place of a secret.
const HIDDEN: &str = "(hidden)";
/// Where secrets are in a seed.
const SECRETS: &str = "seed.secrets.";

/// A seed, checked by itself.
pub struct SeedFile {
    text: String,
    seed: Seed,
}

impl fmt::Debug for SeedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SeedFile").field("keys", &self.seed.keys()).finish()
    }
}

impl SeedFile {
    /// Makes a seed of a file's text and of keys with values on top, the later ones first.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn make(base: Option<&str>, sets: &[(String, String)]) -> Result<Self, FlashError> {
        let wrong = |why: String| FlashError::Seed(why);
        if sets.is_empty() {
            let text = base.unwrap_or_default().to_string();
            let seed = Seed::parse(text.as_bytes()).map_err(wrong)?;
            return Self::within(text, seed);
        }
        // What is wrong with the file is told with its places, before its text is made anew.
        if let Some(base) = base {
            Seed::parse(base.as_bytes()).map_err(wrong)?;
        }
        let tree: Value = serde_yaml::from_str(base.unwrap_or_default())
            .map_err(|error| wrong(format!("{NAME}: {error}")))
            .map(|tree: Value| if tree.is_object() { tree } else { json!({}) })?;
        let tree = sets.iter().try_fold(tree, |tree, (key, value)| with(tree, key, value))?;
        let text = serde_yaml::to_string(&tree).map_err(|error| wrong(format!("{NAME}: {error}")))?;
        let seed = Seed::parse(text.as_bytes()).map_err(|why| {
            // Its lines are nobody's: the text was just made.
            let why = why.split_once(": ").map_or(why.as_str(), |(_, rest)| rest);
            wrong(why.to_string())
        })?;
        Self::within(text, seed)
    }

    fn within(text: String, seed: Seed) -> Result<Self, FlashError> {
        if text.len() as u64 > LIMIT {
            return Err(FlashError::Seed(format!("{NAME} has more than {LIMIT} bytes")));
        }
        Ok(Self { text, seed })
    }

    /// What is in it.
    pub fn seed(&self) -> &Seed {
        &self.seed
    }

    /// Its text, as it goes onto a medium.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it names one machine, so that no second medium may get it.
    pub fn is_one_machines(&self) -> bool {
        let hostname = self.seed.settings["hostname"].as_str();
        self.seed.node.is_some() || hostname.is_some_and(|name| !name.contains('{'))
    }

    /// Whether machines with these settings would take it.
    ///
    /// # Errors
    /// What they would refuse it for.
    pub fn check(&self, effective: &Effective, board: &Board) -> Result<(), FlashError> {
        let laid = laid::lay(effective, board, Layer::Seed, &self.seed.document);
        laid.map(drop).map_err(|findings| FlashError::Seed(laid::line(&findings)))
    }

    /// What it sets, a line a key; secrets by their names.
    pub fn shown(&self) -> Vec<(String, String)> {
        let whole = json!({
            "seed": {
                "node": self.seed.node, "ticket": self.seed.ticket, "pass": self.seed.pass,
                "fresh": self.seed.fresh,
            }
        });
        let value = |key: &str| {
            if key.starts_with(SECRETS) {
                return HIDDEN.to_string();
            }
            let own = key.strip_prefix("seed.").and_then(|name| self.seed.values.get(name)).cloned();
            let found = own.map(Value::String);
            let found = found.or_else(|| value_at(&self.seed.settings, key).or_else(|| value_at(&whole, key)).cloned());
            match found {
                Some(Value::String(text)) => text,
                Some(other) => other.to_string(),
                None => String::new(),
            }
        };
        let mut keys = self.seed.keys();
        if self.seed.fresh {
            keys.push("seed.fresh".into());
        }
        keys.into_iter().map(|key| (key.clone(), value(&key))).collect()
    }

    /// Puts it into the boot partition at a place of a medium, durably, and reads it back past all caches.
    ///
    /// # Errors
    /// When that can't be written, or isn't there afterwards as it was written.
    pub fn put(&self, medium: &mut impl Target, boot: (u64, u64)) -> Result<(), FlashError> {
        let (start, length) = boot;
        let damaged = |why: String| FlashError::SeedReadBack(why);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let now = i64::try_from(now).unwrap_or_default();
        let window = Window::new(&mut *medium, start, length);
        fat::add(window, NAME, self.text.as_bytes(), now).map_err(|error| damaged(error.to_string()))?;
        medium.make_durable().map_err(|error| damaged(error.to_string()))?;
        let medium = RefCell::new(medium);
        let read_at = |at: u64, bytes: &mut [u8]| medium.borrow_mut().read_back(start + at, bytes);
        let volume = reader::read(&read_at, length).map_err(|error| damaged(error.to_string()))?;
        if let Some(problem) = volume.problems.first() {
            return Err(damaged(format!("the boot partition: {problem}")));
        }
        let content = volume.content(&read_at, NAME).map_err(|error| damaged(error.to_string()))?;
        if content != self.text.as_bytes() {
            return Err(damaged("it differs".into()));
        }
        Ok(())
    }
}

/// Splits `KEY=VALUE`.
///
/// # Errors
/// When it is something else; the value isn't repeated.
pub fn word(text: &str) -> Result<(String, String), FlashError> {
    let (key, value) = text.split_once('=').ok_or_else(|| {
        FlashError::Seed("--set takes KEY=VALUE, such as hostname=shop-017 or seed.secrets.wifi=...".into())
    })?;
    Ok((key.trim().into(), value.into()))
}

/// Sets a key of a tree.
fn with(mut tree: Value, key: &str, value: &str) -> Result<Value, FlashError> {
    let value = typed(key, value)?;
    let mut place = &mut tree;
    let steps: Vec<&str> = match key.strip_prefix(SECRETS) {
        // A secret's name may have dots.
        Some(name) => vec!["seed", "secrets", name],
        None => key.split('.').collect(),
    };
    for step in steps {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        place = &mut place[step];
    }
    *place = value;
    Ok(tree)
}

/// A value of the kind that the key has.
fn typed(key: &str, value: &str) -> Result<Value, FlashError> {
    let refuse = |what: String| FlashError::Seed(format!("{key}: {what}"));
    let yaml = || {
        // A value may be a secret in the wrong place: neither it nor the library's words are repeated.
        serde_yaml::from_str::<Value>(value).map_err(|_| refuse("the value is no YAML".into()))
    };
    if let Some(name) = key.strip_prefix("seed.") {
        return if name == "fresh" { yaml() } else { Ok(Value::String(value.into())) };
    }
    match find(APPLIANCE, key).map(|found| found.kind) {
        Some(Kind::Text(_) | Kind::Choice(_)) => Ok(Value::String(value.into())),
        Some(_) => yaml(),
        // A name that is free, below a mapping.
        None if APPLIANCE
            .iter()
            .any(|known| key.strip_prefix(known.path).is_some_and(|rest| rest.starts_with('.'))) =>
        {
            yaml()
        }
        None => {
            let near = nearest(key, APPLIANCE.iter().map(|known| known.path));
            Err(refuse(format!(
                "is not a known key{}",
                near.map_or_else(String::new, |near| format!("; try `{near}`"))
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bakelite_image::tree::Tree;
    use std::io::Cursor;

    fn made(base: Option<&str>, sets: &[(&str, &str)]) -> Result<SeedFile, String> {
        let sets: Vec<_> = sets.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        SeedFile::make(base, &sets).map_err(|error| error.to_string())
    }

    #[test]
    fn words_and_a_file_make_one_seed_and_secrets_are_not_shown() {
        let made = made(
            Some("hostname: old # a comment\nnetwork: {wait: 3}\n"),
            &[
                ("hostname", "shop-017"),
                ("seed.number", "017"),
                ("seed.secrets.wifi.home", "0123"),
                ("seed.fresh", "true"),
                ("network.links", "[{path: pci0000:00, address: 10.0.0.17/24}]"),
            ],
        )
        .unwrap();
        let seed = made.seed();
        assert_eq!((seed.values["number"].as_str(), seed.secrets["wifi.home"].as_str()), ("017", "0123"));
        assert!(seed.fresh && seed.settings["network"]["wait"] == 3);
        let shown: Vec<String> = made.shown().iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert!(shown.contains(&"hostname=shop-017".into()) && shown.contains(&"seed.number=017".into()), "{shown:?}");
        assert!(
            shown.contains(&"seed.secrets.wifi.home=(hidden)".into()) && !format!("{shown:?}{made:?}").contains("0123")
        );
        let untouched = self::made(Some("# mine\nhostname: a\n"), &[]).unwrap();
        assert_eq!(untouched.text, "# mine\nhostname: a\n");
    }

    #[test]
    fn what_the_machine_would_refuse_is_refused_and_no_value_is_repeated() {
        for (sets, words) in [
            (&[("hostnam", "hunter2")][..], "try `hostname`"),
            (&[("network.wait", "hunter2")], "network.wait"),
            (&[("seed.node", "Hunter2 hunter2")], "`seed.node`"),
            (&[("ssh.keys", "[hunter2")], "no YAML"),
            (&[("seed.secrets.UP", "hunter2")], "a secret's name"),
        ] {
            let why = made(None, sets).unwrap_err();
            assert!(why.contains(words), "{why}");
            assert!(!why.contains("hunter2") || words.starts_with("network"), "{why}");
        }
        assert!(made(Some("network: {wait: soon}"), &[("hostname", "a")]).unwrap_err().contains("seed.yaml:1:17"));
        assert!(word("hunter2").unwrap_err().to_string().contains("KEY=VALUE"));
    }

    #[test]
    fn it_lies_on_the_boot_partition_and_is_read_back() {
        let length = 64 << 20;
        let mut tree = Tree::default();
        tree.file("loader/loader.conf", 0o644, b"x".to_vec());
        let mut medium = Cursor::new(vec![0u8; (4 << 20) + length]);
        let boot = (4 << 20, length as u64);
        // As small a FAT32 as can be: clusters of 512 bytes aren't what an image has, and are read the same.
        fatfs_small(&tree, Window::new(&mut medium, boot.0, boot.1));
        let seed = made(None, &[("hostname", "shop-1")]).unwrap();
        seed.put(&mut medium, boot).unwrap();
        let again = made(None, &[("hostname", "shop-2"), ("seed.number", "2")]).unwrap();
        again.put(&mut medium, boot).unwrap();
        let read_at = |at: u64, bytes: &mut [u8]| {
            let at = (boot.0 + at) as usize;
            bytes.copy_from_slice(&medium.get_ref()[at..at + bytes.len()]);
            Ok(())
        };
        let volume = reader::read(&read_at, boot.1).unwrap();
        assert!(volume.bad_dates.is_empty() && volume.problems.is_empty(), "{:?}", volume.problems);
        assert_eq!(volume.content(&read_at, NAME).unwrap(), again.text.as_bytes());
        assert_eq!(volume.files.len(), 2);
    }

    fn fatfs_small(tree: &Tree, partition: Window<&mut Cursor<Vec<u8>>>) {
        fat::write_with(tree, 1_763_719_271, 7, 64 << 20, 512, partition).unwrap();
    }
}
