//! The compressed blocks of a group of files, kept in the cache by a hash over what is in the group.
//!
//! Sizes, then the bytes of the blocks that shrank, then a sum over both. Blocks that didn't shrink are taken from the
//! files again, so a payload that is compressed already takes no room here. A damaged pack counts as none.

use super::{BLOCK, LEVEL, Made, RAW, WORTHWHILE, reading, writing};
use crate::derived::{Derived, Kind, Work};
use crate::error::BuildError;
use crate::host::file;
use crate::source::digest::{Hashing, Sha256};
use crate::tree::Blob;
use crate::unpack::xz::Span;
use sha2::Digest;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

type Keep<'a> = Option<(&'a Derived, &'a Work)>;

/// A pack that is there.
pub struct Pack {
    file: File,
    /// Place and size of each block, the size with [`RAW`].
    blocks: Vec<(u64, u32)>,
}

/// A pack in the making.
pub struct NewPack<'a> {
    derived: &'a Derived,
    key: Sha256,
    temporary: NamedTempFile,
    sizes: Vec<u8>,
    state: sha2::Sha256,
    check: Option<Check>,
}

/// A file that may be changed by somebody while it is read; what is kept under its sum has to have that sum.
struct Check {
    path: PathBuf,
    wanted: Sha256,
    state: sha2::Sha256,
}

/// The one file of a group that isn't the workshop's own.
pub fn own_file<'a>(files: &[(Sha256, &'a Blob)]) -> Option<(&'a Path, Sha256)> {
    match files {
        [(_, Blob::File { path, sha256, .. })] => Some((path, *sha256)),
        _ => None,
    }
}

fn key(files: &[(Sha256, &Blob)]) -> Sha256 {
    let mut text = format!("squashfs zstd {LEVEL} {BLOCK} {WORTHWHILE}");
    for (key, blob) in files {
        text.push_str(&format!(" {key} {}", blob.length()));
    }
    Sha256::of(text.as_bytes())
}

impl Pack {
    /// Looks for the pack of some files that make `count` blocks, and checks it.
    pub fn find(keep: Keep<'_>, files: &[(Sha256, &Blob)], count: usize) -> Result<Option<Self>, BuildError> {
        let Some((derived, _)) = keep else { return Ok(None) };
        let key = key(files);
        let Some(file) = derived.find(Kind::Blocks, &key) else { return Ok(None) };
        match Self::read(file, count).map_err(reading())? {
            Some(pack) => Ok(Some(pack)),
            None => derived.remove(Kind::Blocks, &key).map(|()| None),
        }
    }

    /// The bytes come first, so that they can be written as they are made; then sizes, then the sum.
    fn read(file: File, count: usize) -> io::Result<Option<Self>> {
        let length = file.metadata()?.len();
        let Some(end) = length.checked_sub(32 + count as u64 * 4) else { return Ok(None) };
        let mut hashing = Hashing::new(Span { file: &file, at: 0, left: length - 32 });
        let mut buffer = vec![0; 1 << 18];
        while hashing.read(&mut buffer)? > 0 {}
        let mut sum = [0; 32];
        file.read_exact_at(&mut sum, length - 32)?;
        let mut sizes = vec![0; count * 4];
        file.read_exact_at(&mut sizes, end)?;
        let mut at = 0;
        let blocks: Vec<(u64, u32)> = sizes
            .chunks_exact(4)
            .map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
            .map(|size| {
                let place = at;
                at += if size & RAW == 0 { u64::from(size) } else { 0 };
                (place, size)
            })
            .collect();
        let whole = *hashing.finish().0.bytes() == sum && at == end;
        Ok(whole.then_some(Self { file, blocks }))
    }

    /// A block that shrank; `None` for one that didn't.
    pub fn packed(&self, number: usize) -> Result<Option<Made>, BuildError> {
        let (at, size) = self.blocks[number];
        if size & RAW != 0 {
            return Ok(None);
        }
        let mut bytes = vec![0; size as usize];
        self.file.read_exact_at(&mut bytes, at).map_err(reading())?;
        Ok(Some(Made { size, bytes, content: None }))
    }
}

impl<'a> NewPack<'a> {
    /// Begins the pack of some files.
    pub fn begin(keep: Keep<'a>, files: &[(Sha256, &Blob)]) -> Result<Option<Self>, BuildError> {
        let Some((derived, work)) = keep else { return Ok(None) };
        let temporary = file::begin(work.path())?;
        let check =
            own_file(files).map(|(path, wanted)| Check { path: path.into(), wanted, state: Default::default() });
        Ok(Some(Self { derived, key: key(files), temporary, sizes: Vec::new(), state: sha2::Sha256::new(), check }))
    }

    /// Adds the next block.
    pub fn add(&mut self, block: &Made) -> Result<(), BuildError> {
        self.sizes.extend(block.size.to_le_bytes());
        if let Some(check) = &mut self.check {
            check.state.update(block.content.as_ref().unwrap_or(&block.bytes));
        }
        if block.size & RAW == 0 {
            self.state.update(&block.bytes);
            self.temporary.write_all(&block.bytes).map_err(writing())?;
        }
        Ok(())
    }

    /// Keeps the pack.
    pub fn finish(mut self) -> Result<(), BuildError> {
        if let Some(Check { path, wanted, state }) = self.check
            && state.finalize()[..] != wanted.bytes()[..]
        {
            return Err(BuildError::FileChanged(path));
        }
        self.state.update(&self.sizes);
        self.sizes.extend(self.state.finalize());
        self.temporary.write_all(&self.sizes).map_err(writing())?;
        self.derived.keep(self.temporary, Kind::Blocks, &self.key).map(drop)
    }
}
