//! The mark of a medium onto which a stick is putting a system: until it is done, that medium is the stick's to go on with.
//!
//! Nothing else tells a half-pressed medium from one that somebody has written to. The mark lies at the end of the partition
//! for legacy boot code, which is empty on every image: it is written before the first other byte, and taken away before the
//! partition table is there. So whatever has a table of its own was never only begun.

use crate::{DiskError, Medium, read_at, write_at};
use bakelite_spec::layout::{self, RECORD, Role, Scheme};
use bakelite_spec::quantity::Size;
use std::io::{Read, Seek};

const MAGIC: &[u8; 8] = b"BKLTPRES";
const CRC_AT: usize = RECORD as usize - 4;

/// The mark's first byte.
fn place() -> u64 {
    // Where that partition lies doesn't depend on the size of a slot.
    let layout = layout::layout(Scheme::Gpt, Size(0));
    layout.partition(Role::BiosBoot).map_or(0, |part| part.start + part.length - RECORD)
}

/// Whether a medium is marked.
///
/// # Errors
/// When it can't be read.
pub fn is_marked(medium: &mut (impl Read + Seek)) -> Result<bool, DiskError> {
    let mut bytes = vec![0; RECORD as usize];
    read_at(medium, place(), &mut bytes)?;
    Ok(bytes == mark())
}

/// Marks a medium, durably.
///
/// # Errors
/// When it can't be written.
pub fn set(medium: &mut impl Medium) -> Result<(), DiskError> {
    put(medium, &mark())
}

/// Takes the mark away, durably.
///
/// # Errors
/// When the medium can't be written.
pub fn remove(medium: &mut impl Medium) -> Result<(), DiskError> {
    put(medium, &vec![0; RECORD as usize])
}

fn put(medium: &mut impl Medium, bytes: &[u8]) -> Result<(), DiskError> {
    write_at(medium, place(), bytes)?;
    medium.make_durable().map_err(|source| DiskError::Write { at: place(), length: bytes.len(), source })
}

fn mark() -> Vec<u8> {
    let mut bytes = vec![0; RECORD as usize];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&1u32.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..CRC_AT]);
    bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn a_mark_is_whole_or_none() {
        let mut medium = Cursor::new(vec![0xa5; 4 << 20]);
        assert!(!is_marked(&mut medium).unwrap());
        set(&mut medium).unwrap();
        assert!(is_marked(&mut medium).unwrap());
        assert!(medium.get_ref()[..(2 << 20) - 4096].iter().all(|byte| *byte == 0xa5), "in front of it");
        assert!(medium.get_ref()[2 << 20..].iter().all(|byte| *byte == 0xa5), "behind it");
        medium.get_mut()[(2 << 20) - 1] ^= 1;
        assert!(!is_marked(&mut medium).unwrap());
        set(&mut medium).unwrap();
        remove(&mut medium).unwrap();
        assert!(!is_marked(&mut medium).unwrap());
        assert!(is_marked(&mut Cursor::new(vec![0; 1 << 20])).is_err(), "too short to have one");
    }
}
