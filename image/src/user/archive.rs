//! Archives of container images: `docker save` and OCI layouts, plain or compressed, read once and in constant memory.
//!
//! Proved: it is whole (each blob is there and has its digest), it is for the board's processor (else "exec format
//! error", in the field), each image has a name that k3s can find it by, and k3s can decompress it. Nothing of it is
//! ever written anywhere: what goes into the image is the file as it is, under a name of ours.

use super::Loading;
use super::reference::{Reference, is_digest};
use crate::source::digest::{Hashing, Sha256};
use crate::source::k3s::check_window;
use crate::source::packages::Capped;
use bakelite_spec::board::Arch;
use bakelite_spec::finding::Finding;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

/// The most an archive may unpack to, in bytes: a bomb ends here.
const UNPACKED_LIMIT: u64 = 64 << 30;
/// The most members it may have; an image has some dozens.
const MEMBERS_LIMIT: usize = 1 << 16;
/// Descriptions up to this size are kept, and so many bytes of them in all.
const DESCRIPTION_LIMIT: u64 = 4 << 20;
const DESCRIPTIONS_LIMIT: usize = 64 << 20;
/// How deep an index may stand in an index.
const DEPTH: usize = 4;

/// An archive that is whole and fits the board.
#[derive(Clone, Debug)]
pub struct Archive {
    /// Where it lies on this machine.
    pub path: PathBuf,
    /// Its key in the appliance.
    pub key: String,
    /// Its name in the image; its ending tells k3s how it is compressed.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
    /// Its sum.
    pub sha256: Sha256,
    /// What is in it.
    pub images: Vec<Image>,
}

/// One image of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its names.
    pub names: Vec<Reference>,
    /// The digest that a manifest may name it by, where the archive keeps it.
    pub digest: Option<String>,
}

/// What is wrong with an archive, and what to try.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    /// In lower case, without a full stop.
    pub problem: String,
    /// Ready to be put behind "try".
    pub hint: String,
}

fn refused<T>(problem: impl Into<String>, hint: impl Into<String>) -> Result<T, Problem> {
    Err(Problem { problem: problem.into(), hint: hint.into() })
}

const SAVE_AGAIN: &str = "saving it again: `docker save NAME -o FILE.tar`";

pub(super) fn load(loading: &mut Loading<'_>) {
    for (number, name) in loading.config.appliance.images.iter().enumerate() {
        let key = format!("images[{number}]");
        let path = loading.path(name);
        let arch = loading.config.board.arch;
        match open(&key, &path, arch) {
            Ok(archive) => {
                if let Some(other) = loading.user.archives.iter().find(|other| other.name == archive.name) {
                    let problem = format!("{} has the same file name as {}", path.display(), other.path.display());
                    loading.report(Finding::error(&key, problem, "another name for one of them"));
                }
                loading.user.archives.push(archive);
            }
            Err(Problem { problem, hint }) => {
                loading.report(Finding::error(&key, format!("{} {problem}", path.display()), hint));
            }
        }
    }
}

/// How a file is compressed, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    None,
    Gzip,
    Zstd,
}

impl Packing {
    fn of(head: &[u8]) -> Result<Self, Problem> {
        const HINT: &str = "`zstd -19`, or no compression at all";
        match head {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Self::Zstd),
            [0x42, 0x5a, 0x68, ..] => refused("is compressed with bzip2, which isn't read here", HINT),
            [0xfd, b'7', b'z', b'X', b'Z', ..] => refused("is compressed with xz, which k3s doesn't read", HINT),
            [0x04, 0x22, 0x4d, 0x18, ..] => refused("is compressed with lz4, which isn't read here", HINT),
            _ => Ok(Self::None),
        }
    }

    fn ending(self) -> &'static str {
        match self {
            Self::None => "tar",
            Self::Gzip => "tar.gz",
            Self::Zstd => "tar.zst",
        }
    }
}

