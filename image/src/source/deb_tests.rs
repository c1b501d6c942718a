//! Packages good and hostile.

use proptest::prelude::*;
use tar::EntryType;

use super::super::ar::write_member;
use super::super::testing::{RawEntry, make_deb, make_tar};
use super::*;

fn read(deb: &[u8]) -> Result<Vec<(String, EntryKind, Vec<u8>)>, SourceError> {
    let mut entries = Vec::new();
    let mut visit = |entry: Entry<'_>| {
        let mut content = Vec::new();
        entry
            .content
            .read_to_end(&mut content)
            .map_err(|error| SourceError::Unpack { package: "p".into(), reason: error.to_string() })?;
        entries.push((entry.path, entry.kind, content));
        Ok::<(), SourceError>(())
    };
    let control = unpack(deb, "p", &mut visit)?;
    assert_eq!(control.get("Package"), Some("p"));
    Ok(entries)
}

fn refused(entries: &[RawEntry<'_>]) -> String {
    read(&make_deb("p", "", entries)).unwrap_err().to_string()
}

#[test]
fn entries_of_every_kind_and_packing() {
    for ending in ["", ".gz", ".xz", ".zst"] {
        let deb = make_deb(
            "p",
            ending,
            &[
                RawEntry::link("./", EntryType::Directory, ""),
                RawEntry::link("./usr/", EntryType::Directory, ""),
                RawEntry::file("./usr//a", b"content"),
                RawEntry::link("./usr/b", EntryType::Link, "./usr/a"),
                RawEntry::link("./usr/c", EntryType::Symlink, "../usr/a"),
                RawEntry::link("./etc", EntryType::Symlink, "/run/etc"),
            ],
        );
        let entries = read(&deb).unwrap();
        let text: Vec<String> = entries.iter().map(|(path, kind, _)| format!("{path} {kind:?}")).collect();
        assert_eq!(
            text,
            [
                "usr Folder",
                "usr/a File { size: 7 }",
                "usr/b Hardlink { target: \"usr/a\" }",
                "usr/c Symlink { target: \"../usr/a\" }",
                "etc Symlink { target: \"/run/etc\" }",
            ]
        );
        assert_eq!(entries[1].2, b"content");
    }
}

#[test]
fn nothing_leaves_the_tree() {
    for path in ["../../etc/x", "./a/../../x", "/etc/x", "usr/.."] {
        let error = refused(&[RawEntry::file(path, b"x")]);
        assert!(error.starts_with("package p: ") && error.contains(path), "{error}");
    }
    let through =
        |target| refused(&[RawEntry::link("./a", EntryType::Symlink, target), RawEntry::file("./a/passwd", b"x")]);
    assert!(through("/etc").contains("through the symbolic link \"a\""));
    assert!(through("usr").contains("through the symbolic link"));
    assert!(through("../etc").contains("climbs out"));
    let over = refused(&[RawEntry::file("./a/b", b"x"), RawEntry::link("./a", EntryType::Symlink, "/etc")]);
    assert!(over.contains("twice"), "{over}");
    let twice = refused(&[RawEntry::link("./a", EntryType::Symlink, "/etc/passwd"), RawEntry::file("./a", b"x")]);
    assert!(twice.contains("twice"), "{twice}");
    for target in ["/etc/shadow", "../x", "absent"] {
        let error = refused(&[RawEntry::link("./h", EntryType::Link, target)]);
        assert!(error.contains(target), "{error}");
    }
    let link = [RawEntry::link("./s", EntryType::Symlink, "/etc/shadow"), RawEntry::link("./h", EntryType::Link, "s")];
    assert!(refused(&link).contains("no file"));
    assert!(refused(&[RawEntry::link("./dev", EntryType::Block, "")]).contains("kind"));
    assert!(refused(&[RawEntry::link("./s", EntryType::Symlink, "")]).contains("no target"));
}

#[test]
fn the_shell_must_be_a_package() {
    let mut wrong = Vec::new();
    write_member(&mut wrong, "debian-binary", b"3.0\n");
    assert!(read(&wrong).unwrap_err().to_string().contains("3.0"));
    let mut order = Vec::new();
    write_member(&mut order, "debian-binary", b"2.0\n");
    write_member(&mut order, "data.tar", &make_tar(&[]));
    assert!(read(&order).unwrap_err().to_string().contains("control.tar"));
    let mut packing = Vec::new();
    write_member(&mut packing, "debian-binary", b"2.0\n");
    write_member(&mut packing, "control.tar.rar", b"");
    assert!(read(&packing).unwrap_err().to_string().contains("unknown way"));
    assert!(read(b"not a deb").is_err());
}

#[test]
fn a_failing_visitor_ends_the_reading() {
    let deb = make_deb("p", "", &[RawEntry::file("a", b"1"), RawEntry::file("b", b"2")]);
    let mut seen = 0;
    let mut visit = |_: Entry<'_>| {
        seen += 1;
        Err(SourceError::Offline { name: "mine".into() })
    };
    assert!(matches!(unpack(deb.as_slice(), "p", &mut visit), Err(SourceError::Offline { .. })));
    assert_eq!(seen, 1);
}

#[test]
fn a_package_of_a_million_tiny_files_is_given_up() {
    let one = make_tar(&[RawEntry::file("./usr/share/tiny", b"")])[..512].to_vec();
    let data = zstd::encode_all(one.repeat(ENTRIES_LIMIT + 1).as_slice(), 1).unwrap();
    let mut deb = Vec::new();
    write_member(&mut deb, "debian-binary", b"2.0\n");
    write_member(&mut deb, "control.tar", &make_tar(&[RawEntry::file("./control", b"Package: p\n")]));
    write_member(&mut deb, "data.tar.zst", &data);
    let mut seen = 0;
    let mut visit = |_: Entry<'_>| {
        seen += 1;
        Ok::<(), SourceError>(())
    };
    let error = unpack(deb.as_slice(), "p", &mut visit).unwrap_err().to_string();
    assert!(error.contains("package p: it has more than 500000 entries"), "{error}");
    assert_eq!(seen, ENTRIES_LIMIT);
}

#[test]
fn every_truncation_is_an_error() {
    let deb = make_deb("p", ".zst", &[RawEntry::file("a", b"content")]);
    let whole = read(&deb).unwrap().len();
    for length in (0..deb.len() - 1).rev() {
        assert!(
            read(&deb[..length]).map_or(true, |entries| entries.len() == whole && length + 16 > deb.len()),
            "{length} of {}",
            deb.len()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn damage_never_panics(place in 0usize..4000, byte in any::<u8>(), gzip in any::<bool>()) {
        let mut deb = make_deb("p", if gzip { ".gz" } else { "" }, &[RawEntry::file("a", b"content")]);
        let place = place % deb.len();
        deb[place] = byte;
        let mut visit = |entry: Entry<'_>| { let _ = io::copy(entry.content, &mut io::sink()); Ok::<(), SourceError>(()) };
        let _ = unpack(deb.as_slice(), "p", &mut visit);
    }
}
