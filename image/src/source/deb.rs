//! Reads a .deb as a stream: its control fields, then each file, with constant memory.
//!
//! Unpacks without dpkg and without touching the disk: whoever calls is given one entry after another. No entry may
//! leave the tree: absolute and climbing paths, links that climb, and anything put beneath a link of the same package
//! are errors that name package and member. Maintainer scripts are not looked at.

use std::collections::BTreeSet;
use std::io::{self, BufReader, Read};

use super::ar::{Archive, Member};
use super::deb822::{Stanza, Stanzas};
use super::error::SourceError;
use super::packages::{Capped, xz};

/// The most that one package may unpack to, in bytes, and the most its control part may have.
pub(crate) const DATA_LIMIT: u64 = 8 << 30;
const CONTROL_LIMIT: u64 = 32 << 20;

/// The most entries that one package may bring. The kernel's headers, the largest of all, have 60 000.
const ENTRIES_LIMIT: usize = 500_000;

/// zstd windows up to 128 MiB, as `dpkg-deb` writes at most.
const ZSTD_WINDOW_LOG: u32 = 27;

/// What kind of entry this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A folder.
    Folder,
    /// A file of this many bytes.
    File {
        /// Length in bytes.
        size: u64,
    },
    /// A symbolic link to this target, as written; absolute ones are meant within the tree.
    Symlink {
        /// As written in the package.
        target: String,
    },
    /// Another name for an earlier file of the package.
    Hardlink {
        /// Normalised path of that file.
        target: String,
    },
}

/// One entry of a package.
pub struct Entry<'a> {
    /// Relative path with single slashes, without `.` and `..`; never empty.
    pub path: String,
    /// Kind, and what belongs to it.
    pub kind: EntryKind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Time of last change in seconds since 1970.
    pub mtime: u64,
    /// Where the content begins in the unpacked archive.
    pub offset: u64,
    /// The content of a file; empty for everything else.
    pub content: &'a mut dyn Read,
}

/// The part of a .deb that holds its files: a tar archive, compressed or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataPart {
    /// Its name, whose ending says how it is compressed.
    pub name: String,
    /// Where it begins in the .deb.
    pub offset: u64,
    /// Its length in bytes.
    pub size: u64,
}

/// Reads a package, calling `visit` for each entry in the order they are stored; gives its control fields.
/// A failing `visit` ends the reading.
pub fn unpack<E: From<SourceError>>(
    reader: impl Read,
    package: &str,
    visit: &mut dyn FnMut(Entry<'_>) -> Result<(), E>,
) -> Result<Stanza, E> {
    let (archive, control, data) = open(reader, package)?;
    read_data(decompress(&data.name, archive).map_err(|error| broken(package, &error))?, package, visit)?;
    Ok(control)
}

/// Reads a package as far as to know its control fields and where its files are.
pub fn locate(reader: impl Read, package: &str) -> Result<(Stanza, DataPart), SourceError> {
    let (_, control, data) = open(reader, package)?;
    Ok((control, data))
}

fn open<R: Read>(reader: R, package: &str) -> Result<(Archive<R>, Stanza, DataPart), SourceError> {
    let fail = |reason: String| SourceError::Unpack { package: package.to_owned(), reason };
    let broken = |part: &'static str| move |error: io::Error| fail(format!("{part}: {error}"));
    let mut archive = Archive::new(reader).map_err(broken("the .deb"))?;
    let next = |archive: &mut Archive<_>, wanted: &str| -> Result<Member, SourceError> {
        loop {
            match archive.next_member().map_err(broken("the .deb"))? {
                Some(member) if member.name.starts_with('_') => {}
                Some(member) if member.name.starts_with(wanted) => return Ok(member),
                Some(member) => return Err(fail(format!("`{wanted}` was expected, found {:?}", member.name))),
                None => return Err(fail(format!("it has no `{wanted}`"))),
            }
        }
    };
    next(&mut archive, "debian-binary")?;
    let mut version = String::new();
    archive.by_ref().take(16).read_to_string(&mut version).map_err(broken("debian-binary"))?;
    if !version.starts_with("2.") {
        return Err(fail(format!("its format {:?} is not known", version.trim_end())));
    }
    let member = next(&mut archive, "control.tar")?;
    let control = decompress_to(&member.name, &mut archive, CONTROL_LIMIT).map_err(broken("control.tar"))?;
    let control = read_control(control, &fail)?;
    let Member { name, size } = next(&mut archive, "data.tar")?;
    let data = DataPart { name, offset: archive.position(), size };
    Ok((archive, control, data))
}

/// What is wrong with a package's files.
pub(crate) fn broken(package: &str, error: &io::Error) -> SourceError {
    SourceError::Unpack { package: package.to_owned(), reason: format!("data.tar: {error}") }
}

/// Decompresses a package's files, whose part has this name.
pub(crate) fn decompress<'a>(name: &str, reader: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    decompress_to(name, reader, DATA_LIMIT)
}

fn decompress_to<'a>(name: &str, reader: impl Read + 'a, limit: u64) -> io::Result<Box<dyn Read + 'a>> {
    let end = name.split_once(".tar").map_or("", |(_, end)| end);
    let inner: Box<dyn Read + 'a> = match end {
        "" => Box::new(reader),
        ".gz" => Box::new(flate2::read::MultiGzDecoder::new(reader)),
        ".xz" => Box::new(xz(BufReader::with_capacity(1 << 16, reader))?),
        ".zst" => {
            let mut decoder = zstd::Decoder::new(reader)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
        _ => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{name:?} is compressed in an unknown way"),
            ));
        }
    };
    Ok(Box::new(Capped { inner, left: limit }))
}

