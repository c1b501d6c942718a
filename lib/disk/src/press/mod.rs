//! The engine that puts an image onto a medium, and believes the medium nothing.
//!
//! One [`Press`] a medium: it refuses one that is too small before a byte is written, takes away what would boot, finds
//! counterfeit capacity, writes, makes zero what the image takes for zero, reads everything back past all caches and compares.
//! The first MiB is held back until then and written last, so a half-written medium doesn't boot (law 3). What feeds it,
//! and how many run side by side, isn't its business.

mod buffer;
mod medium;
mod probe;
mod stamp;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;

pub use buffer::{ALIGNED, Buffer};
pub use medium::OpenMedium;
pub use probe::probe;
pub use stamp::{Stamped, lay, stamp};

use crate::{DiskError, Medium, ext4, read_at, write_at};
use bakelite_spec::layout::ALIGNMENT;
use std::io;
use xxhash_rust::xxh3::xxh3_128;

/// Bytes of a piece: large enough for any medium's full speed, small enough for many in memory.
pub const PIECE: usize = 1 << 20;
/// Bytes at the start that are written last: partition table, boot sector and loader of every format that is known.
pub const HEAD: u64 = ALIGNMENT;
/// Bytes at the end that are wiped first: a partition table's backup.
const TAIL: u64 = 34 * 512;

/// What an image can be written to and read back from.
pub trait Target: Medium {
    /// Its length in bytes.
    ///
    /// # Errors
    /// When it can't be asked.
    fn length(&mut self) -> io::Result<u64>;

    /// Reads what is on the medium itself, past every cache of this machine. What was written before is durable by then.
    ///
    /// # Errors
    /// When it can't be read.
    fn read_back(&mut self, at: u64, bytes: &mut [u8]) -> io::Result<()>;

    /// Writes at a place.
    ///
    /// # Errors
    /// When it can't be written.
    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes a range zeros.
    ///
    /// # Errors
    /// When it can't be written.
    fn zero(&mut self, at: u64, length: u64) -> io::Result<()>;

    /// Whether it is known without reading that a range is zeros, as the holes of a file are.
    fn is_hole(&mut self, at: u64, length: u64) -> bool;
}

/// A part of an image.
#[derive(Debug)]
pub struct Piece {
    /// Its first byte in the image.
    pub at: u64,
    /// What is in it, at most [`PIECE`] bytes.
    pub bytes: Buffer,
    /// Its sum; not one for enemies, as what it is compared with comes from the same bytes.
    pub sum: u128,
}

impl Piece {
    /// A piece with its sum.
    pub fn new(at: u64, bytes: Buffer) -> Self {
        let sum = xxh3_128(&bytes);
        Self { at, bytes, sum }
    }
}

/// What was put on the medium, for the reading back.
#[derive(Clone, Copy, Debug)]
enum Put {
    Sum(u128),
    Zeros,
}

/// A medium while an image is put onto it.
#[derive(Debug)]
pub struct Press<'a, T> {
    target: &'a mut T,
    length: u64,
    head: Vec<u8>,
    /// What of the partition table lies elsewhere, and comes right before the head: some firmware makes do with a backup.
    elsewhere: Vec<(u64, Vec<u8>)>,
    put: Vec<(u64, u64, Put)>,
    /// From here on the image isn't written.
    left_out: u64,
}

impl<'a, T: Target> Press<'a, T> {
    /// Begins with a medium for an image of a length: from here on it doesn't boot.
    ///
    /// # Errors
    /// When it is too small: then nothing was written. Or when it can't be written.
    pub fn begin(target: &'a mut T, image: u64) -> Result<Self, DiskError> {
        let length = target.length().map_err(|source| DiskError::Read { at: 0, length: 0, source })?;
        if length < image {
            return Err(DiskError::MediumTooSmall { image, medium: length });
        }
        let press =
            Self { target, length, head: Vec::new(), elsewhere: Vec::new(), put: Vec::new(), left_out: u64::MAX };
        wipe(press.target)?;
        Ok(press)
    }

    /// The medium's length in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The medium, for what is done with it besides.
    pub fn target(&mut self) -> &mut T {
        self.target
    }

