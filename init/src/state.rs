//! The state partition: what is on the medium decides what is done, one durable step at a time.
//!
//! Pure but for reads and writes of a [`Medium`]; file-system tools and mounting are in `attach`. The law: a partition
//! that was born, or that carries our label with a readable superblock, is never formatted. Each step ends durable and
//! the next is decided anew from the medium, so a power cut between two writes changes nothing but the time.

use crate::error::InitError;
use bakelite_disk::born::Born;
use bakelite_disk::ext4::{self, FileSystem, GROUP};
use bakelite_disk::table::Table;
use bakelite_disk::{DiskError, Guid, Medium};
use bakelite_spec::layout::{RECORD, Role, SECTOR, STATE_MINIMUM};
use std::io::{Read, Seek};

/// A place on the medium that is, or is to be, the state partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The partition's number.
    pub number: u32,
    /// The first byte.
    pub start: u64,
    /// Bytes.
    pub length: u64,
    /// Whether the partition table has it.
    pub exists: bool,
}

/// What was seen on the medium.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The partition table.
    pub table: Table,
    /// Where the state partition is, or would be; `None` without room.
    pub place: Option<Place>,
    /// Where it would end if it took all the room there is.
    pub full_length: u64,
    /// The record at its end.
    pub born: Option<Born>,
    /// The record at the end that it would have if it took all the room.
    pub born_at_full: Option<Born>,
    /// A file system with our label.
    pub file_system: Option<FileSystem>,
}

/// The next thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Wipe what an earlier use of the medium left at a place that no partition has yet.
    Erase(Place),
    /// Write the born record at the end that the partition is about to get.
    CarryBorn(Born, Place),
    /// Write the partition table.
    WriteTable(Table),
    /// Make the file system.
    Format(Place),
    /// Use it; if it was never born, its birth ends with the record.
    Use {
        /// Where it is.
        place: Place,
        /// Whether the record is there.
        born: bool,
        /// Whether the file system is shorter than its partition.
        grows: bool,
    },
    /// There can be none.
    Unavailable(String),
}

/// Looks at the medium.
///
/// # Errors
/// When it can't be read: then nothing may be decided.
pub fn look(medium: &mut (impl Read + Seek), sectors: u64) -> Result<Seen, DiskError> {
    let table = Table::read(medium, sectors)?;
    let last = table.last_usable();
    let found = table.role(Role::State).map(|(number, entry)| {
        (Place { number, start: entry.start(), length: entry.length(), exists: true }, entry.first)
    });
    let (place, first) = match found {
        Some((place, first)) => (Some(place), first),
        None => {
            let first = table.first_free();
            let length = (last + 1).saturating_sub(first) * SECTOR;
            let number = Role::State.number(table.scheme);
            let place = Place { number, start: first * SECTOR, length, exists: false };
            ((length >= STATE_MINIMUM.0).then_some(place), first)
        }
    };
    // Only the last partition on the medium can grow.
    let is_last = place.is_some_and(|place| table.entries.values().all(|entry| entry.start() <= place.start));
    let full_length = match place {
        Some(place) if is_last => ((last + 1).saturating_sub(first) * SECTOR).max(place.length),
        place => place.map_or(0, |place| place.length),
    };
    let (mut born, mut born_at_full, mut file_system) = (None, None, None);
    if let Some(place) = place {
        born = Born::read(medium, place.start, place.length)?;
        born_at_full = Born::read(medium, place.start, full_length)?;
        file_system = ext4::find(medium, place.start, place.length, Role::State.label())?;
    }
    Ok(Seen { table, place, full_length, born, born_at_full, file_system })
}

/// Decides the next step. `fresh` makes a GUID that nobody else has.
pub fn decide(seen: &Seen, fresh: &mut impl FnMut() -> Guid) -> Step {
    let unstamped = seen.table.is_unstamped();
    let Some(place) = seen.place else {
        return Step::Unavailable(format!(
            "the medium has {} MiB left, and {} MiB are needed",
            ((seen.table.last_usable() + 1).saturating_sub(seen.table.first_free()) * SECTOR) >> 20,
            STATE_MINIMUM.0 >> 20
        ));
    };
    if !place.exists {
        // Whoever flashed a fresh image meant this medium to be fresh. On a medium that is in use, an entry that got
        // lost is put back around a file system that is still there.
        let keeps = !unstamped && seen.file_system.is_some();
        if !keeps && (seen.born.is_some() || seen.file_system.is_some()) {
            return Step::Erase(place);
        }
    }
    let length = if place.exists { seen.full_length } else { place.length };
    if let Some(born) = seen.born.filter(|born| length > place.length && seen.born_at_full != Some(*born)) {
        return Step::CarryBorn(born, Place { length, ..place });
    }
    let mut table = Table { needs_repair: false, ..seen.table.clone() };
    if unstamped {
        table.restamp(fresh);
    }
    let first = place.start / SECTOR;
    let last = first + length / SECTOR - 1;
    match table.entries.get_mut(&place.number) {
        Some(entry) => entry.last = last,
        None => table.add(Role::State, first, last, fresh),
    }
    if seen.table.needs_repair || table != seen.table {
        return Step::WriteTable(table);
    }
    match (seen.born, seen.file_system) {
        (None, None) => Step::Format(place),
        (born, file_system) => Step::Use {
            place,
            born: born.is_some(),
            grows: file_system.is_some_and(|found| found.length + GROUP / 8 < place.length - RECORD),
        },
    }
}

/// Does a step that is only bytes; the others are for tools.
///
/// # Errors
/// When the medium can't be written.
pub fn apply(step: &Step, medium: &mut impl Medium) -> Result<(), DiskError> {
    match step {
        Step::Erase(place) => ext4::erase(medium, place.start, place.length),
        Step::CarryBorn(born, place) => born.write(medium, place.start, place.length),
        Step::WriteTable(table) => table.write(medium),
        Step::Format(_) | Step::Use { .. } | Step::Unavailable(_) => Ok(()),
    }
}

/// The fault for a medium that can't be read or written.
pub fn medium_error(disk: &str, source: DiskError) -> InitError {
    InitError::Medium { disk: disk.into(), source }
}

#[cfg(test)]
mod tests;
