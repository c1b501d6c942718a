//! A mirror is what its source was, wherever its making was cut, and takes no damage over.

use super::*;
use crate::fixtures;
use rusqlite::config::DbConfig;
use std::path::PathBuf;
use tempfile::TempDir;

/// A database as k3s has it open, with pages of so many bytes and so many objects.
fn database(folder: &Path, page_size: u32, objects: u64) -> (PathBuf, Connection) {
    let path = folder.join("state.db");
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch(&format!("PRAGMA page_size = {page_size}; VACUUM;")).unwrap();
    drop(connection);
    let connection = fixtures::kine(&path);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).unwrap();
    for name in ["compact_rev_key", "/bootstrap/abc"] {
        connection.execute("INSERT INTO kine (name, deleted, prev_revision) VALUES (?1, 0, 0)", [name]).unwrap();
    }
    put(&connection, 0..objects);
    (path, connection)
}

fn put(connection: &Connection, objects: std::ops::Range<u64>) {
    connection.execute_batch("BEGIN").unwrap();
    for number in objects {
        let query = "INSERT INTO kine (name, deleted, prev_revision, value) VALUES (?1, 0, 0, ?2)";
        connection.execute(query, (format!("/registry/x/{number}"), vec![number as u8; 700])).unwrap();
    }
    connection.execute_batch("COMMIT").unwrap();
}

/// All rows, as text.
fn rows(connection: &Connection) -> Vec<(i64, String, i64)> {
    let mut statement = connection.prepare("SELECT id, name, length(value) FROM kine ORDER BY id").unwrap();
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get::<_, Option<i64>>(2)?.unwrap_or(0)));
    statement.query_map([], row).unwrap().collect::<Result<_, _>>().unwrap()
}

fn rows_of(path: &Path) -> Vec<(i64, String, i64)> {
    rows(&Connection::open(path).unwrap())
}

fn refreshed(from: &Path, to: &Path, known: u64) -> Mirrored {
    refresh(from, to, known).unwrap().unwrap()
}

#[test]
fn the_first_is_whole_and_the_next_writes_what_has_changed() {
    for page_size in [1024, 4096] {
        let folder = tempfile::tempdir().unwrap();
        let (path, running) = database(folder.path(), page_size, 2000);
        let mirror = folder.path().join("mirror.db");
        let first = refreshed(&path, &mirror, 0);
        assert_eq!((first.written, first.contents.revision), (first.pages, 2002));
        assert!(rows_of(&mirror) == rows(&running));
        // A whole copy has another schema cookie than its source (sqlite.org/c3ref/backup_finish.html).
        assert!(refreshed(&path, &mirror, 2002).written <= 1);
        let bytes = std::fs::read(&mirror).unwrap();
        assert_eq!(refreshed(&path, &mirror, 2002).written, 0);
        assert_eq!(std::fs::read(&mirror).unwrap(), bytes, "what is up to date isn't touched");

        put(&running, 2000..2003);
        running.execute("UPDATE kine SET value = x'00' WHERE id = 1000", []).unwrap();
        let next = refreshed(&path, &mirror, 2003);
        assert!(next.written > 0 && next.written < 30 && next.written * 10 < next.pages, "{next:?}");
        assert!(rows_of(&mirror) == rows(&running));
        assert_eq!(next.contents.page_size, page_size);

        // k3s's own VACUUM at its start moves most pages, and makes the file shorter.
        running.execute("DELETE FROM kine WHERE id > 3 AND id < 1500", []).unwrap();
        running.execute_batch("VACUUM").unwrap();
        let shorter = refreshed(&path, &mirror, 2003);
        assert!(shorter.pages < next.pages && shorter.contents.revision == 2005);
        assert!(rows_of(&mirror) == rows(&running));
        assert_eq!(mirror.metadata().unwrap().len(), shorter.pages * u64::from(page_size));
        put(&running, 5000..9000);
        let longer = refreshed(&path, &mirror, 2005);
        assert!(longer.pages > next.pages);
        assert!(rows_of(&mirror) == rows(&running));
        let names = bakelite_sys::names_in(folder.path());
        assert_eq!(names, ["mirror.db", "state.db", "state.db-shm", "state.db-wal"]);
    }
}

