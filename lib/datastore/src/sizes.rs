//! How large a live database has grown: a few numbers that SQLite has at hand, read where k3s has it.

use crate::{DatastoreError, beside, failed, open};
use rusqlite::Connection;
use std::path::Path;

/// The sizes of a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of the file.
    pub database: u64,
    /// Bytes of its -wal.
    pub log: u64,
    /// Bytes in pages that hold nothing.
    pub free: u64,
    /// kine's revision.
    pub revision: u64,
    /// Revisions since the last compaction: as many rows are kept for nobody.
    pub uncompacted: u64,
}

/// Reads the sizes of a database; the -wal stays as it is.
///
/// # Errors
/// When it can't be read.
pub fn sizes(path: &Path) -> Result<Sizes, DatastoreError> {
    let connection = open(path)?;
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |meta| meta.len());
    let number = |query: &str| connection.query_row(query, [], |row| row.get::<_, i64>(0));
    let read = |connection: &Connection| -> rusqlite::Result<Sizes> {
        let revision = crate::read(connection)?.revision;
        let compacted = number("SELECT coalesce(max(prev_revision), 0) FROM kine WHERE name = 'compact_rev_key'")?;
        let free = number("PRAGMA freelist_count")?.unsigned_abs() * number("PRAGMA page_size")?.unsigned_abs();
        Ok(Sizes {
            database: length(path),
            log: length(&beside(path, "-wal")),
            free,
            revision,
            uncompacted: revision.saturating_sub(compacted.unsigned_abs()),
        })
    };
    read(&connection).map_err(failed("reading", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_deleted_is_free_and_what_is_not_compacted_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let connection = Connection::open(&path).unwrap();
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL;
                 CREATE TABLE kine (id INTEGER PRIMARY KEY, name INTEGER, deleted INTEGER, prev_revision INTEGER, value BLOB);
                 INSERT INTO kine VALUES (1, 'compact_rev_key', 0, 30, NULL);
                 WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 50)
                 INSERT INTO kine SELECT i, 'x', 0, 0, zeroblob(10000) FROM n;
                 DELETE FROM kine WHERE id BETWEEN 2 AND 20;",
            )
            .unwrap();
        let sizes = sizes(&path).unwrap();
        assert_eq!((sizes.revision, sizes.uncompacted), (50, 20));
        assert!(sizes.free >= 19 * 8192 && sizes.log > sizes.free, "{sizes:?}");
        assert!(super::sizes(&folder.path().join("none")).is_err());
    }
}
