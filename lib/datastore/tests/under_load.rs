//! Sets made one after the other while another process writes 50 times a second: each is restored, and holds every row
//! that was committed before its start. A copy of the file, as a control, is caught. And a mirror, brought up to date again and
//! again meanwhile, holds them each time, and writes far less than a copy does.
//!
//! A few at 40 MB; with BAKELITE_TEST_FULL a hundred at 40 and a hundred at 400 MB.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test of its own, whose writer has to be another process"
)]

mod load;

use bakelite_datastore::check::{self, Depth};
use bakelite_datastore::mirror::refresh;
use bakelite_datastore::restore::{Places, put_in_place, stage};
use rusqlite::Connection;
use std::path::Path;
use std::process::{Child, Command};

/// By this the writer knows that it is one, and of what.
const WRITES_TO: &str = "BAKELITE_TEST_WRITES_TO";

/// No test of its own: what the tests below start as another process.
#[test]
fn writer() {
    let Some(folder) = std::env::var_os(WRITES_TO) else { return };
    let folder = Path::new(&folder);
    load::write_on(&folder.join("state.db"), &folder.join("told"), &folder.join("stop")).unwrap();
}

fn begin_to_write(folder: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap());
    let child = child.args(["--exact", "writer"]).env(WRITES_TO, folder).spawn().unwrap();
    while load::committed(&folder.join("told")) == 0 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    child
}

fn prove(megabytes: u64, count: u64) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (database, told) = (folder.join("state.db"), folder.join("told"));
    load::fill(&database, megabytes << 20).unwrap();
    let mut writer = begin_to_write(folder);
    let key = age::x25519::Identity::generate();
    let mut caught = 0;
    for number in 1..=count {
        let before = load::committed(&told);
        let written = load::set(&database, folder, &key, number, before).unwrap();
        let staged = folder.join("staged");
        let opened = stage(&written.path, &[&key], &staged, "").unwrap();
        assert!(opened.contents.revision >= before);
        let places = Places { live: folder.join("live"), staged: staged.clone(), aside: folder.join("aside") };
        put_in_place(&places).unwrap();
        let restored = places.live.join("server/db/state.db");
        assert_eq!(rows_until(&restored, before), before, "set {number} lacks rows");
        for left in [staged, places.live, places.aside] {
            bakelite_sys::durable::remove_tree(&left).unwrap();
        }
        std::fs::remove_file(&written.path).unwrap();

        let control = folder.join("control.db");
        let before = load::committed(&told);
        std::fs::copy(&database, &control).unwrap();
        // A copy may by chance be made just after SQLite has folded all of its log: then it holds everything.
        match check::copy(&control, Depth::Quick, before).unwrap() {
            Err(_) => caught += 1,
            Ok(_) => assert_eq!(rows_until(&control, before), before, "copy {number} lacks rows, and was not caught"),
        }
        std::fs::remove_file(&control).unwrap();
    }
    std::fs::File::create(folder.join("stop")).unwrap();
    assert!(writer.wait().unwrap().success(), "the writer met an error");
    assert!(
        caught > 0 && (count < 10 || caught * 10 >= count * 8),
        "of {count} copies of the file {caught} lacked rows"
    );
    println!("{count} sets of {megabytes} MB, each whole; of {count} copies by cp {caught} were caught");
}

/// `scripts/bench datastore` says how much less; that it is a small part is no matter of time.
fn prove_mirror(megabytes: u64, count: u64) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (database, told, mirror) = (folder.join("state.db"), folder.join("told"), folder.join("mirror.db"));
    load::fill(&database, megabytes << 20).unwrap();
    let mut writer = begin_to_write(folder);
    let first = refresh(&database, &mirror, 0).unwrap().unwrap();
    assert_eq!(first.written, first.pages);
    let mut most = 0;
    for number in 1..=count {
        // So that there is something to write.
        let least = load::committed(&told) + 20;
        while load::committed(&told) < least {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let before = load::committed(&told);
        let mirrored = refresh(&database, &mirror, before).unwrap().unwrap();
        assert!(mirrored.contents.revision >= before && mirrored.written > 0);
        assert_eq!(rows_until(&mirror, before), before, "mirror {number} lacks rows");
        most = most.max(mirrored.written * 100 / mirrored.pages);
    }
    std::fs::File::create(folder.join("stop")).unwrap();
    assert!(writer.wait().unwrap().success(), "the writer met an error");
    assert!(!folder.join("mirror.db-journal").exists());
    println!(
        "a mirror of {megabytes} MB brought up to date {count} times, each whole; at most {most} % of it was written"
    );
}

/// The rows of revisions up to one: nothing is ever removed here, so each revision has its row.
fn rows_until(database: &Path, revision: u64) -> u64 {
    let query = "SELECT count(*) FROM kine WHERE id <= ?1";
    let rows: i64 =
        Connection::open(database).unwrap().query_row(query, [revision.cast_signed()], |row| row.get(0)).unwrap();
    rows.unsigned_abs()
}

#[test]
fn each_set_of_40_mb_holds_what_was_committed_before_it_and_a_copied_file_does_not() {
    prove(40, if is_full() { 100 } else { 3 });
}

#[test]
fn a_mirror_of_40_mb_holds_what_was_committed_before_it_was_brought_up_to_date() {
    prove_mirror(40, if is_full() { 100 } else { 5 });
}

#[test]
fn each_set_of_400_mb_holds_what_was_committed_before_it() {
    if is_full() {
        prove(400, 100);
    }
}

fn is_full() -> bool {
    std::env::var_os("BAKELITE_TEST_FULL").is_some()
}
