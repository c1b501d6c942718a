//! The k3s payload: the release's own binary and air-gap images, from a folder or from the release site.
//!
//! All files are checked against each other and the board before they go into an image: the checksum list names both,
//! their sums agree, the binary is for the board's processor, and k3s will be able to read the images. Nothing is run
//! and nothing is changed: what goes in is what k3s released.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use super::cache::{Cache, Size, Wanted};
use super::digest::{Hashing, Sha256};
use super::error::SourceError;
use super::http::without_password;
use super::lock::LockedFile;
use super::zstd_frames::largest_window;
use crate::elf;
use crate::progress::Listen;

/// Where k3s publishes its releases; a folder for each version below it.
pub const RELEASE_SITE: &str = "https://github.com/k3s-io/k3s/releases/download";

/// The largest zstd window that k3s's importer takes (its MaxDecoderMemory), in bytes.
const WINDOW_LIMIT: u64 = 32 << 20;

/// The most a file of the payload and the checksum list may have, in bytes. Releases are at 80 MB and 220 MB.
const FILE_LIMIT: u64 = 4 << 30;
const CHECKSUMS_LIMIT: u64 = 64 << 10;

/// How k3s names one architecture.
struct Target {
    debian: &'static str,
    binary: &'static str,
    suffix: &'static str,
}

const TARGETS: &[Target] = &[
    Target { debian: "amd64", binary: "k3s", suffix: "amd64" },
    Target { debian: "arm64", binary: "k3s-arm64", suffix: "arm64" },
    Target { debian: "armhf", binary: "k3s-armhf", suffix: "arm" },
];

/// One file of the payload, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadFile {
    /// The release's own name of it.
    pub name: String,
    /// Where it lies on this machine.
    pub path: PathBuf,
    /// Size in bytes.
    pub size: u64,
    /// Its sum.
    pub sha256: Sha256,
    /// The address it came from, or "folder".
    pub source: String,
}

/// A complete payload whose parts fit each other and the board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// "v1.36.2+k3s1".
    pub version: String,
    /// The k3s binary.
    pub binary: PayloadFile,
    /// The air-gap images.
    pub images: PayloadFile,
    /// The checksum list.
    pub checksums: PayloadFile,
}

impl Payload {
    /// What the lock keeps of it, by name.
    pub fn locked(&self) -> Vec<LockedFile> {
        let mut files = [&self.binary, &self.images, &self.checksums].map(|file| LockedFile {
            name: file.name.clone(),
            size: file.size,
            sha256: file.sha256,
            source: file.source.clone(),
        });
        files.sort_by(|left, right| left.name.cmp(&right.name));
        files.to_vec()
    }
}

/// Takes the payload for a Debian architecture from a folder with the release's own file names. Without `version` it
/// is read from the binary.
pub fn from_folder(folder: &Path, arch: &str, version: Option<&str>) -> Result<Payload, SourceError> {
    let target = target(arch)?;
    let need = |name: &str| {
        let path = folder.join(name);
        if path.is_file() { Ok(path) } else { Err(payload(missing(folder, name, target))) }
    };
    let list = need(&target.checksums())?;
    let binary = need(target.binary)?;
    let images = ["tar.zst", "tar.gz", "tar"]
        .map(|end| folder.join(target.images(end)))
        .into_iter()
        .find(|path| path.is_file())
        .ok_or_else(|| {
            payload(format!(
                "{} has no file {}, nor one ending in .gz or without .zst",
                folder.display(),
                target.images("tar.zst")
            ))
        })?;
    let sums = parse_checksums(&read_small(&list)?);
    let take = |path: PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (sha256, size) = hash(&path)?;
        Ok::<_, SourceError>(PayloadFile { name, path, size, sha256, source: "folder".to_owned() })
    };
    let checked = |path: PathBuf| {
        let file = take(path)?;
        match sums.get(&file.name) {
            Some(sum) if *sum == file.sha256 => Ok(file),
            Some(sum) => Err(payload(format!(
                "{} is damaged or of another release: {} promises sha256 {sum}, it has {}",
                file.path.display(),
                target.checksums(),
                file.sha256
            ))),
            None => Err(payload(format!(
                "{} does not list {}: the files are not of one release",
                target.checksums(),
                file.name
            ))),
        }
    };
    finish(target, checked(binary)?, checked(images)?, take(list)?, version)
}

/// Why a folder with k3s's release files can't be for a Debian architecture, as far as that is seen at a glance: its
/// program is another one's. What a build finds besides (sums, versions) isn't looked at.
pub fn misfit(folder: &Path, arch: &str) -> Option<String> {
    let target = TARGETS.iter().find(|target| target.debian == arch)?;
    let path = folder.join(target.binary);
    if path.is_file() {
        let mut head = Vec::new();
        File::open(&path).and_then(|file| file.take(elf::HEAD as u64).read_to_end(&mut head)).ok()?;
        return wrong_machine(target, &head);
    }
    others(folder, target).next().map(|_| missing(folder, target.binary, target))
}

