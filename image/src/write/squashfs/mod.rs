//! squashfs 4.0 with zstd (level 9, blocks of 128 KiB): no external tool, constant memory, equal bytes for equal trees.
//!
//! Own code, as no library compresses on all processors or takes blocks that are compressed already, and a changed
//! payload shall not cost the compression of everything else: files are written in groups, and the compressed blocks of
//! a group are kept in the cache. What hardly shrinks stays as it is: a quick try at level 1 tells, block by block, which
//! for kernel modules and images saves nearly all the time and nothing else. No extended attributes, so no file
//! capabilities; none is needed. Format: kernel, fs/squashfs/squashfs_fs.h.

mod pack;
mod tables;

use crate::derived::{Derived, Work};
use crate::error::{BuildError, io_error};
use crate::parallel;
use crate::source::digest::Sha256;
use crate::tree::{Blob, Node, Tree};
use pack::{NewPack, Pack};
use std::collections::HashMap;
use std::io::{self, Seek, SeekFrom, Write};
use zstd::bulk::Compressor;

/// Bytes of a data block, unpacked.
const BLOCK: u64 = 128 << 10;
/// zstd's level for what shrinks. Level 15 takes seven times as long, for an image that is smaller by 3 %; with the
/// kernel's modules plain, that was more than all other work of a build.
const LEVEL: i32 = 9;
/// What shrinks by less than one part in so many at level 1 stays as it is.
const WORTHWHILE: usize = 32;
/// The bit of a block's size that says: not compressed.
const RAW: u32 = 1 << 24;
/// Bytes before the first block.
const SUPERBLOCK: u64 = 96;
/// The end is padded to this, so that the kernel can read it as a block device.
const PADDING: u64 = 4096;

/// Where a file's content is.
#[derive(Clone, Debug, Default)]
struct Place {
    start: u64,
    /// Sizes of its whole blocks, with [`RAW`].
    sizes: Vec<u32>,
    /// Which fragment has its end, and where in that.
    fragment: Option<(u32, u32)>,
}

/// A file system in the making.
pub struct Writer<'a, W> {
    output: W,
    start: u64,
    /// Bytes written so far.
    at: u64,
    places: HashMap<Sha256, Place>,
    /// Start and size of each fragment.
    fragments: Vec<(u64, u32)>,
    keep: Option<(&'a Derived, &'a Work)>,
    threads: usize,
}

