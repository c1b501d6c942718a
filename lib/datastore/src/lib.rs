//! kine's database on SQLite: which revision is on the medium, a copy that is whole, checks, and the token's proof.
//!
//! Never a copy of files: after a clean stop of k3s the last transactions are still in state.db-wal (k3s.md 2.7, 11.2).
//! Nothing here writes rows, and closing leaves the -wal as it is, so that looking costs the medium nothing.

pub mod certificate;
pub mod check;
#[cfg(test)]
mod fixtures;
pub mod fold;
pub mod ladder;
pub mod mirror;
pub mod names;
pub mod rekey;
#[cfg(feature = "sets")]
pub mod restore;
#[cfg(feature = "sets")]
pub mod set;
pub mod sizes;
pub mod token;
#[cfg(feature = "sets")]
pub mod volumes;
pub mod workloads;

use bakelite_sys::{SysError, durable};
use rusqlite::backup::{Backup, StepResult};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The newest live row of each name, as kine reads them; what else it has to be comes behind with `AND`.
const LIVE: &str =
    "SELECT name FROM kine JOIN (SELECT max(id) AS newest FROM kine GROUP BY name) ON id = newest WHERE deleted = 0";

/// How long k3s's own writes are waited for.
const BUSY: Duration = Duration::from_secs(30);

/// What can't be done with a database.
#[derive(Debug, thiserror::Error)]
pub enum DatastoreError {
    /// SQLite's answer.
    #[error("{act} {}", path.display())]
    Sqlite {
        /// What was done.
        act: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: rusqlite::Error,
    },
    /// SQLite's own check of a copy.
    #[error("the copy {} is not whole: {answer}", path.display())]
    Damaged {
        /// The copy.
        path: PathBuf,
        /// SQLite's words.
        answer: String,
    },
    /// The copy lacks what was committed before it was begun.
    #[error("the copy has revision {copied}, and the database has {revision}")]
    Differs {
        /// The database's.
        revision: u64,
        /// The copy's.
        copied: u64,
    },
    /// Anything with the system.
    #[error(transparent)]
    Sys(#[from] SysError),
}

/// What is known of a database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// kine's revision: the highest row number; 0 for an empty one.
    pub revision: u64,
    /// The name of the bootstrap row that counts; empty where there is none.
    pub row: String,
}

fn failed(act: &'static str, path: &Path) -> impl Fn(rusqlite::Error) -> DatastoreError {
    move |source| DatastoreError::Sqlite { act, path: path.into(), source }
}

/// Opens a database where k3s has it. Closing the connection leaves the -wal as it is.
fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(connection)
}

fn open(path: &Path) -> Result<Connection, DatastoreError> {
    connect(path).map_err(failed("opening", path))
}

/// Proves that a token opens the row with the cluster's keys in a database that nobody writes to, such as a copy.
///
/// # Errors
/// SQLite's, outside; inside, why they don't belong together.
pub fn prove(path: &Path, token: &str) -> Result<Result<token::Keys, token::TokenError>, DatastoreError> {
    check::read_only(path).and_then(|connection| token::prove(&connection, token)).map_err(failed("reading", path))
}

/// The same where k3s has the database, with its -wal, which stays as it is.
///
/// # Errors
/// SQLite's, outside; inside, why they don't belong together.
pub fn prove_live(path: &Path, token: &str) -> Result<Result<token::Keys, token::TokenError>, DatastoreError> {
    connect(path).and_then(|connection| token::prove(&connection, token)).map_err(failed("reading", path))
}

/// Reads revision and bootstrap row and makes durable what was read: `None` where there is no database.
///
/// The order is the point: what was read before the fsync is on the medium after it, whatever k3s writes meanwhile.
///
/// # Errors
/// When it can't be read or made durable.
pub fn state(path: &Path) -> Result<Option<State>, DatastoreError> {
    if !path.exists() {
        return Ok(None);
    }
    let connection = open(path)?;
    let state = read(&connection).map_err(failed("reading", path))?;
    for file in [beside(path, "-wal"), path.into()] {
        if file.exists() {
            File::open(&file)
                .and_then(|file| file.sync_all())
                .map_err(|source| SysError::Write { path: file, source })?;
        }
    }
    Ok(Some(state))
}

