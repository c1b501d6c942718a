//! Cuts after each rename of an act, and of the act that takes it back: always all of the old, or all of the new.

use super::*;
use crate::tests::database;
use std::collections::BTreeMap;
use std::path::Path;
use tempfile::TempDir;

const OLD: &[&str] = &[
    "server/tls/server-ca.crt",
    "server/cred/passwd",
    "server/token",
    "agent/client-kubelet.crt",
    "agent/kubelet.kubeconfig",
];
/// What k3s makes as a link to the token, by its whole path.
const LINK: &str = "server/node-token";
/// What no restore touches.
const KEPT: &[&str] = &["agent/images/k3s.tar", "agent/etc/x", "server/manifests/mine.yaml", "data/bin"];

fn put(path: &Path, text: &str) {
    durable::make_folder(path.parent().unwrap()).unwrap();
    durable::replace(path, text.as_bytes(), 0o600).unwrap();
}

fn machine(has_cluster: bool) -> (TempDir, Places) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let places = Places { live: at("k3s"), staged: at("restore/staged"), aside: at("restore/aside-1") };
    if has_cluster {
        OLD.iter().for_each(|path| put(&places.live.join(path), "old"));
        std::os::unix::fs::symlink(places.live.join("server/token"), places.live.join(LINK)).unwrap();
        durable::make_folder(places.live.join("server/db")).unwrap();
        drop(database(&places.live.join("server/db"), 40));
    }
    KEPT.iter().for_each(|path| put(&places.live.join(path), "kept"));
    put(&places.staged.join("db/state.db"), "new");
    put(&places.staged.join("token"), "new token");
    (folder, places)
}

/// All files below a folder with what is in them; a database by its revision.
fn tree(folder: &Path) -> BTreeMap<String, String> {
    let (mut files, mut folders) = (BTreeMap::new(), vec![folder.to_path_buf()]);
    while let Some(below) = folders.pop() {
        for name in names_in(&below) {
            let path = below.join(&name);
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.is_symlink() {
                files.insert(path.strip_prefix(folder).unwrap().display().to_string(), "link".into());
                continue;
            }
            let text = String::from_utf8(std::fs::read(&path).unwrap()).ok().filter(|text| text.len() < 100);
            let text =
                text.unwrap_or_else(|| format!("{:?}", crate::state(&path).map(|state| state.unwrap().revision)));
            files.insert(path.strip_prefix(folder).unwrap().display().to_string(), text);
        }
    }
    files
}

fn renames(places: &Places, most: usize, next: impl Fn(&Places) -> Option<(PathBuf, PathBuf)>) -> usize {
    let mut done = 0;
    while done < most
        && let Some((from, to)) = next(places)
    {
        step(&from, &to).unwrap();
        done += 1;
    }
    done
}

#[test]
fn whatever_rename_is_the_last_before_a_cut_all_of_the_new_comes_and_all_of_the_old_is_kept() {
    for has_cluster in [true, false] {
        let (_folder, whole) = machine(has_cluster);
        put_in_place(&whole).unwrap();
        let (live, aside) = (tree(&whole.live), tree(&whole.aside));
        assert_eq!(live["server/db/state.db"], "new");
        assert_eq!(live.len(), 1 + KEPT.len(), "{live:?}");
        assert!(KEPT.iter().all(|path| live[*path] == "kept"));
        if has_cluster {
            assert!(OLD.iter().all(|path| aside[*path] == "old") && aside[LINK] == "link", "{aside:?}");
            // Folded: its last rows were only in the -wal.
            assert_eq!(aside["server/db/state.db"], "Ok(40)");
            assert_eq!(aside.len(), OLD.len() + 2, "{aside:?}");
        }
        let total = renames(&machine(has_cluster).1, usize::MAX, next);
        let mut steps = 0;
        for cut in 0..20 {
            let (_folder, places) = machine(has_cluster);
            if cut > 0 && has_cluster {
                fold(&places.live.join("server/db/state.db")).unwrap();
            }
            steps = steps.max(renames(&places, cut, next));
            // A cut in the middle of anything else is one before it: each rename is the file system's single act.
            put_in_place(&places).unwrap();
            put_in_place(&places).unwrap();
            assert_eq!((&tree(&places.live), &tree(&places.aside)), (&live, &aside), "cut after {cut}");
        }
        assert_eq!(steps, total);
    }
}