/// One block to be made.
enum Job<'a> {
    Block { blob: &'a Blob, at: u64, length: u64 },
    Fragment(Vec<(&'a Blob, u64, u64)>),
}

/// One block that is made.
struct Made {
    /// Its size, with [`RAW`].
    size: u32,
    bytes: Vec<u8>,
    /// What the bytes unpack to, where that is still to be checked and isn't the same.
    content: Option<Vec<u8>>,
}

impl Made {
    fn raw(bytes: Vec<u8>) -> Self {
        Self { size: bytes.len() as u32 | RAW, bytes, content: None }
    }
}

impl<'a, W: Write + Seek> Writer<'a, W> {
    /// Begins at the present place of `output`. With `keep`, compressed blocks are kept in and taken from the cache.
    ///
    /// # Errors
    /// When the output can't be written.
    pub fn new(mut output: W, keep: Option<(&'a Derived, &'a Work)>, threads: usize) -> Result<Self, BuildError> {
        let begin = |output: &mut W| {
            let start = output.stream_position()?;
            output.write_all(&[0; SUPERBLOCK as usize]).map(|()| start)
        };
        let start = begin(&mut output).map_err(writing())?;
        Ok(Self { output, start, at: SUPERBLOCK, places: HashMap::new(), fragments: Vec::new(), keep, threads })
    }

    /// Writes the content of some groups of files; content that is there already is passed over. Each group has its own
    /// place in the cache; all of them keep the threads busy together.
    ///
    /// # Errors
    /// When a file can't be read, or the output or the cache can't be written.
    pub fn groups(&mut self, groups: &[Vec<&Blob>]) -> Result<(), BuildError> {
        let mut open = Vec::new();
        for files in groups {
            let mut fresh: Vec<(Sha256, &Blob)> = Vec::new();
            for blob in files.iter().filter(|blob| blob.length() > 0) {
                let key = blob.key();
                if self.places.insert(key, Place::default()).is_none() {
                    fresh.push((key, blob));
                }
            }
            if !fresh.is_empty() {
                open.push(Group::begin(fresh, self.keep)?);
            }
        }
        let jobs: Vec<(usize, usize)> = (0..)
            .zip(&open)
            .flat_map(|(group, opened)| (0..opened.jobs.len()).map(move |number| (group, number)))
            .collect();
        let mut made: Vec<Vec<(u64, u32)>> = vec![Vec::new(); open.len()];
        let mut new_packs: Vec<Option<NewPack<'_>>> = open
            .iter()
            .map(|group| if group.pack.is_none() { NewPack::begin(self.keep, &group.files) } else { Ok(None) })
            .collect::<Result<_, _>>()?;
        let work = |tools: &mut Tools, (group, number): &(usize, usize)| {
            open[*group].make(*number, tools).map(|block| (*group, block))
        };
        let (output, at) = (&mut self.output, &mut self.at);
        parallel::ordered(
            self.threads,
            &jobs,
            || Tools::new().map_err(writing()),
            work,
            |(group, block): (usize, Made)| {
                output.write_all(&block.bytes).map_err(writing())?;
                if let Some(pack) = &mut new_packs[group] {
                    pack.add(&block)?;
                }
                made[group].push((*at, block.size));
                *at += block.bytes.len() as u64;
                Ok(())
            },
        )?;
        new_packs.into_iter().flatten().try_for_each(NewPack::finish)?;
        for (group, made) in open.iter().zip(&made) {
            self.place(&group.files, &group.jobs, &group.ends, made);
        }
        Ok(())
    }

    /// Notes where each file's blocks and end are.
    fn place(
        &mut self,
        files: &[(Sha256, &Blob)],
        jobs: &[Job<'_>],
        ends: &[Option<(usize, u64)>],
        made: &[(u64, u32)],
    ) {
        let mut fragments = HashMap::new();
        for (number, job) in jobs.iter().enumerate() {
            if matches!(job, Job::Fragment(_)) {
                fragments.insert(number, self.fragments.len() as u32);
                self.fragments.push(made[number]);
            }
        }
        let mut whole = jobs.iter().zip(made).filter(|(job, _)| matches!(job, Job::Block { .. }));
        for ((key, blob), end) in files.iter().zip(ends) {
            let blocks: Vec<(u64, u32)> =
                whole.by_ref().take((blob.length() / BLOCK) as usize).map(|(_, made)| *made).collect();
            let place = Place {
                start: blocks.first().map_or(0, |(start, _)| *start),
                sizes: blocks.iter().map(|(_, size)| *size).collect(),
                fragment: end.map(|(job, offset)| (fragments[&job], offset as u32)),
            };
            self.places.insert(*key, place);
        }
    }

    /// Writes the names, modes and links of a tree whose files' contents are all in groups, and ends the file system;
    /// gives its length in bytes, padding included.
    ///
    /// # Errors
    /// When content was in no group, or the output can't be written.
    pub fn finish(mut self, tree: &Tree, time: u32) -> Result<u64, BuildError> {
        let mut places = HashMap::new();
        for (path, entry) in tree.entries() {
            if let Node::File(blob) = &entry.node
                && blob.length() > 0
            {
                let key = blob.key();
                let place =
                    self.places.get(&key).ok_or_else(|| io_error("placing", path)(io::ErrorKind::NotFound.into()))?;
                places.insert(path, place);
            }
        }
        let end = |output: &mut W| -> io::Result<u64> {
            let (superblock, bytes) = tables::encode(tree, &places, &self.fragments, time, self.at)?;
            output.write_all(&bytes)?;
            let length = self.at + bytes.len() as u64;
            let padded = length.next_multiple_of(PADDING);
            output.write_all(&vec![0; (padded - length) as usize])?;
            output.seek(SeekFrom::Start(self.start))?;
            output.write_all(&superblock)?;
            output.flush()?;
            Ok(padded)
        };
        end(&mut self.output).map_err(writing())
    }
}

/// Files that are written one after the other, and whose compressed blocks are kept together.
struct Group<'a> {
    files: Vec<(Sha256, &'a Blob)>,
    jobs: Vec<Job<'a>>,
    /// For each file the fragment and the place in it where its end is.
    ends: Vec<Option<(usize, u64)>>,
    pack: Option<Pack>,
}

impl<'a> Group<'a> {
    fn begin(files: Vec<(Sha256, &'a Blob)>, keep: Option<(&Derived, &Work)>) -> Result<Self, BuildError> {
        let (jobs, ends) = plan(&files);
        let pack = Pack::find(keep, &files, jobs.len())?;
        Ok(Self { files, jobs, ends, pack })
    }

    fn make(&self, number: usize, tools: &mut Tools) -> Result<Made, BuildError> {
        let read = || self.jobs[number].read().map_err(reading());
        match &self.pack {
            Some(pack) => match pack.packed(number)? {
                Some(block) => Ok(block),
                None => read().map(Made::raw),
            },
            None => tools.make(read()?, pack::own_file(&self.files).is_some()).map_err(writing()),
        }
    }
}

/// The blocks of some files, and for each file the fragment and the place in it where its end is.
type Planned<'a> = (Vec<Job<'a>>, Vec<Option<(usize, u64)>>);

fn plan<'a>(files: &[(Sha256, &'a Blob)]) -> Planned<'a> {
    let (mut jobs, mut ends) = (Vec::new(), Vec::new());
    let (mut open, mut filled, mut waiting) = (Vec::new(), 0, Vec::new());
    for (number, (_, blob)) in files.iter().enumerate() {
        let rest = blob.length() % BLOCK;
        let whole = blob.length() - rest;
        jobs.extend((0..whole / BLOCK).map(|block| Job::Block { blob, at: block * BLOCK, length: BLOCK }));
        ends.push(None);
        if rest > 0 {
            if filled + rest > BLOCK {
                close(&mut jobs, &mut ends, &mut open, &mut waiting);
                filled = 0;
            }
            waiting.push((number, filled));
            open.push((*blob, whole, rest));
            filled += rest;
        }
    }
    close(&mut jobs, &mut ends, &mut open, &mut waiting);
    (jobs, ends)
}

