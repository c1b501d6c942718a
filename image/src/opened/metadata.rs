//! What a squashfs reader takes for granted: each table of the superblock is a chain of metadata blocks that ends where the
//! next table begins (kernel Documentation/filesystems/squashfs.rst, section 3).
//!
//! The library follows a chain until it is exactly at its end. Over the zeros of a slot, each of which reads as an empty
//! block, it would do so for hours, and so lint would with an image that somebody has damaged. Only lengths are read here.

use super::Seen;
use std::io;

/// Where a table that isn't there begins.
const ABSENT: u64 = u64::MAX;
/// The most that a metadata block holds, in bytes.
const BLOCK: u64 = 8192;
/// The flag of a file system with an export table.
const EXPORTABLE: u16 = 0x80;
/// Bytes of an entry of the fragment table and of the export table.
const FRAGMENT: u64 = 16;
const EXPORT: u64 = 8;

/// Follows the chains. `read` reads from the start of the file system.
pub fn check(read: &impl Fn(u64, &mut [u8]) -> io::Result<()>) -> Seen<()> {
    let mut superblock = [0; 96];
    read(0, &mut superblock).map_err(|error| error.to_string())?;
    let long = |at: usize| superblock[at..at + 8].try_into().map_or(ABSENT, u64::from_le_bytes);
    let word = |at: usize| superblock[at..at + 4].try_into().map_or(0, u32::from_le_bytes);
    let flags = u16::from_le_bytes([superblock[24], superblock[25]]);
    let (inodes, directories) = (long(64), long(72));
    let (ids, fragments, exports) = (long(48), long(80), long(88));

    let first = |table: u64| {
        let mut place = [0; 8];
        read(table, &mut place).map_err(|error| error.to_string())?;
        Ok::<_, String>(u64::from_le_bytes(place))
    };
    let has_fragments = word(16) != 0 && fragments != ABSENT;
    let has_exports = flags & EXPORTABLE != 0 && exports != ABSENT;
    let mut end = first(ids)?;
    if has_exports {
        end = first(exports)?;
        follow(read, end, None, u64::from(word(4)).saturating_mul(EXPORT).div_ceil(BLOCK))?;
    }
    if has_fragments {
        end = first(fragments)?;
        follow(read, end, None, (u64::from(word(16)) * FRAGMENT).div_ceil(BLOCK))?;
    }
    follow(read, inodes, Some(directories), u64::MAX)?;
    follow(read, directories, Some(end), u64::MAX)
}

/// Follows one chain to its end, or for as many blocks as it has.
fn follow(read: &impl Fn(u64, &mut [u8]) -> io::Result<()>, start: u64, end: Option<u64>, blocks: u64) -> Seen<()> {
    let broken = |at: u64| format!("its tables make no sense at byte {at}");
    let (mut at, mut left) = (start, blocks);
    while left > 0 && end != Some(at) {
        let mut header = [0; 2];
        read(at, &mut header).map_err(|_| broken(at))?;
        // The highest bit says that the block isn't packed.
        let length = u64::from(u16::from_le_bytes(header) & 0x7fff);
        let next = at.checked_add(2 + length).ok_or_else(|| broken(at))?;
        if !(1..=BLOCK).contains(&length) || end.is_some_and(|end| next > end) {
            return Err(broken(at));
        }
        (at, left) = (next, left - 1);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A superblock, two inode blocks, one of directories, one of ids, and zeros.
    fn image() -> Vec<u8> {
        let mut bytes = vec![0; 1 << 16];
        let mut put = |at: usize, what: &[u8]| bytes[at..at + what.len()].copy_from_slice(what);
        for (at, length) in [(96, 100u16), (198, 0x8000 | 50), (250, 20), (272, 4)] {
            put(at, &length.to_le_bytes());
        }
        for (at, place) in [(48, 278u64), (64, 96), (72, 250), (80, ABSENT), (88, ABSENT), (278, 272)] {
            put(at, &place.to_le_bytes());
        }
        bytes
    }

    fn checked(bytes: &[u8]) -> Seen<()> {
        check(&|at, into: &mut [u8]| {
            let at = usize::try_from(at).ok().filter(|at| at + into.len() <= bytes.len());
            let at = at.ok_or(io::ErrorKind::UnexpectedEof)?;
            into.copy_from_slice(&bytes[at..at + into.len()]);
            Ok(())
        })
    }

    #[test]
    fn whole_chains_are_followed_to_their_ends() {
        assert_eq!(checked(&image()), Ok(()));
    }

    #[test]
    fn tables_in_other_places_are_told_at_once() {
        for (field, place) in
            [(64, 0u64), (64, 97), (64, 4096), (72, 0), (72, 251), (72, 4096), (72, 1 << 40), (48, 4096)]
        {
            let mut bytes = image();
            bytes[field..field + 8].copy_from_slice(&place.to_le_bytes());
            assert!(checked(&bytes).is_err(), "{field} {place}");
        }
        let mut bytes = image();
        // Four thousand million fragments among the zeros.
        bytes[16..20].fill(0xff);
        bytes[80..88].copy_from_slice(&4096u64.to_le_bytes());
        assert!(checked(&bytes).is_err());
    }
}
