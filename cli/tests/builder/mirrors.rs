//! Mirrors that are down, that lie, and that are somebody else's; and packages that are not what they should be.

use crate::bakery::{Bakery, Bench, Ended, PLAIN, bakery, command, end, good, put, refused, sum, sum_of, workplace};
use std::fs;
use std::net::TcpListener;

/// Signed for the test by a key that nobody keeps.
const STRANGER: &str = include_str!("stranger-InRelease");

/// `bakelite lock` with a bench's cache and a mirror.
fn lock(bakery: &Bakery, bench: &Bench, mirror: &str) -> std::process::Command {
    let mut lock = command(&bakery.program);
    lock.arg("lock").arg(&bench.config).arg("--cache").arg(&bench.cache).args(["--mirror", mirror]);
    lock
}

/// A local mirror in the bench's folder, as `--mirror` takes it.
fn local(bench: &Bench) -> String {
    format!("file://{}", bench.at("debian").display())
}

/// An address that nobody listens on.
fn down() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}/debian", listener.local_addr().unwrap())
}

#[test]
fn a_mirror_that_is_down() {
    let Some(bakery) = bakery() else { return };
    let bench = Bench::empty(PLAIN);
    let mirror = down();
    refused(&mut lock(bakery, &bench, &mirror), 1, &["cannot fetch", &mirror, "--mirror", "BAKELITE_MIRROR"]);
    assert!(!bench.lock().exists());
    put(&bench.lock(), &bakery.lock);
    refused(bench.build(bakery).args(["--mirror", &mirror]), 1, &["cannot fetch", &mirror, "--mirror"]);
    refused(bench.build(bakery).arg("--offline"), 1, &["is not in the cache and --offline was given"]);
    bench.nothing_left();
    // With a full cache no mirror is asked.
    let bench = Bench::new(bakery, PLAIN);
    good(bench.build(bakery).args(["--mirror", &mirror]));
    assert_eq!(sum_of(&bench.output), bakery.image);
}

#[test]
fn a_signature_of_a_stranger_or_over_another_text() {
    let Some(bakery) = bakery() else { return };
    let bench = Bench::new(bakery, PLAIN);
    let release = bench.at("debian/dists/trixie/InRelease");
    let before = fs::read(bench.lock()).unwrap();
    put(&release, STRANGER);
    let words =
        ["suite trixie: InRelease is not to be trusted", "222175F4807FB31B535D1AEC846F70324E611658", "--mirror"];
    refused(&mut lock(bakery, &bench, &local(&bench)), 1, &words);

    let suites: serde_json::Value = serde_json::from_str(&bakery.lock).unwrap();
    let genuine = fs::read_to_string(bench.entry(suites["suites"][0]["sha256"].as_str().unwrap())).unwrap();
    let (head, tail) = genuine.split_once("\nSHA256:\n").unwrap();
    let digit = if tail.trim_start().starts_with('0') { "1" } else { "0" };
    put(&release, format!("{head}\nSHA256:\n {digit}{}", &tail.trim_start()[1..]));
    let words = ["suite trixie: InRelease is not to be trusted", "it was changed"];
    refused(&mut lock(bakery, &bench, &local(&bench)), 1, &words);

    put(&release, genuine.split("-----BEGIN PGP SIGNATURE").next().unwrap());
    refused(&mut lock(bakery, &bench, &local(&bench)), 1, &["suite trixie: InRelease is not to be trusted"]);
    assert_eq!(fs::read(bench.lock()).unwrap(), before, "the old lock stays");
    // A build without a lock meets the same, and leaves no lock.
    fs::remove_file(bench.lock()).unwrap();
    put(&release, STRANGER);
    refused(bench.build(bakery).args(["--mirror", &local(&bench)]), 1, &["not to be trusted"]);
    assert!(!bench.made_lock().exists());
    bench.nothing_left();
}

#[test]
fn a_package_with_the_wrong_content() {
    let Some(bakery) = bakery() else { return };
    let bench = Bench::new(bakery, PLAIN);
    let package = package(bakery, "netbase");
    let good_bytes = fs::read(bench.entry(&package.sum)).unwrap();
    let mut bad = good_bytes.clone();
    bad[good_bytes.len() / 2] ^= 1;
    // A damaged entry of the cache is thrown away, and got again where there is a mirror.
    put(&bench.entry(&package.sum), &bad);
    refused(bench.build(bakery).arg("--offline"), 1, &["netbase is not in the cache", "--offline"]);
    bench.nothing_left();
    put(&bench.at("debian").join(&package.pool), &bad);
    let words = ["netbase: ", "wrong content", &package.sum, &sum(&bad), "nothing was kept"];
    refused(bench.build(bakery).args(["--mirror", &local(&bench)]), 1, &words);
    put(&bench.at("debian").join(&package.pool), &bad[1..]);
    refused(bench.build(bakery).args(["--mirror", &local(&bench)]), 1, &["netbase: ", "wrong size"]);
    fs::remove_file(bench.at("debian").join(&package.pool)).unwrap();
    let words = ["is locked, but the mirror has it no more", "bakelite lock"];
    refused(bench.build(bakery).args(["--mirror", &local(&bench)]), 1, &words);
    bench.nothing_left();
    put(&bench.entry(&package.sum), &bad);
    put(&bench.at("debian").join(&package.pool), &good_bytes);
    good(bench.build(bakery).args(["--mirror", &local(&bench)]));
    assert_eq!(sum_of(&bench.output), bakery.image);
    bench.cache_is_whole();
}

