//! Opening a set: nothing in it is believed but what the manifest, the hashes, SQLite and the token agree about.
//!
//! A member goes nowhere but below the folder that is given, under a name that the manifest has, in its order; links,
//! folders and devices are refused. What is read is bounded by what the manifest says, and that by the room there is.

use super::{PIPE, SetError, on};
use crate::check::{self, Contents, Depth};
use bakelite_spec::set::{
    DATABASE, FORMAT, MANIFEST, MANIFEST_LIMIT, Manifest, Member, TOKEN, instant, is_member_path,
};
use bakelite_sys::sum::pour;
use bakelite_sys::{durable, mount};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// zstd's window, as a power of two: what our level needs, and no more memory for anybody's file.
const WINDOW: u32 = 23;
/// The first bytes of an age file (age-encryption.org/v1).
const AGE: &[u8] = b"age-encryption.org/";
const CHUNK: usize = 1 << 16;
/// A longer member isn't held in memory.
const SMALL: u64 = 1 << 20;

/// A set that was unpacked and proved.
#[derive(Clone, Debug)]
pub struct Opened {
    /// What is in it.
    pub manifest: Manifest,
    /// What its database holds.
    pub contents: Contents,
    /// When the cluster's own authority ends, in seconds since 1970, by the row that its token opens.
    pub authority_until: Option<i64>,
}

impl Opened {
    /// Whether k3s can live with it at a time, in seconds since 1970.
    ///
    /// # Errors
    /// When the cluster's own authority has expired: k3s then never becomes ready (k3s.md 11.1).
    pub fn lives(&self, now: i64) -> Result<(), SetError> {
        match self.authority_until {
            Some(until) if until < now => Err(SetError::Expired(instant(until))),
            _ => Ok(()),
        }
    }
}

/// A set's stream, decrypted.
fn decrypted<'a>(path: &Path, keys: &'a [&'a dyn age::Identity]) -> Result<Box<dyn BufRead + 'a>, SetError> {
    let file = File::open(path).map_err(on("reading", path))?;
    let mut input = BufReader::with_capacity(1 << 18, file);
    let is_encrypted = input.fill_buf().map_err(on("reading", path))?.starts_with(AGE);
    if !is_encrypted {
        return Ok(Box::new(input));
    }
    let not_a_set = |error: age::DecryptError| SetError::NotASet(error.to_string());
    let opened = age::Decryptor::new_buffered(input).map_err(not_a_set)?.decrypt(keys.iter().copied());
    let opened = opened.map_err(|error| match error {
        age::DecryptError::NoMatchingKeys => SetError::NoKey,
        other => not_a_set(other),
    })?;
    Ok(Box::new(BufReader::with_capacity(CHUNK, opened)))
}

/// A set's archive, of its decrypted stream.
fn archive<'a>(packed: Box<dyn BufRead + 'a>, path: &Path) -> Result<tar::Archive<Box<dyn Read + 'a>>, SetError> {
    let mut unpacked = zstd::Decoder::with_buffer(packed).map_err(on("unpacking", path))?;
    unpacked.window_log_max(WINDOW).map_err(on("unpacking", path))?;
    Ok(tar::Archive::new(Box::new(unpacked)))
}

/// Reads a set's manifest and nothing else of it: what it says, unproved.
///
/// # Errors
/// When no key opens it, or it doesn't begin with a manifest that this version reads.
pub fn manifest(path: &Path, keys: &[&dyn age::Identity]) -> Result<Manifest, SetError> {
    let mut archive = archive(decrypted(path, keys)?, path)?;
    let mut entries = archive.entries().map_err(on("unpacking", path))?;
    read_manifest(entries.next(), path)
}

