//! The history of what was written to media: a small SQLite file, one row a medium and hour. Losing it loses only memory.

use crate::KeeperError;
use crate::wear::Sample;
use bakelite_spec::status::paths;
use bakelite_sys::{durable, mount};
use rusqlite::Connection;
use std::path::{Path, PathBuf};

const NAME: &str = "history.db";
/// Older rows are of no use any more, in seconds.
const KEPT: i64 = 400 * 86_400;

/// Where it is, and how many seconds lie between two rows: each costs a card some dozens of KiB, so without a data disk
/// there is one a day.
pub fn place() -> (PathBuf, i64) {
    if mount::points().iter().any(|point| point == paths::DATA_MOUNT) {
        (Path::new(paths::DATA_MOUNT).join("bakelite").join(NAME), 3600)
    } else {
        (Path::new(paths::STATE).join(NAME), 86_400)
    }
}

/// Opens it; one that isn't a database any more is made anew.
///
/// # Errors
/// When there can be none.
pub fn open(path: &Path) -> Result<Connection, KeeperError> {
    let made = connect(path);
    if made.is_err() && path.exists() {
        log::warn!("the history {} can't be read, and is begun again", path.display());
        durable::remove_file(path)?;
        return connect(path).map_err(on("making", path));
    }
    made.map_err(on("making", path))
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.execute_batch(
        "PRAGMA journal_mode = TRUNCATE;
         CREATE TABLE IF NOT EXISTS written (
             medium TEXT NOT NULL, at INTEGER NOT NULL, boot TEXT NOT NULL, bytes INTEGER NOT NULL, used INTEGER,
             PRIMARY KEY (medium, at)
         ) STRICT, WITHOUT ROWID;",
    )?;
    Ok(connection)
}

/// Notes what was written up to now, and forgets what is too old; all in one transaction.
///
/// # Errors
/// SQLite's.
pub fn note(connection: &mut Connection, path: &Path, samples: &[Sample], now: i64) -> Result<(), KeeperError> {
    let mut put = || -> rusqlite::Result<()> {
        let transaction = connection.transaction()?;
        for sample in samples {
            transaction.execute(
                "INSERT OR REPLACE INTO written (medium, at, boot, bytes, used) VALUES (?1, ?2, ?3, ?4, ?5)",
                (&sample.medium, sample.at, &sample.boot, sample.bytes.cast_signed(), sample.used),
            )?;
        }
        transaction.execute("DELETE FROM written WHERE at < ?1", [now - KEPT])?;
        transaction.commit()
    };
    put().map_err(on("writing", path))
}

/// All of it, by medium and time.
///
/// # Errors
/// SQLite's.
pub fn read(connection: &Connection, path: &Path) -> Result<Vec<Sample>, KeeperError> {
    let read = || -> rusqlite::Result<Vec<Sample>> {
        let mut statement =
            connection.prepare("SELECT medium, at, boot, bytes, used FROM written ORDER BY medium, at")?;
        let rows = statement.query_map([], |row| {
            Ok(Sample {
                medium: row.get(0)?,
                at: row.get(1)?,
                boot: row.get(2)?,
                bytes: row.get::<_, i64>(3)?.unsigned_abs(),
                used: row.get(4)?,
            })
        })?;
        rows.collect()
    };
    read().map_err(on("reading", path))
}

fn on(act: &'static str, path: &Path) -> impl Fn(rusqlite::Error) -> KeeperError {
    move |source| KeeperError::History { act, path: path.into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_old_ones_go_and_a_damaged_file_is_begun_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let sample = |at: i64| Sample { medium: "card".into(), at, boot: "b".into(), bytes: 7, used: Some(10) };
        let mut connection = open(&path).unwrap();
        note(&mut connection, &path, &[sample(1)], 1).unwrap();
        note(&mut connection, &path, &[sample(KEPT)], KEPT + 2).unwrap();
        assert_eq!(read(&connection, &path).unwrap(), [sample(KEPT)]);
        drop(connection);
        durable::replace(&path, b"no database at all, but longer than nothing", 0o600).unwrap();
        assert_eq!(read(&open(&path).unwrap(), &path).unwrap(), []);
    }
}
