//! Copying a folder with all that is in it: owner, mode, times, extended attributes, hard links, holes. Resumable.
//!
//! A copy that was cut goes on where it was: what is there already is compared. All that was read is summed on the way, so
//! that the source is read once; [`Verifier`] compares the sums with what the medium gives back. Sockets are left out:
//! whoever made them makes them again. Nothing is followed, and nothing outside the two folders is touched.

mod copy;
mod sums;
mod verify;

use crate::SysError;
pub use copy::Copier;
use rustix::fs::{self, AtFlags, CWD, Mode, SeekFrom, Timespec, Timestamps, XattrFlags};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
pub use verify::Verifier;

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
        set_extended(to, &name, &value)?;
    }
    let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps {
        last_access: time(meta.atime(), meta.atime_nsec() as _),
        last_modification: time(meta.mtime(), meta.mtime_nsec() as _),
    };
    fs::utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
}

/// Gives a path an extended attribute; a link isn't followed.
///
/// # Errors
/// When its file system can't.
pub fn set_extended(path: &Path, name: &[u8], value: &[u8]) -> Result<(), SysError> {
    fs::lsetxattr(path, name, value, XattrFlags::empty()).map_err(|error| change(path)(error.into()))
}

/// The extended attributes of a path, by name; none where its file system has none. A link isn't followed.
///
/// # Errors
/// When they can't be read.
pub fn extended(path: &Path) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, SysError> {
    let failed = |error: rustix::io::Errno| read(path)(error.into());
    // Most have none: then a question without a buffer is all.
    let mut names = match fs::llistxattr_query(path) {
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
mod tests;
