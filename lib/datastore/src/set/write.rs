//! Making a set: the database by one read transaction, checked and proved; then the archive, read again before it counts.
//!
//! The hashes in its manifest are taken of files that were checked before, and the set is compared with them as it comes
//! from the medium: that it can be restored needs no second copy and no second check.

use super::{PIPE, SetError, on};
use crate::check::{self, Contents, Depth};
use crate::{snapshot, token};
use bakelite_spec::set::{self, DATABASE, Manifest, Member, TOKEN};
use bakelite_sys::sum::pour;
use bakelite_sys::{durable, mount};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// zstd's level. The third takes 3.5 times as long and saves 6 % of a database that k3s wrote.
const LEVEL: i32 = 1;
/// What stays free besides the set: at least so much, and a part of the file system. k3s has the kubelet throw pods out
/// where less than a twentieth is free (k3s pkg/daemons/agent, `eviction-hard`), so it is a little more than that.
const SPARE: u64 = 16 << 20;
const SPARE_PART: u64 = 16;

/// Bytes that have to be free in a folder for a set of so many bytes of members. Twice: what can't be packed stays as long
/// as it is, and beside it lies what it is made from.
pub fn room(folder: &Path, members: u64) -> u64 {
    members.saturating_mul(2).saturating_add((mount::size(folder) / SPARE_PART).max(SPARE))
}

/// What a set is made from.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// k3s's database, which k3s may be writing to.
    pub database: &'a Path,
    /// The cluster's token.
    pub token: &'a str,
    /// Further files by their paths in the set; one that isn't there is left out.
    pub files: &'a [(String, PathBuf)],
    /// What is known without looking: revision, counts, row and members are filled in.
    pub about: &'a Manifest,
    /// A revision that the database has at least.
    pub known: u64,
    /// Who can open it; nobody in particular for a plain set.
    pub recipients: &'a [age::x25519::Recipient],
    /// The device's own key, with which the set is opened again; one of the recipients.
    pub identity: Option<&'a age::x25519::Identity>,
    /// The set's number on this machine.
    pub number: u64,
    /// Where the set goes.
    pub folder: &'a Path,
    /// Where the copy of the database is made: fast and local, as a long copy keeps k3s's -wal from being folded.
    pub scratch: &'a Path,
}

/// A set that counts.
#[derive(Clone, Debug)]
pub struct Written {
    /// Where it is.
    pub path: PathBuf,
    /// Its length in bytes.
    pub bytes: u64,
    /// What is in it.
    pub manifest: Manifest,
}

/// Makes a set and opens it again.
///
/// # Errors
/// When there is no room, the database is damaged or older than known, the token doesn't open it, or the set that was
/// written isn't whole. Nothing is then left at a name of a set's.
pub fn write(request: &Request<'_>) -> Result<Written, SetError> {
    let mut all = std::fs::metadata(request.database).map_err(on("reading", request.database))?.len();
    all += request.files.iter().filter_map(|(_, from)| Some(from.metadata().ok()?.len())).sum::<u64>();
    durable::make_folder(request.folder)?;
    durable::make_folder(request.scratch)?;
    for folder in [request.folder, request.scratch] {
        let (free, needed) = (mount::free(folder), room(folder, all));
        if free < needed {
            return Err(SetError::NoRoom { path: folder.into(), free, needed });
        }
    }
    let scratch = tempfile::Builder::new()
        .prefix("set-")
        .tempdir_in(request.scratch)
        .map_err(on("making a folder in", request.scratch))?;
    let copied = scratch.path().join("state.db");
    snapshot(request.database, &copied)?;
    let ending = if request.recipients.is_empty() { set::PLAIN } else { set::ENCRYPTED };
    let name = set::name(request.number, request.about.made) + ending;
    let path = request.folder.join(&name);
    let half = request.folder.join(format!(".{name}.half"));
    // The copy doesn't change any more: its pages are checked while it is hashed and packed, and nothing counts before they are.
    let packed = std::thread::scope(|scope| {
        let whole = scope.spawn(|| check::whole(&copied));
        let packed = packed(request, scratch.path(), &copied, &half);
        joined(whole)??;
        packed
    });
    let written = packed.and_then(|manifest| {
        // From the medium, and not from memory.
        durable::forget_cached(&half)?;
        let keys: Vec<&dyn age::Identity> = request.identity.iter().map(|identity| *identity as _).collect();
        super::reread(&half, &keys, &manifest)?;
        let bytes = std::fs::metadata(&half).map_err(on("reading", &half))?.len();
        Ok(Written { path: path.clone(), bytes, manifest })
    });
    match written {
        Ok(written) => {
            durable::publish(&half, &path)?;
            Ok(written)
        }
        Err(error) => {
            durable::remove_file(&half)?;
            Err(error)
        }
    }
}

fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Packs all into the half-finished set; what it says of itself.
fn packed(request: &Request<'_>, scratch: &Path, copied: &Path, half: &Path) -> Result<Manifest, SetError> {
    let (contents, database) = std::thread::scope(|scope| {
        let sum = scope.spawn(|| described(DATABASE, copied));
        (proved(request, copied), joined(sum))
    });
    let (contents, database) = (contents?, database?);

    let mut members = Vec::new();
    let token = scratch.join("token");
    durable::write_durable(&token, token::password(request.token).as_bytes(), 0o600)?;
    members.push((TOKEN.into(), token));
    members.extend(request.files.iter().filter(|(_, from)| from.is_file()).cloned());
    let mut manifest = Manifest {
        format: set::FORMAT,
        revision: contents.revision,
        compacted: contents.compacted,
        live: contents.live,
        row: contents.row,
        members: Vec::new(),
        ..request.about.clone()
    };
    for (path, from) in &members {
        manifest.members.push(described(path, from)?);
    }
    // The small ones first: who a set is of can be told, and taken over, without reading all of it.
    members.push((DATABASE.into(), copied.into()));
    manifest.members.push(database);
    archive(request, half, &manifest, &members)?;
    Ok(manifest)
}

/// What the copy holds, once the token is proved to open it.
fn proved(request: &Request<'_>, copied: &Path) -> Result<Contents, SetError> {
    let contents = check::copy(copied, Depth::Contents, request.known)??;
    crate::prove(copied, request.token)??;
    Ok(contents)
}

fn described(path: &str, from: &Path) -> Result<Member, SetError> {
    let (size, sha256) = File::open(from).and_then(|file| pour(file, io::sink())).map_err(on("reading", from))?;
    Ok(Member { path: path.into(), size, sha256 })
}

fn archive(
    request: &Request<'_>,
    half: &Path,
    manifest: &Manifest,
    members: &[(String, PathBuf)],
) -> Result<(), SetError> {
    let writing = || on("writing", half);
    let file = durable::create_private(half)?;
    let mut output = BufWriter::with_capacity(1 << 18, &file);
    if request.recipients.is_empty() {
        pack(&mut output, manifest, members)?;
    } else {
        let recipients = request.recipients.iter().map(|recipient| recipient as &dyn age::Recipient);
        let mut encrypted = age::Encryptor::with_recipients(recipients)?.wrap_output(&mut output).map_err(writing())?;
        // Packing keeps one processor busy, encrypting and writing another.
        let (packed, mut into) = io::pipe().map_err(writing())?;
        std::thread::scope(|scope| {
            let packing = scope.spawn(move || pack(&mut into, manifest, members));
            let sealed = io::copy(&mut BufReader::with_capacity(PIPE, packed), &mut encrypted);
            let packed = joined(packing);
            sealed.map_err(writing())?;
            packed
        })?;
        encrypted.finish().map_err(writing())?;
    }
    output.flush().and_then(|()| file.sync_all()).map_err(writing())
}

/// The tar, packed.
fn pack(output: &mut dyn Write, manifest: &Manifest, members: &[(String, PathBuf)]) -> Result<(), SetError> {
    let packing = || on("packing into", Path::new("the set"));
    let mut packed = zstd::Encoder::new(output, LEVEL).map_err(packing())?;
    packed.include_checksum(true).map_err(packing())?;
    let mut tar = tar::Builder::new(packed);
    let text = serde_json::to_vec(manifest).map_err(|error| packing()(error.into()))?;
    append(&mut tar, set::MANIFEST, text.len() as u64, &text[..], manifest.made).map_err(packing())?;
    for (member, (_, from)) in manifest.members.iter().zip(members) {
        let file = File::open(from).map_err(on("reading", from))?;
        append(&mut tar, &member.path, member.size, file.take(member.size), manifest.made)
            .map_err(on("packing", from))?;
    }
    tar.into_inner().and_then(zstd::Encoder::finish).map(drop).map_err(packing())
}

fn append(tar: &mut tar::Builder<impl Write>, path: &str, size: u64, content: impl Read, made: i64) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o600);
    header.set_mtime(u64::try_from(made).unwrap_or(0));
    tar.append_data(&mut header, path, content)
}
