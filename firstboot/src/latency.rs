//! How long a medium takes to make 4 KiB durable, by a file of our own on it.

use crate::error::FirstbootError;
use bakelite_plan::latency::{Latency, RECORD};
use bakelite_spec::status::paths;
use bakelite_sys::{SysError, durable, machine, read_text, words};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

/// So often, or as often as this time allows on a slow card: k3s waits meanwhile.
const TIMES: u64 = 100;
const LIMIT: Duration = Duration::from_secs(4);
const PIECE: [u8; 4096] = [0x5a; 4096];

/// Measures, and writes it down. A medium that can't be measured is no reason to stop: it is written down, too.
///
/// # Errors
/// When the record can't be written.
pub fn measure(root: &Path, disk: &str, data_disk: bool) -> Result<(), FirstbootError> {
    let folder = if data_disk { "disk/bakelite" } else { paths::STATE.trim_start_matches('/') };
    let probe = root.join(folder).join("latency.probe");
    let each = samples(&probe).unwrap_or_else(|error| {
        log::warn!("{}", words(&error));
        Vec::new()
    });
    durable::remove_file(&probe)?;
    let record = root.join(RECORD.trim_start_matches('/'));
    let known = read_text(&record).ok().and_then(|text| serde_json::from_str(&text).ok());
    let mut all: BTreeMap<String, Latency> = known.unwrap_or_default();
    all.insert(disk.into(), Latency::of(each));
    let text = serde_json::to_string(&all).map_err(FirstbootError::WriteReport)? + "\n";
    Ok(durable::write_durable(&record, text.as_bytes(), 0o600)?)
}

/// Microseconds of each.
fn samples(probe: &Path) -> Result<Vec<u64>, SysError> {
    let failed = |source| SysError::Write { path: probe.into(), source };
    let file = File::create(probe).map_err(failed)?;
    let begun = machine::uptime();
    let mut each = Vec::new();
    for number in 0..TIMES {
        let before = machine::uptime();
        if before.saturating_sub(begun) > LIMIT {
            break;
        }
        file.write_all_at(&PIECE, number * PIECE.len() as u64).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        let took = machine::uptime().saturating_sub(before);
        each.push(u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1));
    }
    Ok(each)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_is_kept_beside_what_is_known_and_nothing_else_is_left() {
        let root = tempfile::tempdir().unwrap();
        let state = root.path().join(paths::STATE.trim_start_matches('/'));
        durable::make_folder(&state).unwrap();
        measure(root.path(), "card", false).unwrap();
        measure(root.path(), "absent", true).unwrap();
        let text = read_text(state.join("latency.json")).unwrap();
        let all: BTreeMap<String, Latency> = serde_json::from_str(&text).unwrap();
        assert!(all["card"].slow > 0 && all["absent"] == Latency::default());
        assert_eq!(bakelite_sys::names_in(&state), ["latency.json"]);
    }
}