fn open(key: &str, path: &Path, arch: Arch) -> Result<Archive, Problem> {
    let unreadable = |error: io::Error| Problem {
        problem: format!("can't be read: {error}"),
        hint: "the name of an archive, relative to this file".into(),
    };
    let mut file = File::open(path).map_err(unreadable)?;
    let mut head = Vec::new();
    file.by_ref().take(8).read_to_end(&mut head).map_err(unreadable)?;
    let packing = Packing::of(&head)?;
    if packing == Packing::Zstd {
        file.rewind().map_err(unreadable)?;
        check_window(BufReader::new(&mut file)).map_err(|problem| Problem { problem, hint: "`zstd -19`".into() })?;
    }
    file.rewind().map_err(unreadable)?;
    let mut hashing = Hashing::new(BufReader::with_capacity(1 << 18, file));
    let members = members(unpack(packing, &mut hashing).map_err(unreadable)?)?;
    let images = images(&members, arch)?;
    // What stands behind the end of the archive belongs to the file's sum as well.
    io::copy(&mut hashing, &mut io::sink()).map_err(unreadable)?;
    let (sha256, size) = hashing.finish();
    let stem = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = stem.split(".tar").next().unwrap_or(&stem).trim_end_matches(".tgz").trim_end_matches(".tzst");
    let plain: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect();
    let name = format!("{}.{}", plain.trim_start_matches('.'), packing.ending());
    Ok(Archive { path: path.into(), key: key.into(), name, size, sha256, images })
}

/// The names of the images of an archive that is trusted to be whole, such as k3s's own.
///
/// # Errors
/// When it can't be read as one.
pub fn names_in(path: &Path) -> Result<Vec<Image>, Problem> {
    let unreadable = |error: io::Error| Problem { problem: format!("can't be read: {error}"), hint: String::new() };
    let mut file = File::open(path).map_err(unreadable)?;
    let mut head = Vec::new();
    file.by_ref().take(8).read_to_end(&mut head).map_err(unreadable)?;
    file.rewind().map_err(unreadable)?;
    let packing = Packing::of(&head)?;
    let members = members(unpack(packing, BufReader::with_capacity(1 << 18, file)).map_err(unreadable)?)?;
    match members.json::<Vec<Saved>>("manifest.json")? {
        Some(saved) => Ok(saved.iter().map(|saved| Image { names: saved.names(), digest: None }).collect()),
        None => Ok(Vec::new()),
    }
}

fn unpack<'a>(packing: Packing, reader: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let inner: Box<dyn Read + 'a> = match packing {
        Packing::None => Box::new(reader),
        Packing::Gzip => Box::new(flate2::read::MultiGzDecoder::new(reader)),
        Packing::Zstd => Box::new(zstd::Decoder::new(reader)?),
    };
    Ok(Box::new(Capped { inner, left: UNPACKED_LIMIT }))
}

/// What is known of an archive's members once it has been read.
#[derive(Debug, Default)]
pub struct Members(BTreeMap<String, Member>);

#[derive(Debug)]
enum Member {
    File { sha256: Sha256, size: u64, description: Option<Vec<u8>> },
    Link(String),
}

/// Reads a tar to its end: the sum of each file, and what looks like a description.
///
/// # Errors
/// When it is no tar, or none that an image's archive can be.
pub fn members(reader: impl Read) -> Result<Members, Problem> {
    let broken = |error: io::Error| Problem {
        problem: format!("is damaged, or no tar archive ({error})"),
        hint: SAVE_AGAIN.into(),
    };
    let mut archive = tar::Archive::new(reader);
    let mut members = Members::default();
    let mut kept = 0;
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let Ok(path) = String::from_utf8(entry.path_bytes().into_owned()) else {
            return refused("has a member whose name isn't UTF-8", SAVE_AGAIN);
        };
        let path = plain(&path);
        if members.0.len() >= MEMBERS_LIMIT {
            return refused(
                format!("has more than {MEMBERS_LIMIT} members, which no archive of images has"),
                SAVE_AGAIN,
            );
        }
        let kind = entry.header().entry_type();
        if kind.is_symlink() || kind.is_hard_link() {
            let target = String::from_utf8_lossy(&entry.link_name_bytes().unwrap_or_default()).into_owned();
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let target = if kind.is_symlink() { plain(&format!("{folder}/{target}")) } else { plain(&target) };
            members.0.insert(path, Member::Link(target));
        } else if kind.is_file() {
            let mut hashing = Hashing::new(&mut entry);
            let mut start = Vec::new();
            hashing.by_ref().take(DESCRIPTION_LIMIT).read_to_end(&mut start).map_err(broken)?;
            let is_json = matches!(start.iter().find(|byte| !byte.is_ascii_whitespace()), Some(b'{' | b'['));
            io::copy(&mut hashing, &mut io::sink()).map_err(broken)?;
            let (sha256, size) = hashing.finish();
            let keep = is_json && size <= start.len() as u64 && kept + start.len() <= DESCRIPTIONS_LIMIT;
            kept += if keep { start.len() } else { 0 };
            members.0.insert(path, Member::File { sha256, size, description: keep.then_some(start) });
        }
    }
    Ok(members)
}

