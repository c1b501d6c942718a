//! A database as kine has it, of any size, and somebody who writes to it from another process: for the proof below and
//! for `scripts/bench datastore`.

use bakelite_datastore::set::{Request, SetError, Written, write};
use bakelite_datastore::token;
use bakelite_spec::set::Manifest;
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub const TOKEN: &str = "the-token";
/// Writes a second, as the measures want it.
const PACE: Duration = Duration::from_millis(20);
/// Bytes of an object, here and again as the value before it.
const VALUE: usize = 1_000;

type Failure = Box<dyn std::error::Error>;

/// A source of bytes that pack as badly as an object's do, the same each time (xorshift64).
struct Noise(u64);

impl Noise {
    fn value(&mut self) -> Vec<u8> {
        let mut next = || {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        };
        (0..VALUE / 16).flat_map(|_| format!("{:016x}", next()).into_bytes()).collect()
    }
}

/// Opens it as kine does.
fn connect(path: &Path) -> Result<Connection, Failure> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(30))?;
    connection.execute_batch("PRAGMA synchronous = NORMAL;")?;
    Ok(connection)
}

/// Makes a database of about so many bytes, with kine's own schema (kine pkg/drivers/sqlite).
pub fn fill(path: &Path, bytes: u64) -> Result<(), Failure> {
    let mut connection = connect(path)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL;
         CREATE TABLE kine (id INTEGER PRIMARY KEY AUTOINCREMENT, name INTEGER, created INTEGER, deleted INTEGER,
            create_revision INTEGER, prev_revision INTEGER, lease INTEGER, value BLOB, old_value BLOB);
         CREATE INDEX kine_name_index ON kine (name);
         CREATE INDEX kine_name_id_index ON kine (name,id);
         CREATE INDEX kine_id_deleted_index ON kine (id,deleted);
         CREATE INDEX kine_prev_revision_index ON kine (prev_revision);
         CREATE UNIQUE INDEX kine_name_prev_revision_uindex ON kine (name, prev_revision);
         INSERT INTO kine (name, created, deleted, prev_revision) VALUES ('compact_rev_key', 1, 0, 0);",
    )?;
    let value = token::seal(TOKEN, &token::Keys(BTreeMap::new()), [1; 8], [2; 12]);
    connection.execute(
        "INSERT INTO kine (name, created, deleted, prev_revision, value) VALUES (?1, 1, 0, 0, ?2)",
        (token::row_name(TOKEN), value),
    )?;
    let mut noise = Noise(7);
    let mut rows = 0u64;
    // Pages, not bytes of rows: indices count.
    while connection.query_row("PRAGMA page_count", [], |row| row.get::<_, i64>(0))?.unsigned_abs() * 4096 < bytes {
        let transaction = connection.transaction()?;
        for _ in 0..500 {
            rows += 1;
            insert(&transaction, rows, &noise.value())?;
        }
        transaction.commit()?;
    }
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    Ok(())
}

fn insert(connection: &Connection, number: u64, value: &[u8]) -> Result<(), Failure> {
    let query = "INSERT INTO kine (name, created, deleted, create_revision, prev_revision, lease, value, old_value) \
                 VALUES (?1, 1, 0, 0, 0, 0, ?2, ?2)";
    connection.prepare_cached(query)?.execute((format!("/registry/configmaps/shop/object-{number}"), value))?;
    Ok(())
}

/// Writes 50 times a second until the file `stop` is there. Each committed revision goes into `told` at once; in the end,
/// the milliseconds of each write go into `told` with `.ms`.
pub fn write_on(path: &Path, told: &Path, stop: &Path) -> Result<(), Failure> {
    let mut connection = connect(path)?;
    let told_file = File::create(told)?;
    let (mut noise, mut times, mut due) = (Noise(11), Vec::new(), Instant::now());
    let mut number = connection.query_row("SELECT max(id) FROM kine", [], |row| row.get::<_, i64>(0))?.unsigned_abs();
    while !stop.exists() {
        number += 1;
        let value = noise.value();
        let begun = Instant::now();
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        insert(&transaction, number, &value)?;
        let revision = transaction.last_insert_rowid();
        transaction.commit()?;
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
        told_file.write_all_at(&revision.to_le_bytes(), 0)?;
        due += PACE;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    let lines: String = times.iter().map(|time| format!("{time:.3}\n")).collect();
    std::fs::File::create(told.with_extension("ms"))?.write_all_at(lines.as_bytes(), 0)?;
    Ok(())
}

/// The newest revision that the writer knows to be committed.
pub fn committed(told: &Path) -> u64 {
    let mut bytes = [0; 8];
    File::open(told).and_then(|file| file.read_exact_at(&mut bytes, 0)).map_or(0, |()| u64::from_le_bytes(bytes))
}

/// A whole set, as the keeper makes one.
pub fn set(
    database: &Path,
    folder: &Path,
    key: &age::x25519::Identity,
    number: u64,
    known: u64,
) -> Result<Written, SetError> {
    let about = Manifest::about("shop-17", "v1.36.2+k3s1", 1_795_280_100);
    let files: Vec<(String, PathBuf)> = Vec::new();
    write(&Request {
        database,
        token: TOKEN,
        files: &files,
        about: &about,
        known,
        recipients: &[key.to_public()],
        identity: Some(key),
        number,
        folder: &folder.join("sets"),
        scratch: &folder.join("scratch"),
    })
}
