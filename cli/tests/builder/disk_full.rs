//! A build that runs out of room: in the output's folder, in the cache.
//!
//! As root on small file systems of their own; as any user with a limit on the length of files, which fails at the same
//! places with another word.

use crate::bakery::{Bakery, Bench, PLAIN, bakery, command, full, is_root, refused, skip};
use std::fs;
use std::path::{Path, PathBuf};

/// A small file system, gone when dropped.
struct Small(PathBuf);

impl Small {
    fn mount(folder: &Path, mebibytes: u32) -> Option<Self> {
        fs::create_dir_all(folder).unwrap();
        let options = format!("size={mebibytes}m,mode=755");
        let mut mount = command("mount");
        let done = mount.args(["-t", "tmpfs", "-o", &options, "none"]).arg(folder).status();
        done.is_ok_and(|status| status.success()).then(|| Self(folder.into()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = command("umount").arg(&self.0).status();
    }
}

/// A local mirror in a bench's folder with everything that the shared lock names.
pub fn local_mirror(bakery: &Bakery, bench: &Bench) -> String {
    let lock: serde_json::Value = serde_json::from_str(&bakery.lock).unwrap();
    let whole = Bench::new(bakery, PLAIN);
    for package in lock["packages"].as_array().unwrap() {
        let text = |key: &str| package[key].as_str().unwrap();
        let archive = if text("suite").ends_with("-security") { "debian-security" } else { "debian" };
        let target = bench.at(archive).join(text("pool"));
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::hard_link(whole.entry(text("sha256")), target).unwrap();
    }
    format!("file://{}", bench.at("debian").display())
}

#[test]
fn a_full_disk_anywhere_leaves_nothing() {
    let Some(bakery) = bakery() else { return };
    if !is_root() {
        return skip("small file systems can be mounted by root only, so no disk was full");
    }
    // The image takes some 50 MB where its system and its kernels are; the cache 120 MB of packages, and as much again
    // and a little more unpacked.
    let rooms = [("out", 30), ("cache", 60), ("cache", 200), ("out", 1), ("cache", 2), ("cache", 130)];
    for (what, mebibytes) in rooms.into_iter().take(if full() { 6 } else { 3 }) {
        let mut bench = Bench::new(bakery, PLAIN);
        let folder = bench.at("small");
        let Some(small) = Small::mount(&folder, mebibytes) else {
            return skip("no tmpfs could be mounted, so no disk was full");
        };
        let mut mirror = String::new();
        match what {
            "out" => bench.output = folder.join("shop.img"),
            _ => {
                mirror = local_mirror(bakery, &bench);
                bench.cache = folder;
            }
        }
        let mut build = bench.build(bakery);
        if mirror.is_empty() {
            build.arg("--offline");
        } else {
            build.args(["--mirror", &mirror]);
        }
        let said = refused(&mut build, 1, &["No space left on device"]);
        println!("{what}, {mebibytes} MiB: {}", said.lines().last().unwrap_or_default());
        bench.nothing_left();
        drop(small);
    }
}

#[test]
fn a_limit_on_the_length_of_files_leaves_nothing() {
    let Some(bakery) = bakery() else { return };
    // In units of 512 bytes, or 1024 in some shells: while unpacking, and when the image gets its length.
    for limit in ["512", "60000"] {
        let bench = Bench::new(bakery, PLAIN);
        let mut limited = command("sh");
        limited.args(["-c", r#"trap "" XFSZ && ulimit -f "$0" && exec "$@""#, limit]).arg(&bakery.program);
        bench.arguments(&mut limited);
        refused(limited.arg("--offline"), 1, &["File too large"]);
        bench.nothing_left();
    }
}
