//! Configurations and outputs that are refused before any work is done, and what `--force` does.

use crate::bakery::{Bench, PLAIN, bakery, command, good, is_root, put, refused, skip, sum_of};
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

#[test]
fn unknown_keys_are_named_all_at_once() {
    let Some(bakery) = bakery() else { return };
    let wrong = "board: qemu-x86_64\nhostnam: shop\nk3s:\n  payload: none\n  versoin: v1\nimage: {slot-size: 3}\n";
    let bench = Bench::new(bakery, wrong);
    let file = bench.config.display();
    let places = [
        format!("{file}:2:1: hostnam: "),
        format!("{file}:5:3: k3s.versoin: "),
        format!("{file}:6:20: image.slot-size: "),
    ];
    let words: Vec<&str> = places.iter().map(String::as_str).chain(["`hostname`", "`version`"]).collect();
    refused(&mut bench.build(bakery), 2, &words);
    let json = refused(bench.build(bakery).arg("--json"), 2, &[]);
    let error: serde_json::Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    assert_eq!(error["findings"].as_array().unwrap().len(), 3, "{json}");
    bench.nothing_left();
}

#[test]
fn an_output_that_is_there_is_replaced_only_by_force() {
    let Some(bakery) = bakery() else { return };
    let bench = Bench::new(bakery, PLAIN);
    put(&bench.output, "precious");
    refused(&mut bench.build(bakery), 1, &["shop.img is there already", "--force"]);
    assert_eq!(fs::read(&bench.output).unwrap(), b"precious");
    // Not even a build that was forced and failed takes the old image away.
    let small = bench.at("small.yaml");
    put(&small, PLAIN.replace("none", "{files: nowhere}"));
    let mut failing = command(&bakery.program);
    failing.args(["build", "--force", "--offline", "--cache"]).arg(&bench.cache).arg(&small);
    refused(failing.arg("--output").arg(&bench.output), 1, &["nowhere"]);
    assert_eq!(fs::read(&bench.output).unwrap(), b"precious");
    // A folder where the map goes is in the way of the whole set.
    fs::create_dir(bench.beside("bmap")).unwrap();
    refused(bench.build(bakery).args(["--force", "--offline"]), 1, &["shop.img.bmap is not a file"]);
    assert_eq!(fs::read(&bench.output).unwrap(), b"precious");
    fs::remove_dir(bench.beside("bmap")).unwrap();
    good(bench.build(bakery).args(["--force", "--offline"]));
    assert_eq!(sum_of(&bench.output), bakery.image);
    bench.take_away();
    bench.nothing_left();
}

#[test]
fn devices_folders_and_missing_folders_are_no_output() {
    let Some(bakery) = bakery() else { return };
    let mut bench = Bench::new(bakery, PLAIN);
    for kind in ["b", "c"] {
        let Some(device) = device(&bench, kind) else { continue };
        let mut build = bench.build(bakery);
        refused(build.arg("--force").arg("--output").arg(&device), 2, &["cannot be used multiple times"]);
        let empty = std::mem::replace(&mut bench.output, device);
        refused(bench.build(bakery).args(["--force", "--offline"]), 1, &["is a device, not a file", "flash"]);
        assert!(!fs::metadata(&bench.output).unwrap().is_file(), "the device is still one");
        if is_root() {
            fs::remove_file(&bench.output).unwrap();
        }
        bench.output = empty;
    }
    let folder = bench.output.clone();
    fs::create_dir(&folder).unwrap();
    refused(bench.build(bakery).args(["--force", "--offline"]), 1, &["shop.img is not a file"]);
    fs::remove_dir(&folder).unwrap();
    bench.nothing_left();
    bench.output = bench.at("nowhere/shop.img");
    refused(bench.build(bakery).arg("--offline"), 1, &["nowhere"]);
    assert!(!bench.at("nowhere").exists());
}

/// A device of a kind: as root one that leads nowhere, so that not even a broken builder could do harm; else any that
/// this user can't write to.
fn device(bench: &Bench, kind: &str) -> Option<PathBuf> {
    if is_root() {
        let path = bench.at("out/device");
        let made = command("mknod").arg(&path).args([kind, "7", "2047"]).status().unwrap().success();
        if made {
            return Some(path);
        }
    } else {
        let wanted = |path: &Path| {
            fs::metadata(path).is_ok_and(|found| {
                if kind == "b" { found.file_type().is_block_device() } else { found.file_type().is_char_device() }
            }) && fs::File::options().write(true).open(path).is_err()
        };
        let mut paths = fs::read_dir("/dev").unwrap().map(|entry| entry.unwrap().path());
        if let Some(path) = paths.find(|path| wanted(path)) {
            return Some(path);
        }
    }
    skip(&format!("no device of kind {kind} could be had, so none was refused as an output"));
    None
}

#[test]
fn a_slot_that_is_too_small_is_told_with_what_is_needed() {
    let Some(bakery) = bakery() else { return };
    let bench = Bench::new(bakery, "board: qemu-x86_64\nk3s: {files: payload}\nimage: {slot-size: 64MiB}\n");
    crate::payloads::release(&bench.at("payload"), "k3s", 80 << 20);
    // The shared lock is for no payload.
    refused(bench.build(bakery).arg("--offline"), 1, &["was made for", "bakelite lock"]);
    let mut lock = command(&bakery.program);
    good(lock.arg("lock").arg(&bench.config).arg("--cache").arg(&bench.cache));
    refused(bench.build(bakery).arg("--offline"), 1, &["image.slot-size is 64 MiB", "needs", "larger"]);
    bench.nothing_left();
}
