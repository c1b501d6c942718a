//! The weekly look at all of the database: each backup is one, so this is for machines that make fewer or none.
//!
//! k3s starts as usual with a destroyed page (k3s.md 11.1). What is checked is a copy, so that k3s doesn't wait.

use crate::KeeperError;
use bakelite_datastore::{DatastoreError, copy};
use bakelite_plan::cluster;
use bakelite_plan::restore::FOLDER;
use bakelite_sys::{durable, machine, mount, read_text};
use std::path::Path;

const WEEK: i64 = 7 * 86_400;
/// When it was last found whole, in seconds since 1970, as text.
const RECORD: &str = "/var/lib/bakelite/integrity";
const SCRATCH: &str = "integrity.db";

/// Whether one is due. `backed_up` is when the newest backup was made.
pub fn is_due(backed_up: Option<i64>, now: i64) -> bool {
    let checked = read_text(RECORD).ok().and_then(|text| text.trim().parse::<i64>().ok());
    is_older_than_a_week(backed_up.max(checked), now)
}

fn is_older_than_a_week(last: Option<i64>, now: i64) -> bool {
    // One from the future says nothing of now.
    last.is_none_or(|last| now - last >= WEEK || last > now + WEEK)
}

/// Checks a copy of the database. The caller has the lock.
///
/// # Errors
/// When it is damaged, or there is no room for a copy.
pub fn check() -> Result<(), KeeperError> {
    let (folder, database) = (Path::new(FOLDER), Path::new(cluster::DATABASE));
    durable::make_folder(folder)?;
    let bytes = std::fs::metadata(database).map_or(0, |meta| meta.len());
    let (free, needed) = (mount::free(folder), bakelite_datastore::set::room(folder, bytes));
    if free < needed {
        return Err(KeeperError::NoRoom { place: folder.display().to_string(), free, needed });
    }
    let scratch = folder.join(SCRATCH);
    let checked = copy(database, &scratch).map_err(|error: DatastoreError| KeeperError::Set(error.into()));
    durable::remove_file(&scratch)?;
    let revision = checked?.revision;
    log::info!("checked all of k3s's database at revision {revision}: it is whole");
    Ok(durable::write_durable(RECORD, machine::clock().to_string().as_bytes(), 0o600)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_week_without_a_backup_is_too_long() {
        assert!(is_older_than_a_week(None, 0));
        assert!(!is_older_than_a_week(Some(100), 99 + WEEK));
        assert!(is_older_than_a_week(Some(100), 100 + WEEK));
        assert!(is_older_than_a_week(Some(9 * WEEK), WEEK), "the clock was ahead");
    }
}
