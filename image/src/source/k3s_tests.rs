//! Payloads whole and broken, from a folder and from a server with the release site's layout.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::super::http::Fetcher;
use super::super::testing::{Answer, Files, Server, cache};
use super::*;
use crate::host::file;
use crate::progress::Silent;

const VERSION: &str = "v1.36.2+k3s1";

/// An ELF head of the class and machine, followed by `text`.
fn program(class: u8, machine: u16, text: &str) -> Vec<u8> {
    let mut bytes = b"\x7fELF".to_vec();
    bytes.extend([class, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0]);
    bytes.extend(machine.to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

fn release() -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for target in TARGETS {
        let (class, machine) = match target.debian {
            "amd64" => (2, 62),
            "arm64" => (2, 183),
            _ => (1, 40),
        };
        let binary = program(class, machine, &format!("\0version.Version={VERSION}\0go1.26.2 v1.36.2-k3s1"));
        let images = zstd::bulk::compress(b"images", 3).unwrap();
        let list = format!(
            "{}  {}\n{}  k3s-airgap-images-{}.tar.zst\n",
            Sha256::of(&binary),
            target.binary,
            Sha256::of(&images),
            target.suffix
        );
        files.insert(target.binary.to_owned(), binary);
        files.insert(target.images("tar.zst"), images);
        files.insert(target.checksums(), list.into_bytes());
    }
    files
}

fn in_folder(files: &BTreeMap<String, Vec<u8>>, arch: &str, version: Option<&str>) -> Result<Payload, String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        file::write(&folder.path().join(name), content).unwrap();
    }
    from_folder(folder.path(), arch, version).map_err(|error| error.to_string())
}

/// The release with one file changed and, where asked, the list made to fit.
fn changed(name: &str, content: Vec<u8>, list_too: bool) -> BTreeMap<String, Vec<u8>> {
    let mut files = release();
    let old = Sha256::of(files.get(name).map_or(b"", Vec::as_slice)).to_string();
    if list_too {
        let list = String::from_utf8(files["sha256sum-amd64.txt"].clone()).unwrap();
        let list = list.replace(&old, &Sha256::of(&content).to_string());
        files.insert("sha256sum-amd64.txt".to_owned(), list.into_bytes());
    }
    files.insert(name.to_owned(), content);
    files
}

#[test]
fn each_architecture_from_a_folder() {
    for (arch, binary) in [("amd64", "k3s"), ("arm64", "k3s-arm64"), ("armhf", "k3s-armhf")] {
        let payload = in_folder(&release(), arch, None).unwrap();
        assert_eq!((payload.version.as_str(), payload.binary.name.as_str()), (VERSION, binary));
        assert_eq!(payload.locked().len(), 3);
        assert_eq!(payload.locked()[0].source, "folder");
    }
    assert!(in_folder(&release(), "riscv64", None).unwrap_err().contains("riscv64"));
}

#[test]
fn missing_files_are_named() {
    for name in ["k3s", "k3s-airgap-images-amd64.tar.zst", "sha256sum-amd64.txt"] {
        let mut files = release();
        files.remove(name);
        assert!(in_folder(&files, "amd64", None).unwrap_err().contains(name), "{name}");
    }
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let damaged = in_folder(&changed("k3s", program(2, 62, "other"), false), "amd64", None).unwrap_err();
    assert!(damaged.contains("promises sha256"), "{damaged}");
    let unlisted = changed("sha256sum-amd64.txt", b"nothing\n".to_vec(), false);
    assert!(in_folder(&unlisted, "amd64", None).unwrap_err().contains("does not list k3s"));
    let foreign = in_folder(&changed("k3s", program(2, 183, VERSION), true), "amd64", None).unwrap_err();
    assert!(foreign.contains("program for arm64, but the board is amd64"), "{foreign}");
    assert!(in_folder(&changed("k3s", program(1, 62, VERSION), true), "amd64", None).unwrap_err().contains("32-bit"));
    assert!(in_folder(&changed("k3s", b"#!/bin/sh".to_vec(), true), "amd64", None).unwrap_err().contains("no ELF"));
    let images = "k3s-airgap-images-amd64.tar.zst";
    // A frame with the window descriptor of 64 MiB and one empty last block.
    let wide = vec![0x28, 0xB5, 0x2F, 0xFD, 0x00, 16 << 3, 0x01, 0x00, 0x00];
    let error = in_folder(&changed(images, wide, true), "amd64", None).unwrap_err();
    assert!(error.contains("64 MiB") && error.contains("32 MiB") && error.contains("--long=25"), "{error}");
    assert!(in_folder(&changed(images, b"no zstd".to_vec(), true), "amd64", None).unwrap_err().contains(images));
}

