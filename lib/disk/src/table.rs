//! A partition table as everything here asks for it, whichever way it is written: GPT, or the MBR of boards whose firmware
//! reads nothing else.
//!
//! One type for both, so that "is this ours, and which partition is what" is asked in one way. An MBR of ours has no
//! room for GUIDs and labels: what it lacks follows from its own GUID and from the places of its partitions
//! ([`crate::mbr`]). A foreign MBR is no table here.

use crate::{DiskError, Guid, Medium, gpt, mbr};
use bakelite_spec::layout::{ALIGNMENT, Layout, Role, SECTOR, Scheme, UNSTAMPED_DISK};
use std::collections::BTreeMap;
use std::io::{Read, Seek};

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is for.
    pub type_guid: Guid,
    /// Which one it is.
    pub guid: Guid,
    /// Its first sector.
    pub first: u64,
    /// Its last sector.
    pub last: u64,
    /// Attribute bits; an MBR of ours has none.
    pub attributes: u64,
    /// Its label, at most 36 UTF-16 units.
    pub name: String,
}

impl Entry {
    /// Its first byte.
    pub fn start(&self) -> u64 {
        self.first * SECTOR
    }

    /// Its length in bytes.
    pub fn length(&self) -> u64 {
        (self.last + 1).saturating_sub(self.first) * SECTOR
    }
}

/// A partition table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// How it is written.
    pub scheme: Scheme,
    /// The disk's GUID.
    pub disk: Guid,
    /// The sectors of the medium that the table was read for or is to be written to.
    pub sectors: u64,
    /// The partitions by their number, from 1.
    pub entries: BTreeMap<u32, Entry>,
    /// Whether what was read needs writing again: one copy of a GPT is damaged, or the backup isn't at the medium's end.
    pub needs_repair: bool,
}

impl Table {
    /// An empty table for a medium.
    pub fn new(scheme: Scheme, disk: Guid, sectors: u64) -> Self {
        Self { scheme, disk, sectors, entries: BTreeMap::new(), needs_repair: false }
    }

    /// The table of an image that nobody has booted yet.
    pub fn of_layout(layout: &Layout) -> Self {
        let mut table = Self::new(layout.scheme, UNSTAMPED_DISK.parse().unwrap_or_default(), layout.length / SECTOR);
        for partition in &layout.partitions {
            let (first, end) = (partition.start / SECTOR, (partition.start + partition.length) / SECTOR);
            let mut guid = || partition.role.unstamped_guid().parse().unwrap_or_default();
            table.add(partition.role, first, end - 1, &mut guid);
        }
        table
    }

    /// Reads an MBR of ours, else a GPT: its primary copy, else the backup at the medium's end.
    ///
    /// # Errors
    /// When there is neither, or the medium can't be read.
    pub fn read(medium: &mut (impl Read + Seek), sectors: u64) -> Result<Self, DiskError> {
        // An older GPT may be left behind an MBR of ours: its protective MBR isn't.
        match mbr::read(medium, sectors) {
            Some(table) => Ok(table),
            None => gpt::read(medium, sectors),
        }
    }

    /// Writes the table such that a cut leaves the old one or the new one. Boot code in the first sector is kept.
    ///
    /// # Errors
    /// When a partition doesn't fit, or the medium can't be written.
    pub fn write(&self, medium: &mut impl Medium) -> Result<(), DiskError> {
        match self.scheme {
            Scheme::Gpt => gpt::write(self, medium),
            Scheme::Mbr => mbr::write(self, medium),
        }
    }

    /// The first partition of a type.
    pub fn find(&self, type_guid: Guid) -> Option<(u32, &Entry)> {
        self.entries.iter().find(|(_, entry)| entry.type_guid == type_guid).map(|(number, entry)| (*number, entry))
    }

    /// The partition with a role.
    pub fn role(&self, role: Role) -> Option<(u32, &Entry)> {
        self.find(role.type_guid().parse().ok()?)
    }

    /// Whether nobody has booted or stamped this medium yet: another one may have the same GUIDs.
    pub fn is_unstamped(&self) -> bool {
        UNSTAMPED_DISK.parse() == Ok(self.disk)
    }

    /// Gives the disk and its partitions GUIDs that nobody else has.
    pub fn restamp(&mut self, fresh: &mut impl FnMut() -> Guid) {
        self.disk = fresh();
        for entry in self.entries.values_mut() {
            entry.guid = match self.scheme {
                Scheme::Gpt => fresh(),
                Scheme::Mbr => mbr::guid_of(self.disk, entry.type_guid),
            };
        }
    }

    /// Adds the partition of a role; on an MBR its GUID follows from the disk's.
    pub fn add(&mut self, role: Role, first: u64, last: u64, fresh: &mut impl FnMut() -> Guid) {
        let type_guid = role.type_guid().parse().unwrap_or_default();
        let guid = match self.scheme {
            Scheme::Gpt => fresh(),
            Scheme::Mbr => mbr::guid_of(self.disk, type_guid),
        };
        let entry = Entry { type_guid, guid, first, last, attributes: 0, name: role.label().into() };
        self.entries.insert(role.number(self.scheme), entry);
    }

    /// The first sector behind all partitions, aligned.
    pub fn first_free(&self) -> u64 {
        let aligned = ALIGNMENT / SECTOR;
        let end = self.entries.values().map(|entry| entry.last + 1).max().unwrap_or(1);
        end.div_ceil(aligned) * aligned
    }

    /// The last sector that a partition may use, such that partitions end aligned.
    pub fn last_usable(&self) -> u64 {
        let aligned = ALIGNMENT / SECTOR;
        let end = match self.scheme {
            Scheme::Gpt => gpt::end(self.sectors),
            Scheme::Mbr => mbr::end(self.sectors),
        };
        (end / aligned * aligned).saturating_sub(1)
    }
}

/// That a partition lies behind the last sector that may be used.
pub(crate) fn fits(table: &Table, usable: u64) -> Result<(), DiskError> {
    match table.entries.iter().find(|(_, entry)| entry.last > usable) {
        Some((number, entry)) => Err(DiskError::TooSmall { number: *number, last: entry.last, usable }),
        None => Ok(()),
    }
}
