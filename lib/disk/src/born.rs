//! The born record: the last 4 KiB of a state or data partition, written after mkfs, the first mount and an fsync.
//!
//! With it the partition holds what somebody needs and is never formatted again; without it, it may be made anew.
//! ext4 always ends 4 KiB before the partition does, so that the record is never inside the file system.

use crate::{DiskError, Guid, Medium, read_at, write_at};
use bakelite_spec::layout::RECORD;
use std::io::{Read, Seek};

const MAGIC: &[u8; 8] = b"BKLTBORN";
const CRC_AT: usize = RECORD as usize - 4;

/// That a partition was born, and which one it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Born {
    /// Made at random once, and survives growing; a data partition's own GUID.
    pub id: Guid,
}

impl Born {
    /// Reads the record at the end of the partition at a byte and of a length; `None` where there is none.
    ///
    /// # Errors
    /// When the medium can't be read: then it is not known whether there is one.
    pub fn read(medium: &mut (impl Read + Seek), start: u64, length: u64) -> Result<Option<Self>, DiskError> {
        let Some(at) = length.checked_sub(RECORD) else { return Ok(None) };
        let mut bytes = vec![0u8; RECORD as usize];
        read_at(medium, start + at, &mut bytes)?;
        let crc = crc32fast::hash(&bytes[..CRC_AT]).to_le_bytes();
        let whole = &bytes[..8] == MAGIC && bytes[CRC_AT..] == crc;
        let mut id = Guid::default();
        id.0.copy_from_slice(&bytes[16..32]);
        Ok(whole.then_some(Self { id }))
    }

    /// Writes the record at the end of a partition and makes it durable.
    ///
    /// # Errors
    /// When the medium can't be written.
    pub fn write(&self, medium: &mut impl Medium, start: u64, length: u64) -> Result<(), DiskError> {
        let mut bytes = vec![0u8; RECORD as usize];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&1u32.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.id.0);
        let crc = crc32fast::hash(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        let at = start + length.saturating_sub(RECORD);
        write_at(medium, at, &bytes)?;
        medium.make_durable().map_err(|source| DiskError::Write { at, length: bytes.len(), source })
    }

    /// Erases the record at the end of a partition, durably: from then on it may be made anew.
    ///
    /// # Errors
    /// When the medium can't be written.
    pub fn erase(medium: &mut impl Medium, start: u64, length: u64) -> Result<(), DiskError> {
        let at = start + length.saturating_sub(RECORD);
        write_at(medium, at, &vec![0u8; RECORD as usize])?;
        medium.make_durable().map_err(|source| DiskError::Write { at, length: RECORD as usize, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn the_record_is_read_back_and_half_of_it_is_none() {
        let mut medium = Cursor::new(vec![0u8; 65_536]);
        assert_eq!(Born::read(&mut medium, 4096, 32_768).unwrap(), None);
        let born = Born { id: Guid::from_random([3; 16]) };
        born.write(&mut medium, 4096, 32_768).unwrap();
        assert_eq!(Born::read(&mut medium, 4096, 32_768).unwrap(), Some(born));
        Born::erase(&mut medium, 4096, 32_768).unwrap();
        assert_eq!(Born::read(&mut medium, 4096, 32_768).unwrap(), None);
        born.write(&mut medium, 4096, 32_768).unwrap();
        medium.get_mut()[4096 + 32_767] ^= 1;
        assert_eq!(Born::read(&mut medium, 4096, 32_768).unwrap(), None);
        assert!(Born::read(&mut medium, 4096, 1 << 40).is_err(), "not readable is not the same as not there");
    }
}