fn close<'a>(
    jobs: &mut Vec<Job<'a>>,
    ends: &mut [Option<(usize, u64)>],
    open: &mut Vec<(&'a Blob, u64, u64)>,
    waiting: &mut Vec<(usize, u64)>,
) {
    if open.is_empty() {
        return;
    }
    for (file, offset) in waiting.drain(..) {
        ends[file] = Some((jobs.len(), offset));
    }
    jobs.push(Job::Fragment(std::mem::take(open)));
}

impl Job<'_> {
    fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut add = |blob: &Blob, at, length: u64| {
            let start = bytes.len();
            bytes.resize(start + length as usize, 0);
            blob.read_at(&mut bytes[start..], at)
        };
        match self {
            Job::Block { blob, at, length } => add(blob, *at, *length)?,
            Job::Fragment(parts) => parts.iter().try_for_each(|(blob, at, length)| add(blob, *at, *length))?,
        }
        Ok(bytes)
    }
}

/// One thread's compressors.
struct Tools {
    quick: Compressor<'static>,
    thorough: Compressor<'static>,
}

impl Tools {
    fn new() -> io::Result<Self> {
        Ok(Self { quick: Compressor::new(1)?, thorough: Compressor::new(LEVEL)? })
    }

    fn make(&mut self, bytes: Vec<u8>, is_checked: bool) -> io::Result<Made> {
        if self.quick.compress(&bytes)?.len() < bytes.len() - bytes.len() / WORTHWHILE {
            let packed = self.thorough.compress(&bytes)?;
            if packed.len() < bytes.len() {
                let size = packed.len() as u32;
                return Ok(Made { size, bytes: packed, content: is_checked.then_some(bytes) });
            }
        }
        Ok(Made::raw(bytes))
    }
}

fn writing() -> impl FnOnce(io::Error) -> BuildError {
    io_error("writing", "the system partition")
}

fn reading() -> impl FnOnce(io::Error) -> BuildError {
    io_error("reading", "a file of the system partition")
}

#[cfg(test)]
mod tests;
