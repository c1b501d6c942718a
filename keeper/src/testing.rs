//! For tests: a set of a small database as kine has it.

use bakelite_datastore::set::{Request, write};
use bakelite_datastore::token;
use bakelite_spec::set::Manifest;
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What it ran with.
pub const K3S: &str = "v1.36.2+k3s1";
const TOKEN: &str = "the-token";

/// A database with two live keys and its bootstrap row.
pub fn database(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL;
             CREATE TABLE kine (id INTEGER PRIMARY KEY AUTOINCREMENT, name INTEGER, created INTEGER, deleted INTEGER,
                create_revision INTEGER, prev_revision INTEGER, lease INTEGER, value BLOB, old_value BLOB);
             INSERT INTO kine (name, deleted, prev_revision) VALUES ('compact_rev_key', 0, 0);
             INSERT INTO kine (name, deleted) VALUES ('/registry/secrets/a/1', 0);",
        )
        .unwrap();
    let value = token::seal(TOKEN, &token::Keys(BTreeMap::new()), [1; 8], [2; 12]);
    connection
        .execute("INSERT INTO kine (name, deleted, value) VALUES (?1, 0, ?2)", (token::row_name(TOKEN), value))
        .unwrap();
    connection
}

/// A set for a key, in a folder.
pub fn set(folder: &Path, key: &age::x25519::Identity) -> PathBuf {
    let path = folder.join("state.db");
    drop(database(&path));
    let about = Manifest::about("shop-17", K3S, 1_795_280_100);
    let request = Request {
        database: &path,
        token: TOKEN,
        files: &[],
        about: &about,
        known: 3,
        recipients: &[key.to_public()],
        identity: Some(key),
        number: 1,
        folder: &folder.join("sets"),
        scratch: &folder.join("scratch"),
    };
    write(&request).unwrap().path
}
