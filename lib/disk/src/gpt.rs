//! The GUID partition table (UEFI 2.10, chapter 5): read with its fallback, written so that a cut leaves one whole copy.
//!
//! Own code because the order of the writes is the point: the backup at the medium's very end is made durable first,
//! then the primary in one write. A cut at any moment leaves either the old table or the new one, and firmware finds it.
//! Only 512-byte sectors and tables of 128 entries are written; any legal geometry is read.

use crate::table::{Entry, Table, fits};
use crate::{DiskError, Guid, Medium, read_at, write_at};
use bakelite_spec::layout::{SECTOR, Scheme};
use std::collections::BTreeMap;
use std::io::{Read, Seek};

const ENTRIES: usize = 128;
const ENTRY: usize = 128;
const TABLE_SECTORS: u64 = (ENTRIES * ENTRY) as u64 / SECTOR;
const HEADER: usize = 92;
/// The first sector behind the primary table, and as many sectors before the end, are not for partitions.
const RESERVED: u64 = 2 + TABLE_SECTORS;

/// The first sector behind those that partitions may use.
pub(crate) fn end(sectors: u64) -> u64 {
    sectors.saturating_sub(RESERVED - 1)
}

/// Reads the primary table, else the backup at the medium's end.
pub(crate) fn read(medium: &mut (impl Read + Seek), sectors: u64) -> Result<Table, DiskError> {
    let primary = read_copy(medium, 1, sectors);
    let last = sectors.saturating_sub(1);
    match primary {
        Ok((table, alternate)) => {
            // The backup belongs at the very end; an image that was flashed to a bigger card has it elsewhere.
            let backup_is_good =
                alternate == last && read_copy(medium, last, sectors).is_ok_and(|(backup, _)| backup == table);
            Ok(Table { needs_repair: !backup_is_good, ..table })
        }
        Err(primary) => match read_copy(medium, last, sectors) {
            Ok((table, _)) => Ok(Table { needs_repair: true, ..table }),
            Err(backup) => Err(DiskError::NoTable { primary, backup }),
        },
    }
}

/// Writes the table: backup, durable; primary, durable. Boot code in the first sector is kept.
pub(crate) fn write(table: &Table, medium: &mut impl Medium) -> Result<(), DiskError> {
    let [(backup_at, backup), (_, mbr), (primary_at, primary)] = pieces(table)?;
    write_at(medium, backup_at, &backup)?;
    durable(medium, backup_at, backup.len())?;
    let mut first = vec![0; SECTOR as usize];
    read_at(medium, 0, &mut first)?;
    if first[446..] != mbr[446..] {
        first[446..].copy_from_slice(&mbr[446..]);
        write_at(medium, 0, &first)?;
    }
    write_at(medium, primary_at, &primary)?;
    durable(medium, primary_at, primary.len())
}

/// The bytes to write, in order: backup table and header (one piece), protective MBR, primary header and table (one piece).
fn pieces(table: &Table) -> Result<[(u64, Vec<u8>); 3], DiskError> {
    fits(table, table.sectors.saturating_sub(RESERVED))?;
    let mut entries = vec![0u8; ENTRIES * ENTRY];
    for (number, entry) in &table.entries {
        let at = (*number as usize - 1) * ENTRY;
        if let Some(bytes) = entries.get_mut(at..at + ENTRY) {
            encode_entry(entry, bytes);
        }
    }
    let last = table.sectors - 1;
    let mut primary = header(table, 1, last, 2, &entries);
    primary.extend_from_slice(&entries);
    let backup_table = table.sectors - 1 - TABLE_SECTORS;
    let mut backup = entries.clone();
    backup.extend(header(table, last, 1, backup_table, &entries));
    Ok([(backup_table * SECTOR, backup), (0, protective_mbr(table.sectors)), (SECTOR, primary)])
}

fn header(table: &Table, own: u64, alternate: u64, table_at: u64, entries: &[u8]) -> Vec<u8> {
    let mut header = vec![0u8; SECTOR as usize];
    header[..8].copy_from_slice(b"EFI PART");
    put(&mut header, 8, &0x0001_0000u32.to_le_bytes());
    put(&mut header, 12, &(HEADER as u32).to_le_bytes());
    put(&mut header, 24, &own.to_le_bytes());
    put(&mut header, 32, &alternate.to_le_bytes());
    put(&mut header, 40, &RESERVED.to_le_bytes());
    put(&mut header, 48, &(table.sectors - RESERVED).to_le_bytes());
    put(&mut header, 56, &table.disk.0);
    put(&mut header, 72, &table_at.to_le_bytes());
    put(&mut header, 80, &(ENTRIES as u32).to_le_bytes());
    put(&mut header, 84, &(ENTRY as u32).to_le_bytes());
    put(&mut header, 88, &crc32fast::hash(entries).to_le_bytes());
    let crc = crc32fast::hash(&header[..HEADER]);
    put(&mut header, 16, &crc.to_le_bytes());
    header
}

