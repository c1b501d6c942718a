//! Archives of container images: `docker save` and OCI layouts, plain or compressed, read once and in constant memory.
//!
//! Proved: it is whole (each blob is there and has its digest), it is for the board's processor (else "exec format
//! error", in the field), each image has a name that k3s can find it by, and k3s can decompress it. Nothing of it is
//! ever written anywhere: what goes into the image is the file as it is, under a name of ours.

mod images;

use super::Loading;
use super::reference::Reference;
use crate::source::digest::{Hashing, Sha256};
use crate::source::k3s::check_window;
use crate::source::packages::Capped;
use bakelite_spec::board::Arch;
use bakelite_spec::finding::Finding;
pub use images::images;
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
/// So many links lead to a file at most.
const LINKS: usize = 4;

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
    images::names(&members)
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
        for _ in 0..LINKS {
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

#[cfg(test)]
mod tests;
