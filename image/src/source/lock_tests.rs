//! Locks made from a made-up archive, and every way in which one must not be made.

use std::path::Path;

use super::super::testing::{FakeArchive, FakeKey, NOW, cache};
use super::*;
use crate::progress::Silent;

fn request() -> LockRequest {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
    LockRequest {
        suite: "trixie".to_owned(),
        arch: "amd64".to_owned(),
        packages: words("kernel tool"),
        backports: Vec::new(),
        without: words("udev"),
        build_arch: "amd64".to_owned(),
        tools: words("tool"),
        repositories: Vec::new(),
    }
}

fn archive() -> FakeArchive {
    FakeArchive::new(
        &[
            ("kernel", "1", "Depends: tool, udev\n"),
            ("tool", "1", "Depends: libc\n"),
            ("libc", "2", ""),
            ("udev", "1", ""),
        ],
        &[("kernel", "1+deb13u1", "Depends: tool, udev\n")],
    )
}

fn make(archive: &FakeArchive, folder: &Path, offline: bool) -> Result<Lock, SourceError> {
    make_lock(&request(), &archive.mirrors(), &archive.key.trusted(), &[], &cache(folder, offline), NOW, &Silent)
}

fn refused(archive: &FakeArchive) -> String {
    let folder = tempfile::tempdir().unwrap();
    make(archive, folder.path(), false).unwrap_err().to_string()
}

#[test]
fn a_lock_names_every_input_and_is_stable() {
    let (archive, folder) = (archive(), tempfile::tempdir().unwrap());
    let lock = make(&archive, folder.path(), false).unwrap();
    let packages: Vec<_> = lock
        .packages
        .iter()
        .map(|one| (one.name.as_str(), one.version.as_str(), one.suite.as_str(), one.required_by.as_deref()))
        .collect();
    assert_eq!(
        packages,
        [
            ("kernel", "1+deb13u1", "trixie-security", None),
            ("libc", "2", "trixie", Some("tool")),
            ("tool", "1", "trixie", None),
        ]
    );
    assert_eq!((lock.time, lock.suites.len(), lock.left_out[0].name.as_str()), (1_795_219_200, 3, "udev"));
    let text = lock.to_text().unwrap();
    assert_eq!(Lock::parse(&text).unwrap(), lock);
    assert_eq!(make(&archive, folder.path(), false).unwrap().to_text().unwrap(), text);
    let other = tempfile::tempdir().unwrap();
    assert_eq!(make(&archive, other.path(), false).unwrap().to_text().unwrap(), text);
}

#[test]
fn backports_give_what_is_asked_of_them_and_what_only_they_have() {
    let (archive, folder) = (archive(), tempfile::tempdir().unwrap());
    let fields = "Depends: tool, libc, modules (= 7)\n";
    archive.add_suite("trixie-backports", &[("kernel", "7", fields), ("modules", "7", ""), ("tool", "9", "")]);
    let make = |backports: &[&str]| {
        let request = LockRequest { backports: backports.iter().map(ToString::to_string).collect(), ..request() };
        let (mirrors, keys) = (archive.mirrors(), archive.key.trusted());
        make_lock(&request, &mirrors, &keys, &[], &cache(folder.path(), false), NOW, &Silent)
    };
    let lock = make(&["kernel"]).unwrap();
    let chosen: Vec<_> =
        lock.packages.iter().map(|one| format!("{} {} {}", one.name, one.version, one.suite)).collect();
    assert_eq!(chosen, ["kernel 7 trixie-backports", "libc 2 trixie", "modules 7 trixie-backports", "tool 1 trixie"]);
    lock.fetch(Some(&archive.mirrors()), &cache(folder.path(), false), &Silent).unwrap();
    let error = make(&["libc"]).unwrap_err().to_string();
    assert!(error.contains("suite trixie-backports") && error.contains("it has no package libc"), "{error}");
}