fn protective_mbr(sectors: u64) -> Vec<u8> {
    let mut mbr = vec![0u8; SECTOR as usize];
    let sectors = u32::try_from(sectors - 1).unwrap_or(u32::MAX);
    put(&mut mbr, 446, &[0x00, 0x00, 0x02, 0x00, 0xee, 0xff, 0xff, 0xff]);
    put(&mut mbr, 454, &1u32.to_le_bytes());
    put(&mut mbr, 458, &sectors.to_le_bytes());
    put(&mut mbr, 510, &[0x55, 0xaa]);
    mbr
}

pub(crate) fn durable(medium: &mut impl Medium, at: u64, length: usize) -> Result<(), DiskError> {
    medium.make_durable().map_err(|source| DiskError::Write { at, length, source })
}

pub(crate) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|slice| slice.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|slice| slice.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn guid_at(bytes: &[u8], at: usize) -> Guid {
    Guid(bytes.get(at..at + 16).and_then(|slice| slice.try_into().ok()).unwrap_or_default())
}

fn encode_entry(entry: &Entry, bytes: &mut [u8]) {
    put(bytes, 0, &entry.type_guid.0);
    put(bytes, 16, &entry.guid.0);
    put(bytes, 32, &entry.first.to_le_bytes());
    put(bytes, 40, &entry.last.to_le_bytes());
    put(bytes, 48, &entry.attributes.to_le_bytes());
    for (number, unit) in entry.name.encode_utf16().take(36).enumerate() {
        put(bytes, 56 + number * 2, &unit.to_le_bytes());
    }
}

fn decode_entry(bytes: &[u8]) -> Option<Entry> {
    let type_guid = guid_at(bytes, 0);
    let units: Vec<u16> = bytes
        .get(56..ENTRY)?
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .take_while(|unit| *unit != 0)
        .collect();
    (!type_guid.is_nil()).then(|| Entry {
        type_guid,
        guid: guid_at(bytes, 16),
        first: u64_at(bytes, 32),
        last: u64_at(bytes, 40),
        attributes: u64_at(bytes, 48),
        name: String::from_utf16_lossy(&units),
    })
}

