//! Copying a folder with all that is in it: owner, mode, times, extended attributes, hard links, holes. Resumable.
//!
//! A copy that was cut goes on where it was: what is there already is compared. All that was read is summed on the way, so
//! that the source is read once; [`Verifier`] compares the sums with what the medium gives back. Sockets are left out:
//! whoever made them makes them again. Nothing is followed, and nothing outside the two folders is touched.

mod sums;

use crate::SysError;
use rustix::fs::{self, AtFlags, CWD, FileType, Mode, SeekFrom, Timespec, Timestamps, XattrFlags};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use sums::Sums;

/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;

/// How much is in a folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Bytes that it takes on the medium.
    pub bytes: u64,
    /// Files, links and folders.
    pub files: u64,
}

fn read(path: &Path) -> impl Fn(std::io::Error) -> SysError {
    move |source| SysError::Read { path: path.into(), source }
}

fn change(path: &Path) -> impl Fn(std::io::Error) -> SysError {
    move |source| SysError::Change { path: path.into(), source }
}

/// The names in a folder, sorted. Here an unreadable folder is an error: what isn't seen would be left behind.
fn names(folder: &Path) -> Result<Vec<std::ffi::OsString>, SysError> {
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let mut names: Vec<_> = entries.map_err(read(folder))?.into_iter().map(|entry| entry.file_name()).collect();
    names.sort();
    Ok(names)
}

/// How much is in a folder, itself apart; `left_out` names paths below it that don't count.
pub fn amount(folder: &Path, left_out: &dyn Fn(&Path) -> bool) -> Amount {
    let mut amount = Amount::default();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for path in
            names(&folder).unwrap_or_default().into_iter().map(|name| folder.join(name)).filter(|path| !left_out(path))
        {
            let Ok(meta) = path.symlink_metadata() else { continue };
            amount.files += 1;
            amount.bytes += meta.blocks() * 512;
            if meta.is_dir() {
                folders.push(path);
            }
        }
    }
    amount
}

/// Removes what is in a folder, not the folder; nothing is durable before its file system is synced. What became free.
///
/// # Errors
/// When something can't be removed.
pub fn clear(folder: &Path) -> Result<Amount, SysError> {
    let freed = amount(folder, &|_| false);
    for path in names(folder)?.into_iter().map(|name| folder.join(name)) {
        if path.symlink_metadata().map_err(read(&path))?.is_dir() {
            crate::durable::remove_tree(&path)?;
        } else {
            crate::durable::remove_file(&path)?;
        }
    }
    Ok(freed)
}

/// A copy in progress.
pub struct Copier<'a> {
    /// Paths of the source that stay behind.
    pub left_out: &'a dyn Fn(&Path) -> bool,
    /// Is told of bytes as they come over.
    pub progress: &'a mut dyn FnMut(u64),
    sums: Sums,
    /// The first copy of each file that has several names, by device and number.
    linked: BTreeMap<(u64, u64), PathBuf>,
}

impl<'a> Copier<'a> {
    /// A copier that leaves the sums of what it has read in a file, for [`Verifier`].
    ///
    /// # Errors
    /// When the file can't be made.
    pub fn new(
        left_out: &'a dyn Fn(&Path) -> bool,
        progress: &'a mut dyn FnMut(u64),
        sums: &Path,
    ) -> Result<Self, SysError> {
        Ok(Self { left_out, progress, sums: Sums::start(sums)?, linked: BTreeMap::new() })
    }

    /// Copies what is in a folder into another one, which is there. Nothing is durable before its file system is synced.
    ///
    /// # Errors
    /// When something can't be read, made or given its attributes.
    pub fn copy(&mut self, from: &Path, to: &Path) -> Result<(), SysError> {
        for name in names(from)? {
            let (from, to) = (from.join(&name), to.join(&name));
            if (self.left_out)(&from) {
                continue;
            }
            let meta = from.symlink_metadata().map_err(read(&from))?;
            let kind = FileType::from_raw_mode(meta.mode());
            match kind {
                FileType::Directory => {
                    crate::durable::make_folder(&to)?;
                    self.copy(&from, &to)?;
                }
                FileType::RegularFile => self.file(&from, &to, &meta)?,
                FileType::Socket => continue,
                _ if to.symlink_metadata().is_ok() => {}
                FileType::Symlink => {
                    let target = std::fs::read_link(&from).map_err(read(&from))?;
                    symlink(target, &to).map_err(change(&to))?;
                }
                _ => fs::mknodat(CWD, &to, kind, Mode::from_raw_mode(meta.mode()), meta.rdev())
                    .map_err(|error| change(&to)(error.into()))?,
            }
            attributes(&from, &to, &meta)?;
        }
        Ok(())
    }