fn read(connection: &Connection) -> rusqlite::Result<State> {
    let tables = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'kine'";
    if connection.query_row(tables, [], |row| row.get::<_, i64>(0))? == 0 {
        return Ok(State::default());
    }
    let revision = connection.query_row("SELECT coalesce(max(id), 0) FROM kine", [], |row| row.get::<_, i64>(0))?;
    let row = "SELECT name FROM kine WHERE name >= '/bootstrap/' AND name < '/bootstrap0' AND deleted = 0 \
               ORDER BY id DESC LIMIT 1";
    let mut statement = connection.prepare(row)?;
    let row = statement.query([])?.next()?.map(|row| row.get(0)).transpose()?.unwrap_or_default();
    Ok(State { revision: u64::try_from(revision).unwrap_or(0), row })
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Makes an empty database in WAL mode, durably; one that is there stays.
///
/// # Errors
/// When it can't be made. Half a database is at no name that counts.
pub fn prepare(path: &Path, page_size: u32) -> Result<(), DatastoreError> {
    if path.exists() {
        return Ok(());
    }
    let half = beside(path, ".half");
    for ending in ["", "-wal", "-shm", "-journal"] {
        durable::remove_file(beside(&half, ending))?;
        durable::remove_file(beside(path, ending))?;
    }
    let made = Connection::open(&half).and_then(|made| {
        // A database without a page has no size of pages; VACUUM writes the first one.
        made.execute_batch(&format!("PRAGMA page_size = {page_size}; VACUUM;"))?;
        made.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        made.close().map_err(|(_, source)| source)
    });
    made.map_err(failed("making", &half))?;
    File::open(&half)
        .and_then(|file| file.sync_all())
        .map_err(|source| SysError::Write { path: half.clone(), source })?;
    Ok(durable::publish(&half, path)?)
}

/// Copies a database by SQLite's own means, while k3s may be writing to it, checks the copy and makes it durable.
///
/// # Errors
/// When it can't be copied, or the copy isn't whole or lacks what was there before. Half a copy is at no name that counts.
pub fn copy(from: &Path, to: &Path) -> Result<State, DatastoreError> {
    let half = beside(to, ".half");
    for ending in ["", "-wal", "-shm", "-journal"] {
        durable::remove_file(beside(&half, ending))?;
        durable::remove_file(beside(to, ending))?;
    }
    let copied = snapshot(from, &half)?;
    check::whole(&half)?.map_err(|flaw| DatastoreError::Damaged { path: half.clone(), answer: flaw.to_string() })?;
    File::open(&half)
        .and_then(|file| file.sync_all())
        .map_err(|source| SysError::Write { path: half.clone(), source })?;
    durable::publish(&half, to)?;
    Ok(copied)
}

/// Copies a database as [`copy`] does, into a file that isn't there yet, and leaves it to the caller to check it and to make
/// it durable.
pub(crate) fn snapshot(from: &Path, to: &Path) -> Result<State, DatastoreError> {
    let source = open(from)?;
    let before = read(&source).map_err(failed("reading", from))?;
    let mut target = Connection::open(to).map_err(failed("making", to))?;
    // Nothing counts on the copy before somebody has synced it as a whole.
    target.pragma_update(None, "synchronous", "OFF").map_err(failed("making", to))?;
    let whole = {
        let backup = Backup::new(&source, &mut target).map_err(failed("copying", from))?;
        // In one step: in several it starts again whenever somebody writes (k3s.md 3.10).
        backup.step(-1).map_err(failed("copying", from))?
    };
    if whole != StepResult::Done {
        return Err(DatastoreError::Damaged { path: to.into(), answer: "the copy came to no end".into() });
    }
    let copied = read(&target).map_err(|error| match check::damage(&error) {
        Some(answer) => DatastoreError::Damaged { path: to.into(), answer },
        None => failed("reading", to)(error),
    })?;
    // While k3s writes on, the copy may have more, and never less.
    if copied.revision < before.revision {
        return Err(DatastoreError::Differs { revision: before.revision, copied: copied.revision });
    }
    target.close().map_err(|(_, source)| failed("closing", to)(source))?;
    for ending in ["-wal", "-shm"] {
        durable::remove_file(beside(to, ending))?;
    }
    Ok(copied)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A database as k3s leaves it: in WAL mode, with its last rows only in the -wal.
    pub(crate) fn database(folder: &Path, rows: u64) -> (PathBuf, Connection) {
        let path = folder.join("state.db");
        let connection = Connection::open(&path).unwrap();
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0;
                 CREATE TABLE kine (id INTEGER PRIMARY KEY AUTOINCREMENT, name INTEGER, deleted INTEGER);
                 INSERT INTO kine (name, deleted) VALUES ('/bootstrap/old', 0), ('/bootstrap/abc', 0);
                 PRAGMA wal_checkpoint(TRUNCATE);",
            )
            .unwrap();
        for _ in 2..rows {
            connection.execute("INSERT INTO kine (name, deleted) VALUES ('/registry/x', 0)", []).unwrap();
        }
        (path, connection)
    }

    #[test]
    fn the_last_rows_are_seen_and_the_wal_stays() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(state(&folder.path().join("none")).unwrap(), None);
        let (path, running) = database(folder.path(), 40);
        let expected = State { revision: 40, row: "/bootstrap/abc".into() };
        assert_eq!(state(&path).unwrap(), Some(expected.clone()), "while k3s runs");
        drop(running);
        let before = std::fs::metadata(beside(&path, "-wal")).unwrap().len();
        assert!(before > 0);
        assert_eq!(state(&path).unwrap(), Some(expected));
        assert_eq!(std::fs::metadata(beside(&path, "-wal")).unwrap().len(), before);
    }

    #[test]
    fn a_copy_is_one_file_with_the_last_rows_and_replaces_an_older_copy() {
        let folder = tempfile::tempdir().unwrap();
        let (path, _running) = database(folder.path(), 40);
        let to = folder.path().join("copy.db");
        for ending in ["", "-wal", "-shm"] {
            durable::replace(beside(&to, ending), b"rubbish", 0o600).unwrap();
        }
        assert_eq!(copy(&path, &to).unwrap().revision, 40);
        let names = bakelite_sys::names_in(folder.path());
        assert_eq!(names, ["copy.db", "state.db", "state.db-shm", "state.db-wal"]);
        assert_eq!(state(&to).unwrap().unwrap().revision, 40);
    }

    #[test]
    fn a_prepared_database_keeps_its_pages_and_one_that_is_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        durable::replace(beside(&path, ".half"), b"of a cut before", 0o600).unwrap();
        prepare(&path, 1024).unwrap();
        assert_eq!(bakelite_sys::names_in(folder.path()), ["state.db"]);
        assert_eq!(state(&path).unwrap(), Some(State::default()));
        let connection = Connection::open(&path).unwrap();
        let text =
            |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, rusqlite::types::Value>(0)).unwrap();
        connection.execute_batch("CREATE TABLE kine (id INTEGER); INSERT INTO kine VALUES (7); VACUUM;").unwrap();
        assert_eq!(text("PRAGMA page_size"), rusqlite::types::Value::Integer(1024));
        assert_eq!(text("PRAGMA journal_mode"), rusqlite::types::Value::Text("wal".into()));
        drop(connection);
        prepare(&path, 4096).unwrap();
        assert_eq!(
            Connection::open(&path).unwrap().query_row("SELECT id FROM kine", [], |row| row.get::<_, i64>(0)).unwrap(),
            7
        );
    }

    #[test]
    fn what_is_no_database_is_an_error_and_an_empty_one_has_no_revision() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        durable::replace(&path, b"", 0o600).unwrap();
        assert_eq!(state(&path).unwrap(), Some(State::default()));
        durable::replace(&path, &[7u8; 8192], 0o600).unwrap();
        assert!(state(&path).is_err());
        assert!(copy(&path, &folder.path().join("copy.db")).is_err());
        assert!(!folder.path().join("copy.db").exists());
    }
}
