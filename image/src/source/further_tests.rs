//! Repositories besides Debian's, and mirrors that bring back what they had.

use super::error::SourceError;
use super::lock::{Further, Lock, LockRequest, Repository, make_lock};
use super::testing::{FakeArchive, FakeKey, NOW, cache, publish};
use super::trust::TrustedKeys;
use crate::progress::Silent;

/// Debian with a kernel tool and a provider of a mail server; a shop's repository with a newer tool and things of its own.
struct World {
    debian: FakeArchive,
    shop: FakeKey,
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let debian = FakeArchive::new(
            &[("tool", "2", ""), ("libc6", "1", ""), ("zmail", "1", "Provides: mail-server\nPriority: optional\n")],
            &[],
        );
        let shop = FakeKey::new();
        let packages = [
            ("till", "1", "Depends: tool, mail-server, libc6\n"),
            ("tool", "9", ""),
            ("amail", "1", "Provides: mail-server, libc6 (= 99)\nPriority: required\n"),
        ];
        publish(
            &mut debian.files.lock().unwrap(),
            &shop,
            "/shop",
            "Codename: x\nSuite: stable",
            "21 Nov 2026",
            &packages,
        );
        Self { debian, shop, folder: tempfile::tempdir().unwrap() }
    }

    fn further(&self, prefer: &[&str], keys: TrustedKeys) -> Further {
        let repository = Repository {
            name: "shop".into(),
            url: self.debian.server.url("/shop"),
            suite: "stable".into(),
            components: vec!["main".into()],
            fingerprint: self.shop.id(),
            prefer: prefer.iter().map(ToString::to_string).collect(),
        };
        Further { repository, keys }
    }

    fn lock(&self, asked: &[&str], further: &[Further]) -> Result<Lock, SourceError> {
        let request = LockRequest {
            suite: "trixie".into(),
            arch: "amd64".into(),
            packages: asked.iter().map(ToString::to_string).collect(),
            backports: Vec::new(),
            without: Vec::new(),
            build_arch: "amd64".into(),
            tools: Vec::new(),
            repositories: further.iter().map(|one| one.repository.clone()).collect(),
        };
        let cache = cache(self.folder.path(), false);
        make_lock(&request, &self.debian.mirrors(), &self.debian.key.trusted(), further, &cache, NOW, &Silent)
    }

    fn chosen(lock: &Lock) -> Vec<String> {
        lock.packages.iter().map(|package| format!("{} {} {}", package.name, package.version, package.suite)).collect()
    }
}

#[test]
fn a_repository_adds_and_replaces_nothing_unless_that_is_said() {
    let world = World::new();
    let further = [world.further(&[], world.shop.trusted())];
    let lock = world.lock(&["till"], &further).unwrap();
    assert_eq!(World::chosen(&lock), ["libc6 1 trixie", "till 1 shop", "tool 2 trixie", "zmail 1 trixie"]);
    let preferred = [world.further(&["tool"], world.shop.trusted())];
    let other = world.lock(&["till"], &preferred).unwrap();
    assert_eq!(World::chosen(&other), ["libc6 1 trixie", "till 1 shop", "tool 9 shop", "zmail 1 trixie"]);
    assert!(!lock.matches(&other.request), "what is preferred is part of a lock");
    assert!(lock.to_text().unwrap().contains(&world.shop.id()));
    assert_eq!(Lock::parse(&lock.to_text().unwrap()).unwrap(), lock);

    // What is locked is fetched from its repository, and needs no mirror of Debian's for that.
    let cache = cache(world.folder.path(), false);
    lock.fetch(Some(&world.debian.mirrors()), &cache, &Silent).unwrap();
    let till = lock.packages.iter().find(|package| package.name == "till").unwrap();
    assert_eq!(lock.wanted(till, None).url, world.debian.server.url("/shop/pool/till_1.deb"));
    let error = world.lock(&["till"], &[world.further(&["none"], world.shop.trusted())]).unwrap_err().to_string();
    assert!(
        error.contains("suite shop") && error.contains("it has no package none, which is to come from there"),
        "{error}"
    );
}