fn read_control(reader: impl Read, fail: &dyn Fn(String) -> SourceError) -> Result<Stanza, SourceError> {
    let broken = |error: io::Error| fail(format!("control.tar: {error}"));
    let mut archive = tar::Archive::new(reader);
    for entry in archive.entries().map_err(broken)? {
        let entry = entry.map_err(broken)?;
        if [b"./control".as_slice(), b"control"].contains(&entry.path_bytes().as_ref()) {
            let stanza = Stanzas::new(BufReader::new(entry)).next_stanza().map_err(broken)?;
            return stanza.ok_or_else(|| fail("its control file is empty".to_owned()));
        }
    }
    Err(fail("it has no control file".to_owned()))
}

/// Reads a package's unpacked files, calling `visit` for each entry.
pub fn read_data<E: From<SourceError>>(
    reader: impl Read,
    package: &str,
    visit: &mut dyn FnMut(Entry<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let fail = |reason: String| SourceError::Unpack { package: package.to_owned(), reason };
    let broken = |error: io::Error| broken(package, &error);
    let mut archive = tar::Archive::new(reader);
    let mut tree = Tree::default();
    for (number, entry) in archive.entries().map_err(broken)?.enumerate() {
        let mut entry = entry.map_err(broken)?;
        if number >= ENTRIES_LIMIT {
            return Err(fail(format!("it has more than {ENTRIES_LIMIT} entries, which no package has")).into());
        }
        let raw = text(&entry.path_bytes()).map_err(fail)?;
        let path = normalise(&raw).map_err(fail)?;
        if path.is_empty() {
            continue;
        }
        let link = match entry.link_name_bytes() {
            Some(bytes) => Some(text(&bytes).map_err(fail)?),
            None => None,
        };
        let kind = tree.kind(&path, entry.header().entry_type(), entry.size(), link).map_err(fail)?;
        let header = entry.header();
        let (mode, uid, gid) = (header.mode(), header.uid(), header.gid());
        let mtime = header.mtime().map_err(broken)?;
        let offset = entry.raw_file_position();
        visit(Entry {
            path,
            kind,
            mode: mode.map_err(broken)? & 0o7777,
            uid: uid.map_err(broken)?,
            gid: gid.map_err(broken)?,
            mtime,
            offset,
            content: &mut entry,
        })?;
    }
    Ok(())
}

/// What a package has put where so far, as far as safety needs it.
#[derive(Default)]
struct Tree {
    symlinks: BTreeSet<String>,
    folders: BTreeSet<String>,
    files: BTreeSet<String>,
}

impl Tree {
    fn kind(&mut self, path: &str, kind: tar::EntryType, size: u64, link: Option<String>) -> Result<EntryKind, String> {
        for (end, _) in path.match_indices('/') {
            let parent = &path[..end];
            if self.symlinks.contains(parent) {
                return Err(format!("the member {path:?} goes through the symbolic link {parent:?}"));
            }
            if !self.folders.contains(parent) {
                self.folders.insert(parent.to_owned());
            }
        }
        if self.symlinks.contains(path) {
            return Err(format!("the member {path:?} is in it twice"));
        }
        let target = || link.filter(|link| !link.is_empty()).ok_or_else(|| format!("the link {path:?} has no target"));
        match kind {
            tar::EntryType::Directory => {
                self.folders.insert(path.to_owned());
                Ok(EntryKind::Folder)
            }
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                self.files.insert(path.to_owned());
                Ok(EntryKind::File { size })
            }
            tar::EntryType::Symlink => {
                let target = target()?;
                if climbs(path, &target) {
                    return Err(format!("the symbolic link {path:?} -> {target:?} climbs out of the tree"));
                }
                if self.folders.contains(path) || self.files.contains(path) {
                    return Err(format!("the member {path:?} is in it twice"));
                }
                self.symlinks.insert(path.to_owned());
                Ok(EntryKind::Symlink { target })
            }
            tar::EntryType::Link => {
                let target = normalise(&target()?)?;
                if !self.files.contains(&target) {
                    return Err(format!("the hard link {path:?} -> {target:?} leads to no file of the package"));
                }
                self.files.insert(path.to_owned());
                Ok(EntryKind::Hardlink { target })
            }
            other => Err(format!("the member {path:?} is of a kind ({other:?}) that no package may bring")),
        }
    }
}

fn text(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec())
        .map_err(|_| format!("the member {:?} has no UTF-8 name", String::from_utf8_lossy(bytes)))
}

/// Strips `./`, double and trailing slashes; refuses what is absolute or climbs.
fn normalise(path: &str) -> Result<String, String> {
    if path.starts_with('/') {
        return Err(format!("the member {path:?} has an absolute path"));
    }
    if path.contains('\0') {
        return Err(format!("the member {path:?} has a zero in its name"));
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(format!("the member {path:?} climbs out of the tree")),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

/// Whether a relative link at `path` leads above the root by its text.
fn climbs(path: &str, target: &str) -> bool {
    if target.starts_with('/') {
        return target.split('/').any(|part| part == "..");
    }
    let mut depth = path.matches('/').count();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if depth == 0 => return true,
            ".." => depth -= 1,
            _ => depth += 1,
        }
    }
    false
}

#[cfg(test)]
#[path = "deb_tests.rs"]
mod tests;