/// The programs of other architectures in a folder, with Debian's names of these.
fn others(folder: &Path, target: &Target) -> impl Iterator<Item = &'static Target> {
    TARGETS.iter().filter(move |other| other.debian != target.debian && folder.join(other.binary).is_file())
}

fn missing(folder: &Path, name: &str, target: &Target) -> String {
    let others = others(folder, target).map(|other| format!("{} for {}", other.binary, other.debian));
    let others = others.collect::<Vec<_>>().join(" and ");
    let but =
        if others.is_empty() { String::new() } else { format!(", only {others}; the board is {}", target.debian) };
    format!("{} has no file {name}, as the release calls it{but}", folder.display())
}

/// Fetches the payload of a version for a Debian architecture from a release site ([`RELEASE_SITE`], or one of the same
/// layout). Files in `locked` must be as they were locked; without, the site's checksum list is believed.
pub fn from_site(
    site: &str,
    version: &str,
    arch: &str,
    locked: &[LockedFile],
    cache: &Cache,
    listen: &dyn Listen,
) -> Result<Payload, SourceError> {
    let target = target(arch)?;
    if !is_version(version) {
        return Err(payload(format!("{version:?} is no k3s version; they look like v1.36.2+k3s1")));
    }
    let get = |name: String, sums: &BTreeMap<String, Sha256>| {
        let url = release_url(site, version, &name);
        let known = locked.iter().find(|file| file.name == name).map(|file| (file.sha256, Size::Exactly(file.size)));
        let promised = || sums.get(&name).map(|sum| (*sum, Size::AtMost(FILE_LIMIT)));
        let (sha256, size) = known
            .or_else(promised)
            .ok_or_else(|| payload(format!("{} of {version} does not list {name}", target.checksums())))?;
        let wanted = Wanted { name: name.clone(), url: url.clone(), size, sha256 };
        let path = cache.fetch(&wanted, listen).map_err(unfetched)?;
        let size = fs::metadata(&path).map_err(SourceError::reading(&path))?.len();
        Ok::<_, SourceError>(PayloadFile { name, path, size, sha256, source: without_password(&url) })
    };
    let name = target.checksums();
    let mut sums = BTreeMap::new();
    if !locked.iter().any(|file| file.name == name) {
        let url = release_url(site, version, &name);
        let list = cache.fetch_unpromised(&format!("k3s {version} {name}"), &url, CHECKSUMS_LIMIT, listen);
        let list = list.map_err(unfetched)?;
        sums.insert(name.clone(), Sha256::of(&list));
    }
    let list = get(name, &sums)?;
    let sums = parse_checksums(&read_small(&list.path)?);
    let binary = get(target.binary.to_owned(), &sums)?;
    let images = get(target.images("tar.zst"), &sums)?;
    finish(target, binary, images, list, Some(version))
}

/// What to do about a release site is something else than about a Debian mirror.
fn unfetched(error: SourceError) -> SourceError {
    match error {
        SourceError::Fetch(fetch) => payload(format!(
            "cannot fetch {}: {}; is `k3s.version` a release, and the network up? The release's files can also be given \
             as a folder, with `k3s.files`",
            fetch.url, fetch.reason
        )),
        other => other,
    }
}

/// Whether a release site has a version for a Debian architecture; asked once, with the patience of `fetcher`.
pub fn site_answers(fetcher: &super::http::Fetcher, site: &str, version: &str, arch: &str) -> bool {
    target(arch).is_ok_and(|target| fetcher.answers(&release_url(site, version, &target.checksums())))
}

impl Target {
    fn images(&self, end: &str) -> String {
        format!("k3s-airgap-images-{}.{end}", self.suffix)
    }

    fn checksums(&self) -> String {
        format!("sha256sum-{}.txt", self.suffix)
    }
}

fn target(arch: &str) -> Result<&'static Target, SourceError> {
    let found = TARGETS.iter().find(|target| target.debian == arch);
    found.ok_or_else(|| payload(format!("k3s has no release for the architecture {arch}")))
}

fn release_url(site: &str, version: &str, name: &str) -> String {
    format!("{}/{}/{name}", site.trim_end_matches('/'), version.replace('+', "%2B"))
}

/// What the parts still have to prove once their sums agree.
fn finish(
    target: &Target,
    binary: PayloadFile,
    images: PayloadFile,
    checksums: PayloadFile,
    version: Option<&str>,
) -> Result<Payload, SourceError> {
    check_machine(target, &binary)?;
    if images.name.ends_with(".zst") {
        let file = File::open(&images.path).map_err(SourceError::reading(&images.path))?;
        check_window(BufReader::new(file)).map_err(|problem| payload(format!("{} {problem}", images.name)))?;
    }
    let version = match version {
        Some(version) => version.to_owned(),
        None => find_version(&binary)?,
    };
    Ok(Payload { version, binary, images, checksums })
}