/// Reads the copy whose header is at a sector; also gives the place of the other copy's header.
fn read_copy(medium: &mut (impl Read + Seek), at: u64, sectors: u64) -> Result<(Table, u64), String> {
    let mut header = vec![0u8; SECTOR as usize];
    read_at(medium, at * SECTOR, &mut header).map_err(|error| error.to_string())?;
    if &header[..8] != b"EFI PART" {
        return Err("has no signature".into());
    }
    let (length, crc) = (u32_at(&header, 12) as usize, u32_at(&header, 16));
    if !(HEADER..=SECTOR as usize).contains(&length) {
        return Err(format!("has a header of {length} bytes"));
    }
    let alternate = u64_at(&header, 32);
    put(&mut header, 16, &[0; 4]);
    if crc32fast::hash(&header[..length]) != crc || u64_at(&header, 24) != at {
        return Err("has a damaged header".into());
    }
    let (count, size) = (u32_at(&header, 80) as usize, u32_at(&header, 84) as usize);
    if !(ENTRY..=4096).contains(&size) || !(1..=1024).contains(&count) {
        return Err(format!("has {count} entries of {size} bytes"));
    }
    let mut bytes = vec![0u8; count * size];
    read_at(medium, u64_at(&header, 72).saturating_mul(SECTOR), &mut bytes).map_err(|error| error.to_string())?;
    if crc32fast::hash(&bytes) != u32_at(&header, 88) {
        return Err("has damaged entries".into());
    }
    let mut entries = BTreeMap::new();
    for (number, entry) in (1u32..).zip(bytes.chunks_exact(size)) {
        if let Some(entry) = decode_entry(entry) {
            if entry.first > entry.last || entry.last >= sectors {
                return Err(format!("has partition {number} outside the medium"));
            }
            entries.insert(number, entry);
        }
    }
    Ok((Table { entries, ..Table::new(Scheme::Gpt, guid_at(&header, 56), sectors) }, alternate))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::{self, Cursor, SeekFrom, Write};

    fn guid(byte: u8) -> Guid {
        Guid::from_random([byte; 16])
    }

    fn table(disk: u8, sectors: u64) -> Table {
        let mut table = Table::new(Scheme::Gpt, guid(disk), sectors);
        let entry = |n: u8, first, last| Entry {
            type_guid: guid(n),
            guid: guid(n + 100),
            first,
            last,
            attributes: 0,
            name: format!("part-{n}"),
        };
        table.entries.insert(1, entry(1, 2048, 4095));
        table.entries.insert(5, entry(5, 4096, 8191));
        table
    }

    fn medium(sectors: u64) -> Cursor<Vec<u8>> {
        Cursor::new(vec![0; (sectors * SECTOR) as usize])
    }

    #[test]
    fn what_is_written_reads_the_same_and_needs_no_repair() {
        let mut medium = medium(16_384);
        table(9, 16_384).write(&mut medium).unwrap();
        assert_eq!(Table::read(&mut medium, 16_384).unwrap(), table(9, 16_384));
    }

    #[test]
    fn sgdisk_finds_no_problem() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(16_384 * SECTOR).unwrap();
        table(9, 16_384).write(&mut file.reopen().unwrap()).unwrap();
        #[expect(clippy::disallowed_methods, reason = "an oracle, in a test")]
        let Ok(output) = std::process::Command::new("sgdisk").arg("-v").arg(file.path()).output() else {
            eprintln!("SKIPPED: sgdisk is not installed (package gdisk), the table is not compared with it");
            return;
        };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("No problems found"), "{text}");
    }

    #[test]
    fn an_image_on_a_bigger_card_is_read_and_wants_its_backup_moved() {
        let mut small = medium(16_384);
        table(9, 16_384).write(&mut small).unwrap();
        let mut bytes = small.into_inner();
        bytes.resize((32_768 * SECTOR) as usize, 0);
        let mut big = Cursor::new(bytes);
        let found = Table::read(&mut big, 32_768).unwrap();
        assert!(found.needs_repair);
        found.write(&mut big).unwrap();
        assert!(!Table::read(&mut big, 32_768).unwrap().needs_repair);
    }

    /// Remembers each write, so that a power cut can be played at each byte boundary that matters.
    struct Recorder {
        inner: Cursor<Vec<u8>>,
        writes: Vec<(u64, Vec<u8>)>,
    }
    impl Read for Recorder {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.inner.read(buffer)
        }
    }
    impl Seek for Recorder {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.inner.seek(to)
        }
    }
    impl Write for Recorder {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.writes.push((self.inner.position(), bytes.to_vec()));
            self.inner.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    impl Medium for Recorder {
        fn make_durable(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_cut_at_any_sector_leaves_the_old_table_or_the_new_one() {
        for (old_sectors, sectors) in [(16_384, 16_384), (16_384, 32_768)] {
            let mut before = medium(old_sectors);
            table(1, old_sectors).write(&mut before).unwrap();
            let mut start = before.into_inner();
            start.resize((sectors * SECTOR) as usize, 0);
            let mut recorder = Recorder { inner: Cursor::new(start.clone()), writes: Vec::new() };
            let new = table(2, sectors);
            new.write(&mut recorder).unwrap();
            let mut bytes = start;
            let mut cuts = 0;
            for (at, written) in recorder.writes {
                for (number, sector) in written.chunks(SECTOR as usize).enumerate() {
                    let at = at as usize + number * SECTOR as usize;
                    bytes[at..at + sector.len()].copy_from_slice(sector);
                    let found = Table::read(&mut Cursor::new(&bytes), sectors).unwrap();
                    assert!([guid(1), guid(2)].contains(&found.disk));
                    assert_eq!(found.entries, new.entries);
                    cuts += 1;
                }
            }
            assert!(cuts > 60, "only {cuts} cuts");
        }
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..4096), flips in proptest::collection::vec((512usize..17_920, any::<u8>()), 0..8)) {
            let _ = Table::read(&mut Cursor::new(&bytes), 8);
            let mut medium = medium(16_384);
            table(9, 16_384).write(&mut medium).unwrap();
            let mut bytes = medium.into_inner();
            for (at, value) in flips {
                bytes[at] = value;
            }
            prop_assert_eq!(Table::read(&mut Cursor::new(&bytes), 16_384).unwrap().entries, table(9, 16_384).entries);
        }
    }
}