/// A member's path without `.`, `..`, double slashes and slashes at its ends.
fn plain(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

impl Members {
    /// The file at a path, by way of links.
    fn file(&self, path: &str) -> Option<(&Sha256, u64, Option<&[u8]>)> {
        let mut path = plain(path);
        for _ in 0..DEPTH {
            match self.0.get(&path)? {
                Member::File { sha256, size, description } => return Some((sha256, *size, description.as_deref())),
                Member::Link(target) => path.clone_from(target),
            }
        }
        None
    }

    fn json<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Problem> {
        let Some((.., description)) = self.file(path) else { return Ok(None) };
        let bytes = description.unwrap_or_default();
        match serde_json::from_slice(bytes) {
            Ok(value) => Ok(Some(value)),
            Err(error) => refused(format!("has a {path} that can't be read ({error})"), SAVE_AGAIN),
        }
    }

    /// The description with a digest, if it is there; its content has to have that digest.
    fn blob<T: DeserializeOwned>(&self, digest: &str) -> Result<Option<T>, Problem> {
        self.proved(digest, None).and_then(|there| if there { self.json(&blob_path(digest)) } else { Ok(None) })
    }

    /// Whether a blob is there; damaged it is an error.
    fn proved(&self, digest: &str, length: Option<u64>) -> Result<bool, Problem> {
        let Some((sum, size, _)) = self.file(&blob_path(digest)) else { return Ok(false) };
        if digest.strip_prefix("sha256:") != Some(sum.to_string().as_str())
            || length.is_some_and(|wanted| wanted != size)
        {
            return refused(format!("is damaged: the blob {digest} has the sum {sum}"), SAVE_AGAIN);
        }
        Ok(true)
    }
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

/// One entry of docker's manifest.json.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

impl Saved {
    fn names(&self) -> Vec<Reference> {
        self.repo_tags.iter().flatten().filter_map(|name| Reference::parse(name)).collect()
    }
}

/// An image's configuration, and the platform in an index.
#[derive(Debug, Default, Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    variant: String,
    #[serde(default)]
    rootfs: RootFs,
}

#[derive(Debug, Default, Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<String>,
}

impl Platform {
    /// As `docker --platform` takes it.
    fn name(&self) -> String {
        let variant = if self.variant.is_empty() { String::new() } else { format!("/{}", self.variant) };
        format!("{}/{}{variant}", self.os, self.architecture)
    }

    fn fits(&self, arch: Arch) -> bool {
        let architecture = match arch {
            Arch::X86_64 => self.architecture == "amd64",
            Arch::Aarch64 => self.architecture == "arm64",
            Arch::Armv7 => self.architecture == "arm" && matches!(self.variant.as_str(), "" | "v5" | "v6" | "v7"),
        };
        self.os == "linux" && architecture
    }
}

fn platform_of(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "linux/amd64",
        Arch::Aarch64 => "linux/arm64",
        Arch::Armv7 => "linux/arm/v7",
    }
}

