//! Sets made from k3s-shaped databases while somebody writes to them, and sets that were tampered with.

use super::*;
use crate::check::{Depth, Flaw};
use crate::fixtures;
use bakelite_spec::set::{DATABASE, ENCRYPTED, Manifest, Member, PLAIN, TOKEN};
use bakelite_sys::sum::pour;
use bakelite_sys::{durable, names_in};
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

const TOKEN_TEXT: &str = "the-token";

/// A machine with a cluster on it.
struct Node {
    folder: TempDir,
    about: Manifest,
    identity: age::x25519::Identity,
}

fn kine(path: &Path) -> Connection {
    let connection = fixtures::kine(path);
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
             INSERT INTO kine (name, deleted, prev_revision) VALUES ('compact_rev_key', 0, 0);
             INSERT INTO kine (name, deleted) VALUES ('/registry/secrets/a/1', 0);",
        )
        .unwrap();
    let keys = crate::token::Keys(BTreeMap::new());
    let value = crate::token::seal(TOKEN_TEXT, &keys, [1; 8], [2; 12]);
    let name = crate::token::row_name(TOKEN_TEXT);
    connection.execute("INSERT INTO kine (name, deleted, value) VALUES (?1, 0, ?2)", (name, value)).unwrap();
    connection
}

impl Node {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        drop(kine(&folder.path().join("state.db")));
        let about = Manifest::about("shop-17", "v1.36.2+k3s1", 1_795_280_100);
        Self { folder, about, identity: age::x25519::Identity::generate() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, number: u64, known: u64, is_encrypted: bool) -> Result<Written, SetError> {
        let files = [("node/password".to_string(), self.at("password")), ("not/there".into(), self.at("not-there"))];
        durable::replace(&files[0].1, b"secret", 0o600).unwrap();
        let (database, folder, scratch) = (self.at("state.db"), self.at("sets"), self.at("scratch"));
        let recipients = if is_encrypted { vec![self.identity.to_public()] } else { Vec::new() };
        write(&Request {
            database: &database,
            token: TOKEN_TEXT,
            files: &files,
            about: &self.about,
            known,
            recipients: &recipients,
            identity: Some(&self.identity),
            number,
            folder: &folder,
            scratch: &scratch,
        })
    }

    fn unpack(&self, path: &Path) -> Result<(TempDir, Opened), SetError> {
        let into = tempfile::tempdir().unwrap();
        let opened = unpack(path, &[&self.identity], into.path())?;
        Ok((into, opened))
    }
}

#[test]
fn a_set_holds_everything_and_only_its_keys_open_it() {
    let node = Node::new();
    let written = node.write(1, 3, true).unwrap();
    assert_eq!(names_in(node.at("sets")), [format!("00000001-20261121T165500Z{ENCRYPTED}")]);
    assert_eq!(names_in(node.at("scratch")), Vec::<String>::new());
    assert_eq!(written.bytes, std::fs::metadata(&written.path).unwrap().len());
    let (into, opened) = node.unpack(&written.path).unwrap();
    assert_eq!(opened.manifest, written.manifest);
    assert_eq!(opened.manifest.revision, 3);
    assert!(opened.authority_until.is_none() && opened.lives(i64::MAX).is_ok());
    let expired = Opened { authority_until: Some(1_795_280_100), ..opened.clone() };
    assert!(expired.lives(1_795_280_100).is_ok());
    let refused = expired.lives(1_795_280_101).unwrap_err().to_string();
    assert!(refused.contains("expired 2026-11-21 16:55 UTC"), "{refused}");
    let paths: Vec<&str> = opened.manifest.members.iter().map(|member| member.path.as_str()).collect();
    assert_eq!(paths, [TOKEN, "node/password", DATABASE]);
    assert_eq!(std::fs::read_to_string(into.path().join("node/password")).unwrap(), "secret");
    assert_eq!(manifest(&written.path, &[&node.identity]).unwrap(), written.manifest);
    let stranger = age::x25519::Identity::generate();
    assert!(matches!(manifest(&written.path, &[&stranger]), Err(SetError::NoKey)));
    assert!(matches!(manifest(&written.path, &[]), Err(SetError::NoKey)));

    let wanted = ["node/password", "not/there"];
    let (said, found) = members(&written.path, &[&node.identity], &wanted).unwrap();
    assert_eq!((said, found.len()), (written.manifest, 1));
    assert_eq!(found["node/password"], b"secret");

    let plain = node.write(2, 3, false).unwrap();
    assert!(plain.path.to_string_lossy().ends_with(PLAIN));
    assert!(manifest(&plain.path, &[]).is_ok());
}

