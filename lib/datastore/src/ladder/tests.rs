//! k3s.md 11.1's table of damages, on what k3s itself wrote and on a database made here: the right rung, the right rows,
//! and whatever is gone is named.

use super::*;
use crate::fixtures::{self, overwrite};
use crate::token;
use rusqlite::Connection;
use std::io::Read;
use tempfile::TempDir;

const TOKEN: &str = "fixture-token";
const PAGE: u64 = 4096;

/// All live objects with the revisions of their newest states.
fn objects(path: &Path) -> BTreeMap<String, i64> {
    let connection = check::read_only(path).unwrap();
    let query = "SELECT name, id FROM kine WHERE id IN (SELECT max(id) FROM kine GROUP BY name) AND deleted = 0 \
                 AND name LIKE '/registry/%'";
    let mut statement = connection.prepare(query).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

/// A database of kine's shape, folded: 40 objects with three states each and one that was deleted.
fn made(folder: &Path) -> PathBuf {
    let path = folder.join("state.db");
    let connection = fixtures::kine(&path);
    connection
        .execute_batch(
            "CREATE UNIQUE INDEX kine_name_prev_revision_uindex ON kine (name, prev_revision);
             INSERT INTO kine (name, created, deleted, prev_revision, value) VALUES ('compact_rev_key', 1, 0, 0, x'');",
        )
        .unwrap();
    let value = token::seal(TOKEN, &Keys(BTreeMap::new()), [1; 8], [2; 12]);
    let sql = "INSERT INTO kine (name, deleted, prev_revision, value) VALUES (?1, ?2, ?3, ?4)";
    connection.execute(sql, (token::row_name(TOKEN), 0, 0, value)).unwrap();
    for (object, state) in (0..40).flat_map(|object| (0..3).map(move |state| (object, state))) {
        let gone = i64::from(object == 7 && state == 2);
        let value = vec![u8::try_from(object).unwrap(); 900];
        connection.execute(sql, (format!("/registry/configmaps/kiosk/c{object}"), gone, state, value)).unwrap();
    }
    connection.close().unwrap();
    path
}

/// k3s's own, after it was killed: its last rows are in the -wal.
fn killed() -> Option<(TempDir, PathBuf)> {
    let tree = fixtures::tree("after-kill")?;
    let path = tree.path().join("var/lib/rancher/k3s/server/db/state.db");
    Some((tree, path))
}

fn climbed(path: &Path, known: u64, keys: Option<&Keys>) -> (TempDir, Result<Healed, BTreeMap<&'static str, Broken>>) {
    let scratch = tempfile::tempdir().unwrap();
    let patient =
        Patient { database: path, scratch: scratch.path(), known, token: TOKEN, keys, fresh: ([3; 8], [4; 12]) };
    let before = bytes(path);
    let climbed = climb(&patient).unwrap();
    assert_eq!(bytes(path), before, "the evidence was changed");
    (scratch, climbed)
}

fn bytes(path: &Path) -> Vec<Option<Vec<u8>>> {
    ["", "-wal"].map(|ending| std::fs::read(beside(path, ending)).ok()).to_vec()
}

/// Whatever a healed database lacks or has in an older state has to be named.
fn nothing_is_silently_gone(truth: &BTreeMap<String, i64>, healed: &Healed) {
    let found = objects(&healed.path);
    let wrong = truth.iter().filter(|(name, id)| found.get(*name) != Some(id)).map(|(name, _)| name);
    let back = found.keys().filter(|name| !truth.contains_key(*name));
    for name in wrong.chain(back) {
        assert!(healed.lost.uncertain || healed.lost.objects.contains(name), "{name} is gone, and nobody says so");
    }
    let lost_nothing = healed.lost.is_nothing();
    assert!(!lost_nothing || found == *truth);
}

#[test]
fn what_is_in_the_wal_comes_back_and_a_header_in_it_heals_one_of_garbage() {
    let Some((_tree, path)) = killed() else { return };
    let (_kept, healed) = climbed(&path, 414, None);
    let healed = healed.unwrap();
    assert_eq!((healed.rung, healed.contents.revision), (Rung::Recovered, 414));
    let truth = objects(&healed.path);
    assert_eq!(truth.keys().filter(|name| name.contains("/configmaps/kiosk/")).count(), 51);
    overwrite(&path, 0, &[0x5a; 100]);
    let (_kept, healed) = climbed(&path, 414, None);
    let healed = healed.unwrap();
    assert_eq!((healed.rung, objects(&healed.path)), (Rung::Recovered, truth));
}

#[test]
fn without_its_wal_it_is_old_and_nothing_makes_it_newer() {
    let Some((_tree, path)) = killed() else { return };
    durable::remove_file(beside(&path, "-wal")).unwrap();
    let (_kept, broken) = climbed(&path, 414, None);
    assert_eq!(broken.unwrap_err()["recovery"], Broken::Flaw(Flaw::Older { found: 377, known: 414 }));
}

#[test]
fn nothing_is_made_of_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let damages: [&dyn Fn(&Path); 4] = [
        &|path| drop(File::create(path).unwrap()),
        &|path| overwrite(path, 0, &[0; PAGE as usize]),
        &|path| overwrite(path, 0, &[0x5a; 100]),
        &|path| overwrite(path, PAGE, &[0; 10 * PAGE as usize]),
    ];
    for (number, damage) in damages.iter().enumerate() {
        let below = folder.path().join(number.to_string());
        durable::make_folder(&below).unwrap();
        let path = made(&below);
        damage(&path);
        let (_kept, broken) = climbed(&path, 0, None);
        assert_eq!(broken.unwrap_err().len(), 3, "damage {number}");
    }
}

