//! The seed on the boot partition: `seed.yaml`, which the flasher wrote for this one machine. Looked at, taken, overwritten.
//!
//! It holds an appliance's keys, and in `seed:` the node it is for, values for a pattern's `{seed.NAME}`, and `secrets`. The
//! one place where their values are read: from there they go into their files on state and nowhere else. What is
//! taken is overwritten in place, byte for byte: removing the file would leave the secrets on the card.

use crate::boot_partition;
use crate::error::FirstbootError;
use crate::layers;
use crate::world::Changed;
use bakelite_plan::seed::{NewSeed, SPENDING, Seed};
use bakelite_spec::secret::FOLDER;
use bakelite_spec::seed::{self as spec, LIMIT, MARK, NAME, TAKEN, place_of_fresh};
use bakelite_spec::set::date;
use bakelite_sys::{SysError, durable, fat, machine, read_text};
use serde_json::{Value, json};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What was seen, in memory: it holds secrets until they are taken.
const SEEN: &str = "run/bakelite/seed.yaml";
/// A seed, read.
pub struct Parsed {
    /// Without what is secret.
    pub new: NewSeed,
    /// The seed itself.
    pub whole: spec::Seed,
}

/// Keeps what stands on the mounted boot partition for the passes of this boot.
///
/// # Errors
/// When that can't be kept.
pub fn look(root: &Path, boot: &Path) -> Result<(), SysError> {
    let path = boot.join(NAME);
    let is_ours = std::fs::metadata(&path).is_ok_and(|file| file.is_file() && file.len() <= LIMIT);
    let bytes = if is_ours { std::fs::read(&path).unwrap_or_default() } else { Vec::new() };
    if bytes.is_empty() || bytes.starts_with(TAKEN.as_bytes()) {
        return durable::remove_file(root.join(SEEN));
    }
    durable::replace(root.join(SEEN), &bytes, 0o600)
}

/// What is to be seen of it.
pub fn seen(root: &Path) -> Option<Seed> {
    let bytes = std::fs::read(root.join(SEEN)).ok()?;
    let spending = read_text(root.join(SPENDING.trim_start_matches('/'))).ok();
    let spending = spending.and_then(|text| serde_json::from_str::<Value>(&text).ok());
    if spending.is_some_and(|spending| spending["length"] == json!(bytes.len())) {
        return Some(Seed::Spending);
    }
    Some(match parse(&bytes) {
        Ok(parsed) => {
            if let Some(why) = layers::refused_seed(root, &parsed.whole.document) {
                return Some(Seed::Refused(why));
            }
            let lacks = |(name, value): &(&String, &String)| {
                std::fs::read_to_string(at(root, name)).ok().as_ref() != Some(*value)
            };
            let secrets = parsed.whole.secrets.iter().filter(lacks).map(|(name, _)| name.clone()).collect();
            Seed::New(NewSeed { secrets, ..parsed.new })
        }
        Err(why) => Seed::Refused(why),
    })
}

/// The seed that was seen, where it is right by itself.
pub fn text(root: &Path) -> Option<Parsed> {
    matches!(seen(root)?, Seed::New(_)).then(|| parse(&std::fs::read(root.join(SEEN)).ok()?).ok())?
}

fn at(root: &Path, name: &str) -> PathBuf {
    root.join(FOLDER.trim_start_matches('/')).join(name)
}

fn parse(bytes: &[u8]) -> Result<Parsed, String> {
    let whole = spec::Seed::parse(bytes)?;
    let new = NewSeed {
        node: whole.node.clone(),
        ticket: whole.ticket.clone(),
        pass: whole.pass,
        values: whole.values.clone(),
        secrets: whole.secrets.keys().cloned().collect(),
        settings: whole.settings.clone(),
        keys: whole.keys(),
        length: bytes.len() as u64,
        fresh: whole.fresh,
    };
    Ok(Parsed { new, whole })
}

/// Overwrites the word of a new life on the boot partition.
///
/// # Errors
/// When the boot partition can't be written, or it isn't where the text has it.
pub fn mark(root: &Path) -> Result<Changed, FirstbootError> {
    let seen = root.join(SEEN);
    let text = read_text(&seen)?;
    let Some(at) = place_of_fresh(&text) else { return Ok(Changed::No) };
    if let Some(device) = boot_partition::device(root)? {
        fat::change(&device, |boot| {
            put(&boot.root.join(NAME), at as u64, MARK.as_bytes())?;
            boot.sync()
        })?;
    }
    let marked = [&text[..at], MARK, &text[at + MARK.len()..]].concat();
    durable::replace(seen, marked.as_bytes(), 0o600)?;
    Ok(Changed::Yes)
}

/// Puts secrets into their files.
///
/// # Errors
/// When one can't be written.
pub fn take_secrets(root: &Path, names: &[String]) -> Result<Changed, FirstbootError> {
    let Some(parsed) = text(root) else { return Ok(Changed::No) };
    let folder = root.join(FOLDER.trim_start_matches('/'));
    durable::make_folder(&folder)?;
    durable::set_mode(&folder, 0o700)?;
    for name in names {
        if let Some(value) = parsed.whole.secrets.get(name) {
            durable::write_durable(at(root, name), value.as_bytes(), 0o600)?;
        }
    }
    Ok(Changed::Yes)
}

