//! A plain mirror of k3s's database on the same machine, brought up to date by writing only the pages that differ (the idea of
//! `sqlite3_rsync`): so it may be newer than any backup, and costs the medium almost nothing.
//!
//! The source is read through SQLite, in one read transaction, and only a source that is whole and not older than what is
//! known is taken over: damage must not reach the mirror. The mirror is changed in one transaction of its own, with a rollback
//! journal, so a cut leaves it as it was or as it becomes. It is one file without a -wal; a `-journal` beside it belongs
//! to it.

use crate::check::{self, Contents, Depth, Flaw};
use crate::{BUSY, DatastoreError, beside, failed, open};
use bakelite_sys::durable;
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior};
use std::path::Path;

/// The page that SQLite locks files by, beyond this offset, holds nothing (sqlite.org/fileformat2, the lock-byte page).
const LOCK_BYTE: u64 = 1 << 30;
/// Of the header: how a file is written and read, 1 with a rollback journal; the counter of changes; whose number the version
/// is and the version. These are the mirror's own (sqlite.org/fileformat2, the database header).
const OF_ITS_OWN: [std::ops::Range<usize>; 2] = [24..28, 92..100];
const WRITTEN_BY: std::ops::Range<usize> = 18..20;
const JOURNAL: u8 = 1;

/// A mirror that is up to date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirrored {
    /// What is in it.
    pub contents: Contents,
    /// How many pages it has.
    pub pages: u64,
    /// How many of them were written.
    pub written: u64,
}

/// Brings a mirror up to date, or makes it; afterwards it has been checked as a copy is. `known` is a revision that the
/// database has had. Inside, why the database isn't one to be mirrored: then the mirror stays as it was.
///
/// # Errors
/// When something can't be read or written, and when the mirror isn't whole afterwards; then it is removed.
pub fn refresh(from: &Path, to: &Path, known: u64) -> Result<Result<Mirrored, Flaw>, DatastoreError> {
    let mirrored = match bring_up_to_date(from, to, known, &mut || ())? {
        Ok(mirrored) => mirrored,
        Err(flaw) => return Ok(Err(flaw)),
    };
    match check::copy(to, Depth::Full, mirrored.contents.revision)? {
        Ok(_) => Ok(Ok(mirrored)),
        Err(flaw) => {
            remove(to)?;
            Err(DatastoreError::Damaged { path: to.into(), answer: flaw.to_string() })
        }
    }
}

/// Removes a mirror.
///
/// # Errors
/// When it can't be removed.
pub fn remove(path: &Path) -> Result<(), DatastoreError> {
    // The journal goes last: with a half written file it must never be gone.
    for ending in ["", "-journal"] {
        durable::remove_file(beside(path, ending))?;
    }
    Ok(())
}

/// `each` is called after each page that was written, and before the end.
fn bring_up_to_date(
    from: &Path,
    to: &Path,
    known: u64,
    each: &mut dyn FnMut(),
) -> Result<Result<Mirrored, Flaw>, DatastoreError> {
    let source = open(from)?;
    let snapshot = source.unchecked_transaction().map_err(failed("reading", from))?;
    let contents = match check::within(&snapshot, from, Depth::Full, known)? {
        Ok(contents) => contents,
        Err(flaw) => return Ok(Err(flaw)),
    };
    let pages = number(&snapshot, "PRAGMA page_count").map_err(failed("reading", from))?;
    let Some(mut mirror) = fitting(to, contents.page_size)? else {
        drop(snapshot);
        remove(to)?;
        let copied = crate::copy(from, to)?;
        // It may have grown by now.
        let contents = Contents { revision: copied.revision, row: copied.row, ..contents };
        return Ok(Ok(Mirrored { contents, pages, written: pages }));
    };
    let writing = failed("bringing up to date", to);
    let transaction = mirror.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&writing)?;
    let written = write_what_differs(&snapshot, &transaction, pages, contents.page_size, each).map_err(&writing)?;
    // k3s's -wal can't be folded while somebody reads the database.
    drop(snapshot);
    if written > 0 { transaction.commit() } else { transaction.rollback() }.map_err(&writing)?;
    mirror.close().map_err(|(_, error)| writing(error))?;
    Ok(Ok(Mirrored { contents, pages, written }))
}

/// The mirror that is there, after SQLite has taken back what a cut has left half; `None` where there is none to go on with.
fn fitting(path: &Path, page_size: u32) -> Result<Option<Connection>, DatastoreError> {
    if !path.exists() {
        return Ok(None);
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connected = Connection::open_with_flags(path, flags).and_then(|connection| {
        connection.busy_timeout(BUSY)?;
        // The journal's end is what makes a change count: its folder is synced, too.
        connection.pragma_update(None, "synchronous", "EXTRA")?;
        let mode: String = connection.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get(0))?;
        let found = number(&connection, "PRAGMA page_size")?;
        Ok((mode == "delete" && found == u64::from(page_size)).then_some(connection))
    });
    match connected {
        Ok(connection) => Ok(connection),
        Err(error) if check::damage(&error).is_some() => Ok(None),
        Err(error) => Err(failed("opening", path)(error)),
    }
}

/// Makes the pages of one database those of another one; how many had to be written.
fn write_what_differs(
    source: &Connection,
    mirror: &Connection,
    pages: u64,
    page_size: u32,
    each: &mut dyn FnMut(),
) -> rusqlite::Result<u64> {
    let before = number(mirror, "PRAGMA page_count")?;
    let mut read = source.prepare("SELECT pgno, data FROM sqlite_dbpage ORDER BY pgno")?;
    let mut compare = mirror.prepare("SELECT data FROM sqlite_dbpage WHERE pgno = ?1")?;
    let mut write = mirror.prepare("INSERT INTO sqlite_dbpage (pgno, data) VALUES (?1, ?2)")?;
    let (mut rows, mut written) = (read.query([])?, 0);
    while let Some(row) = rows.next()? {
        let page: u64 = row.get::<_, i64>(0)?.cast_unsigned();
        if page == LOCK_BYTE / u64::from(page_size) + 1 {
            continue;
        }
        let new = row.get_ref(1)?.as_blob()?;
        let mut of_mirror = compare.query([page.cast_signed()])?;
        let old = of_mirror.next()?;
        let old = old.map(|row| row.get_ref(0)).transpose()?.map(|data| data.as_blob()).transpose()?;
        let head = (page == 1).then(|| with_own_head(new, old));
        let new = head.as_deref().unwrap_or(new);
        if old != Some(new) {
            let new = new.to_vec();
            drop(of_mirror);
            write.execute((page.cast_signed(), new))?;
            written += 1;
            each();
        }
    }
    if before > pages {
        // Without data: the page and all behind it go.
        write.execute(((pages + 1).cast_signed(), None::<Vec<u8>>))?;
        written += 1;
        each();
    }
    Ok(written)
}

/// The source's first page with what is the mirror's own in it.
fn with_own_head(new: &[u8], old: Option<&[u8]>) -> Vec<u8> {
    let mut page = new.to_vec();
    page[WRITTEN_BY].fill(JOURNAL);
    for range in OF_ITS_OWN {
        if let Some(old) = old.and_then(|old| old.get(range.clone())) {
            page[range].copy_from_slice(old);
        }
    }
    page
}

fn number(connection: &Connection, query: &str) -> rusqlite::Result<u64> {
    let found = connection.query_row(query, [], |row| row.get::<_, i64>(0)).optional()?;
    Ok(found.map_or(0, i64::cast_unsigned))
}

#[cfg(test)]
mod tests;
