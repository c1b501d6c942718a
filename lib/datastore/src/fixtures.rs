//! Databases for tests: what k3s itself wrote (`BAKELITE_FIXTURES`; they skip loudly without it), and empty ones of kine's
//! shape, to be filled and damaged.

use rusqlite::Connection;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A new database with kine's table and the indexes that matter to checks.
pub fn kine(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE kine (id INTEGER PRIMARY KEY AUTOINCREMENT, name INTEGER, created INTEGER, deleted INTEGER,
                create_revision INTEGER, prev_revision INTEGER, lease INTEGER, value BLOB, old_value BLOB);
             CREATE INDEX kine_name_index ON kine (name);
             CREATE INDEX kine_name_id_index ON kine (name,id);",
        )
        .unwrap();
    connection
}

/// Bytes of a file become others.
pub fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let mut file = File::options().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(bytes).unwrap();
}

fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("BAKELITE_FIXTURES").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("SKIPPED: BAKELITE_FIXTURES is not set, no database of k3s's is looked at");
    }
    folder
}

/// A tree, unpacked: `after-clean-stop` or `after-kill`.
pub fn tree(name: &str) -> Option<TempDir> {
    let packed = File::open(folder()?.join(format!("{name}.tar.zst"))).unwrap();
    let into = tempfile::tempdir().unwrap();
    tar::Archive::new(zstd::Decoder::new(packed).unwrap()).unpack(into.path()).unwrap();
    Some(into)
}

/// The one-transaction copy, as `copy.db` in a folder of its own.
pub fn online_copy() -> Option<(TempDir, PathBuf)> {
    let packed = File::open(folder()?.join("online-copy.db.zst")).unwrap();
    let into = tempfile::tempdir().unwrap();
    let path = into.path().join("copy.db");
    zstd::stream::copy_decode(packed, File::create(&path).unwrap()).unwrap();
    Some((into, path))
}
