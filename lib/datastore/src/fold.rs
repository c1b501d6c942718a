//! Folding: what a -wal holds goes into its database, and the -wal goes away.
//!
//! Only before a copy or a restore, with k3s ended: everything else reads the two as they are. A -wal that was left beside
//! another database destroys that (k3s.md 11.1), so none stays where a database comes or goes.

use crate::{DatastoreError, beside, connect, failed};
use bakelite_sys::{SysError, durable};
use rusqlite::config::DbConfig;
use std::fs::File;
use std::path::Path;

/// Folds a database's -wal into it, durably.
///
/// # Errors
/// When SQLite can't, as with a damaged one; nothing is lost then.
pub fn fold(path: &Path) -> Result<(), DatastoreError> {
    let folded = connect(path).and_then(|connection| {
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        connection.close().map_err(|(_, error)| error)
    });
    folded.map_err(failed("folding the log of", path))?;
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|source| SysError::Write { path: path.into(), source })?;
    // Empty by now, or gone.
    if beside(path, "-wal").metadata().is_ok_and(|log| log.len() == 0) {
        durable::remove_file(beside(path, "-wal"))?;
    }
    if !beside(path, "-wal").exists() {
        durable::remove_file(beside(path, "-shm"))?;
    }
    Ok(durable::sync_folder(path.parent().unwrap_or(path))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::database;

    #[test]
    fn afterwards_one_file_holds_all_rows() {
        let folder = tempfile::tempdir().unwrap();
        let (path, running) = database(folder.path(), 40);
        drop(running);
        assert!(beside(&path, "-wal").exists());
        fold(&path).unwrap();
        assert_eq!(bakelite_sys::names_in(folder.path()), ["state.db"]);
        assert_eq!(crate::state(&path).unwrap().unwrap().revision, 40);
        durable::replace(&path, &[7; 8192], 0o600).unwrap();
        assert!(fold(&path).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), [7; 8192]);
    }
}
