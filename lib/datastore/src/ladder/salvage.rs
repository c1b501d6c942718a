//! Salvage: every row that can still be read, in a new file of kine's shape.
//!
//! Row by row through the table's own tree, and around what can't be read. (SQLite's `recover` extension isn't in the
//! bundle, and reads free pages as well: deleted objects would come back.) An index that can still be read tells what is
//! missing. A last row without content keeps the revision from going back, in the shape of kine's own (k3s.md 3.5).

use super::Lost;
use rusqlite::types::Value;
use rusqlite::{Connection, Error};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const TABLE: &str = "CREATE TABLE kine (id INTEGER PRIMARY KEY AUTOINCREMENT, name INTEGER, created INTEGER, deleted INTEGER, \
                     create_revision INTEGER, prev_revision INTEGER, lease INTEGER, value BLOB, old_value BLOB);";
/// kine's, pkg/drivers/sqlite.
const INDEXES: &str = "CREATE INDEX kine_name_index ON kine (name);
    CREATE INDEX kine_name_id_index ON kine (name,id);
    CREATE INDEX kine_id_deleted_index ON kine (id,deleted);
    CREATE INDEX kine_prev_revision_index ON kine (prev_revision);
    CREATE UNIQUE INDEX kine_name_prev_revision_uindex ON kine (name, prev_revision);
    CREATE INDEX kine_id_compact_rev_key_with_prev_revision_index ON kine(id, name, prev_revision)
        WHERE name != 'compact_rev_key' AND prev_revision != 0;";
const INSERT: &str = "INSERT OR IGNORE INTO kine VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
const COLUMNS: usize = 9;
/// The highest number of a row in an index that is believed: a damaged one may say anything.
const FARTHEST: i64 = 1 << 40;

/// Reads what can be read of a database and writes it to a new one; what is missing, and the new one's revision. `None`
/// where no row can be read.
///
/// # Errors
/// SQLite's, where nothing of the old one can be read at all, or the new one can't be written.
pub fn salvage(from: &Path, to: &Path, known: u64) -> rusqlite::Result<Option<(Lost, u64)>> {
    let damaged = crate::connect(from)?;
    // With it SQLite also opens a file that is shorter than its head says.
    damaged.execute_batch("PRAGMA writable_schema = ON")?;
    let page_size = damaged.query_row("PRAGMA page_size", [], |row| row.get::<_, i64>(0))?;
    let mut made = Connection::open(to)?;
    made.execute_batch(&format!("PRAGMA page_size = {page_size}; PRAGMA synchronous = FULL; {TABLE}"))?;
    let transaction = made.transaction()?;
    let mut rows: BTreeMap<i64, String> = BTreeMap::new();
    let mut write = |row: Row| -> rusqlite::Result<()> {
        transaction.execute(INSERT, rusqlite::params_from_iter(&row.values))?;
        rows.insert(row.id, row.name);
        Ok(())
    };
    let unread = read(&damaged, &mut write)?;
    if rows.is_empty() {
        return Ok(None);
    }
    let listed = listed(&damaged);
    let mut lost = missing(&rows, &listed, unread);
    let highest = rows.keys().chain(listed.iter().flat_map(BTreeMap::keys)).max().copied().unwrap_or(0);
    let known = i64::try_from(known).unwrap_or(0);
    lost.uncertain |= highest < known;
    let revision = highest.max(known);
    if !rows.values().any(|name| name == "compact_rev_key") {
        // kine's first row (pkg/logstructured/sqllog): compacted up to nothing.
        let id = if rows.contains_key(&1) { "NULL" } else { "1" };
        transaction
            .execute_batch(&format!("INSERT INTO kine VALUES ({id}, 'compact_rev_key', 1, 0, 0, 0, 0, x'', NULL)"))?;
    }
    let top: i64 = transaction.query_row("SELECT max(id) FROM kine", [], |row| row.get(0))?;
    if top < revision {
        let filler = format!("INSERT INTO kine VALUES ({revision}, 'gap-{revision}', 0, 1, 0, 0, 0, NULL, NULL)");
        transaction.execute_batch(&filler)?;
    }
    transaction.execute_batch(INDEXES)?;
    transaction.commit()?;
    made.close().map_err(|(_, error)| error)?;
    Ok(Some((lost, u64::try_from(top.max(revision)).unwrap_or(0))))
}

