//! Checks of databases that k3s wrote (`BAKELITE_FIXTURES`) and of some made here, each damaged in one way.

use super::*;
use crate::fixtures::{self, overwrite};
use crate::token::{self, TokenError};
use std::path::PathBuf;

/// A small database of kine's shape.
fn made(folder: &Path) -> PathBuf {
    let path = folder.join("made.db");
    let connection = fixtures::kine(&path);
    connection
        .execute_batch(
            "INSERT INTO kine (name, deleted, prev_revision) VALUES ('compact_rev_key', 0, 3),
                ('/bootstrap/abc', 0, 0), ('/registry/secrets/a/1', 0, 0), ('/registry/secrets/a/2', 0, 0),
                ('/registry/pods/a/1', 0, 0), ('/registry/secrets/a/2', 1, 4);",
        )
        .unwrap();
    let bulk = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400)
                INSERT INTO kine (name, deleted, value) SELECT '/registry/events/' || i, 0, zeroblob(500) FROM n";
    connection.execute(bulk, []).unwrap();
    path
}

fn change(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

fn checked(path: &Path) -> Result<Contents, Flaw> {
    copy(path, Depth::Full, 0).unwrap()
}

#[test]
fn a_whole_database_is_told_by_what_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let found = checked(&made(folder.path())).unwrap();
    assert_eq!((found.revision, found.compacted, found.row.as_str()), (406, 3, "/bootstrap/abc"));
    let live: Vec<_> = found.live.iter().map(|(prefix, count)| (prefix.as_str(), *count)).collect();
    assert_eq!(
        live,
        [("/bootstrap/abc", 1), ("/registry/events", 400), ("/registry/pods", 1), ("/registry/secrets", 1)]
    );
    let names = bakelite_sys::names_in(folder.path());
    assert_eq!(names, ["made.db"], "something was made beside it");
}

#[test]
fn each_damage_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let is = |break_it: &dyn Fn(&Path), fits: &dyn Fn(&Flaw) -> bool| {
        let path = made(folder.path());
        break_it(&path);
        let flaw = checked(&path).unwrap_err();
        assert!(fits(&flaw), "{flaw:?}");
        bakelite_sys::durable::remove_file(&path).unwrap();
    };
    is(&|path| drop(File::create(path).unwrap()), &|flaw| *flaw == Flaw::NotSqlite);
    is(&|path| overwrite(path, 0, &[0; 4096]), &|flaw| *flaw == Flaw::NotSqlite);
    is(&|path| overwrite(path, 3 * 4096, &[0; 4096]), &|flaw| matches!(flaw, Flaw::Damaged(_)));
    let half = |path: &Path| File::options().write(true).open(path).unwrap().set_len(8 * 4096).unwrap();
    is(&half, &|flaw| matches!(flaw, Flaw::CutOff { found: 32_768, .. }));
    is(&|path| change(path, "ALTER TABLE kine RENAME TO other"), &|flaw| *flaw == Flaw::NotKine);
    is(&|path| change(path, "ALTER TABLE kine ADD COLUMN x"), &|flaw| *flaw == Flaw::NotKine);
    is(&|path| change(path, "DELETE FROM kine WHERE name = 'compact_rev_key'"), &|flaw| *flaw == Flaw::Compaction(0));
    is(&|path| change(path, "UPDATE kine SET deleted = 1 WHERE name LIKE '/registry/%'"), &|flaw| *flaw == Flaw::Empty);
    is(&|path| change(path, "UPDATE kine SET deleted = 1 WHERE name LIKE '/boot%'"), &|flaw| *flaw == Flaw::NoKeys);
    let path = made(folder.path());
    assert_eq!(copy(&path, Depth::Quick, 406).unwrap().unwrap().revision, 406);
    assert_eq!(copy(&path, Depth::Quick, 407).unwrap(), Err(Flaw::Older { found: 406, known: 407 }));
    assert!(copy(&folder.path().join("none"), Depth::Quick, 0).is_err());
}

#[test]
fn an_index_that_lacks_a_row_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let path = made(folder.path());
    change(
        &path,
        "PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET sql = 'CREATE INDEX kine_name_index ON kine (name) WHERE id < 0' WHERE name = 'kine_name_index';",
    );
    change(&path, "INSERT INTO kine (name, deleted) VALUES ('/registry/x/y', 0)");
    change(
        &path,
        "PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET sql = 'CREATE INDEX kine_name_index ON kine (name)' WHERE name = 'kine_name_index';",
    );
    for depth in [Depth::Quick, Depth::Full] {
        let Err(Flaw::Damaged(answers)) = copy(&path, depth, 0).unwrap() else { panic!("{depth:?} didn't notice") };
        assert!(answers[0].contains("kine_name_index"), "{answers:?}");
    }
}

/// What the fixtures' README says must be found in them.
#[test]
fn what_k3s_wrote_is_whole_and_opens_with_its_token() {
    let Some(folder) = std::env::var_os("BAKELITE_FIXTURES").map(PathBuf::from) else {
        eprintln!("SKIPPED: BAKELITE_FIXTURES is not set, no database of k3s's is checked");
        return;
    };
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("online-copy.db");
    let packed = File::open(folder.join("online-copy.db.zst")).unwrap();
    zstd::stream::copy_decode(packed, File::create(&path).unwrap()).unwrap();
    let found = copy(&path, Depth::Full, 414).unwrap().unwrap();
    assert_eq!((found.revision, found.row.as_str()), (414, "/bootstrap/d07f963c2bb7"));
    // The three in the namespace `kiosk`, and one of k3s's own.
    assert_eq!(found.live["/registry/secrets"], 4);
    let connection = Connection::open(&path).unwrap();
    let keys = token::prove(&connection, "fixture-token").unwrap().unwrap();
    assert!(keys.bytes("ServerCA").unwrap().starts_with(b"-----BEGIN CERTIFICATE-----"));
    assert!(keys.0.contains_key("EncryptionConfig"));
    let full = format!("K10{}::server:fixture-token\n", "f".repeat(64));
    assert!(token::prove(&connection, &full).unwrap().is_ok());
    assert_eq!(token::prove(&connection, "another").unwrap(), Err(TokenError::Other));
    connection.execute("DELETE FROM kine WHERE name LIKE '/bootstrap/%'", []).unwrap();
    assert_eq!(token::prove(&connection, "fixture-token").unwrap(), Err(TokenError::NoRow));

    let tree = zstd::Decoder::new(File::open(folder.join("after-kill.tar.zst")).unwrap()).unwrap();
    tar::Archive::new(tree).unpack(scratch.path()).unwrap();
    let database = scratch.path().join("var/lib/rancher/k3s/server/db/state.db");
    assert_eq!(live(&database, Depth::Full, 414).unwrap().unwrap().revision, 414);
    // The trap that every other check falls into: whole, and without what was acknowledged last.
    let stale = scratch.path().join("stale.db");
    std::io::copy(&mut File::open(&database).unwrap(), &mut File::create(&stale).unwrap()).unwrap();
    assert_eq!(copy(&stale, Depth::Full, 414).unwrap(), Err(Flaw::Older { found: 377, known: 414 }));
}