/// An index or a manifest of an OCI layout.
#[derive(Debug, Deserialize)]
struct Oci {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
struct Descriptor {
    digest: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    platform: Option<Platform>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// The images of an archive, proved.
///
/// # Errors
/// The first thing that is wrong.
pub fn images(members: &Members, arch: Arch) -> Result<Vec<Image>, Problem> {
    let images = if let Some(saved) = members.json::<Vec<Saved>>("manifest.json")? {
        saved.iter().map(|saved| docker_image(members, saved, arch)).collect::<Result<Vec<_>, _>>()?
    } else if let Some(index) = members.json::<Oci>("index.json")? {
        index.manifests.iter().map(|entry| oci_image(members, entry, arch)).collect::<Result<Vec<_>, _>>()?
    } else {
        let problem = "holds neither manifest.json nor index.json: it is no archive of container images";
        return refused(problem, "`docker save NAME -o FILE.tar`, or an OCI layout in a tar");
    };
    match images.iter().find(|image| image.names.is_empty()) {
        _ if images.is_empty() => refused("holds no image", SAVE_AGAIN),
        Some(_) => refused(
            "holds an image without a name, which k3s could not find",
            "saving it by its name and tag, not by its id",
        ),
        None => Ok(images),
    }
}

fn docker_image(members: &Members, saved: &Saved, arch: Arch) -> Result<Image, Problem> {
    let names = saved.names();
    let called = names.first().map_or_else(|| "an image".into(), |name| format!("the image {name}"));
    let Some(config) = members.json::<Platform>(&saved.config)? else {
        return refused(format!("lacks {}, the description of {called}", saved.config), SAVE_AGAIN);
    };
    let promised = saved.config.rsplit('/').next().unwrap_or_default().trim_end_matches(".json");
    let sum = members.file(&saved.config).map(|(sum, ..)| sum.to_string()).unwrap_or_default();
    if promised.len() == 64 && promised != sum {
        return refused(format!("is damaged: {} has the sum {sum}", saved.config), SAVE_AGAIN);
    }
    check_platform(&config, arch, &called)?;
    for (number, layer) in saved.layers.iter().enumerate() {
        let Some((sum, ..)) = members.file(layer) else {
            return refused(format!("lacks {layer}, a layer of {called}"), SAVE_AGAIN);
        };
        // A layer is named by its own sum, or told by the image's description where it isn't compressed.
        let sum = sum.to_string();
        let by_name = layer.strip_prefix("blobs/sha256/").is_some_and(|name| name == sum);
        let by_description =
            config.rootfs.diff_ids.get(number).is_some_and(|id| id.strip_prefix("sha256:") == Some(&sum));
        if !by_name && !by_description {
            return refused(format!("is damaged: {layer}, a layer of {called}, has the sum {sum}"), SAVE_AGAIN);
        }
    }
    Ok(Image { names, digest: None })
}

fn oci_image(members: &Members, entry: &Descriptor, arch: Arch) -> Result<Image, Problem> {
    // containerd's own annotation has the whole name; the standard's may be a tag alone, which is nobody's name.
    let name = ["io.containerd.image.name", "org.opencontainers.image.ref.name"]
        .iter()
        .filter_map(|key| entry.annotations.get(*key))
        .filter(|name| name.contains(['/', ':', '@']))
        .find_map(|name| Reference::parse(name));
    let called = name.as_ref().map_or_else(|| "an image".into(), |name| format!("the image {name}"));
    let mut others = Vec::new();
    if !prove(members, entry, arch, &called, &mut others, 0)? {
        let found = if others.is_empty() { "no platform".into() } else { others.join(", ") };
        return not_for(&called, &found, arch);
    }
    Ok(Image { names: name.into_iter().collect(), digest: Some(entry.digest.clone()) })
}

/// Whether an image for the board is there and whole below an index or a manifest; other platforms are told.
fn prove(
    members: &Members,
    entry: &Descriptor,
    arch: Arch,
    called: &str,
    others: &mut Vec<String>,
    depth: usize,
) -> Result<bool, Problem> {
    if depth > DEPTH {
        return refused(format!("has an index within an index within an index for {called}"), SAVE_AGAIN);
    }
    let lacks = |digest: &str| refused(format!("lacks the blob {digest} of {called}"), SAVE_AGAIN);
    if let Some(platform) = entry.platform.as_ref().filter(|platform| !platform.fits(arch)) {
        // Attestations stand there as a platform that nobody has.
        if platform.architecture != "unknown" {
            others.push(platform.name());
        }
        return Ok(false);
    }
    if !is_digest(&entry.digest) {
        return refused(format!("names a blob by {:?}, which is no SHA-256 digest", entry.digest), SAVE_AGAIN);
    }
    let Some(found) = members.blob::<Oci>(&entry.digest)? else { return lacks(&entry.digest) };
    let Some(config) = found.config else {
        let mut any = false;
        for inner in &found.manifests {
            any |= prove(members, inner, arch, called, others, depth + 1)?;
        }
        return Ok(any);
    };
    let Some(platform) = members.blob::<Platform>(&config.digest)? else { return lacks(&config.digest) };
    if !platform.fits(arch) {
        others.push(platform.name());
        return Ok(false);
    }
    for layer in &found.layers {
        if !members.proved(&layer.digest, Some(layer.size))? {
            return lacks(&layer.digest);
        }
    }
    Ok(true)
}

fn check_platform(platform: &Platform, arch: Arch, called: &str) -> Result<(), Problem> {
    if platform.fits(arch) { Ok(()) } else { not_for(called, &platform.name(), arch) }
}

fn not_for<T>(called: &str, found: &str, arch: Arch) -> Result<T, Problem> {
    let wanted = platform_of(arch);
    let problem = format!(
        "has {called} for {found}, but the board is {wanted}: on the device it would end with \"exec format error\""
    );
    refused(problem, format!("`docker pull --platform {wanted} NAME`, then saving it again"))
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
