//! The MBR of a medium of ours, for boards whose firmware reads no GPT: exactly four primary partitions, in one sector.
//!
//! It is ours by a mark of ours in the unused place of the boot code, which also holds the disk's GUID; without the mark,
//! or with partitions that aren't those of our layout, it is a foreign one and nothing is taken from it. The partitions'
//! roles follow from their places, their GUIDs from the disk's. The last entry is empty until the device makes the state
//! partition; making and growing it is a write of this one sector, which a power cut leaves old or new.

use crate::gpt::{durable, put, u32_at};
use crate::table::{Entry, Table, fits};
use crate::{DiskError, Guid, Medium, read_at, write_at};
use bakelite_spec::layout::{ALIGNMENT, Role, SECTOR, Scheme};
use std::io::{Read, Seek};

const MARK: &[u8; 8] = b"BKLTMBR1";
/// Where the mark is, the disk's GUID behind it: at the end of the boot code, where no tool writes.
const MARK_AT: usize = 384;
const GUID_AT: usize = MARK_AT + MARK.len();
/// The disk's signature, which other systems know it by: the first bytes of the GUID.
const SIGNATURE_AT: usize = 440;
const ENTRIES_AT: usize = 446;
const ENTRY: usize = 16;
/// "FAT32 with LBA", which firmware looks for, and "Linux".
const FAT: u8 = 0x0c;
const LINUX: u8 = 0x83;
/// Heads, sectors and cylinders that say "too large for these": only the LBA fields count.
const BEYOND: [u8; 3] = [0xfe, 0xff, 0xff];

fn kind(role: Role) -> u8 {
    if role == Role::Boot { FAT } else { LINUX }
}

/// The GUID of a partition of a disk.
pub(crate) fn guid_of(mut disk: Guid, type_guid: Guid) -> Guid {
    let role = Role::ALL.into_iter().find(|role| role.type_guid().parse() == Ok(type_guid));
    disk.0[15] ^= role.map_or(0, |role| role.number(Scheme::Gpt) as u8);
    disk
}

/// The first sector behind those that partitions may use: entries have 32 bits.
pub(crate) fn end(sectors: u64) -> u64 {
    sectors.min(u64::from(u32::MAX))
}

/// Reads an MBR of ours; `None` where there is none.
pub(crate) fn read(medium: &mut (impl Read + Seek), sectors: u64) -> Option<Table> {
    let mut first = [0; SECTOR as usize];
    read_at(medium, 0, &mut first).ok()?;
    if &first[MARK_AT..GUID_AT] != MARK || first[510..] != [0x55, 0xaa] {
        return None;
    }
    let mut disk = Guid::default();
    disk.0.copy_from_slice(&first[GUID_AT..GUID_AT + 16]);
    let mut table = Table::new(Scheme::Mbr, disk, sectors);
    let mut end = ALIGNMENT / SECTOR;
    for (role, bytes) in Scheme::Mbr.roles().iter().zip(first[ENTRIES_AT..510].chunks_exact(ENTRY)) {
        let (start, count) = (u64::from(u32_at(bytes, 8)), u64::from(u32_at(bytes, 12)));
        if *role == Role::State && bytes.iter().all(|byte| *byte == 0) {
            continue;
        }
        let sound = bytes[4] == kind(*role)
            && count > 0
            && start >= end
            && start % (ALIGNMENT / SECTOR) == 0
            && start + count <= sectors;
        if !sound {
            return None;
        }
        end = start + count;
        // Its GUID follows from the disk's, so none is asked for.
        table.add(*role, start, end - 1, &mut Guid::default);
    }
    Some(table)
}

/// Writes the sector. What else is in it, as boot code, is kept.
pub(crate) fn write(table: &Table, medium: &mut impl Medium) -> Result<(), DiskError> {
    fits(table, end(table.sectors).saturating_sub(1))?;
    let mut first = vec![0; SECTOR as usize];
    read_at(medium, 0, &mut first)?;
    put(&mut first, MARK_AT, MARK);
    put(&mut first, GUID_AT, &table.disk.0);
    put(&mut first, SIGNATURE_AT, &table.disk.0[..4]);
    first[SIGNATURE_AT + 4..510].fill(0);
    for (number, role) in (0..).zip(Scheme::Mbr.roles()) {
        if let Some((_, entry)) = table.role(*role) {
            encode(*role, entry, &mut first[ENTRIES_AT + number * ENTRY..][..ENTRY]);
        }
    }
    put(&mut first, 510, &[0x55, 0xaa]);
    write_at(medium, 0, &first)?;
    durable(medium, 0, first.len())
}

fn encode(role: Role, entry: &Entry, bytes: &mut [u8]) {
    let number = |sectors: u64| u32::try_from(sectors).unwrap_or(u32::MAX).to_le_bytes();
    put(bytes, 1, &BEYOND);
    bytes[4] = kind(role);
    put(bytes, 5, &BEYOND);
    put(bytes, 8, &number(entry.first));
    put(bytes, 12, &number(entry.last + 1 - entry.first));
}

