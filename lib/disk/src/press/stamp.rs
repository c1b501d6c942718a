//! A fresh image of ours gets GUIDs of its own, and its partition table the medium's size, while it is still in memory.
//!
//! Only an image that nobody has restamped yet: others name their partitions by these numbers in places that aren't known
//! here. Where the state partition is going to be, an earlier life of the medium may have left one; init leaves that alone on
//! a medium that carries a GUID of its own, so whoever stamps has to take it away.

use crate::gpt::Table;
use crate::{DiskError, Guid};
use bakelite_spec::layout::{Role, SECTOR, STATE_MINIMUM, UNSTAMPED_DISK};
use std::io::Cursor;

/// What a stamped medium needs besides its first MiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamped {
    /// The disk's new GUID.
    pub disk: Guid,
    /// The backup table: its first byte, and its bytes.
    pub backup: (u64, Vec<u8>),
    /// From which byte on the image holds nothing but its own backup table, which this one takes the place of.
    pub old_backup: u64,
    /// Where the state partition is going to be, as first byte and length.
    pub state: Option<(u64, u64)>,
}

/// Stamps the first MiB of an image of a length for a medium of a length; `None` where the image isn't a fresh one of ours.
///
/// # Errors
/// When the table doesn't fit onto the medium.
pub fn stamp(
    head: &mut [u8],
    image: u64,
    medium: u64,
    fresh: &mut dyn FnMut() -> Guid,
) -> Result<Option<Stamped>, DiskError> {
    let Ok(found) = Table::read(&mut Cursor::new(&*head), image / SECTOR) else { return Ok(None) };
    if UNSTAMPED_DISK.parse() != Ok(found.disk) {
        return Ok(None);
    }
    let mut table = Table { disk: fresh(), sectors: medium / SECTOR, needs_repair: false, ..found };
    table.entries.values_mut().for_each(|entry| entry.guid = fresh());
    let [backup, (_, mbr), (primary_at, primary)] = table.pieces()?;
    let primary_at = usize::try_from(primary_at).unwrap_or(usize::MAX);
    let whole = "the image's first MiB doesn't hold its partition table";
    let sectors = head.get_mut(..primary_at).and_then(|head| head.get_mut(446..512));
    let missing = || DiskError::NoRecord { record: "partition table", problem: whole.into() };
    sectors.ok_or_else(missing)?.copy_from_slice(&mbr[446..]);
    head.get_mut(primary_at..primary_at + primary.len()).ok_or_else(missing)?.copy_from_slice(&primary);
    let end = table.entries.values().map(|entry| entry.last + 1).max().unwrap_or(image / SECTOR);
    let first = table.first_free();
    let length = (table.last_usable() + 1).saturating_sub(first) * SECTOR;
    let has_state = Role::State.type_guid().parse().is_ok_and(|state| table.find(state).is_some());
    let state = (!has_state && length >= STATE_MINIMUM.0).then_some((first * SECTOR, length));
    Ok(Some(Stamped { disk: table.disk, backup, old_backup: end * SECTOR, state }))
}
