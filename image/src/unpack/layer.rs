//! A layer: the files of one package, unpacked, in one file of the cache, and known by the package's own sum.
//!
//! It is the package's tar archive as it is, then a table of its chunks with their sums, then a trailer; so several
//! threads can write it, and check it, chunk by chunk. It is checked whole before a process first uses it: a damaged
//! layer is made anew. Must not be fsynced: it can always be made again.

use crate::parallel;
use crate::source::digest::{Hashing, Sha256};
use crate::unpack::xz::Span;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

const MAGIC: &[u8; 8] = b"BKLTLAYR";
/// Magic, chunks, sum of the table.
const TRAILER: usize = 8 + 8 + 32;
/// Length, sum.
const CHUNK: usize = 8 + 32;
/// The most chunks that are believed.
const MOST_CHUNKS: u64 = 1 << 16;

/// A part of a layer that one thread writes or checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Its length in bytes.
    pub length: u64,
    /// Its sum.
    pub sha256: [u8; 32],
}

/// The files of one package.
#[derive(Debug)]
pub struct Layer {
    /// The package's name.
    pub package: String,
    /// The package's sum.
    pub sha256: Sha256,
    file: File,
    chunks: Vec<Chunk>,
}

impl PartialEq for Layer {
    fn eq(&self, other: &Self) -> bool {
        self.sha256 == other.sha256
    }
}

impl Eq for Layer {}

impl Layer {
    /// Takes an open file for a layer; `None` where its table isn't whole. Its chunks are still to be checked.
    pub fn new(package: &str, sha256: Sha256, file: File) -> Option<Self> {
        let length = file.metadata().ok()?.len();
        let mut trailer = [0; TRAILER];
        file.read_exact_at(&mut trailer, length.checked_sub(TRAILER as u64)?).ok()?;
        let count = u64::from_le_bytes(trailer[8..16].try_into().ok()?);
        if trailer[..8] != *MAGIC || count > MOST_CHUNKS {
            return None;
        }
        let mut table = vec![0; count as usize * CHUNK];
        let table_at = length.checked_sub((TRAILER + table.len()) as u64)?;
        file.read_exact_at(&mut table, table_at).ok()?;
        if *Sha256::of(&table).bytes() != trailer[16..] {
            return None;
        }
        let chunks: Vec<Chunk> = table
            .chunks_exact(CHUNK)
            .filter_map(|bytes| {
                let (length, sum) = bytes.split_at(8);
                Some(Chunk { length: u64::from_le_bytes(length.try_into().ok()?), sha256: sum.try_into().ok()? })
            })
            .collect();
        let fits = chunks.iter().try_fold(0u64, |sum, chunk| sum.checked_add(chunk.length)) == Some(table_at);
        fits.then(|| Self { package: package.into(), sha256, file, chunks })
    }

    /// Writes table and trailer behind the chunks.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn finish(file: &File, chunks: &[Chunk]) -> io::Result<()> {
        let mut bytes: Vec<u8> = chunks.iter().flat_map(encode).collect();
        let sum = Sha256::of(&bytes);
        bytes.extend(MAGIC);
        bytes.extend((chunks.len() as u64).to_le_bytes());
        bytes.extend(sum.bytes());
        file.write_all_at(&bytes, chunks.iter().map(|chunk| chunk.length).sum())
    }

    /// The chunks with the places where they begin.
    pub fn chunks(&self) -> impl Iterator<Item = (u64, Chunk)> {
        let mut at = 0;
        self.chunks.iter().map(move |chunk| {
            at += chunk.length;
            (at - chunk.length, *chunk)
        })
    }

    /// The archive's length in bytes.
    pub fn length(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.length).sum()
    }

    /// Opens a part of the archive.
    pub fn open(&self, at: u64, length: u64) -> impl Read + '_ {
        Span { file: &self.file, at, left: length }
    }

    /// Reads a part of the archive.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(bytes, at)
    }
}

/// Which of some layers aren't what they were when they were made; all processors look.
pub fn damaged(layers: &[&Layer]) -> Vec<usize> {
    let numbered = layers.iter().enumerate();
    let chunks: Vec<(usize, u64, Chunk)> =
        numbered.flat_map(|(number, layer)| layer.chunks().map(move |(at, chunk)| (number, at, chunk))).collect();
    let check = |buffer: &mut Vec<u8>, (number, at, chunk): &(usize, u64, Chunk)| {
        let mut hashing = Hashing::new(layers[*number].open(*at, chunk.length));
        let whole = loop {
            match hashing.read(buffer) {
                Ok(0) => break *hashing.finish().0.bytes() == chunk.sha256,
                Ok(_) => {}
                Err(_) => break false,
            }
        };
        Ok((!whole).then_some(*number))
    };
    let mut damaged = BTreeSet::new();
    let ended: Result<(), Infallible> = parallel::ordered(
        parallel::threads(),
        &chunks,
        || Ok(vec![0; 1 << 18]),
        check,
        |number| {
            damaged.extend(number);
            Ok(())
        },
    );
    let Ok(()) = ended;
    damaged.into_iter().collect()
}

fn encode(chunk: &Chunk) -> [u8; CHUNK] {
    let mut bytes = [0; CHUNK];
    bytes[..8].copy_from_slice(&chunk.length.to_le_bytes());
    bytes[8..].copy_from_slice(&chunk.sha256);
    bytes
}