#[cfg(test)]
mod tests {
    use super::*;
    use bakelite_spec::layout::{UNSTAMPED_DISK, layout};
    use bakelite_spec::quantity::Size;
    use proptest::prelude::*;
    use std::io::Cursor;

    fn image() -> (Table, Cursor<Vec<u8>>) {
        let table = Table::of_layout(&layout(Scheme::Mbr, Size(1 << 20)));
        let mut medium = Cursor::new(vec![0; SECTOR as usize]);
        table.write(&mut medium).unwrap();
        (table, medium)
    }

    #[test]
    fn what_is_written_reads_the_same_and_knows_its_roles() {
        let (table, mut medium) = image();
        let found = Table::read(&mut medium, table.sectors).unwrap();
        assert_eq!(found, table);
        assert!(found.is_unstamped() && !found.needs_repair);
        let numbers: Vec<u32> =
            [Role::Boot, Role::SystemA, Role::SystemB].iter().map(|role| found.role(*role).unwrap().0).collect();
        assert_eq!((numbers, found.role(Role::State), found.role(Role::BiosBoot)), (vec![1, 2, 3], None, None));
        for role in Scheme::Mbr.roles().iter().filter(|role| **role != Role::State) {
            let guid = found.role(*role).unwrap().1.guid;
            assert_eq!(guid.to_string(), role.unstamped_guid());
        }
    }

    #[test]
    fn a_stamped_table_with_a_state_partition_reads_the_same() {
        let (mut table, mut medium) = image();
        table.sectors += 1 << 20;
        table.restamp(&mut || Guid::from_random([9; 16]));
        table.add(Role::State, table.first_free(), table.last_usable(), &mut Guid::default);
        table.write(&mut medium).unwrap();
        let found = Table::read(&mut medium, table.sectors).unwrap();
        assert_eq!(found, table);
        assert_eq!(found.role(Role::State).map(|(number, entry)| (number, entry.last + 1)), Some((4, table.sectors)));
        assert!(!found.is_unstamped());
        assert_ne!(found.disk, UNSTAMPED_DISK.parse().unwrap());
        assert_eq!(medium.get_ref()[SIGNATURE_AT..SIGNATURE_AT + 4], found.disk.0[..4]);
    }

    #[test]
    fn sfdisk_reads_it_too() {
        let (table, medium) = image();
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(table.sectors * SECTOR).unwrap();
        std::io::Write::write_all(&mut file.reopen().unwrap(), medium.get_ref()).unwrap();
        #[expect(clippy::disallowed_methods, reason = "a test")]
        let Ok(output) = std::process::Command::new("sfdisk").arg("--dump").arg(file.path()).output() else {
            eprintln!("SKIPPED: needs sfdisk");
            return;
        };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            text.contains("label: dos") && text.contains("start=        2048, size=     1048576, type=c"),
            "{text}"
        );
    }

    #[test]
    fn a_foreign_mbr_is_never_ours() {
        let (table, medium) = image();
        let bytes = medium.into_inner();
        let read = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = bytes.clone();
            change(&mut bytes);
            Table::read(&mut Cursor::new(bytes), table.sectors)
        };
        assert!(read(&|_| {}).is_ok());
        type Change<'a> = &'a dyn Fn(&mut Vec<u8>);
        let changes: [(&str, Change<'_>); 7] = [
            ("no mark", &|bytes| bytes[MARK_AT] = 0),
            ("no signature", &|bytes| bytes[511] = 0),
            ("a protective MBR in front of a GPT", &|bytes| bytes[ENTRIES_AT + 4] = 0xee),
            ("another type", &|bytes| bytes[ENTRIES_AT + ENTRY + 4] = 0x07),
            ("a partition that is missing", &|bytes| bytes[ENTRIES_AT + ENTRY..ENTRIES_AT + 2 * ENTRY].fill(0)),
            ("partitions that overlap", &|bytes| bytes[ENTRIES_AT + 14] = 0xff),
            ("a partition outside the medium", &|bytes| bytes[ENTRIES_AT + 2 * ENTRY + 14] = 0xff),
        ];
        for (what, change) in changes {
            assert!(read(change).is_err(), "{what}");
        }
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic_and_never_lie(flips in proptest::collection::vec((0usize..512, any::<u8>()), 0..8)) {
            let (table, medium) = image();
            let mut bytes = medium.into_inner();
            for (at, value) in flips {
                bytes[at] = value;
            }
            if let Ok(found) = Table::read(&mut Cursor::new(bytes), table.sectors) {
                prop_assert!(found.entries.values().all(|entry| entry.first <= entry.last && entry.last < table.sectors));
            }
        }
    }
}
