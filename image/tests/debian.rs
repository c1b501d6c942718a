//! Locks and unpacks what an appliance needs from the mirror of this host's apt sources.
//!
//! Needs the network and 0.3 GB of the cache, so it runs only with BAKELITE_TEST_MIRROR=1; without, it says loudly that
//! it did not.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Instant, SystemTime};

use bakelite_image::progress::Silent;
use bakelite_image::source::cache::{self, Cache};
use bakelite_image::source::deb::{Entry, unpack};
use bakelite_image::source::error::SourceError;
use bakelite_image::source::http::Fetcher;
use bakelite_image::source::lock::{Lock, LockRequest, LockedPackage, make_lock};
use bakelite_image::source::mirror::{MIRROR_VARIABLE, MirrorChoice, Mirrors, choose};
use bakelite_image::source::trust::TrustedKeys;

/// On every board. liblzma5 is only opened at run time (by kmod, for modules compressed with xz): nothing depends on it.
const PACKAGES: &str = "e2fsprogs busybox-static kmod liblzma5 dhcpcd-base chrony dropbear-bin ca-certificates netbase nftables \
     tzdata";

/// On x86_64 besides.
const PACKAGES_AMD64: &str = "linux-image-amd64 shim-signed systemd-boot-efi-amd64-signed";

/// What maintainer scripts, dpkg, systemd and GRUB would need, and an appliance without them does not.
const WITHOUT: &str = "adduser debconf gcc-14-base grub-efi-amd64-bin grub2-common init-system-helpers initramfs-tools iproute2 \
    linux-base logsave mokutil openssl openssl-provider-legacy shim-helpers-amd64-signed shim-signed-common ucf";

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn mirror() -> Option<Mirrors> {
    if std::env::var_os("BAKELITE_TEST_MIRROR").is_none_or(|value| value != "1") {
        eprintln!("SKIPPED: BAKELITE_TEST_MIRROR=1 is not set, so no real Debian mirror was asked");
        return None;
    }
    let environment = std::env::var(MIRROR_VARIABLE).ok();
    let choice =
        MirrorChoice { option: None, config: None, environment: environment.as_deref(), apt: Path::new("/etc/apt") };
    Some(choose(&choice).expect("a mirror"))
}

fn lock(mirrors: &Mirrors, cache: &Cache, arch: &str, packages: &str) -> Result<Lock, SourceError> {
    let request = LockRequest {
        suite: "trixie".into(),
        arch: arch.into(),
        packages: words(packages),
        backports: Vec::new(),
        without: words(WITHOUT),
        build_arch: "amd64".into(),
        tools: words("kmod liblzma5"),
        repositories: Vec::new(),
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_secs();
    let keys = TrustedKeys::debian().expect("keys");
    let start = Instant::now();
    let lock = make_lock(&request, mirrors, &keys, &[], cache, now, &Silent)?;
    let bytes = |list: &[LockedPackage]| list.iter().map(|package| package.size).sum::<u64>();
    let (packages, tools) = (lock.packages.len(), lock.tools.len());
    println!(
        "{arch}: {packages} packages of {} bytes, {tools} tools of {} bytes, locked in {:?}",
        bytes(&lock.packages),
        bytes(&lock.tools),
        start.elapsed()
    );
    Ok(lock)
}

#[test]
fn x86_64_is_locked_fetched_and_unpacked() {
    let Some(mirrors) = mirror() else { return };
    let cache = Cache::open(&cache::default_folder().expect("a home"), Fetcher::default(), false).expect("a cache");
    let lock = lock(&mirrors, &cache, "amd64", &format!("{PACKAGES} {PACKAGES_AMD64}")).expect("a lock");
    for package in &lock.packages {
        let why = package.required_by.as_deref().unwrap_or("the appliance");
        println!("{:>10} {} {} ({}) for {why}", package.size, package.name, package.version, package.suite);
    }
    for left in &lock.left_out {
        println!("left out: {} for {}", left.name, left.wanted_by);
    }
    assert_eq!(Lock::parse(&lock.to_text().expect("a text")).expect("a lock"), lock);
    let start = Instant::now();
    lock.fetch(Some(&mirrors), &cache, &Silent).expect("packages");
    println!("fetched and verified in {:?}", start.elapsed());
    let start = Instant::now();
    let (mut paths, mut content) = (BTreeSet::new(), 0);
    for package in &lock.packages {
        let deb = cache.open_verified(&lock.wanted(package, Some(&mirrors)), &Silent).expect("a package");
        let mut visit = |entry: Entry<'_>| {
            content += std::io::copy(entry.content, &mut std::io::sink()).expect("content");
            paths.insert(entry.path);
            Ok::<(), SourceError>(())
        };
        let control = unpack(deb, &package.name, &mut visit).expect("a sound package");
        assert_eq!(control.get("Version"), Some(package.version.as_str()));
    }
    println!("{} paths, {content} bytes, unpacked in {:?}", paths.len(), start.elapsed());
    for path in [
        "usr/sbin/mke2fs",
        "usr/sbin/chronyd",
        "usr/sbin/dropbear",
        "usr/sbin/nft",
        "usr/sbin/dhcpcd",
        "usr/bin/kmod",
        "usr/lib/x86_64-linux-gnu/liblzma.so.5",
        "usr/lib/x86_64-linux-gnu/libgnutls.so.30",
        "usr/lib/systemd/boot/efi/systemd-bootx64.efi.signed",
        "usr/lib/shim/shimx64.efi.signed",
    ] {
        assert!(paths.contains(path), "{path}");
    }
}

#[test]
fn other_boards_are_locked_with_tools_for_this_host() {
    let Some(mirrors) = mirror() else { return };
    let cache = Cache::open(&cache::default_folder().expect("a home"), Fetcher::default(), false).expect("a cache");
    for (arch, kernel) in [("arm64", "linux-image-arm64"), ("armhf", "linux-image-armmp")] {
        let lock = match lock(&mirrors, &cache, arch, &format!("{PACKAGES} {kernel}")) {
            Err(error @ SourceError::AcceptRelease { .. }) => {
                eprintln!("SKIPPED: {arch} was not locked, for the mirror does not fit together now: {error}");
                continue;
            }
            made => made.expect("a lock"),
        };
        assert!(lock.packages.iter().all(|package| [arch, "all"].contains(&package.architecture.as_str())));
        assert!(lock.tools.iter().any(|package| package.name == "kmod" && package.architecture == "amd64"));
    }
}