#[test]
fn an_index_that_lacks_rows_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = made(folder.path());
    let truth = objects(&path);
    let change = |sql: &str| Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    let index = |ending: &str| {
        change(&format!(
            "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = 'CREATE INDEX kine_name_index ON kine (name){ending}' \
             WHERE name = 'kine_name_index';"
        ));
    };
    index(" WHERE id < 0");
    change("INSERT INTO kine (name, deleted, prev_revision) VALUES ('/registry/x/y', 0, 0)");
    index("");
    let (_kept, healed) = climbed(&path, 123, None);
    let healed = healed.unwrap();
    assert_eq!((healed.rung, healed.lost.is_nothing()), (Rung::Reindexed, true));
    assert_eq!(objects(&healed.path).len(), truth.len() + 1);
}

/// Each page of a database in turn is zeroed, or the file ends there.
fn every_page(path: &Path, known: u64, step: usize) -> [usize; 4] {
    let truth = objects(path);
    let mut whole = Vec::new();
    File::open(path).unwrap().read_to_end(&mut whole).unwrap();
    let pages = whole.len() as u64 / PAGE;
    let mut rungs = [0; 4];
    for page in (1..pages).step_by(step) {
        for cut in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let damaged = folder.path().join("state.db");
            durable::replace(&damaged, &whole, 0o600).unwrap();
            if cut {
                File::options().write(true).open(&damaged).unwrap().set_len(page * PAGE).unwrap();
            } else {
                overwrite(&damaged, page * PAGE, &[0; PAGE as usize]);
            }
            match climbed(&damaged, known, None) {
                (_kept, Ok(healed)) => {
                    assert!(healed.contents.revision >= known, "page {page}: the revision went back");
                    nothing_is_silently_gone(&truth, &healed);
                    rungs[healed.rung as usize] += 1;
                }
                (_, Err(_)) => rungs[3] += 1,
            }
        }
    }
    eprintln!("{pages} pages of {}: recovered, reindexed, salvaged, hopeless: {rungs:?}", path.display());
    rungs
}

#[test]
fn whichever_page_is_lost_what_is_gone_is_named() {
    let folder = tempfile::tempdir().unwrap();
    // Hopeless without the root of the table, or the page with the cluster's keys.
    let [.., salvaged, hopeless] = every_page(&made(folder.path()), 122, 1);
    assert!(salvaged > 70 && hopeless < 10, "{salvaged} {hopeless}");
    if let Some((_folder, path)) = fixtures::online_copy() {
        let [.., salvaged, _] = every_page(&path, 414, 7);
        assert!(salvaged > 10, "{salvaged}");
    }
}

#[test]
fn a_row_with_keys_that_is_damaged_is_made_again_from_k3ss_own_files() {
    let Some((tree, path)) = killed() else { return };
    let connection = Connection::open(&path).unwrap();
    connection.execute("UPDATE kine SET value = 'rubbish' WHERE name LIKE '/bootstrap/%' AND deleted = 0", []).unwrap();
    connection.close().unwrap();
    let broken = climbed(&path, 414, None).1.unwrap_err();
    assert_eq!(broken["recovery"], Broken::Token(TokenError::Damaged));
    let server = tree.path().join("var/lib/rancher/k3s/server");
    let keys = rekey::keys_of_files(&server, "2026-01-01T00:00:00Z", TOKEN).unwrap();
    let (_kept, healed) = climbed(&path, 414, Some(&keys));
    let healed = healed.unwrap();
    assert!(healed.keys_made_again && healed.rung == Rung::Recovered && healed.lost.is_nothing());
    assert_eq!(crate::prove(&healed.path, TOKEN).unwrap().unwrap(), keys);
}
