//! Checks: whether a database file is whole, is kine's, and isn't older than what is known.
//!
//! SQLite's own check says nothing of age: a copy without its -wal passes it and lacks the last transactions (k3s.md 11.2:
//! 30 of 30). So the revision is compared as well. Nothing here writes; what is wrong is a [`Flaw`] in words for a person.

use crate::{DatastoreError, LIVE, failed};
use rusqlite::{Connection, OpenFlags};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// kine's columns, in its order (kine pkg/drivers/sqlite).
const COLUMNS: &str = "id name created deleted create_revision prev_revision lease value old_value";
/// How many answers of SQLite's check are kept.
const ANSWERS: usize = 20;
/// The first bytes of each SQLite file (sqlite.org/fileformat).
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// How much is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// What is in it and nothing of its pages, where they were all read just before.
    Contents,
    /// `quick_check`: all pages and how many entries an index has, but not whether each is its row's.
    Quick,
    /// `integrity_check`.
    Full,
}

/// What a whole database holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Bytes of a page.
    pub page_size: u32,
    /// kine's revision: the highest row number.
    pub revision: u64,
    /// Up to which revision it was compacted.
    pub compacted: u64,
    /// Live keys by the first two parts of their names: `/registry/secrets` → 7.
    pub live: BTreeMap<String, u64>,
    /// The name of the bootstrap row that counts.
    pub row: String,
}

impl Contents {
    /// How many live keys there are in all.
    pub fn count(&self) -> u64 {
        self.live.values().sum()
    }
}

/// What is wrong with a database.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// The first bytes are others, or there are none.
    #[error("it is no SQLite database")]
    NotSqlite,
    /// Shorter than its own header says.
    #[error("it was cut off: {expected} bytes by its header, {found} are there")]
    CutOff {
        /// By its header.
        expected: u64,
        /// On the medium.
        found: u64,
    },
    /// SQLite's check found damage.
    #[error("it is damaged: {}", .0.join("; "))]
    Damaged(Vec<String>),
    /// Another program's database.
    #[error("it has no table of kine's")]
    NotKine,
    /// kine keeps exactly one.
    #[error("it has {0} rows that say how far it was compacted, and one is right")]
    Compaction(u64),
    /// No object at all.
    #[error("there is no object in it")]
    Empty,
    /// The first start never came to its end.
    #[error("the cluster's keys were never saved in it")]
    NoKeys,
    /// A newer one is known.
    #[error("it has revision {found}, and revision {known} was on this machine's medium already")]
    Older {
        /// Its own.
        found: u64,
        /// The one that is known.
        known: u64,
    },
}

impl Flaw {
    /// Whether the file itself is damaged; else it is whole, and not what it should be.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::NotSqlite | Self::CutOff { .. } | Self::Damaged(_))
    }
}

/// Reads a database that nobody writes to and that has no -wal beside it, such as a copy; nothing beside it is made.
///
/// # Errors
/// When the file can't be read. Damage is no error but a [`Flaw`].
pub fn copy(path: &Path, depth: Depth, known: u64) -> Result<Result<Contents, Flaw>, DatastoreError> {
    file(path, depth, known, || read_only(path))
}

/// Whether all pages of such a database are whole, whatever is in it.
///
/// # Errors
/// When the file can't be read. Damage is no error but a [`Flaw`].
pub(crate) fn whole(path: &Path) -> Result<Result<(), Flaw>, DatastoreError> {
    told(path, read_only(path).and_then(|connection| pages(&connection, Depth::Full)))
}

/// Opens a database that nobody writes to; nothing is made beside it.
pub(crate) fn read_only(path: &Path) -> rusqlite::Result<Connection> {
    // SQLite takes `?`, `#` and `%` in a URI for itself (sqlite.org/uri.html).
    let name = path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(format!("file:{name}?immutable=1"), flags)
}

/// Reads a database where k3s has it, with its -wal; the -wal stays as it is.
///
/// # Errors
/// When the file can't be read. Damage is no error but a [`Flaw`].
pub fn live(path: &Path, depth: Depth, known: u64) -> Result<Result<Contents, Flaw>, DatastoreError> {
    file(path, depth, known, || crate::connect(path))
}

fn file(
    path: &Path,
    depth: Depth,
    known: u64,
    open: impl FnOnce() -> rusqlite::Result<Connection>,
) -> Result<Result<Contents, Flaw>, DatastoreError> {
    if let Err(flaw) = header(path).map_err(|source| bakelite_sys::SysError::Read { path: path.into(), source })? {
        return Ok(Err(flaw));
    }
    // All in one read transaction: a live database moves on meanwhile.
    let in_one = |connection: Connection| contents(&*connection.unchecked_transaction()?, depth, known);
    told(path, open().and_then(in_one))
}