    /// Takes over what a stamped image has: its first MiB, and what of its partition table lies elsewhere.
    pub fn take_stamped(&mut self, head: Vec<u8>, elsewhere: Vec<(u64, Vec<u8>)>) {
        self.head = head;
        self.elsewhere = elsewhere;
    }

    /// Finds out whether the medium holds as much as it says; what is on it is lost.
    ///
    /// # Errors
    /// When it doesn't, or can't be written or read.
    pub fn probe(&mut self, nonce: u64) -> Result<(), DiskError> {
        probe(self.target, self.length, nonce)
    }

    /// What the image has from a byte on is not to be written.
    pub fn leave_out_from(&mut self, at: u64) {
        self.left_out = at;
    }

    /// Writes a piece; of the first MiB it is only kept.
    ///
    /// # Errors
    /// When the medium can't be written.
    pub fn write(&mut self, piece: &Piece) -> Result<(), DiskError> {
        let (start, end) = (piece.at, piece.at + piece.bytes.len() as u64);
        if start >= self.left_out {
            return Ok(());
        }
        if start < HEAD {
            let head = usize::try_from(HEAD.min(end)).unwrap_or(PIECE);
            let at = usize::try_from(start).unwrap_or(PIECE);
            if self.head.len() < head {
                self.head.resize(head, 0);
            }
            self.head[at..head].copy_from_slice(&piece.bytes[..head - at]);
            if end > HEAD {
                return self.write_part(HEAD, &piece.bytes[head - at..]);
            }
            return Ok(());
        }
        self.target.write_at(start, &piece.bytes).map_err(writing(start, end - start))?;
        self.put.push((start, end - start, Put::Sum(piece.sum)));
        Ok(())
    }

    fn write_part(&mut self, at: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.target.write_at(at, bytes).map_err(writing(at, bytes.len() as u64))?;
        self.put.push((at, bytes.len() as u64, Put::Sum(xxh3_128(bytes))));
        Ok(())
    }

    /// Makes a range zeros that the image takes for zeros, where the medium has something else; the bytes that had to be written.
    ///
    /// # Errors
    /// When the medium can't be read or written.
    pub fn clear(&mut self, start: u64, length: u64) -> Result<u64, DiskError> {
        let mut buffer = Buffer::new(PIECE);
        let (mut at, end, mut cleared) = (start.max(HEAD), start + length, 0);
        while at < end {
            let size = (end - at).min(PIECE as u64 - at % PIECE as u64);
            buffer.set_length(usize::try_from(size).unwrap_or(PIECE));
            if !self.target.is_hole(at, size) {
                self.target.read_back(at, &mut buffer).map_err(reading(at, size))?;
                if !is_zero(&buffer) {
                    self.target.zero(at, size).map_err(writing(at, size))?;
                    self.put.push((at, size, Put::Zeros));
                    cleared += size;
                }
            }
            at += size;
        }
        Ok(cleared)
    }

    /// Takes away what an earlier life of the medium left of a file system of ours at a place.
    ///
    /// # Errors
    /// When the medium can't be written.
    pub fn forget_file_system(&mut self, start: u64, length: u64) -> Result<(), DiskError> {
        ext4::erase(self.target, start, length)
    }

    /// Makes durable what was written.
    ///
    /// # Errors
    /// When the medium says that it could not keep it.
    pub fn make_durable(&mut self) -> Result<(), DiskError> {
        self.target.make_durable().map_err(writing(0, self.length))
    }

    /// Bytes that [`Self::verify`] reads.
    pub fn to_verify(&self) -> u64 {
        self.put.iter().map(|(_, length, _)| length).sum()
    }

