//! Names in a cluster: those that are there by themselves, noted once and compared with what is there later; and those that
//! went with a database which another one took the place of.

use crate::error::FirstbootError;
use crate::restore::places;
use bakelite_datastore::names::{self, lasting};
use bakelite_plan::cluster::DATABASE;
use bakelite_sys::{SysError, durable, words};
use std::collections::BTreeSet;
use std::path::Path;

/// Notes them, durably.
///
/// # Errors
/// When the database can't be read or the note can't be written.
pub fn note(database: &Path, baseline: &Path) -> Result<(), FirstbootError> {
    let names = serde_json::to_vec(&lasting(database)?).map_err(FirstbootError::WriteReport)?;
    Ok(durable::write_durable(baseline, &names, 0o600)?)
}

/// The names of what went with the database that was moved aside into a folder, behind a revision. What can't be compared is
/// said in the log, and keeps nothing up.
pub fn lost(aside: &str, revision: u64) -> Vec<String> {
    let other = places(aside).aside.join("server/db/state.db");
    names::lost(&other, Path::new(DATABASE), revision).unwrap_or_else(|error| {
        log::warn!("what was lost can't be told: {}", words(&error));
        Vec::new()
    })
}

/// The names that aren't in the note.
///
/// # Errors
/// When one of the two can't be read.
pub fn beyond(baseline: &Path) -> Result<Vec<String>, FirstbootError> {
    let read = |source| SysError::Read { path: baseline.into(), source };
    let bytes = std::fs::read(baseline).map_err(read)?;
    let noted: BTreeSet<String> = serde_json::from_slice(&bytes).map_err(|error| read(error.into()))?;
    Ok(lasting(Path::new(DATABASE))?.into_iter().filter(|name| !noted.contains(name)).collect())
}