/// What `age` and `tar` do by themselves is what the documentation promises.
#[test]
fn common_tools_open_a_set() {
    let node = Node::new();
    let plain = node.write(1, 0, false).unwrap();
    let mut names = Vec::new();
    let mut archive = tar::Archive::new(zstd::Decoder::new(File::open(&plain.path).unwrap()).unwrap());
    for entry in archive.entries().unwrap() {
        names.push(entry.unwrap().path().unwrap().display().to_string());
    }
    assert_eq!(names, ["manifest.json", TOKEN, "node/password", DATABASE]);
}

/// Nothing that a set says of its database is read by that index: the check of its pages sees it, beside the packing.
#[test]
fn a_database_with_damage_that_nobody_reads_becomes_no_set() {
    let node = Node::new();
    let connection = Connection::open(node.at("state.db")).unwrap();
    connection
        .execute_batch(
            "CREATE INDEX lacking ON kine (created) WHERE id < 0;
             PRAGMA writable_schema = ON;
             UPDATE sqlite_schema SET sql = 'CREATE INDEX lacking ON kine (created)' WHERE name = 'lacking';",
        )
        .unwrap();
    drop(connection);
    for is_encrypted in [true, false] {
        let said = node.write(1, 0, is_encrypted);
        assert!(
            matches!(&said, Err(SetError::Flaw(Flaw::Damaged(answers))) if answers[0].contains("lacking")),
            "{said:?}"
        );
        assert_eq!((names_in(node.at("sets")).len(), names_in(node.at("scratch")).len()), (0, 0));
    }
}

#[test]
fn what_must_not_become_a_set_leaves_nothing() {
    let node = Node::new();
    assert!(matches!(node.write(1, 4, true), Err(SetError::Flaw(Flaw::Older { found: 3, known: 4 }))));
    let connection = Connection::open(node.at("state.db")).unwrap();
    connection.execute("UPDATE kine SET name = '/bootstrap/of-another' WHERE name LIKE '/boot%'", []).unwrap();
    assert!(matches!(node.write(1, 0, true), Err(SetError::Token(TokenError::Other))));
    assert_eq!(names_in(node.at("sets")), Vec::<String>::new());
    assert_eq!(names_in(node.at("scratch")), Vec::<String>::new());
    durable::replace(node.at("state.db"), &[7; 8192], 0o600).unwrap();
    assert!(node.write(1, 0, true).is_err());
    assert_eq!(names_in(node.at("sets")), Vec::<String>::new());
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Whatever a set was made while, it holds each row that was committed before it was begun.
#[test]
fn sets_of_a_database_under_load_hold_what_was_committed_before() {
    let node = Node::new();
    let path = node.at("state.db");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let writer = Connection::open(&path).unwrap();
            writer.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
            while !stop.load(Ordering::Relaxed) {
                writer
                    .execute("INSERT INTO kine (name, deleted, value) VALUES ('/registry/x/y', 0, zeroblob(3000))", [])
                    .unwrap();
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        });
        // A failure must end the writer as well.
        let _stop = Stop(&stop);
        let reader = Connection::open(&path).unwrap();
        let mut last = 0;
        for number in 0..20 {
            let committed: i64 = reader.query_row("SELECT max(id) FROM kine", [], |row| row.get(0)).unwrap();
            let committed = u64::try_from(committed).unwrap();
            assert!(committed >= last);
            let written = node.write(number, committed, true).unwrap();
            assert!(written.manifest.revision >= committed);
            last = written.manifest.revision;
        }
    });
    assert_eq!(names_in(node.at("sets")).len(), 20);
}

/// Builds an archive by hand.
fn archive(members: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, kind, content) in members {
        let mut header = tar::Header::new_ustar();
        // Past the crate's own check, as somebody else's tool would write it.
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_cksum();
        tar.append(&header, *content).unwrap();
    }
    zstd::encode_all(&tar.into_inner().unwrap()[..], 1).unwrap()
}