    /// Ends the copy: all sums are in their file.
    ///
    /// # Errors
    /// When they can't be written.
    pub fn finish(self) -> Result<(), SysError> {
        self.sums.finish()
    }

    fn file(&mut self, from: &Path, to: &Path, meta: &std::fs::Metadata) -> Result<(), SysError> {
        if meta.nlink() > 1 {
            if let Some(first) = self.linked.get(&(meta.dev(), meta.ino())) {
                crate::durable::remove_file(to)?;
                return std::fs::hard_link(first, to).map_err(change(to));
            }
            self.linked.insert((meta.dev(), meta.ino()), to.into());
        }
        // Only what an earlier, cut copy has left is there already. Its times came last, but nothing of it was synced: a
        // pulled plug may have kept the times and lost the bytes, so these are compared.
        let same = |other: std::fs::Metadata| {
            other.is_file()
                && (other.len(), other.mtime(), other.mtime_nsec()) == (meta.len(), meta.mtime(), meta.mtime_nsec())
        };
        if to.symlink_metadata().is_ok_and(same) && self.is_there(from, to, meta.len())? {
            return Ok(());
        }
        crate::durable::remove_file(to)?;
        self.bytes(from, to, meta.len())
    }

    /// Whether a copy has the bytes of its source; tells and sums as a copy does.
    fn is_there(&mut self, from: &Path, to: &Path, length: u64) -> Result<bool, SysError> {
        let (mut source, target) = (File::open(from).map_err(read(from))?, File::open(to).map_err(read(to))?);
        let mut there = vec![0u8; CHUNK];
        self.sums.begin()?;
        let mut at = 0;
        while let Some((start, end)) = piece(&source, at, length).map_err(read(from))? {
            at = start;
            source.seek(std::io::SeekFrom::Start(start)).map_err(read(from))?;
            while at < end {
                let chunk = self.sums.read(&mut source, end - at).map_err(read(from))?;
                let there = &mut there[..chunk.length];
                if chunk.length == 0
                    || target.read_exact_at(there, at).is_err()
                    || *there != chunk.buffer[..chunk.length]
                {
                    return Ok(false);
                }
                at += chunk.length as u64;
                (self.progress)(chunk.length as u64);
                self.sums.add(chunk)?;
            }
        }
        self.sums.end()?;
        Ok(true)
    }

    /// Copies a file's bytes and leaves its holes.
    fn bytes(&mut self, from: &Path, to: &Path, length: u64) -> Result<(), SysError> {
        let mut source = File::open(from).map_err(read(from))?;
        let write = |source| SysError::Write { path: to.into(), source };
        let target = File::create(to).map_err(write)?;
        self.sums.begin()?;
        let (mut at, mut written) = (0, 0);
        while let Some((start, end)) = piece(&source, at, length).map_err(read(from))? {
            at = start;
            source.seek(std::io::SeekFrom::Start(start)).map_err(read(from))?;
            while at < end {
                let chunk = self.sums.read(&mut source, end - at).map_err(read(from))?;
                if chunk.length == 0 {
                    return Err(read(from)(std::io::ErrorKind::UnexpectedEof.into()));
                }
                target.write_all_at(&chunk.buffer[..chunk.length], at).map_err(write)?;
                at += chunk.length as u64;
                written = at;
                (self.progress)(chunk.length as u64);
                self.sums.add(chunk)?;
            }
        }
        if written < length {
            target.set_len(length).map_err(write)?;
        }
        self.sums.end()
    }
}