    /// Reads back all that was written and compares it. `progress` gets the bytes of each piece.
    ///
    /// # Errors
    /// When something else comes back, or nothing.
    pub fn verify(&mut self, progress: &mut dyn FnMut(u64)) -> Result<(), DiskError> {
        self.make_durable()?;
        let mut buffer = Buffer::new(PIECE);
        for (at, length, put) in &self.put {
            buffer.set_length(usize::try_from(*length).unwrap_or(PIECE));
            self.target.read_back(*at, &mut buffer).map_err(reading(*at, *length))?;
            let is_same = match put {
                Put::Sum(sum) => xxh3_128(&buffer) == *sum,
                Put::Zeros => is_zero(&buffer),
            };
            if !is_same {
                return Err(DiskError::ReadBack { at: *at, length: *length });
            }
            progress(*length);
        }
        Ok(())
    }

    /// Writes what makes the medium one that boots, the first MiB last, and reads it back.
    ///
    /// # Errors
    /// When the medium can't be written, or something else comes back; then it has to be wiped.
    pub fn publish(self) -> Result<(), DiskError> {
        let target = self.target;
        // The first page, with the partition table's head, comes after everything else: that write makes it a medium.
        let first = ALIGNED.min(self.head.len());
        let parts = [(first as u64, &self.head[first..]), (0, &self.head[..first])];
        let elsewhere = self.elsewhere.iter().map(|(at, bytes)| (*at, &bytes[..]));
        for (at, bytes) in elsewhere.chain(parts).filter(|(_, bytes)| !bytes.is_empty()) {
            let mut buffer = Buffer::new(bytes.len());
            buffer.copy_from_slice(bytes);
            target.write_at(at, &buffer).map_err(writing(at, bytes.len() as u64))?;
            target.make_durable().map_err(writing(at, bytes.len() as u64))?;
            buffer.fill(0);
            target.read_back(at, &mut buffer).map_err(reading(at, bytes.len() as u64))?;
            if *buffer != *bytes {
                return Err(DiskError::ReadBack { at, length: bytes.len() as u64 });
            }
        }
        Ok(())
    }
}

/// Makes a medium one that doesn't boot, durably: its first MiB and the place of a partition table's backup become zeros.
///
/// # Errors
/// When it can't be written.
pub fn wipe(target: &mut (impl Target + ?Sized)) -> Result<(), DiskError> {
    let length = target.length().map_err(reading(0, 0))?;
    target.zero(0, HEAD.min(length)).map_err(writing(0, HEAD))?;
    let tail = length.saturating_sub(TAIL).max(HEAD.min(length));
    target.zero(tail, length - tail).map_err(writing(tail, TAIL))?;
    target.make_durable().map_err(writing(0, length))
}

fn writing(at: u64, length: u64) -> impl Fn(io::Error) -> DiskError {
    move |source| DiskError::Write { at, length: usize::try_from(length).unwrap_or(usize::MAX), source }
}

fn reading(at: u64, length: u64) -> impl Fn(io::Error) -> DiskError {
    move |source| DiskError::Read { at, length: usize::try_from(length).unwrap_or(usize::MAX), source }
}

/// Whether bytes are all zero: one comparison that runs at the speed of memory.
pub fn is_zero(bytes: &[u8]) -> bool {
    bytes.first().is_none_or(|first| *first == 0 && bytes[1..] == bytes[..bytes.len() - 1])
}

impl<T: Target + ?Sized> Target for &mut T {
    fn length(&mut self) -> io::Result<u64> {
        (**self).length()
    }

    fn read_back(&mut self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        (**self).read_back(at, bytes)
    }

    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        (**self).write_at(at, bytes)
    }

    fn zero(&mut self, at: u64, length: u64) -> io::Result<()> {
        (**self).zero(at, length)
    }

    fn is_hole(&mut self, at: u64, length: u64) -> bool {
        (**self).is_hole(at, length)
    }
}

impl Target for io::Cursor<Vec<u8>> {
    fn length(&mut self) -> io::Result<u64> {
        Ok(self.get_ref().len() as u64)
    }

    fn read_back(&mut self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        read_at(self, at, bytes).map_err(io::Error::other)
    }

    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        write_at(self, at, bytes).map_err(io::Error::other)
    }

    fn zero(&mut self, at: u64, length: u64) -> io::Result<()> {
        let zeros = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        Target::write_at(self, at, &zeros)
    }

    fn is_hole(&mut self, _: u64, _: u64) -> bool {
        false
    }
}
