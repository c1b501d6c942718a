//! Locks and unpacks what an appliance needs from the mirror of this host's apt sources.
//!
//! Needs the network, so it runs only with BAKELITE_TEST_MIRROR=1; without, it says loudly that it did not.

use std::path::Path;
use std::time::{Instant, SystemTime};

use bakelite_image::progress::Silent;
use bakelite_image::source::cache::Cache;
use bakelite_image::source::deb::{Entry, EntryKind, unpack};
use bakelite_image::source::http::Fetcher;
use bakelite_image::source::lock::{Lock, LockRequest, make_lock};
use bakelite_image::source::mirror::{MirrorChoice, choose};
use bakelite_image::source::trust::TrustedKeys;
use bakelite_image::source::{SourceError, cache};

const PACKAGES: &str = "linux-image-amd64 e2fsprogs busybox-static kmod dhcpcd-base chrony dropbear-bin ca-certificates shim-signed \
    systemd-boot-efi-amd64-signed netbase tzdata";

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn a_real_mirror_gives_a_lock_and_packages_that_unpack() {
    if std::env::var_os("BAKELITE_TEST_MIRROR").is_none() {
        eprintln!("SKIPPED: BAKELITE_TEST_MIRROR is not set, so no real Debian mirror was asked");
        return;
    }
    let without = std::env::var("BAKELITE_TEST_WITHOUT").unwrap_or_default();
    let folder = cache::default_folder().expect("a home");
    let cache = Cache::open(&folder, Fetcher::default(), false).expect("a cache");
    let mirror = std::env::var("BAKELITE_MIRROR").ok();
    let choice =
        MirrorChoice { option: None, config: None, environment: mirror.as_deref(), apt: Path::new("/etc/apt") };
    let mirrors = choose(&choice).expect("a mirror");
    let request = LockRequest {
        suite: "trixie".into(),
        arch: "amd64".into(),
        packages: words(&std::env::var("BAKELITE_TEST_PACKAGES").unwrap_or(PACKAGES.into())),
        without: words(&without),
        build_arch: "amd64".into(),
        tools: words("kmod"),
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_secs();
    let start = Instant::now();
    let lock =
        make_lock(&request, &mirrors, &TrustedKeys::debian().expect("keys"), &cache, now, &Silent).expect("a lock");
    let bytes: u64 = lock.packages.iter().map(|package| package.size).sum();
    println!("{} packages, {bytes} bytes, locked in {:?}", lock.packages.len(), start.elapsed());
    for package in &lock.packages {
        println!(
            "{:>10} {} {} ({}) for {:?}",
            package.size, package.name, package.version, package.suite, package.required_by
        );
    }
    for left in &lock.left_out {
        println!("left out: {} wanted by {}", left.name, left.wanted_by);
    }
    assert_eq!(Lock::parse(&lock.to_text().expect("text")).expect("a lock"), lock);
    let start = Instant::now();
    lock.fetch(&mirrors, &cache, &Silent).expect("packages");
    println!("fetched and verified in {:?}", start.elapsed());
    let start = Instant::now();
    let (mut files, mut content) = (0u64, 0u64);
    for package in &lock.packages {
        let deb = cache.open_verified(&lock.wanted(package, &mirrors), &Silent).expect("a package");
        let begun = Instant::now();
        let mut visit = |entry: Entry<'_>| {
            files += 1;
            let read = std::io::copy(entry.content, &mut std::io::sink());
            content += read.expect("content");
            if let EntryKind::Symlink { .. } | EntryKind::Hardlink { .. } = entry.kind {}
            if std::env::var_os("BAKELITE_TEST_LIST").is_some() {
                println!("LIST {} {} {:o} {:?}", package.name, entry.path, entry.mode, entry.kind);
            }
            Ok::<(), SourceError>(())
        };
        let control = unpack(deb, &package.name, &mut visit).expect("a sound package");
        assert_eq!(control.get("Version"), Some(package.version.as_str()));
        if begun.elapsed().as_millis() > 300 {
            println!("unpacked {} in {:?}", package.name, begun.elapsed());
        }
    }
    println!("{files} entries, {content} bytes, unpacked in {:?}", start.elapsed());
}
