//! Copying a folder with all that is in it: owner, mode, times, extended attributes, hard links, holes. Resumable.
//!
//! A file appears under its name only when it is whole, so a copy that was cut goes on where it was. Sockets are left
//! out: whoever made them makes them again. Nothing is followed, and nothing outside the two folders is touched.

use crate::SysError;
use rustix::fs::{self, AtFlags, CWD, FileType, Mode, SeekFrom, Timespec, Timestamps, XattrFlags};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;
/// A file that isn't whole yet.
const HALF: &str = ".bakelite-half";

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

/// A copy in progress.
pub struct Copier<'a> {
    /// Paths of the source that stay behind.
    pub left_out: &'a dyn Fn(&Path) -> bool,
    /// Is told of bytes as they come over.
    pub progress: &'a mut dyn FnMut(u64),
    /// The first copy of each file that has several names, by device and number.
    pub linked: BTreeMap<(u64, u64), PathBuf>,
}

impl Copier<'_> {
    /// Copies what is in a folder into another one, which is there.
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

    fn file(&mut self, from: &Path, to: &Path, meta: &std::fs::Metadata) -> Result<(), SysError> {
        if meta.nlink() > 1 {
            if let Some(first) = self.linked.get(&(meta.dev(), meta.ino())) {
                crate::durable::remove_file(to)?;
                return std::fs::hard_link(first, to).map_err(change(to));
            }
            self.linked.insert((meta.dev(), meta.ino()), to.into());
        }
        let same = |other: std::fs::Metadata| {
            other.is_file()
                && (other.len(), other.mtime(), other.mtime_nsec()) == (meta.len(), meta.mtime(), meta.mtime_nsec())
        };
        if to.symlink_metadata().is_ok_and(same) {
            (self.progress)(meta.blocks() * 512);
            return Ok(());
        }
        let mut half = to.as_os_str().to_owned();
        half.push(HALF);
        let half = PathBuf::from(half);
        self.bytes(from, &half, meta.len())?;
        attributes(from, &half, meta)?;
        crate::durable::rename(&half, to)
    }

    /// Copies a file's bytes and leaves its holes.
    fn bytes(&mut self, from: &Path, to: &Path, length: u64) -> Result<(), SysError> {
        let mut source = File::open(from).map_err(read(from))?;
        let write = |source| SysError::Write { path: to.into(), source };
        let mut target = File::create(to).map_err(write)?;
        target.set_len(length).map_err(write)?;
        let mut buffer = vec![0u8; CHUNK.min(usize::try_from(length).unwrap_or(CHUNK)).max(1)];
        let mut at = 0;
        while at < length {
            let start = match fs::seek(&source, SeekFrom::Data(at)) {
                Ok(start) => start,
                Err(rustix::io::Errno::NXIO) => break,
                Err(error) => return Err(read(from)(error.into())),
            };
            let end = fs::seek(&source, SeekFrom::Hole(start)).map_err(|error| read(from)(error.into()))?;
            source.seek(std::io::SeekFrom::Start(start)).map_err(read(from))?;
            target.seek(std::io::SeekFrom::Start(start)).map_err(write)?;
            at = start;
            while at < end.min(length) {
                let room = buffer.len().min(usize::try_from(end - at).unwrap_or(CHUNK));
                let got = source.read(&mut buffer[..room]).map_err(read(from))?;
                if got == 0 {
                    break;
                }
                target.write_all(&buffer[..got]).map_err(write)?;
                at += got as u64;
                (self.progress)(got as u64);
            }
            at = at.max(end);
        }
        target.sync_all().map_err(write)
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
    let mut names = vec![0u8; 64 << 10];
    let length = match fs::llistxattr(from, &mut names[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        Err(error) => return Err(read(from)(error.into())),
    };
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0u8; 64 << 10];
        let length = fs::lgetxattr(from, name, &mut value[..]).map_err(|error| read(from)(error.into()))?;
        fs::lsetxattr(to, name, &value[..length], XattrFlags::empty()).map_err(failed)?;
    }
    let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps {
        last_access: time(meta.atime(), meta.atime_nsec() as _),
        last_modification: time(meta.mtime(), meta.mtime_nsec() as _),
    };
    fs::utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
}

