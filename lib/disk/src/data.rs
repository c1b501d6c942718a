//! The data disk: a GPT with one partition of our type, ext4 in it, and the born record at the partition's end.
//!
//! The record carries the partition's own GUID. So a record that an earlier use left at the same place says nothing
//! about a new partition, and nothing has to be erased before the new table is written.

use crate::born::Born;
use crate::table::{Entry, Table};
use crate::{DiskError, Guid};
use bakelite_spec::layout::{Role, SECTOR, Scheme};
use std::io::{Read, Seek};

/// The data partition of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its number.
    pub number: u32,
    /// Its entry in the table.
    pub entry: Entry,
    /// Whether its making came to an end: then it is never made again.
    pub born: bool,
}

/// The table of a new data disk.
pub fn table(disk: Guid, partition: Guid, sectors: u64) -> Table {
    let mut table = Table::new(Scheme::Gpt, disk, sectors);
    table.add(Role::Data, table.first_free(), table.last_usable(), &mut || partition);
    table
}

/// Looks for the data partition of a medium; `None` also where there is no partition table.
///
/// # Errors
/// When the medium can't be read.
pub fn find(medium: &mut (impl Read + Seek), sectors: u64) -> Result<Option<Found>, DiskError> {
    let table = match Table::read(medium, sectors) {
        Ok(table) => table,
        Err(DiskError::NoTable { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some((number, entry)) = table.role(Role::Data) else { return Ok(None) };
    let born = Born::read(medium, entry.first * SECTOR, entry.length())?.is_some_and(|born| born.id == entry.guid);
    Ok(Some(Found { number, entry: entry.clone(), born }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    const SECTORS: u64 = 64 << 11;

    #[test]
    fn a_new_disk_is_found_unborn_then_born_and_an_older_record_says_nothing() {
        let mut medium = Cursor::new(vec![0u8; (SECTORS * SECTOR) as usize]);
        assert_eq!(find(&mut medium, SECTORS).unwrap(), None);
        table(Guid([1; 16]), Guid([2; 16]), SECTORS).write(&mut medium).unwrap();
        let found = find(&mut medium, SECTORS).unwrap().unwrap();
        assert!(!found.born);
        assert_eq!((found.number, found.entry.start()), (1, 1 << 20));
        Born { id: found.entry.guid }.write(&mut medium, found.entry.start(), found.entry.length()).unwrap();
        assert!(find(&mut medium, SECTORS).unwrap().unwrap().born);
        table(Guid([1; 16]), Guid([3; 16]), SECTORS).write(&mut medium).unwrap();
        assert!(!find(&mut medium, SECTORS).unwrap().unwrap().born, "the record is an earlier partition's");
    }
}