fn read_manifest<R: Read>(
    first: Option<std::io::Result<tar::Entry<'_, R>>>,
    path: &Path,
) -> Result<Manifest, SetError> {
    let first = first.ok_or_else(|| SetError::NotASet("it is empty".into()))?.map_err(on("unpacking", path))?;
    let is_manifest = first.path_bytes() == MANIFEST.as_bytes() && first.header().entry_type().is_file();
    if !is_manifest || first.size() > MANIFEST_LIMIT {
        return Err(SetError::NotASet("it doesn't begin with a manifest".into()));
    }
    let mut text = Vec::new();
    first.take(MANIFEST_LIMIT).read_to_end(&mut text).map_err(on("unpacking", path))?;
    /// So that a later format is named as such, whatever else it has.
    #[derive(serde::Deserialize)]
    struct Version {
        format: u32,
    }
    let parse = |error: serde_json::Error| SetError::NotASet(format!("its manifest can't be read: {error}"));
    let version: Version = serde_json::from_slice(&text).map_err(parse)?;
    if version.format > FORMAT {
        return Err(SetError::Newer(version.format));
    }
    let manifest: Manifest = serde_json::from_slice(&text).map_err(parse)?;
    let mut paths: Vec<&str> = manifest.members.iter().map(|member| member.path.as_str()).collect();
    if let Some(path) = paths.iter().find(|path| !is_member_path(path)) {
        return Err(SetError::Member { path: path.to_string(), what: "no set holds a file of this name" });
    }
    paths.sort_unstable();
    if let Some(pair) = paths.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(SetError::Member { path: pair[0].into(), what: "it is listed twice" });
    }
    Ok(manifest)
}

/// Reads small members of a set into memory, each compared with its hash, and nothing behind the last of them.
///
/// # Errors
/// When no key opens the set, or one of them isn't as its manifest says. What the manifest lacks isn't in the answer.
pub fn members(
    path: &Path,
    keys: &[&dyn age::Identity],
    wanted: &[&str],
) -> Result<(Manifest, BTreeMap<String, Vec<u8>>), SetError> {
    let mut archive = archive(decrypted(path, keys)?, path)?;
    let mut entries = archive.entries().map_err(on("unpacking", path))?;
    let manifest = read_manifest(entries.next(), path)?;
    let mut found = BTreeMap::new();
    let last = manifest.members.iter().rposition(|member| wanted.contains(&member.path.as_str()));
    for member in manifest.members.iter().take(last.map_or(0, |last| last + 1)) {
        let entry = next_entry(&mut entries, member, path)?;
        if wanted.contains(&member.path.as_str()) {
            if member.size > SMALL {
                return Err(SetError::Member { path: member.path.clone(), what: "its length" });
            }
            let mut bytes = Vec::new();
            let (_, sha256) = pour(entry.take(member.size), &mut bytes).map_err(on("unpacking", path))?;
            if sha256 != member.sha256 {
                return Err(SetError::Member { path: member.path.clone(), what: "its hash" });
            }
            found.insert(member.path.clone(), bytes);
        }
    }
    Ok((manifest, found))
}

/// The next entry, which has to be this member.
fn next_entry<'a, R: Read>(
    entries: &mut tar::Entries<'a, R>,
    member: &Member,
    path: &Path,
) -> Result<tar::Entry<'a, R>, SetError> {
    let refuse = |what| SetError::Member { path: member.path.clone(), what };
    let entry = entries.next().ok_or_else(|| refuse("it is missing"))?.map_err(on("unpacking", path))?;
    if entry.path_bytes() != member.path.as_bytes() {
        return Err(refuse("another file is in its place"));
    }
    if !entry.header().entry_type().is_file() {
        return Err(refuse("it is no file"));
    }
    if entry.size() != member.size {
        return Err(refuse("its length"));
    }
    Ok(entry)
}

/// Unpacks a set into an empty folder, durably, and proves it.
///
/// # Errors
/// When no key opens it or anything in it isn't as it has to be. What was unpacked by then stays in the folder, and is
/// the caller's to remove.
pub fn unpack(path: &Path, keys: &[&dyn age::Identity], into: &Path) -> Result<Opened, SetError> {
    let room = |manifest: &Manifest| {
        let needed = manifest.members.iter().fold(0u64, |sum, member| sum.saturating_add(member.size));
        let free = mount::free(into);
        if needed > free { Err(SetError::NoRoom { path: into.into(), free, needed }) } else { Ok(()) }
    };
    let archive = archive(decrypted(path, keys)?, path)?;
    let manifest = each_member(archive, path, room, |entry, member| store(entry, member, into))?;
    durable::sync_file_system(into)?;
    prove(manifest, into)
}

