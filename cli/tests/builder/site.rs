//! `k3s: VERSION`: the official release's files from a site, here a local server with a made-up release.

use crate::bakery::{Bakery, Bench, bakery, command, good, installed, put, refused, sum, sum_of};
use crate::payloads::{VERSION, release};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Serves a folder for as long as the test program runs; gives the address.
fn serve(folder: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            answer(stream, &folder);
        }
    });
    address
}

fn answer(stream: TcpStream, folder: &Path) {
    let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
    let request = lines.next().unwrap_or_default();
    while lines.next().is_some_and(|line| !line.is_empty()) {}
    let path = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').replace("%2B", "+");
    let (status, body) = match fs::read(folder.join(path)) {
        Ok(body) => ("200 OK", body),
        Err(_) => ("404 Not Found", Vec::new()),
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _ = (&stream).write_all(head.as_bytes()).and_then(|()| (&stream).write_all(&body));
}

fn appliance(version: &str) -> String {
    format!("board: qemu-x86_64\nk3s: {version}\n")
}

/// A build from a site; without the shared lock, which is for no payload.
fn build(bakery: &Bakery, bench: &Bench, site: &str) -> Command {
    let mut build = bench.build(bakery);
    build.arg("--force").env("BAKELITE_K3S_SITE", site);
    build
}

#[test]
fn a_release_from_the_site() {
    let Some(bakery) = bakery() else { return };
    let bench = Bench::new(bakery, &appliance(VERSION));
    fs::remove_file(bench.lock()).unwrap();
    let folder = bench.at("site").join(VERSION);
    release(&folder, "k3s", 100_000);
    let site = serve(bench.at("site"));
    let said = good(&mut build(bakery, &bench, &site));
    assert!(said.contains(&format!("payload k3s {VERSION}")), "{said}");
    let (first, made) = (sum_of(&bench.output), bench.made_lock());
    let lock = fs::read_to_string(&made).unwrap();
    assert!(lock.contains(&format!("{site}/v1.36.2%2Bk3s1/k3s\"")), "{lock}");
    payload_is_in(&bench, &fs::read(folder.join("k3s")).unwrap());

    // Now that it is locked and in the cache, no site is needed.
    good(build(bakery, &bench, "http://127.0.0.1:1").arg("--offline"));
    assert_eq!(sum_of(&bench.output), first);

    // The site has changed the file that is locked.
    let binary = fs::read(folder.join("k3s")).unwrap();
    fs::remove_file(bench.entry(&sum(&binary))).unwrap();
    put(&folder.join("k3s"), [&binary[..], b"more"].concat());
    bench.take_away();
    refused(&mut build(bakery, &bench, &site), 1, &["k3s: ", "wrong size"]);
    let mut changed = binary.clone();
    changed[99] ^= 1;
    put(&folder.join("k3s"), &changed);
    refused(&mut build(bakery, &bench, &site), 1, &["k3s: ", "wrong content", &sum(&binary), &sum(&changed)]);
    bench.nothing_left();
}

/// Reads the finished image with squashfs-tools: the program is there, and under the operator's names.
fn payload_is_in(bench: &Bench, binary: &[u8]) {
    if !installed("unsquashfs", "squashfs-tools") {
        return;
    }
    let image = fs::read(&bench.output).unwrap();
    // The third entry of the partition table, in the second kilobyte of the image: its first sector.
    let entry = &image[1024 + 2 * 128..];
    let offset = u64::from_le_bytes(entry[32..40].try_into().unwrap()) * 512;
    drop(image);
    let offset = offset.to_string();
    let listed = good(command("unsquashfs").args(["-ll", "-o", &offset]).arg(&bench.output));
    for line in ["usr/lib/bakelite/payload/k3s", "usr/lib/bakelite/payload/k3s-airgap-images-amd64.tar.zst"] {
        assert!(listed.lines().any(|listed| listed.ends_with(line)), "no {line}");
    }
    for name in ["k3s", "kubectl", "crictl", "ctr"] {
        let link = format!("usr/local/bin/{name} -> /usr/lib/bakelite/payload/k3s");
        assert!(listed.lines().any(|listed| listed.ends_with(&link)), "no {link}");
    }
    let target = bench.at("unpacked");
    let mut unpack = command("unsquashfs");
    unpack.args(["-no-progress", "-o", &offset, "-d"]).arg(&target).arg(&bench.output);
    good(unpack.arg("usr/lib/bakelite/payload/k3s"));
    assert_eq!(sum_of(&target.join("usr/lib/bakelite/payload/k3s")), sum(binary));
}

#[test]
fn a_site_that_is_down_or_lacks_the_version() {
    let Some(bakery) = bakery() else { return };
    let bench = Bench::new(bakery, &appliance("v1.99.0+k3s1"));
    fs::remove_file(bench.lock()).unwrap();
    let down = "http://127.0.0.1:1";
    let words = ["cannot fetch", down, "v1.99.0%2Bk3s1", "k3s.files"];
    let said = refused(&mut build(bakery, &bench, down), 1, &words);
    assert!(!said.contains("--mirror"), "advice for Debian's mirror: {said}");
    let site = serve(bench.at("site"));
    refused(
        &mut build(bakery, &bench, &site),
        1,
        &["v1.99.0%2Bk3s1/sha256sum-amd64.txt", "no such file", "k3s.version"],
    );
    assert!(!bench.made_lock().exists());
    bench.nothing_left();
}
