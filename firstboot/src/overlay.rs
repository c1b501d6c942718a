//! The overlay on the boot partition: `bakelite.yaml`, which a person wrote on a laptop. Read, never written.
//!
//! The partition is mounted for that moment, read-only; seed and boot loader's entries are looked at by the way. What was seen is
//! kept in /run for the passes of this boot.

use crate::error::FirstbootError;
use crate::{boot_partition, loader, seed};
use bakelite_sys::{SysError, durable, fat, words};
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::Path;

/// The file's name.
pub const NAME: &str = "bakelite.yaml";
const SEEN: &str = "run/bakelite/overlay.json";
/// A longer file is none of ours.
const LIMIT: u64 = 64 << 10;

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seen {
    /// Its text.
    Text(String),
    /// There is none.
    Absent,
    /// It can't be read, and why.
    Unreadable(String),
}

/// What was seen in this boot.
pub fn seen(root: &Path) -> Option<Seen> {
    serde_json::from_slice(&std::fs::read(root.join(SEEN)).ok()?).ok()
}

/// Looks, and keeps what it sees.
///
/// # Errors
/// When that can't be kept.
pub fn look() -> Result<(), FirstbootError> {
    let seen = read(Path::new("/")).unwrap_or_else(|error| Seen::Unreadable(words(&error)));
    let bytes = serde_json::to_vec(&seen).map_err(FirstbootError::WriteReport)?;
    Ok(durable::replace(Path::new("/").join(SEEN), &bytes, 0o600)?)
}

fn read(root: &Path) -> Result<Seen, FirstbootError> {
    // Without a boot partition there can't be a file in it.
    let Some(device) = boot_partition::device(root)? else { return Ok(Seen::Absent) };
    fat::look(&device, |boot| {
        loader::look(root, boot)?;
        seed::look(root, boot)?;
        Ok(text(&boot.join(NAME))?)
    })
}

fn text(path: &Path) -> Result<Seen, SysError> {
    let read = |source| SysError::Read { path: path.into(), source };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Seen::Absent),
        Err(error) => return Err(read(error)),
    };
    let mut bytes = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut bytes).map_err(read)?;
    if bytes.len() as u64 > LIMIT {
        return Ok(Seen::Unreadable(format!("{NAME} is longer than {} KiB", LIMIT >> 10)));
    }
    Ok(String::from_utf8(bytes).map_or_else(|_| Seen::Unreadable(format!("{NAME} is no text")), Seen::Text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_text_of_a_sane_length_or_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        assert_eq!(text(&path).unwrap(), Seen::Absent);
        let write = |bytes: &[u8]| durable::replace(&path, bytes, 0o600).unwrap();
        write(b"network: {wait: 3}\n");
        assert_eq!(text(&path).unwrap(), Seen::Text("network: {wait: 3}\n".into()));
        write(&[0xff, 0xfe]);
        assert!(matches!(text(&path).unwrap(), Seen::Unreadable(_)));
        write(&vec![b'#'; 70_000]);
        assert!(matches!(text(&path).unwrap(), Seen::Unreadable(_)));
        assert_eq!(seen(folder.path()), None);
    }
}