#[test]
fn a_mirror_with_other_pages_or_that_is_none_is_made_anew_and_one_with_rot_is_mended() {
    let folder = tempfile::tempdir().unwrap();
    let (path, running) = database(folder.path(), 4096, 500);
    let mirror = folder.path().join("mirror.db");
    for other in [&b"no database at all, and longer than a header would be"[..], b""] {
        durable::replace(&mirror, &other.repeat(20), 0o600).unwrap();
        durable::replace(beside(&mirror, "-journal"), b"of another one", 0o600).unwrap();
        refreshed(&path, &mirror, 0);
        assert!(rows_of(&mirror) == rows(&running));
    }
    let (small, _other) = database(&tempdir_in(&folder), 1024, 10);
    refreshed(&small, &mirror, 0);
    assert_eq!(refreshed(&path, &mirror, 0).contents.page_size, 4096);
    refreshed(&path, &mirror, 0);
    fixtures::overwrite(&mirror, 4096 * 20, &[0; 4096]);
    assert_eq!(refreshed(&path, &mirror, 0).written, 1);
    assert!(rows_of(&mirror) == rows(&running));
}

fn tempdir_in(folder: &TempDir) -> PathBuf {
    tempfile::tempdir_in(folder).unwrap().keep()
}

#[test]
fn damage_and_what_is_older_never_reach_the_mirror() {
    let folder = tempfile::tempdir().unwrap();
    let (path, running) = database(folder.path(), 4096, 2000);
    let mirror = folder.path().join("mirror.db");
    refreshed(&path, &mirror, 0);
    let whole = std::fs::read(&mirror).unwrap();
    assert_eq!(refresh(&path, &mirror, 2003).unwrap(), Err(Flaw::Older { found: 2002, known: 2003 }));
    running.execute("UPDATE kine SET deleted = 1 WHERE id = 7", []).unwrap();
    running.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(running);
    for page in [1, 5, 60] {
        let before = std::fs::read(&path).unwrap();
        fixtures::overwrite(&path, page * 4096, &[0; 4096]);
        let flaw = refresh(&path, &mirror, 0).unwrap().unwrap_err();
        assert!(flaw.is_damage(), "{flaw}");
        assert_eq!(std::fs::read(&mirror).unwrap(), whole, "page {page}");
        durable::replace(&path, &before, 0o600).unwrap();
    }
    assert!(refreshed(&path, &mirror, 0).written > 0);
}

#[test]
fn a_cut_at_any_write_leaves_the_old_or_the_new() {
    let folder = tempfile::tempdir().unwrap();
    let (path, running) = database(folder.path(), 4096, 2000);
    let mirror = folder.path().join("mirror.db");
    refreshed(&path, &mirror, 0);
    let old = rows(&running);
    // More than SQLite keeps in memory, so that pages reach the file before the end.
    running.execute("UPDATE kine SET value = zeroblob(699) WHERE id % 3 = 0", []).unwrap();
    put(&running, 2000..4000);
    running.execute("DELETE FROM kine WHERE id > 100 AND id < 900", []).unwrap();
    let new = rows(&running);
    let cut = folder.path().join("cut.db");
    let (mut half, mut all) = (0, 0);
    let old_file = std::fs::read(&mirror).unwrap();
    let mut look = || {
        all += 1;
        // Each look costs two files.
        if all % 23 != 0 {
            return;
        }
        for ending in ["", "-journal"] {
            durable::remove_file(beside(&cut, ending)).unwrap();
            if let Ok(bytes) = std::fs::read(beside(&mirror, ending)) {
                half += u64::from(ending.is_empty() && bytes != old_file);
                durable::replace(beside(&cut, ending), &bytes, 0o600).unwrap();
            }
        }
        assert!(rows_of(&cut) == old, "after {all} pages");
        check::copy(&cut, Depth::Full, 2002).unwrap().unwrap();
    };
    bring_up_to_date(&path, &mirror, 0, &mut look).unwrap().unwrap();
    assert!(half > 0, "of {all} pages none was in the file before the end");
    assert!(rows_of(&mirror) == new);
    // One that was cut is gone on with.
    let after = refreshed(&path, &cut, 0);
    assert!(after.written > 0 && after.written < after.pages + 2);
    assert!(rows_of(&cut) == new);
}
