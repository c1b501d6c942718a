//! The record of a line: a local SQLite, one row for each attempt at a medium, and one medium for each row of the table.
//!
//! A unique index holds that, whatever the program does. Every change is durable when it returns. One program at a time.

use super::device::{COLUMNS, Device, Heard, Place, State};
use crate::error::{FlashError, io_error};
use crate::flash::Done;
use crate::table::Row as Machine;
use bakelite_spec::account::Account;
use rusqlite::{Connection, OptionalExtension, ToSql, params};
use rustix::fs::FlockOperation;
use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The tables.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS device(
        id INTEGER PRIMARY KEY,
        row TEXT NOT NULL,
        row_sum TEXT NOT NULL,
        node TEXT NOT NULL,
        ticket TEXT NOT NULL UNIQUE,
        state TEXT NOT NULL
            CHECK (state IN ('reserved', 'finishing', 'written', 'failed', 'lost', 'passed', 'rejected')),
        port TEXT NOT NULL,
        attachment TEXT NOT NULL,
        medium TEXT NOT NULL,
        image TEXT NOT NULL,
        operator TEXT NOT NULL,
        began INTEGER NOT NULL,
        ended INTEGER,
        written INTEGER,
        write_seconds REAL,
        verified INTEGER,
        verify_seconds REAL,
        disk TEXT,
        why TEXT NOT NULL DEFAULT '',
        label TEXT,
        report TEXT,
        reported INTEGER,
        heard TEXT,
        serial TEXT,
        merged INTEGER
    ) STRICT;
    CREATE UNIQUE INDEX IF NOT EXISTS one_medium_a_row ON device(row) WHERE state <> 'failed';
    CREATE INDEX IF NOT EXISTS by_place ON device(port, attachment);";
/// Columns that records of before don't have.
const NEW: [(&str, &str); 3] = [("heard", "TEXT"), ("serial", "TEXT"), ("merged", "INTEGER")];

/// The record.
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
    connection: Connection,
    /// Held as long as this program works on the line.
    _lock: File,
}

