//! A kine-shaped SQLite database: k3s's schema, its start (checkpoint, VACUUM), its way to write a revision and to compact
//! (k3s.md 4.1 to 4.3). The -wal is left in place at a clean stop, because k3s leaves it (2.7), and an existing page size
//! is kept, because VACUUM in WAL mode keeps it.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS kine
    (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name INTEGER,
        created INTEGER,
        deleted INTEGER,
        create_revision INTEGER,
        prev_revision INTEGER,
        lease INTEGER,
        value BLOB,
        old_value BLOB
    );
CREATE INDEX IF NOT EXISTS kine_name_index ON kine (name);
CREATE INDEX IF NOT EXISTS kine_name_id_index ON kine (name,id);
CREATE INDEX IF NOT EXISTS kine_id_deleted_index ON kine (id,deleted);
CREATE INDEX IF NOT EXISTS kine_prev_revision_index ON kine (prev_revision);
CREATE UNIQUE INDEX IF NOT EXISTS kine_name_prev_revision_uindex ON kine (name, prev_revision);
CREATE INDEX IF NOT EXISTS kine_id_compact_rev_key_with_prev_revision_index ON kine(id, name, prev_revision)
    WHERE name != 'compact_rev_key' AND prev_revision != 0;";

/// Revisions that compaction keeps behind the newest (KINE_COMPACT_MIN_RETAIN).
const RETAINED: i64 = 1000;
/// Revisions that one transaction of compaction covers (KINE_COMPACT_BATCH_SIZE).
const BATCH: i64 = 1000;

const INSERT: &str = "INSERT INTO kine(name, created, deleted, create_revision, prev_revision, lease, value, old_value)
    VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

/// The open database.
pub struct Datastore(Mutex<Connection>);

struct Newest {
    id: i64,
    created: bool,
    deleted: bool,
    create_revision: i64,
    value: Option<Vec<u8>>,
}

/// A live row under /bootstrap/.
pub struct BootstrapRow {
    pub name: String,
    /// Empty is the lock of a first start that didn't finish.
    pub value: Vec<u8>,
}

impl Datastore {
    /// What k3s repeats each second until it works: opens the file and sets the connection up.
    pub fn ping(path: &Path) -> Result<Connection, rusqlite::Error> {
        let connection = Connection::open(path)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.busy_timeout(Duration::from_secs(30))?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        Ok(connection)
    }

