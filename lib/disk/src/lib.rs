//! Bytes on media, over `Read + Write + Seek`: partition tables, the records at the ends of Bakelite's partitions, what
//! a disk holds, an initramfs's archives, deltas of systems.
//!
//! Nothing here knows whether it works on a card, a file or memory; whoever writes says how to make it durable
//! ([`Medium`]). Every reader takes foreign bytes: it refuses, it never panics and never allocates what they ask for.

pub mod begun;
pub mod blank;
#[cfg(feature = "bmap")]
pub mod bmap;
pub mod boot;
pub mod born;
pub mod cpio;
pub mod data;
pub mod delta;
pub mod ext4;
pub mod footer;
mod gpt;
mod guid;
mod mbr;
#[cfg(feature = "press")]
pub mod press;
pub mod signature;
pub mod table;

pub use guid::Guid;

use std::io::{self, Read, Seek, SeekFrom, Write};

/// What can't be read from or written to a medium.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// Reading failed.
    #[error("reading {length} bytes at byte {at}")]
    Read {
        /// Where.
        at: u64,
        /// How much.
        length: usize,
        /// Why.
        source: io::Error,
    },
    /// Writing failed.
    #[error("writing {length} bytes at byte {at}")]
    Write {
        /// Where.
        at: u64,
        /// How much.
        length: usize,
        /// Why.
        source: io::Error,
    },
    /// Neither partition table is whole.
    #[error("no whole partition table: primary {primary}; backup {backup}")]
    NoTable {
        /// What is wrong with the first.
        primary: String,
        /// What is wrong with the second.
        backup: String,
    },
    /// A table can't be laid onto this medium.
    #[error("partition {number} ends at sector {last}, behind the last usable sector {usable}")]
    TooSmall {
        /// The partition.
        number: u32,
        /// Its last sector.
        last: u64,
        /// The last sector that may be used.
        usable: u64,
    },
    /// A block map makes no sense.
    #[cfg(feature = "bmap")]
    #[error("the block map is of no use: {problem}")]
    Map {
        /// What is wrong with it.
        problem: String,
    },
    /// A medium has less room than an image needs.
    #[cfg(feature = "press")]
    #[error("the medium has {medium} bytes, and the image needs {image}; nothing was written")]
    MediumTooSmall {
        /// The image's length.
        image: u64,
        /// The medium's.
        medium: u64,
    },
    /// A medium says that it holds more than it does.
    #[cfg(feature = "press")]
    #[error(
        "the medium says that it holds {says} bytes, and keeps nothing behind some {holds}: it is counterfeit or broken, throw it away"
    )]
    Counterfeit {
        /// What it says, in bytes.
        says: u64,
        /// What certainly came back, in bytes.
        holds: u64,
    },
    /// Something else came back than was written.
    #[cfg(feature = "press")]
    #[error(
        "what was read back of {length} bytes at byte {at} is not what was written: the medium or its reader is broken"
    )]
    ReadBack {
        /// Where.
        at: u64,
        /// How much was compared.
        length: u64,
    },
    /// A record isn't there or isn't whole.
    #[error("no {record}: {problem}")]
    NoRecord {
        /// Which record.
        record: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

/// What can be written and made durable.
pub trait Medium: Read + Write + Seek {
    /// Returns when all that was written is on the medium.
    ///
    /// # Errors
    /// When the medium says that it could not keep it.
    fn make_durable(&mut self) -> io::Result<()>;
}

impl Medium for std::fs::File {
    fn make_durable(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

impl<T: Medium + ?Sized> Medium for &mut T {
    fn make_durable(&mut self) -> io::Result<()> {
        (**self).make_durable()
    }
}

impl<T: Medium + ?Sized> Medium for Box<T> {
    fn make_durable(&mut self) -> io::Result<()> {
        (**self).make_durable()
    }
}

impl Medium for io::Cursor<Vec<u8>> {
    fn make_durable(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn read_at(medium: &mut (impl Read + Seek), at: u64, bytes: &mut [u8]) -> Result<(), DiskError> {
    let length = bytes.len();
    medium.seek(SeekFrom::Start(at)).and_then(|_| medium.read_exact(bytes)).map_err(|source| DiskError::Read {
        at,
        length,
        source,
    })
}

fn write_at(medium: &mut (impl Write + Seek), at: u64, bytes: &[u8]) -> Result<(), DiskError> {
    medium.seek(SeekFrom::Start(at)).and_then(|_| medium.write_all(bytes)).map_err(|source| DiskError::Write {
        at,
        length: bytes.len(),
        source,
    })
}