/// Overwrites it on the boot partition, from its first byte to its last.
///
/// # Errors
/// When the boot partition can't be written.
pub fn spend(root: &Path) -> Result<Changed, FirstbootError> {
    if let Some(device) = boot_partition::device(root)? {
        fat::change(&device, |boot| {
            overwrite(&boot.root.join(NAME), machine::clock())?;
            boot.sync()
        })?;
    }
    durable::remove_file(root.join(SEEN))?;
    Ok(Changed::Yes)
}

fn overwrite(path: &Path, clock: i64) -> Result<(), SysError> {
    let length = std::fs::metadata(path).map_or(0, |file| usize::try_from(file.len()).unwrap_or_default());
    let mut bytes = format!("{TAKEN}{}\n", date(clock)).into_bytes();
    bytes.resize(bytes.len().max(length), b'\n');
    put(path, 0, &bytes)
}

/// Writes into the seed in place, durably; a seed that isn't there any more is no error.
fn put(path: &Path, at: u64, bytes: &[u8]) -> Result<(), SysError> {
    let write = || {
        let file = std::fs::File::options().write(true).open(path)?;
        file.write_all_at(bytes, at)?;
        file.sync_all()
    };
    match write() {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(SysError::Write { path: path.into(), source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::write;

    const TEXT: &str = "hostname: shop-017\nssh: {keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA]}\n\
                        network: {wait: 3}\nseed:\n  node: shop-017\n  number: 17\n  secrets: {wifi: hunter2}\n";

    fn boot(text: &str) -> (tempfile::TempDir, tempfile::TempDir) {
        let (root, boot) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        durable::make_folder(root.path().join("run/bakelite")).unwrap();
        write(boot.path(), NAME, text);
        look(root.path(), boot.path()).unwrap();
        (root, boot)
    }

    #[test]
    fn a_seed_is_read_and_its_secrets_are_nobody_elses() {
        let (root, _boot) = boot(TEXT);
        let Some(Seed::New(new)) = seen(root.path()) else { panic!() };
        assert_eq!((new.node.as_deref(), new.values["number"].as_str()), (Some("shop-017"), "17"));
        assert_eq!((new.secrets.as_slice(), new.length), (["wifi".to_string()].as_slice(), TEXT.len() as u64));
        assert_eq!(new.settings["network"], json!({ "wait": 3 }));
        assert!(!serde_json::to_string(&new).unwrap().contains("hunter2"));
        take_secrets(root.path(), &new.secrets).unwrap();
        assert_eq!(std::fs::read_to_string(at(root.path(), "wifi")).unwrap(), "hunter2");
        let Some(Seed::New(new)) = seen(root.path()) else { panic!() };
        assert!(new.secrets.is_empty(), "it is there by now");
    }

    #[test]
    fn what_is_wrong_is_told() {
        let (root, _boot) = boot("network: {wait: soon}\n");
        assert!(matches!(seen(root.path()), Some(Seed::Refused(why)) if why.contains("seed.yaml:1:17: network.wait")));
    }

    #[test]
    fn the_word_of_a_new_life_is_overwritten_in_its_place_and_half_of_it_counts() {
        for text in
            ["seed: {node: a, fresh: true}\n", "seed:\n  number: 1\n  fresh:   true # once\n", "{seed: {fresh: true}}"]
        {
            let (root, boot) = boot(text);
            let Some(Seed::New(new)) = seen(root.path()) else { panic!("{text}") };
            assert!(new.fresh);
            let at = place_of_fresh(text).unwrap();
            for cut in 0..=MARK.len() {
                put(&boot.path().join(NAME), at as u64, &MARK.as_bytes()[..cut]).unwrap();
                look(root.path(), boot.path()).unwrap();
                let Some(Seed::New(new)) = seen(root.path()) else { panic!("{text} {cut}") };
                assert_eq!(new.fresh, cut == 0, "{text} {cut}");
            }
            assert_eq!(std::fs::read_to_string(boot.path().join(NAME)).unwrap(), text.replace("true", MARK));
        }
    }

    #[test]
    fn what_was_taken_is_overwritten_to_its_last_byte_and_a_half_of_it_is_no_other_seed() {
        let (root, boot) = boot(TEXT);
        write(root.path(), SPENDING, &format!("{{\"length\":{}}}", TEXT.len()));
        // Cut after some of its sectors.
        let half = format!("{}{}", &TEXT[..60], "\n".repeat(TEXT.len() - 60));
        write(boot.path(), NAME, &half);
        look(root.path(), boot.path()).unwrap();
        assert_eq!(seen(root.path()), Some(Seed::Spending));
        overwrite(&boot.path().join(NAME), 1_790_000_000).unwrap();
        let left = std::fs::read_to_string(boot.path().join(NAME)).unwrap();
        assert_eq!((left.len(), left.trim()), (TEXT.len(), "taken 2026-09-21"));
        look(root.path(), boot.path()).unwrap();
        assert_eq!(seen(root.path()), None);
        overwrite(&boot.path().join("none"), 0).unwrap();
    }
}