#[test]
fn an_act_that_is_taken_back_leaves_what_was_there_before_it() {
    for has_cluster in [true, false] {
        let (_folder, places) = machine(has_cluster);
        if has_cluster {
            fold(&places.live.join("server/db/state.db")).unwrap();
        }
        let before = tree(&places.live);
        for cut in 0..40 {
            let (_folder, places) = machine(has_cluster);
            put_in_place(&places).unwrap();
            // k3s ran on it, and didn't become ready.
            put(&places.live.join("server/tls/server-ca.crt"), "newer");
            put(&places.live.join("agent/new.key"), "newer");
            let away = renames(&places, cut, next_away);
            if away < cut {
                durable::write_durable(places.aside.join(CLEARED), b"", 0o600).unwrap();
                renames(&places, cut - away, next_home);
            }
            put_back(&places).unwrap();
            put_back(&places).unwrap();
            assert_eq!(tree(&places.live), before, "cut after {cut}");
            let undone = tree(&places.aside.join(UNDONE));
            assert_eq!(undone["server/db/state.db"], "new");
            assert_eq!(undone["server/tls/server-ca.crt"], "newer");
        }
    }
}

#[test]
fn a_damaged_database_is_moved_as_it_is_and_nothing_of_an_act_before_is_overwritten() {
    let (_folder, places) = machine(true);
    put(&places.live.join("server/db/state.db"), "no database");
    put(&places.aside.join("server/token"), "of an act that was dropped");
    put_in_place(&places).unwrap();
    let aside = tree(&places.aside);
    assert_eq!(aside["server/db/state.db"], "no database");
    assert!(aside.contains_key("server/db/state.db-wal"), "{aside:?}");
    assert_eq!(aside["server/token"], "of an act that was dropped");
    assert_eq!(aside["server/token.1"], "old");
    assert_eq!(names_in(places.live.join("server/db")), ["state.db"]);
}

#[test]
fn a_sets_volumes_come_with_it_others_stay_and_all_goes_back() {
    let (_folder, places) = machine(true);
    for (folder, text) in [(&places.live, "old"), (&places.staged, "new")] {
        put(&folder.join("storage/pvc-1_shop_till/sales"), text);
    }
    put(&places.live.join("storage/pvc-2_shop_other/x"), "kept");
    put(&places.staged.join("storage/pvc-3_shop_more/x"), "new");
    let text = |path: &str| std::fs::read_to_string(places.live.join("storage").join(path)).ok();
    let before = tree(&places.live);
    put_in_place(&places).unwrap();
    assert_eq!(text("pvc-1_shop_till/sales").as_deref(), Some("new"));
    assert_eq!(text("pvc-2_shop_other/x").as_deref(), Some("kept"));
    assert_eq!(text("pvc-3_shop_more/x").as_deref(), Some("new"));
    put_in_place(&places).unwrap();
    put_back(&places).unwrap();
    assert_eq!(text("pvc-1_shop_till/sales").as_deref(), Some("old"));
    let mut after = tree(&places.live);
    assert_eq!(after.remove("storage/pvc-3_shop_more/x").as_deref(), Some("new"), "nobody knows of it, and it stays");
    // What folding has made of the database is the same database.
    let names = |tree: &BTreeMap<String, String>| {
        tree.keys().filter(|name| !name.contains("state.db")).cloned().collect::<Vec<_>>()
    };
    assert_eq!(names(&after), names(&before));
}