    /// Schema, checkpoint, VACUUM. A failed VACUUM is a warning and no more (k3s.md 11.1: one page zeroed).
    pub fn start(connection: Connection) -> Result<Self, rusqlite::Error> {
        connection.execute_batch(SCHEMA)?;
        let checkpointed = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        if let Err(error) = checkpointed.and_then(|()| connection.execute_batch("VACUUM")) {
            log::warn!("Startup VACUUM failed (non-fatal): {error}");
        }
        let datastore = Self(Mutex::new(connection));
        if datastore.newest("compact_rev_key")?.is_none() {
            datastore.put("compact_rev_key", Some(b""), 0)?;
        }
        Ok(datastore)
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn newest(&self, name: &str) -> Result<Option<Newest>, rusqlite::Error> {
        newest(&self.connection(), name)
    }

    /// True where the key has a value now.
    pub fn is_live(&self, name: &str) -> Result<bool, rusqlite::Error> {
        Ok(self.newest(name)?.is_some_and(|row| !row.deleted))
    }

    /// Another program's connection to a database that a server has started.
    pub fn join(connection: Connection) -> Self {
        Self(Mutex::new(connection))
    }

    /// The value of a key that is live.
    pub fn value(&self, name: &str) -> Result<Option<Vec<u8>>, rusqlite::Error> {
        Ok(self.newest(name)?.filter(|row| !row.deleted).and_then(|row| row.value))
    }

    /// Creates or updates a key; gives the new revision.
    pub fn put(&self, name: &str, value: Option<&[u8]>, lease: i64) -> Result<i64, rusqlite::Error> {
        let mut connection = self.connection();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let old = newest(&transaction, name)?;
        insert(&transaction, name, value, lease, old)?;
        let revision = transaction.last_insert_rowid();
        transaction.commit()?;
        Ok(revision)
    }

    /// Makes a key's value from its old one, in one transaction. `None` from the maker leaves it as it is; whether it was changed.
    pub fn change(
        &self,
        name: &str,
        make: impl FnOnce(Option<&[u8]>) -> Option<Vec<u8>>,
    ) -> Result<bool, rusqlite::Error> {
        let mut connection = self.connection();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let old = newest(&transaction, name)?;
        let live = old.as_ref().filter(|row| !row.deleted).and_then(|row| row.value.as_deref());
        let Some(value) = make(live) else { return Ok(false) };
        insert(&transaction, name, Some(&value), 0, old)?;
        transaction.commit()?;
        Ok(true)
    }

    /// Deletes a key that is live.
    pub fn delete(&self, name: &str) -> Result<(), rusqlite::Error> {
        let mut connection = self.connection();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if let Some(old) = newest(&transaction, name)?.filter(|row| !row.deleted) {
            transaction.execute(INSERT, params![name, 0, 1, 0, old.id, 0, None::<Vec<u8>>, old.value])?;
        }
        transaction.commit()
    }

    /// The newest row of each bootstrap key that isn't deleted.
    pub fn bootstrap_rows(&self) -> Result<Vec<BootstrapRow>, rusqlite::Error> {
        let connection = self.connection();
        let mut statement = connection.prepare(
            "SELECT name, value FROM kine AS k WHERE name LIKE '/bootstrap/%' AND deleted = 0
             AND id = (SELECT MAX(id) FROM kine WHERE name = k.name) ORDER BY id DESC",
        )?;
        let rows = statement.query_map([], |row| {
            Ok(BootstrapRow { name: row.get(0)?, value: row.get::<_, Option<Vec<u8>>>(1)?.unwrap_or_default() })
        })?;
        rows.collect()
    }

    /// Deletes what newer rows have replaced, up to `RETAINED` revisions ago, then checkpoints. Gives the number of rows.
    pub fn compact(&self) -> Result<usize, rusqlite::Error> {
        let mut connection = self.connection();
        let newest: i64 = connection.query_row("SELECT COALESCE(MAX(id), 0) FROM kine", [], |row| row.get(0))?;
        let compacted: i64 = connection.query_row(
            "SELECT COALESCE(MAX(prev_revision), 0) FROM kine WHERE name = 'compact_rev_key'",
            [],
            |row| row.get(0),
        )?;
        let (mut from, target, mut deleted) = (compacted, newest - RETAINED, 0);
        while from < target {
            let to = target.min(from + BATCH);
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            deleted += transaction.execute(
                "DELETE FROM kine WHERE id IN (
                    SELECT prev_revision FROM kine WHERE name != 'compact_rev_key' AND prev_revision != 0
                        AND id > ?1 AND id <= ?2
                    UNION SELECT id FROM kine WHERE deleted != 0 AND id > ?1 AND id <= ?2)",
                params![from, to],
            )?;
            transaction.execute("UPDATE kine SET prev_revision = ?1 WHERE name = 'compact_rev_key'", params![to])?;
            transaction.commit()?;
            from = to;
        }
        connection.query_row("PRAGMA wal_checkpoint(FULL)", [], |_| Ok(()))?;
        Ok(deleted)
    }
}

fn insert(
    connection: &Connection,
    name: &str,
    value: Option<&[u8]>,
    lease: i64,
    old: Option<Newest>,
) -> Result<usize, rusqlite::Error> {
    match old {
        Some(old) if !old.deleted => {
            let first = if old.created { old.id } else { old.create_revision };
            connection.execute(INSERT, params![name, 0, 0, first, old.id, lease, value, old.value])
        }
        gone => {
            let before = gone.map_or(0, |row| row.id);
            connection.execute(INSERT, params![name, 1, 0, 0, before, lease, value, None::<Vec<u8>>])
        }
    }
}

