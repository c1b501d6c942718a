//! Telling a medium which of its bytes hold nothing (FITRIM), in pieces and with pauses: whoever reads and writes meanwhile
//! isn't kept waiting for long.

use crate::error::FirstbootError;
use bakelite_plan::trim::{RECORD, Trimmed};
use bakelite_spec::quantity::Size;
use bakelite_sys::{durable, machine, raw, read_text};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

/// Bytes that are looked through at once.
const PIECE: u64 = 1 << 30;
/// A medium that takes longer is left for the next time: it begins anew then.
const LIMIT: Duration = Duration::from_secs(900);

/// Trims a file system, and writes down when and how much. A medium that can't is no reason to fail: that is written, too.
///
/// # Errors
/// When it can't be written down.
pub fn trim(root: &Path, mount: &str, disk: &str) -> Result<(), FirstbootError> {
    let begun = machine::uptime();
    let done = pieces(Path::new(mount));
    let took = machine::uptime().saturating_sub(begun).as_secs_f64();
    let bytes = match done {
        Ok(bytes) => {
            log::info!("trimmed {mount}: {} that hold nothing, in {took:.1} s", Size(bytes).human());
            Some(bytes)
        }
        Err(source) => {
            log::info!("{mount} can't be trimmed: {source}");
            None
        }
    };
    let record = root.join(RECORD.trim_start_matches('/'));
    let known = read_text(&record).ok().and_then(|text| serde_json::from_str(&text).ok());
    let mut all: BTreeMap<String, Trimmed> = known.unwrap_or_default();
    all.insert(disk.into(), Trimmed { at: machine::clock(), bytes });
    let text = serde_json::to_string(&all).map_err(FirstbootError::WriteReport)? + "\n";
    Ok(durable::write_durable(&record, text.as_bytes(), 0o600)?)
}

/// Bytes that were given back.
fn pieces(mount: &Path) -> std::io::Result<u64> {
    let folder = File::open(mount)?;
    let length = bakelite_sys::mount::size(mount);
    let begun = machine::uptime();
    let (mut at, mut bytes) = (0, 0);
    while at < length && machine::uptime().saturating_sub(begun) < LIMIT {
        let before = machine::uptime();
        bytes += raw::trim(&folder, at, PIECE)?;
        at += PIECE;
        // As long a pause as the piece took: half of the medium's time is everybody else's.
        std::thread::sleep(machine::uptime().saturating_sub(before));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cant_be_trimmed_is_written_down_beside_what_is_known() {
        let root = tempfile::tempdir().unwrap();
        let record = root.path().join(&RECORD[1..]);
        durable::make_folder(record.parent().unwrap()).unwrap();
        durable::replace(&record, br#"{"other":{"at":5,"bytes":7}}"#, 0o600).unwrap();
        // A tmpfs takes no discards.
        trim(root.path(), "/dev/shm", "S1").unwrap();
        let all: BTreeMap<String, Trimmed> = serde_json::from_str(&read_text(&record).unwrap()).unwrap();
        assert_eq!(all["other"], Trimmed { at: 5, bytes: Some(7) });
        assert!(all["S1"].at > 1_600_000_000 && all["S1"].bytes.is_none(), "{all:?}");
    }
}