/// The next piece of a file that isn't a hole, from a place on; `None` behind the last one.
fn piece(file: &File, at: u64, length: u64) -> std::io::Result<Option<(u64, u64)>> {
    if at >= length {
        return Ok(None);
    }
    match fs::seek(file, SeekFrom::Data(at)) {
        Ok(start) if start < length => Ok(Some((start, fs::seek(file, SeekFrom::Hole(start))?.min(length)))),
        Ok(_) | Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Owner, mode, extended attributes and time, in the order in which one doesn't spoil another.
fn attributes(from: &Path, to: &Path, meta: &std::fs::Metadata) -> Result<(), SysError> {
    let failed = |error: rustix::io::Errno| change(to)(error.into());
    let (user, group) = (fs::Uid::from_raw(meta.uid()), fs::Gid::from_raw(meta.gid()));
    fs::chownat(CWD, to, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
    if !meta.is_symlink() {
        fs::chmod(to, Mode::from_raw_mode(meta.mode())).map_err(failed)?;
    }
    for (name, value) in extended(from)? {
        fs::lsetxattr(to, &name[..], &value, XattrFlags::empty()).map_err(failed)?;
    }
    let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps {
        last_access: time(meta.atime(), meta.atime_nsec() as _),
        last_modification: time(meta.mtime(), meta.mtime_nsec() as _),
    };
    fs::utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
}

/// The extended attributes of a path, by name.
fn extended(path: &Path) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, SysError> {
    let failed = |error: rustix::io::Errno| read(path)(error.into());
    // Most have none: then a question without a buffer is all.
    let mut names = match fs::llistxattr(path, &mut [0u8; 0][..]) {
        Ok(0) | Err(rustix::io::Errno::OPNOTSUPP) => return Ok(BTreeMap::new()),
        Ok(length) => vec![0u8; length],
        Err(error) => return Err(failed(error)),
    };
    let length = fs::llistxattr(path, &mut names[..]).map_err(failed)?;
    let value_of = |name: &[u8]| {
        let mut value = vec![0u8; 64 << 10];
        let length = fs::lgetxattr(path, name, &mut value[..]).map_err(failed)?;
        value.truncate(length);
        Ok((name.to_vec(), value))
    };
    names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(value_of).collect()
}

/// Compares a copy, as the medium gives it back, with the sums of what was read when it was made.
pub struct Verifier<'a> {
    left_out: &'a dyn Fn(&Path) -> bool,
    sums: BufReader<File>,
    linked: BTreeMap<(u64, u64), PathBuf>,
}

impl<'a> Verifier<'a> {
    /// A verifier of what a [`Copier`] has left; the folders have to come in the same order.
    ///
    /// # Errors
    /// When there are no sums.
    pub fn new(left_out: &'a dyn Fn(&Path) -> bool, sums: &Path) -> Result<Self, SysError> {
        let file = File::open(sums).map_err(read(sums))?;
        Ok(Self { left_out, sums: BufReader::new(file), linked: BTreeMap::new() })
    }

    /// The first path whose copy isn't as it should be; `None` where all is well.
    ///
    /// # Errors
    /// When something can't be read.
    pub fn differs(&mut self, from: &Path, to: &Path) -> Result<Option<PathBuf>, SysError> {
        for name in names(from)? {
            let (from, to) = (from.join(&name), to.join(&name));
            if (self.left_out)(&from) {
                continue;
            }
            let meta = from.symlink_metadata().map_err(read(&from))?;
            let Ok(other) = to.symlink_metadata() else {
                if FileType::from_raw_mode(meta.mode()) == FileType::Socket {
                    continue;
                }
                return Ok(Some(to));
            };
            let said = |meta: &std::fs::Metadata| (meta.mode(), meta.uid(), meta.gid());
            let same = said(&meta) == said(&other)
                && extended(&from)? == extended(&to)?
                && match meta.file_type() {
                    kind if kind.is_file() => meta.len() == other.len() && self.same_bytes(&from, &to, &meta)?,
                    kind if kind.is_symlink() => std::fs::read_link(&from).ok() == std::fs::read_link(&to).ok(),
                    _ => true,
                };
            if !same {
                return Ok(Some(to));
            }
            if meta.is_dir()
                && let Some(path) = self.differs(&from, &to)?
            {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    fn same_bytes(&mut self, from: &Path, to: &Path, meta: &std::fs::Metadata) -> Result<bool, SysError> {
        if meta.nlink() > 1 {
            if let Some(first) = self.linked.get(&(meta.dev(), meta.ino())) {
                let number = |path: &Path| path.symlink_metadata().map(|meta| meta.ino()).map_err(read(path));
                return Ok(number(first)? == number(to)?);
            }
            self.linked.insert((meta.dev(), meta.ino()), to.into());
        }
        let mut wanted = [0u8; 32];
        self.sums.read_exact(&mut wanted).map_err(read(to))?;
        let (source, target) = (File::open(from).map_err(read(from))?, File::open(to).map_err(read(to))?);
        // What was just written would come from memory, not from the medium.
        let _ = fs::fadvise(&target, 0, None, fs::Advice::DontNeed);
        let mut digest = Sha256::new();
        let mut buffer = vec![0u8; CHUNK.min(usize::try_from(meta.len()).unwrap_or(CHUNK))];
        let mut at = 0;
        // The source is only asked for its holes: where it has one, the copy has to have one or zeros.
        while let Some((start, end)) = piece(&source, at, meta.len()).map_err(read(from))? {
            if !is_hole(&target, at, start).map_err(read(to))? {
                return Ok(false);
            }
            at = start;
            while at < end {
                let room = buffer.len().min(usize::try_from(end - at).unwrap_or(CHUNK));
                target.read_exact_at(&mut buffer[..room], at).map_err(read(to))?;
                digest.update(&buffer[..room]);
                at += room as u64;
            }
        }
        Ok(is_hole(&target, at, meta.len()).map_err(read(to))? && digest.finalize()[..] == wanted)
    }
}

/// Whether a part of a file is a hole or zeros.
fn is_hole(file: &File, mut at: u64, end: u64) -> std::io::Result<bool> {
    let mut buffer = vec![0u8; 64 << 10];
    while let Some((start, stop)) = piece(file, at, end)? {
        at = start;
        while at < stop {
            let room = buffer.len().min(usize::try_from(stop - at).unwrap_or(buffer.len()));
            file.read_exact_at(&mut buffer[..room], at)?;
            if buffer[..room].iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at += room as u64;
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    /// Copies and compares; the bytes that came over, and what differs.
    fn copy(from: &Path, to: &Path, spoil: impl FnOnce()) -> (u64, Option<PathBuf>) {
        let sums = to.with_extension("sums");
        let mut bytes = 0;
        let left_out = |path: &Path| path.ends_with("left-out");
        let mut progress = |more| bytes += more;
        let mut copier = Copier::new(&left_out, &mut progress, &sums).unwrap();
        copier.copy(from, to).unwrap();
        copier.finish().unwrap();
        durable::sync_file_system(to).unwrap();
        spoil();
        (bytes, Verifier::new(&left_out, &sums).unwrap().differs(from, to).unwrap())
    }

    #[test]
    fn links_holes_modes_and_times_come_over_and_a_second_copy_copies_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        durable::make_folder(from.join("a/left-out")).unwrap();
        durable::make_folder(&to).unwrap();
        durable::replace(from.join("a/one"), &vec![7; 3 << 20], 0o640).unwrap();
        std::fs::hard_link(from.join("a/one"), from.join("a/two")).unwrap();
        symlink("/nowhere", from.join("link")).unwrap();
        let mut sparse = File::create(from.join("sparse")).unwrap();
        sparse.set_len(64 << 20).unwrap();
        sparse.seek(std::io::SeekFrom::Start(40 << 20)).unwrap();
        sparse.write_all(b"end").unwrap();
        std::fs::set_permissions(from.join("a"), std::fs::Permissions::from_mode(0o701)).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap();
        let (bytes, differs) = copy(&from, &to, || {});
        assert_eq!(differs, None);
        assert!((3 << 20..5 << 20).contains(&bytes), "{bytes} bytes for 3 MiB and a hole");
        let meta = |path: &str| to.join(path).symlink_metadata().unwrap();
        assert_eq!(meta("a/one").ino(), meta("a/two").ino());
        assert_eq!((meta("a").mode() & 0o777, meta("a/one").mode() & 0o777), (0o701, 0o640));
        assert_eq!(meta("a/one").mtime(), from.join("a/one").metadata().unwrap().mtime());
        assert!(meta("sparse").blocks() * 512 < 1 << 20 && meta("sparse").len() == 64 << 20);
        assert!(!to.join("a/left-out").exists() && !to.join("socket").exists());
        let before = meta("a/one").ino();
        assert_eq!(copy(&from, &to, || {}), (bytes, None));
        assert_eq!(meta("a/one").ino(), before);
        assert_eq!(amount(&from, &|_| false).files, 7);
    }

    #[test]
    fn a_copy_that_isnt_the_same_is_found_and_the_next_one_mends_it() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        durable::make_folder(&from).unwrap();
        durable::make_folder(&to).unwrap();
        durable::replace(from.join("file"), b"same", 0o600).unwrap();
        File::create(from.join("sparse")).unwrap().set_len(1 << 20).unwrap();
        let time = from.join("file").metadata().unwrap().modified().unwrap();
        let file = to.join("file");
        let spoils: [&dyn Fn(); 5] = [
            &|| durable::write_plain(&file, "sane").unwrap(),
            &|| durable::write_plain(&file, "sane, and more").unwrap(),
            &|| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap(),
            &|| durable::remove_file(&file).unwrap(),
            &|| File::options().write(true).open(to.join("sparse")).unwrap().write_all_at(b"x", 5000).unwrap(),
        ];
        for spoil in spoils {
            assert!(copy(&from, &to, spoil).1.is_some());
            // As after a pulled plug: what was never synced may have its length and times, and no bytes.
            if file.exists() {
                File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
            }
            assert_eq!(copy(&from, &to, || {}).1, None);
            assert_eq!(std::fs::read(&file).unwrap(), b"same");
        }
    }
}