#[test]
fn a_folder_serves_as_a_mirror() {
    let (archive, copy, folder) = (archive(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (path, content) in archive.files.lock().unwrap().iter() {
        let path = copy.path().join(path.trim_start_matches('/'));
        crate::host::file::make_folder(path.parent().unwrap()).unwrap();
        crate::host::file::write(&path, content).unwrap();
    }
    let debian = copy.path().join("debian").display().to_string();
    let mirrors = Mirrors { security: format!("file://{debian}-security"), debian, without: Vec::new() };
    let cache = cache(folder.path(), false);
    let lock = make_lock(&request(), &mirrors, &archive.key.trusted(), &[], &cache, NOW, &Silent).unwrap();
    lock.fetch(Some(&mirrors), &cache, &Silent).unwrap();
    assert_eq!((lock.packages.len(), archive.server.requests()), (3, 0));
}

#[test]
fn a_changed_request_is_noticed() {
    let (archive, folder) = (archive(), tempfile::tempdir().unwrap());
    let lock = make(&archive, folder.path(), false).unwrap();
    let mut same = request();
    same.packages.reverse();
    (same.arch, same.build_arch) = ("amd64".into(), "amd64".into());
    assert!(lock.matches(&same));
    same.tools.clear();
    assert!(lock.matches(&same), "tools do not count where the architectures are equal");
    let changes: [fn(&mut LockRequest); 6] = [
        |one| one.packages.push("more".into()),
        |one| one.without.clear(),
        |one| one.backports.push("kernel".into()),
        |one| one.arch = "arm64".into(),
        |one| one.build_arch = "arm64".into(),
        |one| one.suite = "forky".into(),
    ];
    for change in changes {
        let mut changed = request();
        change(&mut changed);
        assert!(!lock.matches(&changed), "{changed:?}");
    }
}

#[test]
fn unknown_formats_and_fields_are_refused() {
    let (archive, folder) = (archive(), tempfile::tempdir().unwrap());
    let text = make(&archive, folder.path(), false).unwrap().to_text().unwrap();
    let refused = |from: &str, to: &str| Lock::parse(&text.replacen(from, to, 1)).unwrap_err().to_string();
    assert!(refused("\"format\": 1", "\"format\": 2").contains("its format is 2"));
    assert!(refused("\"time\"", "\"times\": 1, \"time\"").contains("times"));
    assert!(refused("pool/", "../").contains("damaged"));
    assert!(Lock::parse("no lock").is_err() && Lock::parse("{}").is_err());
}

#[test]
fn packages_arrive_once_and_serve_offline() {
    let (archive, folder) = (archive(), tempfile::tempdir().unwrap());
    let lock = make(&archive, folder.path(), false).unwrap();
    let error = lock.fetch(Some(&archive.mirrors()), &cache(folder.path(), true), &Silent).unwrap_err().to_string();
    assert!(error.contains("kernel") && error.contains("without --offline"), "{error}");
    lock.fetch(Some(&archive.mirrors()), &cache(folder.path(), false), &Silent).unwrap();
    let before = archive.server.requests();
    assert_eq!(make(&archive, folder.path(), true).unwrap(), lock);
    lock.fetch(None, &cache(folder.path(), false), &Silent).unwrap();
    let empty = tempfile::tempdir().unwrap();
    let error = lock.fetch(None, &cache(empty.path(), false), &Silent).unwrap_err().to_string();
    assert!(error.contains("--mirror"), "{error}");
    let offline = cache(folder.path(), true);
    lock.fetch(Some(&archive.mirrors()), &offline, &Silent).unwrap();
    let kernel = offline.open_verified(&lock.wanted(&lock.packages[0], None), &Silent).unwrap();
    let mut seen = Vec::new();
    let mut visit = |entry: super::super::deb::Entry<'_>| {
        seen.push(entry.path);
        Ok::<(), SourceError>(())
    };
    super::super::deb::unpack(kernel, "kernel", &mut visit).unwrap();
    assert_eq!((seen, archive.server.requests()), (vec!["usr/kernel".to_owned()], before));
}

#[test]
fn a_package_with_the_wrong_content_is_refused_and_not_kept() {
    let (archive, folder) = (archive(), tempfile::tempdir().unwrap());
    let lock = make(&archive, folder.path(), false).unwrap();
    let tool = "/debian/pool/tool_1.deb";
    archive.change(tool, |bytes| bytes[100] ^= 1);
    let cache = cache(folder.path(), false);
    let error = lock.fetch(Some(&archive.mirrors()), &cache, &Silent).unwrap_err().to_string();
    let sum = lock.packages[2].sha256.to_string();
    assert!(error.contains("tool") && error.contains(tool) && error.contains(&sum), "{error}");
    archive.change(tool, |bytes| bytes.push(0));
    assert!(matches!(lock.fetch(Some(&archive.mirrors()), &cache, &Silent), Err(SourceError::WrongSize { .. })));
    archive.change(tool, |bytes| {
        bytes.pop();
        bytes[100] ^= 1;
    });
    lock.fetch(Some(&archive.mirrors()), &cache, &Silent).unwrap();
}

#[test]
fn a_package_that_left_the_mirror_is_named_with_what_to_do() {
    let (archive, folder) = (archive(), tempfile::tempdir().unwrap());
    let lock = make(&archive, folder.path(), false).unwrap();
    archive.files.lock().unwrap().remove("/debian/pool/libc_2.deb");
    let error = lock.fetch(Some(&archive.mirrors()), &cache(folder.path(), false), &Silent).unwrap_err().to_string();
    assert!(error.contains("pool/libc_2.deb") && error.contains("`bakelite lock`"), "{error}");
}

#[test]
fn an_archive_that_is_not_sound_makes_no_lock() {
    let stranger = archive();
    let release = stranger.files.lock().unwrap()["/debian/dists/trixie-updates/InRelease"].clone();
    let text = String::from_utf8(release).unwrap();
    let body: String =
        text.lines().skip(3).take_while(|line| !line.starts_with("-----")).map(|line| format!("{line}\n")).collect();
    let signed = FakeKey::new().sign(&body);
    stranger.change("/debian/dists/trixie-updates/InRelease", |bytes| *bytes = signed.into_bytes());
    let error = refused(&stranger);
    assert!(error.contains("trixie-updates") && error.contains("is not one of the archive keys"), "{error}");

    let swapped = archive();
    let other = swapped.files.lock().unwrap()["/debian/dists/trixie/InRelease"].clone();
    swapped.change("/debian-security/dists/trixie-security/InRelease", |bytes| *bytes = other);
    assert!(refused(&swapped).contains("for the suite \"trixie\""));

    let index = archive();
    let path =
        index.files.lock().unwrap().keys().find(|path| path.starts_with("/debian/dists/trixie/main")).unwrap().clone();
    index.change(&path, |bytes| bytes[10] ^= 1);
    let error = refused(&index);
    assert!(error.contains("trixie main/binary-amd64/Packages") && error.contains("wrong content"), "{error}");
    assert!(error.contains("in the middle of an update"), "{error}");

    let absent = archive();
    absent.files.lock().unwrap().clear();
    assert!(refused(&absent).contains("no such file"));
}

#[test]
fn other_architectures_bring_their_tools() {
    let (archive, folder) = (archive(), tempfile::tempdir().unwrap());
    let crossed = LockRequest { build_arch: "arm64".to_owned(), ..request() };
    let made = make_lock(
        &crossed,
        &archive.mirrors(),
        &archive.key.trusted(),
        &[],
        &cache(folder.path(), false),
        NOW,
        &Silent,
    );
    assert!(made.unwrap_err().to_string().contains("no Packages for arm64"));
}
