//! The footer of a system partition: its last 4 KiB, written last, saying how long its squashfs is and its hash.
//!
//! A slot without a whole footer is not booted. Layout, little-endian: magic (8), version u32, flags u32 (0),
//! length u64, SHA-256 (32), zeros (place for verity), CRC-32 of all before it in the last four bytes.

use crate::{DiskError, read_at};
use bakelite_spec::layout::RECORD;
use std::io::{Read, Seek};

const MAGIC: &[u8; 8] = b"BKLTSLOT";
const VERSION: u32 = 1;
const CRC_AT: usize = RECORD as usize - 4;

/// What a footer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// The squashfs's length in bytes.
    pub length: u64,
    /// The squashfs's SHA-256.
    pub sha256: [u8; 32],
}

impl Footer {
    /// The 4 KiB to write at the partition's end.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0u8; RECORD as usize];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.length.to_le_bytes());
        bytes[24..56].copy_from_slice(&self.sha256);
        let crc = crc32fast::hash(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the footer of the partition at a byte and of a length.
    ///
    /// # Errors
    /// When it isn't there, isn't whole, or speaks of more than the partition holds.
    pub fn read(medium: &mut (impl Read + Seek), start: u64, length: u64) -> Result<Self, DiskError> {
        let problem = |problem: &str| DiskError::NoRecord { record: "slot footer", problem: problem.into() };
        let at = length.checked_sub(RECORD).ok_or_else(|| problem("the partition is smaller than a footer"))?;
        let mut bytes = vec![0u8; RECORD as usize];
        read_at(medium, start + at, &mut bytes)?;
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if &bytes[..8] != MAGIC {
            return Err(problem("the partition is empty or was only half written"));
        }
        if word(CRC_AT) != crc32fast::hash(&bytes[..CRC_AT]) {
            return Err(problem("it is damaged"));
        }
        if word(8) != VERSION {
            return Err(problem("it is of a version that is not known here"));
        }
        let mut footer = Self { length: u64::from(word(16)) | u64::from(word(20)) << 32, sha256: [0; 32] };
        footer.sha256.copy_from_slice(&bytes[24..56]);
        if footer.length > at {
            return Err(problem("it speaks of more than the partition holds"));
        }
        Ok(footer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn a_footer_is_read_back_and_a_damaged_one_is_not() {
        let footer = Footer { length: 5000, sha256: [7; 32] };
        let mut bytes = vec![0u8; 16_384];
        bytes[12_288..].copy_from_slice(&footer.encode());
        assert_eq!(Footer::read(&mut Cursor::new(&bytes), 0, 16_384).unwrap(), footer);
        for at in [12_288, 12_300, 12_310, 12_350, 16_383] {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            assert!(Footer::read(&mut Cursor::new(&bytes), 0, 16_384).is_err(), "byte {at}");
        }
        assert!(Footer::read(&mut Cursor::new(&bytes), 0, 8192).is_err());
        let too_long = Footer { length: 12_289, ..footer };
        bytes[12_288..].copy_from_slice(&too_long.encode());
        assert!(Footer::read(&mut Cursor::new(&bytes), 0, 16_384).is_err());
    }
}