/// One package of the shared lock.
struct Package {
    pool: String,
    sum: String,
}

fn package(bakery: &Bakery, name: &str) -> Package {
    let lock: serde_json::Value = serde_json::from_str(&bakery.lock).unwrap();
    let packages = lock["packages"].as_array().unwrap();
    let found = packages.iter().find(|package| package["name"] == name).unwrap();
    assert_eq!(found["suite"], "trixie", "the local mirrors of these tests are of the main archive");
    Package { pool: found["pool"].as_str().unwrap().into(), sum: found["sha256"].as_str().unwrap().into() }
}

/// A member of a tar: path, type, target of a link, content.
type Member<'a> = (&'a str, u8, &'a str, &'a [u8]);

/// A tar whose paths and targets are written as they are given.
fn tar(entries: &[Member<'_>]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (path, kind, link, content) in entries {
        let mut head = [0u8; 512];
        head[..path.len()].copy_from_slice(path.as_bytes());
        head[100..124].copy_from_slice(b"0000755\x000000000\x000000000\x00");
        head[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
        head[136..148].copy_from_slice(b"00000000000\0");
        head[148..156].fill(b' ');
        head[156] = *kind;
        head[157..157 + link.len()].copy_from_slice(link.as_bytes());
        head[257..265].copy_from_slice(b"ustar\x0000");
        let total: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
        head[148..156].copy_from_slice(format!("{total:06o}\0 ").as_bytes());
        archive.extend_from_slice(&head);
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

fn deb(entries: &[Member<'_>]) -> Vec<u8> {
    let control = tar(&[("./control", b'0', "", b"Package: netbase\nVersion: 6.5\nArchitecture: all\n")]);
    let mut archive = b"!<arch>\n".to_vec();
    for (name, content) in [("debian-binary", b"2.0\n".to_vec()), ("control.tar", control), ("data.tar", tar(entries))]
    {
        let head = format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, content.len());
        archive.extend_from_slice(head.as_bytes());
        archive.extend_from_slice(&content);
    }
    archive
}

/// Builds with such a package under netbase's name: locked with its right sum, from a local mirror.
fn build_with(bakery: &Bakery, bench: &Bench, package: &Package, deb: &[u8]) -> Ended {
    put(&bench.at("debian").join(&package.pool), deb);
    bench.change_lock(|lock| {
        let packages = lock["packages"].as_array_mut().unwrap();
        let found = packages.iter_mut().find(|package| package["name"] == "netbase").unwrap();
        found["size"] = deb.len().into();
        found["sha256"] = sum(deb).into();
    });
    end(bench.build(bakery).args(["--mirror", &local(bench)]))
}

#[test]
fn a_package_that_climbs_out() {
    let Some(bakery) = bakery() else { return };
    let bench = Bench::new(bakery, PLAIN);
    let package = package(bakery, "netbase");
    let escape = bench.at("escaped");
    let absolute = escape.display().to_string();
    let refusals: &[(&str, &[Member<'_>])] = &[
        ("climbs out", &[("./../escaped", b'0', "", b"x")]),
        ("climbs out", &[("./usr/../../../escaped", b'0', "", b"x")]),
        ("climbs out", &[("./../escaped/", b'5', "", b"")]),
        ("climbs out", &[("./usr/passwd", b'1', "../../../../etc/passwd", b"")]),
        ("no package may bring", &[("./usr/disk", b'4', "", b"")]),
    ];
    for (word, entries) in refusals {
        let ended = build_with(bakery, &bench, &package, &deb(entries));
        let path = entries[0].0;
        assert_eq!(ended.code, Some(1), "{path}: {}", ended.said);
        assert!(ended.said.contains("package netbase: "), "{path}: {}", ended.said);
        assert!(ended.said.to_lowercase().contains(word), "{path}: {}", ended.said);
        bench.nothing_left();
    }
    // A link that leads out is only a link in the image; what is put through it is refused.
    let target = bench.folder.path().display().to_string();
    let through = [("./usr/out", b'2', target.as_str(), &b""[..]), ("./usr/out/escaped", b'0', "", b"x")];
    let ended = build_with(bakery, &bench, &package, &deb(&through));
    assert_eq!(ended.code, Some(1), "{}", ended.said);
    assert!(ended.said.contains("goes through the symbolic link"), "{}", ended.said);
    bench.nothing_left();
    // An absolute path is one in the image, if it is taken at all.
    build_with(bakery, &bench, &package, &deb(&[(&absolute[..absolute.len().min(99)], b'0', "", b"x")]));
    assert!(!escape.exists());
    assert!(!workplace().join("escaped").exists());
}