/// The first path whose copy isn't as it should be, read back from the medium; `None` where all is well.
///
/// # Errors
/// When something can't be read.
pub fn differs(from: &Path, to: &Path, left_out: &dyn Fn(&Path) -> bool) -> Result<Option<PathBuf>, SysError> {
    for name in names(from)? {
        let (from, to) = (from.join(&name), to.join(&name));
        if left_out(&from) {
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
            && if meta.is_file() {
                meta.len() == other.len() && same_bytes(&from, &to)?
            } else {
                !meta.is_symlink() || std::fs::read_link(&from).ok() == std::fs::read_link(&to).ok()
            };
        if !same {
            return Ok(Some(to));
        }
        if meta.is_dir()
            && let Some(path) = differs(&from, &to, left_out)?
        {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn same_bytes(from: &Path, to: &Path) -> Result<bool, SysError> {
    let (mut one, mut other) = (File::open(from).map_err(read(from))?, File::open(to).map_err(read(to))?);
    // What was just written would be compared with itself in memory, not with what the medium has.
    let _ = fs::fadvise(&other, 0, None, fs::Advice::DontNeed);
    let (mut left, mut right) = (vec![0u8; CHUNK], vec![0u8; CHUNK]);
    loop {
        let got = one.read(&mut left).map_err(read(from))?;
        if got == 0 {
            return Ok(true);
        }
        other.read_exact(&mut right[..got]).map_err(read(to))?;
        if left[..got] != right[..got] {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable;
    use std::os::unix::fs::PermissionsExt;

    fn copy(from: &Path, to: &Path) -> u64 {
        let mut bytes = 0;
        let left_out = |path: &Path| path.ends_with("left-out");
        let mut progress = |more| bytes += more;
        let mut copier = Copier { left_out: &left_out, progress: &mut progress, linked: BTreeMap::new() };
        copier.copy(from, to).unwrap();
        assert_eq!(differs(from, to, &left_out).unwrap(), None);
        bytes
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
        let bytes = copy(&from, &to);
        assert!((3 << 20..5 << 20).contains(&bytes), "{bytes} bytes for 3 MiB and a hole");
        let meta = |path: &str| to.join(path).symlink_metadata().unwrap();
        assert_eq!(meta("a/one").ino(), meta("a/two").ino());
        assert_eq!((meta("a").mode() & 0o777, meta("a/one").mode() & 0o777), (0o701, 0o640));
        assert_eq!(meta("a/one").mtime(), from.join("a/one").metadata().unwrap().mtime());
        assert!(meta("sparse").blocks() * 512 < 1 << 20 && meta("sparse").len() == 64 << 20);
        assert!(!to.join("a/left-out").exists() && !to.join("socket").exists());
        let before = meta("a/one").ino();
        copy(&from, &to);
        assert_eq!(meta("a/one").ino(), before);
        assert_eq!(amount(&from, &|_| false).files, 7);
    }

    #[test]
    fn a_copy_that_isnt_the_same_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        for folder in [&from, &to] {
            durable::make_folder(folder).unwrap();
            durable::replace(folder.join("file"), b"same", 0o600).unwrap();
        }
        assert_eq!(differs(&from, &to, &|_| false).unwrap(), None);
        durable::replace(to.join("file"), b"sane", 0o600).unwrap();
        assert_eq!(differs(&from, &to, &|_| false).unwrap(), Some(to.join("file")));
        durable::remove_file(to.join("file")).unwrap();
        assert!(differs(&from, &to, &|_| false).unwrap().is_some());
    }
}
