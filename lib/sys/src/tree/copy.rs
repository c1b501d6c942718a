//! The copying half: what is read goes to the copy and, beside that, into its sum.
//!
//! A medium that waits for us is time lost. So the next files are asked for while one is copied, and what was written is
//! handed on to the new medium at once, instead of all of it at the end.

use super::sums::Sums;
use super::{CHUNK, attributes, change, names, piece, read};
use crate::SysError;
use rustix::fs::{self, Advice, CWD, FileType, Mode};
use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, Metadata};
use std::io::Seek;
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

/// Files that are asked for ahead, and the largest of them: the kernel itself reads ahead in larger ones.
const AHEAD: usize = 32;
const SMALL: u64 = 256 << 10;
/// Bytes of a file after which they are handed on to the medium.
const BATCH: u64 = 8 << 20;

/// The entries of a folder, a few of them looked at and asked for ahead.
struct Entries {
    folder: PathBuf,
    names: std::vec::IntoIter<std::ffi::OsString>,
    ahead: VecDeque<(PathBuf, Metadata)>,
}

impl Entries {
    fn of(folder: &Path) -> Result<Self, SysError> {
        Ok(Self { folder: folder.into(), names: names(folder)?.into_iter(), ahead: VecDeque::new() })
    }

    /// The next one that isn't left out.
    fn next(&mut self, left_out: &dyn Fn(&Path) -> bool) -> Result<Option<(PathBuf, Metadata)>, SysError> {
        while self.ahead.len() < AHEAD
            && let Some(name) = self.names.next()
        {
            let path = self.folder.join(name);
            if left_out(&path) {
                continue;
            }
            let meta = path.symlink_metadata().map_err(read(&path))?;
            if meta.is_file()
                && (1..=SMALL).contains(&meta.len())
                && let Ok(file) = File::open(&path)
            {
                let _ = fs::fadvise(&file, 0, None, Advice::WillNeed);
            }
            self.ahead.push_back((path, meta));
        }
        Ok(self.ahead.pop_front())
    }
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
        let mut entries = Entries::of(from)?;
        while let Some((from, meta)) = entries.next(self.left_out)? {
            let to = to.join(from.file_name().unwrap_or_default());
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

    fn file(&mut self, from: &Path, to: &Path, meta: &Metadata) -> Result<(), SysError> {
        if meta.nlink() > 1 {
            if let Some(first) = self.linked.get(&(meta.dev(), meta.ino())) {
                crate::durable::remove_file(to)?;
                return std::fs::hard_link(first, to).map_err(change(to));
            }
            self.linked.insert((meta.dev(), meta.ino()), to.into());
        }
        // Only what an earlier, cut copy has left is there already. Its times came last, but nothing of it was synced: a
        // pulled plug may have kept the times and lost the bytes, so these are compared.
        let same = |other: Metadata| {
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
        let (mut at, mut written, mut handed_on) = (0, 0, 0);
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
                if at - handed_on >= BATCH {
                    // To the kernel: begin to write, and forget what is written.
                    let _ = fs::fadvise(&target, handed_on, NonZeroU64::new(at - handed_on), Advice::DontNeed);
                    handed_on = at;
                }
            }
        }
        if written < length {
            target.set_len(length).map_err(write)?;
        }
        self.sums.end()
    }
}
