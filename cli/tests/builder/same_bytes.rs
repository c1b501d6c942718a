//! The same configuration and lock give the same bytes, whoever builds, wherever, whenever and on what.
//!
//! The device's programs are proved equal from two clones; the images by building again with everything changed that
//! mustn't matter.

use crate::bakery::{Bench, DISK, PLAIN, bakery, command, full, good, installed, is_root, put, skip, sum_of, sum_read};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A build's command line behind another program that changes its world.
fn behind(words: &[&str], program: &Path, bench: &Bench) -> Command {
    let mut changed = command(words[0]);
    changed.args(&words[1..]).arg(program);
    bench.arguments(&mut changed);
    changed.arg("--offline");
    changed
}

#[test]
fn another_user_folder_and_umask() {
    let Some(bakery) = bakery() else { return };
    if !is_root() {
        return skip("only root can build as another user");
    }
    // What nobody may enter, such as a home, can't hold this user's bench.
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(bakery, PLAIN);
    let words = "umask 077; set -e; cd \"$1\"; exec setpriv --reuid 4321 --regid 4321 --clear-groups bin/bakelite build shop.yaml -o a/shop.img --cache cache --offline";
    let home = folder.path().join("u");
    good(command("cp").arg("-rL").arg(bakery.program.ancestors().nth(2).unwrap()).arg(&home));
    for name in ["shop.yaml", "shop.lock", "cache"] {
        good(command("cp").arg("-r").arg(bench.at(name)).arg(home.join(name)));
    }
    fs::create_dir(home.join("a")).unwrap();
    good(command("chown").args(["-R", "4321:4321"]).arg(folder.path()));
    let mut build = command("sh");
    build.args(["-c", words, "sh"]).arg(&home).env("HOME", "/nonexistent").env("TMPDIR", &home);
    good(&mut build);
    assert_eq!(sum_of(&home.join("a/shop.img")), bakery.image);
}

#[test]
fn another_hour_zone_and_language() {
    let Some(bakery) = bakery() else { return };
    if !installed("faketime", "faketime") {
        return;
    }
    let mut clocks = vec!["2031-03-04 05:06:07"];
    if full() {
        // Before any of the packages was made, and after 32 bits of seconds.
        clocks.extend(["2001-01-01 00:00:01", "2040-01-01 00:00:00"]);
    }
    for clock in clocks {
        let bench = Bench::new(bakery, PLAIN);
        let mut build = behind(&["faketime", "-f", &format!("@{clock}")], &bakery.program, &bench);
        good(build.env("TZ", "Asia/Kathmandu").env("LC_ALL", "tr_TR.UTF-8").env("LANG", "de_DE").env("USER", "x"));
        assert_eq!(sum_of(&bench.output), bakery.image, "{clock}");
    }
}

#[test]
fn one_processor_another_file_order_and_umask() {
    let Some(bakery) = bakery() else { return };
    let bench = Bench::new(bakery, PLAIN);
    // Folders list their files by hash or by age: the cache is made anew, last entry first.
    let turned = bench.at("turned");
    let mut folders: Vec<PathBuf> =
        fs::read_dir(bench.cache.join("sha256")).unwrap().map(|folder| folder.unwrap().path()).collect();
    folders.sort();
    for folder in folders.iter().rev() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            put(
                &turned.join("sha256").join(path.strip_prefix(bench.cache.join("sha256")).unwrap()),
                fs::read(&path).unwrap(),
            );
        }
    }
    let bench = Bench { cache: turned, ..bench };
    let mut build = behind(&["taskset", "1", "sh", "-c", "umask 002; exec \"$0\" \"$@\""], &bakery.program, &bench);
    good(&mut build);
    assert_eq!(sum_of(&bench.output), bakery.image);
    // Relative paths, from another folder, to a folder of temporary files on another file system.
    let disk = tempfile::tempdir_in(DISK).unwrap();
    let mut build = command(&bakery.program);
    build.current_dir(bench.folder.path()).env("TMPDIR", disk.path());
    good(build.args(["build", "shop.yaml", "-o", "again.img", "--cache", "turned", "--offline"]));
    assert_eq!(sum_of(&bench.at("again.img")), bakery.image);
}

