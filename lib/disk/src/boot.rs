//! Where the boot partition of a medium of ours is, whichever partition table it has. The one place that is asked.

use crate::DiskError;
use crate::table::Table;
use bakelite_spec::layout::Role;
use std::io::{Read, Seek};

/// The boot partition's first byte and length on a medium of so many sectors.
///
/// # Errors
/// When there is no whole partition table, or no boot partition in it.
pub fn partition(medium: &mut (impl Read + Seek), sectors: u64) -> Result<(u64, u64), DiskError> {
    let table = Table::read(medium, sectors)?;
    let missing = || DiskError::NoRecord { record: "boot partition", problem: "the partition table has none".into() };
    table.role(Role::Boot).map(|(_, entry)| (entry.start(), entry.length())).ok_or_else(missing)
}