/// Reads a set to its end, each member compared with its hash: whether what is on the medium is what a manifest that is at
/// hand says. Nothing is unpacked, and nothing in it is proved that those hashes don't prove.
///
/// # Errors
/// When no key opens it, or it has another manifest or other members.
pub fn reread(path: &Path, keys: &[&dyn age::Identity], expected: &Manifest) -> Result<(), SetError> {
    let same = |manifest: &Manifest| {
        let differs = || SetError::Member { path: MANIFEST.into(), what: "another manifest is in its place" };
        if manifest == expected { Ok(()) } else { Err(differs()) }
    };
    let mut decrypted = decrypted(path, keys)?;
    let (from, mut into) = io::pipe().map_err(on("reading", path))?;
    // Decrypting keeps one processor busy, unpacking and comparing another.
    std::thread::scope(|scope| {
        let comparing = scope.spawn(move || {
            let sum = |entry: &mut dyn Read, member: &Member| {
                let poured = pour(entry.take(member.size), io::sink());
                poured.map(|(_, sha256)| sha256).map_err(on("unpacking", path))
            };
            each_member(archive(Box::new(BufReader::with_capacity(PIPE, from)), path)?, path, same, sum)
        });
        let poured = io::copy(&mut decrypted, &mut into);
        drop(into);
        let compared = comparing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match poured {
            // Whoever compares takes no more once it knows.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(on("reading", path)(error)),
            _ => compared.map(drop),
        }
    })
}

/// Goes through a set: its manifest has to be accepted, and what comes of each member has to have its hash.
fn each_member(
    mut archive: tar::Archive<Box<dyn Read + '_>>,
    path: &Path,
    accept: impl FnOnce(&Manifest) -> Result<(), SetError>,
    mut take: impl FnMut(&mut dyn Read, &Member) -> Result<String, SetError>,
) -> Result<Manifest, SetError> {
    let mut entries = archive.entries().map_err(on("unpacking", path))?;
    let manifest = read_manifest(entries.next(), path)?;
    accept(&manifest)?;
    for member in &manifest.members {
        let mut entry = next_entry(&mut entries, member, path)?;
        if take(&mut entry, member)? != member.sha256 {
            return Err(SetError::Member { path: member.path.clone(), what: "its hash" });
        }
    }
    if entries.next().is_some() {
        return Err(SetError::NotASet("there is more in it than its manifest says".into()));
    }
    Ok(manifest)
}

/// Unpacks one member; its hash.
fn store(entry: impl Read, member: &Member, into: &Path) -> Result<String, SetError> {
    let to = into.join(&member.path);
    durable::make_folder(to.parent().unwrap_or(into))?;
    let mut file = durable::create_private(&to)?;
    let (_, sha256) = pour(entry.take(member.size), &mut file).map_err(on("unpacking", &to))?;
    Ok(sha256)
}

fn prove(manifest: Manifest, into: &Path) -> Result<Opened, SetError> {
    let database = into.join(DATABASE);
    if !database.is_file() {
        return Err(SetError::NotASet("it has no database".into()));
    }
    let contents = check::copy(&database, Depth::Full, manifest.revision)??;
    if contents.revision > manifest.revision {
        return Err(SetError::Member { path: DATABASE.into(), what: "its revision" });
    }
    let token = std::fs::read_to_string(into.join(TOKEN)).map_err(on("reading", &into.join(TOKEN)))?;
    let keys = crate::prove(&database, &token)??;
    Ok(Opened { manifest, contents, authority_until: keys.authority_until() })
}

/// Opens a set in a scratch folder, proves it, and leaves nothing behind.
///
/// # Errors
/// As [`unpack`].
pub fn verify(path: &Path, keys: &[&dyn age::Identity], scratch: &Path) -> Result<Opened, SetError> {
    let folder =
        tempfile::Builder::new().prefix("verify-").tempdir_in(scratch).map_err(on("making a folder in", scratch))?;
    unpack(path, keys, folder.path())
}