#[test]
fn a_repository_is_believed_by_its_own_key_only() {
    let world = World::new();
    for keys in [FakeKey::new().trusted(), world.debian.key.trusted()] {
        let error = world.lock(&["till"], &[world.further(&[], keys)]).unwrap_err().to_string();
        assert!(
            error.contains("suite shop: InRelease is not to be trusted") && error.contains(&world.shop.id()),
            "{error}"
        );
    }
    // The shop's key doesn't open Debian.
    let files = world.debian.files.clone();
    publish(
        &mut files.lock().unwrap(),
        &world.shop,
        "/debian",
        "Codename: trixie",
        "21 Nov 2026",
        &[("tool", "666", "")],
    );
    let error = world.lock(&["till"], &[world.further(&[], world.shop.trusted())]).unwrap_err().to_string();
    assert!(error.contains("suite trixie: InRelease is not to be trusted"), "{error}");
}

#[test]
fn a_component_or_suite_that_is_not_there_is_named() {
    let world = World::new();
    let mut further = world.further(&[], world.shop.trusted());
    further.repository.components = vec!["main".into(), "extra".into()];
    let error = world.lock(&["till"], &[further.clone()]).unwrap_err().to_string();
    assert!(error.contains("suite shop: cannot read InRelease: it has no component extra for amd64"), "{error}");
    further.repository.suite = "testing".into();
    let error = world.lock(&["till"], &[further]).unwrap_err().to_string();
    assert!(error.contains("/shop/dists/testing/InRelease"), "{error}");
}

#[test]
fn keys_are_taken_armored_and_binary_and_only_by_their_fingerprint() {
    let (key, other) = (FakeKey::new(), FakeKey::new());
    assert!(TrustedKeys::from_file(key.armored().as_bytes(), &key.id()).is_ok());
    assert!(TrustedKeys::from_file(&key.public(), &key.id()).is_ok());
    let ring = [other.public(), key.public()].concat();
    assert!(TrustedKeys::from_file(&ring, &key.id()).is_ok());
    let error = TrustedKeys::from_file(&other.public(), &key.id()).unwrap_err();
    assert_eq!(error.reason, format!("it holds {}", other.id()));
    for nonsense in [&b"hello"[..], b"", b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nxx\n"] {
        assert!(TrustedKeys::from_file(nonsense, &key.id()).is_err());
    }
}

#[test]
fn what_a_mirror_had_does_not_come_back() {
    let world = World::new();
    world.lock(&["tool"], &[]).unwrap();
    let republish = |day: &str| {
        let mut files = world.debian.files.lock().unwrap();
        publish(&mut files, &world.debian.key, "/debian", "Codename: trixie", day, &[("tool", "1", "")]);
    };
    // Servers behind one address lag by some hours.
    republish("20 Nov 2026");
    world.lock(&["tool"], &[]).unwrap();
    republish("12 Nov 2026");
    let error = world.lock(&["tool"], &[]).unwrap_err().to_string();
    assert!(
        error.contains("suite trixie: its InRelease is 9 days older than one that this mirror has already given"),
        "{error}"
    );
    assert!(error.contains("--mirror"), "{error}");
    // Another cache knows nothing of it: this is a memory, not a rule.
    let elsewhere = World { folder: tempfile::tempdir().unwrap(), ..world };
    elsewhere.lock(&["tool"], &[]).unwrap();
}

#[test]
fn a_locked_version_that_left_is_named() {
    let world = World::new();
    let lock = world.lock(&["tool"], &[]).unwrap();
    world.debian.files.lock().unwrap().remove("/debian/pool/tool_2.deb");
    let cache = cache(world.folder.path(), false);
    let error = lock.fetch(Some(&world.debian.mirrors()), &cache, &Silent).unwrap_err().to_string();
    assert!(error.starts_with("package tool 2 is locked, but the mirror has it no more"), "{error}");
    assert!(error.contains("`bakelite lock`") && error.contains("/pool/tool_2.deb"), "{error}");
}