impl Record {
    /// Opens the record. What a killed program left half done is settled: what doesn't boot gives its row back, and what
    /// may boot doesn't.
    ///
    /// # Errors
    /// When it can't be opened, or another program works on this line.
    pub fn open(path: &Path) -> Result<Self, FlashError> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".lock");
        let beside = PathBuf::from(beside);
        let lock = File::options().create(true).truncate(false).write(true).open(&beside);
        let lock = lock.map_err(io_error("opening", &beside))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| FlashError::Line {
            path: path.into(),
            problem: "another program works on this line".into(),
        })?;
        let failed = |source| FlashError::Record { path: path.into(), source };
        let connection = Connection::open(path).map_err(failed)?;
        connection
            .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")
            .and_then(|()| connection.execute_batch(TABLES))
            .map_err(failed)?;
        let record = Self { path: path.into(), connection, _lock: lock };
        for (column, kind) in NEW {
            let sql = "SELECT count(*) FROM pragma_table_info('device') WHERE name = ?1";
            let count: i64 = record.connection.query_row(sql, [column], |row| row.get(0)).map_err(record.failed())?;
            if count == 0 {
                record.execute(&format!("ALTER TABLE device ADD COLUMN {column} {kind}"), &[])?;
            }
        }
        record.execute(
            "UPDATE device SET state = 'failed', ended = ?1, why = 'cut while it was written; it does not boot'
             WHERE state = 'reserved'",
            params![now()],
        )?;
        record.execute(
            "UPDATE device SET state = 'lost', ended = ?1,
                 why = 'cut while its first MiB was written: it may boot. Plug it in again, or destroy it'
             WHERE state = 'finishing'",
            params![now()],
        )?;
        Ok(record)
    }

    fn failed(&self) -> impl Fn(rusqlite::Error) -> FlashError {
        let path = self.path.clone();
        move |source| FlashError::Record { path: path.clone(), source }
    }

    fn execute(&self, sql: &str, values: &[&dyn ToSql]) -> Result<usize, FlashError> {
        self.connection.execute(sql, values).map_err(self.failed())
    }

    /// Gives a row to a medium, unless another has it.
    ///
    /// # Errors
    /// When the record can't be written, or another medium has the row.
    pub fn reserve(
        &self,
        machine: &Machine,
        node: &str,
        place: &Place,
        image: &str,
        operator: &str,
    ) -> Result<(i64, String), FlashError> {
        let ticket = format!("t-{:016x}", fastrand::u64(..));
        self.execute(
            "INSERT INTO device(row, row_sum, node, ticket, state, port, attachment, medium, image, operator, began)
             VALUES (?1, ?2, ?3, ?4, 'reserved', ?5, ?6, ?7, ?8, ?9, ?10)",
            params![
                machine.name,
                machine.sum,
                node,
                ticket,
                place.port,
                place.attachment,
                place.medium,
                image,
                operator,
                now()
            ],
        )?;
        Ok((self.connection.last_insert_rowid(), ticket))
    }

    /// Takes over what is known of a device that an installer stick has made, in place of what was known of it before.
    ///
    /// # Errors
    /// When the record can't be written, or another medium has the row.
    pub fn adopt(&self, device: &Device) -> Result<(), FlashError> {
        self.execute(
            "INSERT INTO device(row, row_sum, node, ticket, state, port, attachment, medium, image, operator, began,
                 ended, written, write_seconds, verified, verify_seconds, disk, why, serial, merged)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)
             ON CONFLICT(ticket) DO UPDATE SET state = excluded.state, attachment = excluded.attachment,
                 medium = excluded.medium, image = excluded.image, began = excluded.began, ended = excluded.ended,
                 written = excluded.written, write_seconds = excluded.write_seconds, verified = excluded.verified,
                 verify_seconds = excluded.verify_seconds, disk = excluded.disk, why = excluded.why,
                 serial = coalesce(excluded.serial, serial), merged = excluded.merged",
            params![
                device.row,
                device.row_sum,
                device.node,
                device.ticket,
                device.state.name(),
                device.port,
                device.attachment,
                device.medium,
                device.image,
                device.operator,
                device.began,
                device.ended,
                device.written,
                device.write_seconds,
                device.verified,
                device.verify_seconds,
                device.disk,
                device.why,
                device.serial,
                now()
            ],
        )
        .map(drop)
    }

    /// Its first MiB is about to be written.
    ///
    /// # Errors
    /// When the record can't be written: then it mustn't be.
    pub fn finishing(&self, id: i64) -> Result<(), FlashError> {
        self.execute("UPDATE device SET state = 'finishing' WHERE id = ?1 AND state = 'reserved'", params![id])
            .map(drop)
    }

    /// It was written and read back.
    ///
    /// # Errors
    /// When the record can't be written.
    pub fn written(&self, id: i64, done: &Done) -> Result<(), FlashError> {
        let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.execute(
            "UPDATE device SET state = 'written', ended = ?2, written = ?3, write_seconds = ?4, verified = ?5,
                 verify_seconds = ?6, disk = ?7 WHERE id = ?1",
            params![
                id,
                now(),
                number(done.written),
                done.write_seconds,
                number(done.verified),
                done.verify_seconds,
                done.disk
            ],
        )
        .map(drop)
    }

    /// It doesn't boot, or (`state` lost) may.
    ///
    /// # Errors
    /// When the record can't be written.
    pub fn ended(&self, id: i64, state: State, why: &str) -> Result<(), FlashError> {
        let sql = "UPDATE device SET state = ?2, ended = ?3, why = ?4 WHERE id = ?1";
        self.execute(sql, params![id, state.name(), now(), why]).map(drop)
    }

    /// What its machine has reported, and how that came.
    ///
    /// # Errors
    /// When the record can't be written.
    pub fn report(&self, id: i64, state: State, why: &str, account: &Account, heard: Heard) -> Result<(), FlashError> {
        let sql =
            "UPDATE device SET state = ?2, why = ?3, report = ?4, reported = ?5, heard = ?6, serial = ?7 WHERE id = ?1";
        let report = serde_json::to_string(account).unwrap_or_default();
        let serial = Some(&account.serial).filter(|serial| !serial.is_empty());
        self.execute(sql, params![id, state.name(), why, report, now(), heard.name(), serial]).map(drop)
    }

    /// Those whose machines are still waited for.
    ///
    /// # Errors
    /// When the record can't be read.
    pub fn awaited(&self) -> Result<Vec<Device>, FlashError> {
        self.query("WHERE state = 'written' AND why = '' ORDER BY id", &[])
    }

    /// Those whose machines haven't reported within so many seconds, each once. Of one that an installer stick has made the time
    /// counts from when the line heard of it: the clock that the stick had was the machine's.
    ///
    /// # Errors
    /// When the record can't be read or written.
    pub fn overdue(&self, within: i64, why: &str) -> Result<Vec<Device>, FlashError> {
        let late = |device: &Device| device.merged.or(device.ended).is_none_or(|since| now() - since >= within);
        let late: Vec<Device> = self.awaited()?.into_iter().filter(late).collect();
        for device in &late {
            let sql = "UPDATE device SET why = ?2 WHERE id = ?1 AND state = 'written'";
            self.execute(sql, params![device.id, why])?;
        }
        Ok(late)
    }

    /// Its label was printed.
    ///
    /// # Errors
    /// When the record can't be written.
    pub fn labelled(&self, id: i64, label: &str) -> Result<(), FlashError> {
        self.execute("UPDATE device SET label = ?2 WHERE id = ?1", params![id, label]).map(drop)
    }

    fn query(&self, condition: &str, values: &[&dyn ToSql]) -> Result<Vec<Device>, FlashError> {
        let read = || {
            let mut statement = self.connection.prepare(&format!("SELECT {COLUMNS} FROM device {condition}"))?;
            let rows = statement.query_map(values, Device::read)?;
            rows.collect::<Result<Vec<_>, _>>()
        };
        read().map_err(self.failed())
    }

    /// The device with a ticket.
    ///
    /// # Errors
    /// When the record can't be read.
    pub fn by_ticket(&self, ticket: &str) -> Result<Option<Device>, FlashError> {
        self.query("WHERE ticket = ?1", params![ticket]).map(|found| found.into_iter().next())
    }

    /// The last attempt at the medium that is at a place.
    ///
    /// # Errors
    /// When the record can't be read.
    pub fn at(&self, port: &str, attachment: &str) -> Result<Option<Device>, FlashError> {
        let condition = "WHERE port = ?1 AND attachment = ?2 ORDER BY id DESC LIMIT 1";
        self.query(condition, params![port, attachment]).map(|found| found.into_iter().next())
    }

    /// All attempts, the oldest first.
    ///
    /// # Errors
    /// When the record can't be read.
    pub fn all(&self) -> Result<Vec<Device>, FlashError> {
        self.query("ORDER BY id", &[])
    }

    /// The rows that no other medium may get.
    ///
    /// # Errors
    /// When the record can't be read.
    pub fn used(&self) -> Result<BTreeSet<String>, FlashError> {
        let found = self.query("WHERE state <> 'failed'", &[])?;
        Ok(found.into_iter().map(|device| device.row).collect())
    }

    /// What is written whose label wasn't printed.
    ///
    /// # Errors
    /// When the record can't be read.
    pub fn unlabelled(&self) -> Result<Vec<Device>, FlashError> {
        self.query("WHERE state IN ('written', 'passed', 'rejected') AND label IS NULL ORDER BY id", &[])
    }

    /// The report of a device.
    ///
    /// # Errors
    /// When the record can't be read.
    pub fn report_of(&self, id: i64) -> Result<Option<Account>, FlashError> {
        let sql = "SELECT report FROM device WHERE id = ?1";
        let found = self.connection.query_row(sql, params![id], |row| row.get::<_, Option<String>>(0));
        let text = found.optional().map(Option::flatten).map_err(self.failed())?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    i64::try_from(now).unwrap_or_default()
}