/// Reads a database in a read transaction that has begun, so that it is what is read in it afterwards.
pub(crate) fn within(
    transaction: &Connection,
    path: &Path,
    depth: Depth,
    known: u64,
) -> Result<Result<Contents, Flaw>, DatastoreError> {
    told(path, contents(transaction, depth, known))
}

fn told<T>(path: &Path, found: rusqlite::Result<Result<T, Flaw>>) -> Result<Result<T, Flaw>, DatastoreError> {
    match found {
        Ok(found) => Ok(found),
        Err(error) => match damage(&error) {
            Some(words) => Ok(Err(Flaw::Damaged(vec![words]))),
            None => Err(failed("checking", path)(error)),
        },
    }
}

/// Errors by which SQLite says that the file is damaged.
pub(crate) fn damage(error: &rusqlite::Error) -> Option<String> {
    use rusqlite::Error;
    use rusqlite::ffi::ErrorCode;
    // kine's columns hold what kine writes into them, or something else than kine wrote.
    if matches!(error, Error::InvalidColumnType(..) | Error::FromSqlConversionFailure(..) | Error::Utf8Error(..)) {
        return Some(error.to_string());
    }
    let code = error.sqlite_error_code()?;
    matches!(code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase).then(|| error.to_string())
}

/// Looks at the header: SQLite itself takes an empty file for an empty database.
fn header(path: &Path) -> std::io::Result<Result<(), Flaw>> {
    let mut head = [0u8; 100];
    let mut file = File::open(path)?;
    let found = file.metadata()?.len();
    if found < 100 {
        return Ok(Err(Flaw::NotSqlite));
    }
    file.read_exact(&mut head)?;
    if !head.starts_with(MAGIC) {
        return Ok(Err(Flaw::NotSqlite));
    }
    let page_size = match u16::from_be_bytes([head[16], head[17]]) {
        1 => 65_536,
        size => u64::from(size),
    };
    let number = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    // The count of pages is valid where the two counters of changes agree; in WAL mode the last pages may be in the -wal.
    let expected = if number(24) == number(92) { u64::from(number(28)) * page_size } else { 0 };
    let has_log = {
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        Path::new(&log).exists()
    };
    Ok(if found < expected && !has_log { Err(Flaw::CutOff { expected, found }) } else { Ok(()) })
}

/// SQLite's own check.
pub(crate) fn pages(connection: &Connection, depth: Depth) -> rusqlite::Result<Result<(), Flaw>> {
    let pragma = match depth {
        Depth::Contents => return Ok(Ok(())),
        Depth::Quick => "quick_check",
        Depth::Full => "integrity_check",
    };
    let mut statement = connection.prepare(&format!("PRAGMA {pragma}({ANSWERS})"))?;
    let answers: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(if answers == ["ok"] { Ok(()) } else { Err(Flaw::Damaged(answers)) })
}

fn contents(transaction: &Connection, depth: Depth, known: u64) -> rusqlite::Result<Result<Contents, Flaw>> {
    if let Err(flaw) = pages(transaction, depth)? {
        return Ok(Err(flaw));
    }
    let mut statement = transaction.prepare("SELECT name FROM pragma_table_info('kine')")?;
    let columns: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    drop(statement);
    if columns.join(" ") != COLUMNS {
        return Ok(Err(Flaw::NotKine));
    }
    let number = |query: &str| -> rusqlite::Result<u64> {
        let value = transaction.query_row(query, [], |row| row.get::<_, i64>(0))?;
        Ok(u64::try_from(value).unwrap_or(0))
    };
    let compactions = number("SELECT count(*) FROM kine WHERE name = 'compact_rev_key'")?;
    if compactions != 1 {
        return Ok(Err(Flaw::Compaction(compactions)));
    }
    let state = crate::read(transaction)?;
    let contents = Contents {
        page_size: u32::try_from(number("PRAGMA page_size")?).unwrap_or(0),
        revision: state.revision,
        compacted: number("SELECT prev_revision FROM kine WHERE name = 'compact_rev_key'")?,
        live: live_keys(transaction)?,
        row: state.row,
    };
    if contents.live.keys().all(|prefix| !prefix.starts_with("/registry/")) {
        return Ok(Err(Flaw::Empty));
    }
    if contents.row.is_empty() {
        return Ok(Err(Flaw::NoKeys));
    }
    if contents.revision < known {
        return Ok(Err(Flaw::Older { found: contents.revision, known }));
    }
    Ok(Ok(contents))
}

fn live_keys(connection: &Connection) -> rusqlite::Result<BTreeMap<String, u64>> {
    let mut statement = connection.prepare(&format!("{LIVE} AND name <> 'compact_rev_key'"))?;
    let mut rows = statement.query([])?;
    let mut live = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        let end = name.match_indices('/').nth(2).map_or(name.len(), |(at, _)| at);
        *live.entry(name[..end].to_string()).or_insert(0) += 1;
    }
    Ok(live)
}

#[cfg(test)]
mod tests;