#[test]
fn files_of_another_architecture_are_seen_at_a_glance() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, content: &[u8]| file::write(&folder.path().join(name), content).unwrap();
    assert_eq!(misfit(folder.path(), "armhf"), None, "an empty folder is a build's business");
    put("k3s-arm64", &release()["k3s-arm64"]);
    let found = misfit(folder.path(), "armhf").unwrap();
    assert!(
        found.ends_with("has no file k3s-armhf, as the release calls it, only k3s-arm64 for arm64; the board is armhf")
    );
    assert_eq!(misfit(folder.path(), "arm64"), None);
    put("k3s-armhf", &release()["k3s-arm64"]);
    let found = misfit(folder.path(), "armhf").unwrap();
    assert_eq!(found, "k3s-armhf is a 64-bit program for arm64, but the board is armhf");
}

#[test]
fn versions_are_read_or_asked_for() {
    let with = |text: &str| in_folder(&changed("k3s", program(2, 62, text), true), "amd64", None);
    assert!(with("nothing").unwrap_err().contains("`k3s.version`"));
    assert!(with("v1.36.2+k3s1 v1.35.0+k3s1").unwrap_err().contains("v1.35.0+k3s1, v1.36.2+k3s1"));
    assert_eq!(with("vv1.36.2-rc2+k3s1v1.36.2-rc2+k3s1").unwrap().version, "v1.36.2-rc2+k3s1");
    let split = format!("{}{VERSION}", "v".repeat((1 << 20) - 25));
    assert_eq!(with(&split).unwrap().version, VERSION);
    let given = in_folder(&changed("k3s", program(2, 62, ""), true), "amd64", Some("v9.9.9+k3s9")).unwrap();
    assert_eq!(given.version, "v9.9.9+k3s9");
    for bad in ["", "v", "v1", "v1.2.3", "v1.2.3+k3s", "1.2.3+k3s1", "v1.2.3+k3s1/../x", "v1..3+k3s1"] {
        assert!(!is_version(bad), "{bad}");
    }
}

fn site(files: BTreeMap<String, Vec<u8>>) -> (Server, Files) {
    let files = Arc::new(Mutex::new(files));
    let served = files.clone();
    let server = Server::start(move |path, _| {
        let name = path.strip_prefix("/down/v1.36.2%2Bk3s1/").unwrap_or("");
        served.lock().unwrap().get(name).map_or_else(Answer::absent, |bytes| Answer::ok(bytes.as_slice()))
    });
    (server, files)
}

#[test]
fn fetched_from_the_site_locked_and_offline() {
    let (server, files) = site(release());
    let folder = tempfile::tempdir().unwrap();
    let url = server.url("/down/");
    let get = |locked: &[LockedFile], offline| {
        from_site(&url, VERSION, "arm64", locked, &cache(folder.path(), offline), &Silent)
    };
    assert!(matches!(get(&[], true), Err(SourceError::Offline { .. })));
    let payload = get(&[], false).unwrap();
    assert_eq!((payload.binary.name.as_str(), server.requests()), ("k3s-arm64", 3));
    let locked = payload.locked();
    assert_eq!(get(&locked, true).unwrap(), payload);
    assert_eq!(get(&[], true).unwrap(), payload);
    assert_eq!(server.requests(), 3);

    // The site changes a release that was locked: the lock holds.
    let other = tempfile::tempdir().unwrap();
    files.lock().unwrap().get_mut("k3s-arm64").unwrap()[30] ^= 1;
    let again = from_site(&url, VERSION, "arm64", &locked, &cache(other.path(), false), &Silent);
    assert!(matches!(again, Err(SourceError::WrongHash { name, .. }) if name == "k3s-arm64"));
}

#[test]
fn a_site_without_the_version_or_without_sense() {
    let (server, files) = site(release());
    let folder = tempfile::tempdir().unwrap();
    let get = |version| {
        from_site(&server.url("/down"), version, "amd64", &[], &cache(folder.path(), false), &Silent)
            .unwrap_err()
            .to_string()
    };
    assert!(get("v1.0.0+k3s1").contains("no such file"));
    assert!(get("latest").contains("v1.36.2+k3s1"));
    files.lock().unwrap().insert("sha256sum-amd64.txt".to_owned(), b"nonsense".to_vec());
    assert!(get(VERSION).contains("does not list k3s"));
}

#[test]
fn whether_a_site_answers() {
    let (server, _) = site(release());
    let fetcher = Fetcher::new(Duration::from_secs(2));
    let base = server.url("/down");
    assert!(site_answers(&fetcher, &base, VERSION, "amd64"));
    assert!(!site_answers(&fetcher, &base, "v1.0.0+k3s1", "amd64") && !site_answers(&fetcher, &base, VERSION, "mips"));
    drop(server);
    assert!(!site_answers(&fetcher, &base, VERSION, "amd64"));
}