/// One row with all its columns.
struct Row {
    id: i64,
    name: String,
    values: Vec<Value>,
}

fn row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let values: Vec<Value> = (0..COLUMNS).map(|column| row.get(column)).collect::<Result<_, _>>()?;
    let (Some(Value::Integer(id)), Some(Value::Text(name))) = (values.first(), values.get(1)) else {
        return Err(Error::InvalidQuery);
    };
    Ok(Row { id: *id, name: name.clone(), values })
}

/// Reads all rows that can be read; whether some couldn't.
fn read(damaged: &Connection, write: &mut impl FnMut(Row) -> rusqlite::Result<()>) -> rusqlite::Result<bool> {
    // NOT INDEXED: the table's own tree alone; an index may be what is damaged.
    let mut statement = damaged.prepare("SELECT * FROM kine NOT INDEXED WHERE id >= ?1 ORDER BY id")?;
    let (mut from, mut unread) = (0i64, false);
    while from < FARTHEST {
        let mut last = None;
        let mut found = statement.query([from])?;
        loop {
            match found.next() {
                Ok(Some(line)) => {
                    let id = line.get::<_, i64>(0);
                    match row(line) {
                        Ok(row) => write(row)?,
                        Err(_) => unread = true,
                    }
                    last = id.ok().or(last);
                }
                Ok(None) => return Ok(unread),
                Err(_) => break,
            }
        }
        drop(found);
        unread = true;
        let stuck = last.map_or(from, |last| last + 1);
        match beyond(damaged, stuck) {
            Some(next) => from = next,
            None => return Ok(true),
        }
    }
    Ok(unread)
}

/// The next row that can be read, from a place on that can't: by ever longer leaps, then back as far as it goes.
fn beyond(damaged: &Connection, stuck: i64) -> Option<i64> {
    let at = |id: i64| -> Option<i64> {
        let query =
            "SELECT id, length(value), length(old_value) FROM kine NOT INDEXED WHERE id >= ?1 ORDER BY id LIMIT 1";
        damaged.query_row(query, [id], |row| row.get(0)).ok()
    };
    let mut leap = 1i64;
    let mut reached = loop {
        if leap > FARTHEST {
            return None;
        }
        if let Some(found) = at(stuck.checked_add(leap)?) {
            break found;
        }
        leap *= 2;
    };
    let mut low = stuck + leap / 2;
    // What lies between may be readable in pieces: the lowest of them is taken, and the next gap leapt in its turn.
    while low + 1 < reached.min(stuck + leap) {
        let middle = low + (reached.min(stuck + leap) - low) / 2;
        match at(middle) {
            Some(found) if found < reached => reached = found,
            Some(_) => break,
            None => low = middle,
        }
    }
    Some(reached)
}

/// Which rows there were and of what, by the best index that can still be read; `None` where there is none.
fn listed(damaged: &Connection) -> Option<BTreeMap<i64, String>> {
    let whole = |index: &str| -> rusqlite::Result<BTreeMap<i64, String>> {
        let mut statement =
            damaged.prepare(&format!("SELECT id, name FROM kine INDEXED BY {index} WHERE name >= ''"))?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.filter(|row| row.as_ref().map_or(true, |(id, _)| (1..FARTHEST).contains(id))).collect()
    };
    ["kine_name_id_index", "kine_name_index"].into_iter().find_map(|index| whole(index).ok())
}

fn missing(rows: &BTreeMap<i64, String>, listed: &Option<BTreeMap<i64, String>>, unread: bool) -> Lost {
    let Some(listed) = listed else {
        return Lost { uncertain: unread, ..Lost::default() };
    };
    let mut newest: BTreeMap<&str, i64> = BTreeMap::new();
    for (id, name) in listed {
        newest.entry(name).and_modify(|known| *known = (*known).max(*id)).or_insert(*id);
    }
    let gone = || listed.keys().filter(|id| !rows.contains_key(id));
    let objects: BTreeSet<&str> = gone()
        .filter_map(|id| Some(listed.get(id)?.as_str()))
        .filter(|name| !rows.contains_key(&newest[name]))
        .collect();
    Lost {
        revisions: gone().filter_map(|id| u64::try_from(*id).ok()).collect(),
        objects: objects.into_iter().map(String::from).collect(),
        uncertain: false,
    }
}