/// Whether k3s will be able to decompress a zstd file; else what is wrong with it.
pub(crate) fn check_window(file: impl Read + io::Seek) -> Result<(), String> {
    match largest_window(file) {
        Err(error) => Err(format!("is damaged: {error}")),
        Ok(window) if window > WINDOW_LIMIT => Err(format!(
            "was compressed with a window of {} MiB, but k3s reads at most 32 MiB: compress it with `zstd -19` or \
             `--long=25` at most",
            window >> 20
        )),
        Ok(_) => Ok(()),
    }
}

fn check_machine(target: &Target, binary: &PayloadFile) -> Result<(), SourceError> {
    let mut head = Vec::new();
    let opened = File::open(&binary.path).and_then(|file| file.take(elf::HEAD as u64).read_to_end(&mut head));
    opened.map_err(SourceError::reading(&binary.path))?;
    wrong_machine(target, &head).map_or(Ok(()), |problem| Err(payload(problem)))
}

fn wrong_machine(target: &Target, head: &[u8]) -> Option<String> {
    let what = elf::check(head, target.debian).err()?;
    Some(format!("{} is {what}, but the board is {}", target.binary, target.debian))
}

/// Lines of "<sha256>  <file>", as sha256sum writes them; others are passed over.
fn parse_checksums(text: &str) -> BTreeMap<String, Sha256> {
    let pairs = text.lines().filter_map(|line| {
        let (sum, name) = line.split_once([' ', '\t'])?;
        let name = name.trim().trim_start_matches('*').trim_start_matches("./");
        Some((name.to_owned(), sum.parse().ok()?))
    });
    pairs.collect()
}

/// "v1.36.2+k3s1", also with "-rc1" before the plus.
fn is_version(text: &str) -> bool {
    text.as_bytes().first() == Some(&b'v') && version_at(text.as_bytes()) == Some(text.len())
}

/// The length of a version that starts here.
fn version_at(bytes: &[u8]) -> Option<usize> {
    let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).take(6).count();
    let mut end = 1;
    for separator in [Some(b'.'), Some(b'.'), None] {
        let count = Some(digits(end)).filter(|count| *count > 0)?;
        end += count;
        if let Some(separator) = separator {
            (bytes.get(end) == Some(&separator)).then_some(())?;
            end += 1;
        }
    }
    if bytes[end..].starts_with(b"-rc") {
        end += 3 + digits(end + 3);
    }
    bytes[end..].starts_with(b"+k3s").then_some(())?;
    end += 4;
    let count = Some(digits(end)).filter(|count| *count > 0)?;
    Some(end + count)
}

/// The one k3s version that the binary names.
fn find_version(binary: &PayloadFile) -> Result<String, SourceError> {
    const LONGEST: usize = 48;
    let mut file = File::open(&binary.path).map_err(SourceError::reading(&binary.path))?;
    let mut found = std::collections::BTreeSet::new();
    let mut window = Vec::new();
    loop {
        let read = file.by_ref().take(1 << 20).read_to_end(&mut window).map_err(SourceError::reading(&binary.path))?;
        // A version that may go on in the next piece is left for then.
        let complete = if read == 0 { window.len() } else { window.len().saturating_sub(LONGEST) };
        for start in (0..complete).filter(|start| window[*start] == b'v') {
            if let Some(length) = version_at(&window[start..window.len().min(start + LONGEST)]) {
                found.insert(String::from_utf8_lossy(&window[start..start + length]).into_owned());
            }
        }
        if read == 0 {
            break;
        }
        window.drain(..complete);
    }
    // Texts stand in a program without a gap: digits of the next one may seem to go on with this one.
    let first = found.first().cloned().unwrap_or_default();
    let mut found = found.into_iter().filter(|version| *version == first || !version.starts_with(&first));
    match (found.next(), found.next()) {
        (Some(version), None) => Ok(version),
        (None, _) => Err(payload(format!("{} does not tell its version: set `k3s.version`", binary.name))),
        (Some(one), Some(other)) => {
            Err(payload(format!("{} names several versions ({one}, {other}, …): set `k3s.version`", binary.name)))
        }
    }
}

fn hash(path: &Path) -> Result<(Sha256, u64), SourceError> {
    let mut hashing = Hashing::new(File::open(path).map_err(SourceError::reading(path))?);
    io::copy(&mut hashing, &mut io::sink()).map_err(SourceError::reading(path))?;
    Ok(hashing.finish())
}

fn read_small(path: &Path) -> Result<String, SourceError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(CHECKSUMS_LIMIT).read_to_end(&mut bytes));
    read.map_err(SourceError::reading(path))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn payload(reason: String) -> SourceError {
    SourceError::Payload { reason }
}

#[cfg(test)]
#[path = "k3s_tests.rs"]
mod tests;