#[test]
fn what_was_made_before_changes_no_byte() {
    let Some(bakery) = bakery() else { return };
    let bench = Bench::new(bakery, PLAIN);
    let build = || {
        good(bench.build(bakery).args(["--offline", "--force"]));
        assert_eq!(sum_of(&bench.output), bakery.image);
    };
    build();
    build();
    for kind in ["layers", "blocks", "indices"] {
        let entries = fs::read_dir(bench.at("cache/made/1").join(kind)).unwrap();
        let mut entries: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        let [first, .., last] = &entries[..] else { panic!("{kind}: {entries:?}") };
        let mut bytes = fs::read(first).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        put(first, bytes);
        fs::remove_file(last).unwrap();
        build();
    }
    // Compressed, and beside it the same map and list.
    let beside =
        |output: &Path| ["bmap", "spdx.json"].map(|end| fs::read(format!("{}.{end}", output.display())).unwrap());
    let packed = bench.at("shop.img.zst");
    let mut build = command(&bakery.program);
    build.arg("build").arg(&bench.config).arg("-o").arg(&packed).arg("--cache").arg(&bench.cache);
    good(build.arg("--offline").env("TMPDIR", &bench.temporary));
    assert_eq!(beside(&packed), beside(&bench.output));
    assert!(fs::metadata(&packed).unwrap().len() < 100 << 20);
    let unpacked = zstd::Decoder::new(fs::File::open(&packed).unwrap()).unwrap();
    assert_eq!(sum_read(unpacked), bakery.image);
}

#[test]
fn the_payload_is_part_of_it() {
    let Some(bakery) = bakery() else { return };
    let sums = [(); 2].map(|()| {
        let bench = Bench::new(bakery, "board: qemu-x86_64\nk3s: rehearsal\n");
        good(bench.build(bakery).arg("--offline"));
        sum_of(&bench.output)
    });
    assert_eq!(sums[0], sums[1]);
    assert_ne!(sums[0], bakery.image);
}

#[test]
fn programs_from_two_clones() {
    let Some(bakery) = bakery() else { return };
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let git = |arguments: &[&str]| {
        let mut git = command("git");
        git.current_dir(here).args(["-c", "safe.directory=*"]).args(arguments);
        git.output().ok().filter(|done| done.status.success())
    };
    match git(&["status", "--porcelain"]) {
        None => return skip("this is no clone, so the programs of two clones were not compared"),
        Some(status) if !status.stdout.is_empty() => {
            return skip("there are changes that are not committed, so the programs of two clones were not compared");
        }
        Some(_) => {}
    }
    let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(DISK).unwrap();
    // A space, and a registry in another place.
    let (clone, cargo) = (folder.path().join("another clone"), folder.path().join("cargo"));
    git(&["clone", "--quiet", ".", clone.to_str().unwrap()]).expect("a clone");
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.unwrap_or_else(|| Path::new(&std::env::var_os("HOME").expect("a home")).join(".cargo"));
    fs::create_dir(&cargo).unwrap();
    good(command("cp").arg("-r").arg(home.join("registry")).arg(&cargo));
    let mut build = command(clone.join("scripts/build"));
    build.env("CARGO_HOME", &cargo).env_remove("BAKELITE_BIN");
    for (name, _) in std::env::vars_os().filter(|(name, _)| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_") && name != "CARGO_HOME"
    }) {
        build.env_remove(name);
    }
    let lib = bakery.program.ancestors().nth(2).unwrap().join("lib/bakelite");
    let is_here = |arch: &&str| (full() || *arch == "x86_64") && lib.join(arch).is_dir();
    let architectures: Vec<&str> = ["x86_64", "aarch64", "armv7"].into_iter().filter(is_here).collect();
    // The smallest one tells of a folder that got in; all of them take five minutes.
    let names = if full() { &["init", "firstboot", "rehearsal-k3s"][..] } else { &["init"] };
    if !full() {
        build.arg("init");
    }
    good(build.args(&architectures));
    for arch in architectures {
        for name in names {
            let theirs = clone.join("target/bakelite/lib/bakelite").join(arch).join(name);
            assert_eq!(sum_of(&lib.join(arch).join(name)), sum_of(&theirs), "{name} for {arch} of two clones");
        }
    }
    if full() {
        let bench = Bench::new(bakery, PLAIN);
        let mut build = command(clone.join("target/bakelite/bin/bakelite"));
        bench.arguments(&mut build);
        good(build.arg("--offline"));
        assert_eq!(sum_of(&bench.output), bakery.image);
    }
}