#[test]
fn no_archive_writes_outside_its_folder_or_passes_for_a_set() {
    let node = Node::new();
    let whole = node.write(1, 0, false).unwrap();
    let (into, opened) = node.unpack(&whole.path).unwrap();
    let read = |path: &str| std::fs::read(into.path().join(path)).unwrap();
    let (database, token, password) = (read(DATABASE), read(TOKEN), read("node/password"));
    let text = |manifest: &Manifest| serde_json::to_vec(manifest).unwrap();
    let file = tar::EntryType::Regular;
    let good = text(&opened.manifest);
    let with = |change: &dyn Fn(&mut Vec<Member>)| {
        let mut manifest = opened.manifest.clone();
        change(&mut manifest.members);
        text(&manifest)
    };
    let member = |path: &str, bytes: &[u8]| Member {
        path: path.into(),
        size: bytes.len() as u64,
        sha256: pour(bytes, std::io::sink()).unwrap().1,
    };
    let newer = text(&Manifest { format: 2, ..opened.manifest.clone() });
    let climbing = with(&|members| members.push(member("../outside", b"x")));
    let linked = with(&|members| members.push(member("link", b"")));
    let other_token = with(&|members| members[0] = member(TOKEN, b"another"));
    let bare = with(&|members| drop(members.remove(2)));
    let base: Vec<(&str, tar::EntryType, &[u8])> =
        vec![(TOKEN, file, &token), ("node/password", file, &password), (DATABASE, file, &database)];
    let headed = |head: &[u8], rest: &[(&str, tar::EntryType, &[u8])]| {
        let all: Vec<_> = std::iter::once(("manifest.json", file, head)).chain(rest.iter().copied()).collect();
        archive(&all)
    };
    let plus = |more: (&'static str, tar::EntryType, &'static [u8])| [&base[..], &[more]].concat();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("as it was", headed(&good, &base), ""),
        ("newer", headed(&newer, &base), "format 2"),
        ("climbing", headed(&climbing, &plus(("../outside", file, b"x"))), "no set holds"),
        ("a link", headed(&linked, &plus(("link", tar::EntryType::Symlink, b""))), "it is no file"),
        ("one more", headed(&good, &plus(("more", file, b"x"))), "more in it"),
        ("another token", headed(&other_token, &[(TOKEN, file, b"another"), base[1], base[2]]), "another token"),
        ("a changed byte", headed(&good, &[base[0], ("node/password", file, b"secreT"), base[2]]), "its hash"),
        ("another order", headed(&good, &[base[1], base[0], base[2]]), "another file is in its place"),
        ("one less", headed(&good, &base[..2]), "it is missing"),
        ("no database", headed(&bare, &base[..2]), "no database"),
        ("no manifest", archive(&base), "doesn't begin with a manifest"),
        ("rubbish", b"rubbish".to_vec(), ""),
        ("nothing", Vec::new(), ""),
    ];
    for (name, bytes, words) in cases {
        let path = node.at("case.tar.zst");
        durable::replace(&path, &bytes, 0o600).unwrap();
        match node.unpack(&path) {
            Ok(_) => assert_eq!(name, "as it was"),
            Err(error) => {
                let said = bakelite_sys::words(&error);
                assert!(name != "as it was" && said.contains(words), "{name}: {said}");
            }
        }
        assert!(!into.path().parent().unwrap().join("outside").exists(), "{name}");
    }
}

#[test]
fn a_set_that_was_torn_anywhere_is_refused() {
    let node = Node::new();
    let whole = node.write(1, 0, true).unwrap();
    let bytes = std::fs::read(&whole.path).unwrap();
    let torn = node.at("torn.tar.zst.age");
    let is_refused = |bytes: &[u8]| {
        durable::replace(&torn, bytes, 0o600).unwrap();
        node.unpack(&torn).is_err() && reread(&torn, &[&node.identity], &whole.manifest).is_err()
    };
    assert!(!is_refused(&bytes));
    for cut in (0..bytes.len()).step_by(97).chain([bytes.len() - 1]) {
        assert!(is_refused(&bytes[..cut]), "cut at {cut} of {}", bytes.len());
    }
    for at in (0..bytes.len()).step_by(61) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x40;
        assert!(is_refused(&flipped), "a bit of byte {at}");
    }
}

#[test]
fn another_set_in_its_place_is_not_the_one_that_was_written() {
    let node = Node::new();
    let (first, second) = (node.write(1, 0, true).unwrap(), node.write(2, 0, true).unwrap());
    assert!(reread(&second.path, &[&node.identity], &second.manifest).is_ok());
    let other = Manifest { revision: first.manifest.revision + 1, ..first.manifest };
    assert!(matches!(reread(&first.path, &[&node.identity], &other), Err(SetError::Member { .. })));
}

/// The control: what people do by hand passes SQLite's check, and is caught here.
#[test]
fn a_copy_of_the_live_file_is_caught() {
    let node = Node::new();
    let path = node.at("state.db");
    let writer = Connection::open(&path).unwrap();
    for _ in 0..50 {
        writer.execute("INSERT INTO kine (name, deleted) VALUES ('/registry/x/y', 0)", []).unwrap();
    }
    let by_hand = node.at("by-hand.db");
    let mut bytes = Vec::new();
    File::open(&path).unwrap().read_to_end(&mut bytes).unwrap();
    File::create(&by_hand).unwrap().write_all(&bytes).unwrap();
    let known = crate::state(&path).unwrap().unwrap().revision;
    assert_eq!(known, 53);
    assert!(crate::check::copy(&by_hand, Depth::Full, known).unwrap().is_err());
    drop(writer);
}
