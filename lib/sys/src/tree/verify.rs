//! The comparing half: what the medium gives back against the sums of what was read.

use super::{CHUNK, extended, is_hole, names, piece, read};
use crate::SysError;
use rustix::fs::{self, FileType};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

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