fn newest(connection: &Connection, name: &str) -> Result<Option<Newest>, rusqlite::Error> {
    let query =
        "SELECT id, created, deleted, create_revision, value FROM kine WHERE name = ?1 ORDER BY id DESC LIMIT 1";
    let mut statement = connection.prepare_cached(query)?;
    let row = statement.query_row([name], |row| {
        Ok(Newest {
            id: row.get(0)?,
            created: row.get(1)?,
            deleted: row.get(2)?,
            create_revision: row.get(3)?,
            value: row.get(4)?,
        })
    });
    row.optional()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh(folder: &Path) -> Datastore {
        Datastore::start(Datastore::ping(&folder.join("state.db")).unwrap()).unwrap()
    }

    #[test]
    fn rows_are_chained_as_in_kine() {
        let folder = tempfile::tempdir().unwrap();
        let datastore = fresh(folder.path());
        assert_eq!(datastore.put("/a", None, 0).unwrap(), 2);
        assert_eq!(datastore.put("/a", Some(b"x"), 15).unwrap(), 3);
        datastore.delete("/a").unwrap();
        datastore.delete("/a").unwrap();
        assert!(!datastore.is_live("/a").unwrap());
        datastore.put("/a", Some(b"y"), 0).unwrap();
        let connection = datastore.connection();
        let mut statement = connection
            .prepare("SELECT id, created, deleted, create_revision, prev_revision, lease, quote(value), quote(old_value) FROM kine WHERE name = '/a'")
            .unwrap();
        let rows: Vec<String> = statement
            .query_map([], |row| {
                let numbers: Vec<String> = (0..6).map(|at| row.get::<_, i64>(at).unwrap().to_string()).collect();
                Ok(format!("{} {} {}", numbers.join(" "), row.get::<_, String>(6)?, row.get::<_, String>(7)?))
            })
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(
            rows,
            ["2 1 0 0 0 0 NULL NULL", "3 0 0 2 2 15 X'78' NULL", "4 0 1 0 3 0 NULL X'78'", "5 1 0 0 4 0 X'79' NULL"]
        );
    }

    #[test]
    fn compaction_keeps_the_newest_thousand_and_every_live_key() {
        let folder = tempfile::tempdir().unwrap();
        let datastore = fresh(folder.path());
        datastore.put("/kept", Some(b"1"), 0).unwrap();
        for _ in 0..2500 {
            datastore.put("/lease", Some(b"1"), 0).unwrap();
        }
        let deleted = datastore.compact().unwrap();
        assert_eq!(deleted, 2502 - 1000 - 3, "all replaced rows up to revision 1502");
        assert!(datastore.is_live("/kept").unwrap() && datastore.is_live("/lease").unwrap());
        let connection = datastore.connection();
        let compacted: (i64, i64) = connection
            .query_row("SELECT COUNT(*), MAX(prev_revision) FROM kine WHERE name = 'compact_rev_key'", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .unwrap();
        assert_eq!(compacted, (1, 1502));
    }

    #[test]
    fn a_given_page_size_stays_and_the_wal_outlives_a_close() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let prepared = Connection::open(&path).unwrap();
        prepared
            .execute_batch("PRAGMA page_size=1024; PRAGMA journal_mode=WAL; CREATE TABLE t(x); DROP TABLE t")
            .unwrap();
        drop(prepared);
        for _ in 0..2 {
            let datastore = fresh(folder.path());
            datastore.put("/a", Some(b"x"), 0).unwrap();
            let size: i64 = datastore.connection().query_row("PRAGMA page_size", [], |row| row.get(0)).unwrap();
            assert_eq!(size, 1024);
            drop(datastore);
            assert!(folder.path().join("state.db-wal").metadata().unwrap().len() > 0);
        }
    }

    #[test]
    fn garbage_is_what_ping_reports() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        crate::paths::write(&path, &[7; 8192], 0o600).unwrap();
        assert_eq!(Datastore::ping(&path).unwrap_err().to_string(), "file is not a database");
    }
}
