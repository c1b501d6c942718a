//! Copies of folders, whole and spoiled.

use super::*;
use crate::durable;
use std::io::{Seek, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

/// Copies and compares; the bytes that came over, and what differs.
fn copy(from: &Path, to: &Path, spoil: impl FnOnce()) -> (u64, Option<PathBuf>) {
    let sums = to.with_extension("sums");
    let mut bytes = 0;
    let left_out = |path: &Path| path.ends_with("left-out");
    let mut progress = |more| bytes += more;
    let mut copier = Copier::new(&left_out, &mut progress, &sums).unwrap();
    copier.copy(from, to).unwrap();
    copier.finish().unwrap();
    durable::sync_file_system(to).unwrap();
    spoil();
    (bytes, Verifier::new(&left_out, &sums).unwrap().differs(from, to).unwrap())
}

#[test]
fn links_holes_modes_and_times_come_over_and_a_second_copy_copies_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    durable::make_folder(from.join("a/left-out")).unwrap();
    durable::make_folder(&to).unwrap();
    durable::replace(from.join("a/one"), &vec![7; 3 << 20], 0o640).unwrap();
    std::fs::hard_link(from.join("a/one"), from.join("a/two")).unwrap();
    symlink("/nowhere", from.join("link")).unwrap();
    let mut sparse = File::create(from.join("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    sparse.seek(std::io::SeekFrom::Start(40 << 20)).unwrap();
    sparse.write_all(b"end").unwrap();
    std::fs::set_permissions(from.join("a"), std::fs::Permissions::from_mode(0o701)).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap();
    let (bytes, differs) = copy(&from, &to, || {});
    assert_eq!(differs, None);
    assert!((3 << 20..5 << 20).contains(&bytes), "{bytes} bytes for 3 MiB and a hole");
    let meta = |path: &str| to.join(path).symlink_metadata().unwrap();
    assert_eq!(meta("a/one").ino(), meta("a/two").ino());
    assert_eq!((meta("a").mode() & 0o777, meta("a/one").mode() & 0o777), (0o701, 0o640));
    assert_eq!(meta("a/one").mtime(), from.join("a/one").metadata().unwrap().mtime());
    assert!(meta("sparse").blocks() * 512 < 1 << 20 && meta("sparse").len() == 64 << 20);
    assert!(!to.join("a/left-out").exists() && !to.join("socket").exists());
    let before = meta("a/one").ino();
    assert_eq!(copy(&from, &to, || {}), (bytes, None));
    assert_eq!(meta("a/one").ino(), before);
    assert_eq!(amount(&from, &|_| false).files, 7);
}

#[test]
fn extended_attributes_come_over_and_one_that_is_missing_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    durable::make_folder(from.join("a")).unwrap();
    durable::make_folder(&to).unwrap();
    durable::replace(from.join("a/one"), b"1", 0o640).unwrap();
    let paths = ["a", "a/one"];
    if let Err(error) = paths.iter().try_for_each(|path| set_extended(&from.join(path), b"user.till", b"\x00seven")) {
        eprintln!("SKIPPED: extended attributes: {}", crate::words(&error));
        return;
    }
    assert_eq!(copy(&from, &to, || {}).1, None);
    for path in paths {
        assert_eq!(extended(&to.join(path)).unwrap()[&b"user.till"[..]], b"\x00seven");
    }
    let lose = || fs::lremovexattr(to.join("a/one"), "user.till").unwrap();
    assert!(copy(&from, &to, lose).1.is_some());
}

#[test]
fn a_copy_that_isnt_the_same_is_found_and_the_next_one_mends_it() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    durable::make_folder(&from).unwrap();
    durable::make_folder(&to).unwrap();
    durable::replace(from.join("file"), b"same", 0o600).unwrap();
    File::create(from.join("sparse")).unwrap().set_len(1 << 20).unwrap();
    let time = from.join("file").metadata().unwrap().modified().unwrap();
    let file = to.join("file");
    let spoils: [&dyn Fn(); 5] = [
        &|| durable::write_plain(&file, "sane").unwrap(),
        &|| durable::write_plain(&file, "sane, and more").unwrap(),
        &|| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap(),
        &|| durable::remove_file(&file).unwrap(),
        &|| File::options().write(true).open(to.join("sparse")).unwrap().write_all_at(b"x", 5000).unwrap(),
    ];
    for spoil in spoils {
        assert!(copy(&from, &to, spoil).1.is_some());
        // As after a pulled plug: what was never synced may have its length and times, and no bytes.
        if file.exists() {
            File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
        }
        assert_eq!(copy(&from, &to, || {}).1, None);
        assert_eq!(std::fs::read(&file).unwrap(), b"same");
    }
}
