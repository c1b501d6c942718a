//! ext4 from outside: where its superblocks are, whether one of ours can be read, how to take them away.
//!
//! Making, checking and growing is the work of Debian's tools. ext4 always ends [`RECORD`] bytes before its partition
//! does (see [`crate::born`]), and has blocks of [`BLOCK`] bytes, so that the places of the superblock's copies are known.

use crate::{DiskError, Medium, read_at, write_at};
use bakelite_spec::layout::RECORD;
use std::io::{Read, Seek};

/// mkfs.ext4 is told to use blocks of this size.
pub const BLOCK: u64 = 4096;
/// Bytes from one block group to the next: 8 x 4096 blocks.
pub const GROUP: u64 = 8 * BLOCK * BLOCK;
/// Groups that hold a copy of the superblock (ext4's sparse_super: 0, 1 and powers of 3, 5, 7).
const COPIES: [u64; 6] = [0, 1, 3, 5, 7, 9];

/// What a superblock of ours says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSystem {
    /// Its length in bytes.
    pub length: u64,
}

/// Where the copies of the superblock are in the partition at a byte and of a length, with their group's number.
pub fn superblocks(start: u64, length: u64) -> impl Iterator<Item = (u64, u64)> {
    COPIES
        .into_iter()
        .map(|group| (group, group * GROUP + if group == 0 { 1024 } else { 0 }))
        .filter(move |(_, at)| at + BLOCK <= length.saturating_sub(RECORD))
        .map(move |(group, at)| (group, start + at))
}

/// Looks for a file system with a label in a partition: its primary superblock, else a copy.
///
/// # Errors
/// When the medium can't be read.
pub fn find(
    medium: &mut (impl Read + Seek),
    start: u64,
    length: u64,
    label: &str,
) -> Result<Option<FileSystem>, DiskError> {
    for (group, at) in superblocks(start, length) {
        let mut bytes = vec![0u8; 1024];
        read_at(medium, at, &mut bytes)?;
        if let Some(found) = superblock(&bytes, group, label).filter(|found| found.length <= length - RECORD) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Reads a superblock with a label that belongs to this group (linux/fs/ext4/ext4.h).
fn superblock(bytes: &[u8], group: u64, wanted: &str) -> Option<FileSystem> {
    let u16_at = |at: usize| Some(u16::from_le_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let u32_at = |at: usize| Some(u64::from(u16_at(at)?) | u64::from(u16_at(at + 2)?) << 16);
    let label = bytes.get(120..136)?.split(|byte| *byte == 0).next()?;
    let ours =
        u16_at(56)? == 0xef53 && u32_at(24)? == 2 && u64::from(u16_at(90)?) == group && label == wanted.as_bytes();
    let blocks = u32_at(4)? | u32_at(336)? << 32;
    ours.then_some(FileSystem { length: blocks.checked_mul(BLOCK)? })
}

/// Takes away all superblocks and the records at both ends, durably.
///
/// # Errors
/// When the medium can't be written.
pub fn erase(medium: &mut impl Medium, start: u64, length: u64) -> Result<(), DiskError> {
    let zeros = [0u8; RECORD as usize];
    let records = [start, start + length - RECORD];
    for at in superblocks(start, length).map(|(_, at)| at).chain(records) {
        write_at(medium, at, &zeros)?;
    }
    medium.make_durable().map_err(|source| DiskError::Write { at: start, length: 0, source })
}
