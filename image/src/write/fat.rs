//! The FAT32 boot partition, by fatfs, with valid dates everywhere.
//!
//! Valid dates are not vanity: with fatfs's default of day 0, month 0, firmware refuses to rename a loader entry,
//! and boot counting silently stops. Sectors are 512 bytes, clusters 4 KiB; the volume id comes from the image's id.

use crate::tree::{Node, Tree};
use bakelite_spec::layout::BOOT_CLUSTER;
use fatfs::{Date, DateTime, FatType, FileSystem, FormatVolumeOptions, FsOptions, ReadWriteSeek, Time, TimeProvider};
use std::io::{self, Read, Seek, SeekFrom, Write};
use time::OffsetDateTime;

/// Formats a partition and fills it with a tree (folders and files only).
///
/// `partition` begins at the partition's first byte and has `length` bytes; zeros are expected in it.
///
/// # Errors
/// When it doesn't fit, a name is not fit for FAT, or reading or writing fails.
pub fn write(tree: &Tree, time: i64, volume_id: u32, length: u64, partition: impl ReadWriteSeek) -> io::Result<()> {
    write_with(tree, time, volume_id, length, BOOT_CLUSTER, partition)
}

/// The same with clusters of another size in bytes.
///
/// # Errors
/// As [`write`].
pub fn write_with(
    tree: &Tree,
    time: i64,
    volume_id: u32,
    length: u64,
    cluster: u32,
    mut partition: impl ReadWriteSeek,
) -> io::Result<()> {
    let sectors =
        u32::try_from(length / 512).map_err(|_| io::Error::other("the boot partition is too large for FAT32"))?;
    let format = FormatVolumeOptions::new()
        .bytes_per_cluster(cluster)
        .fat_type(FatType::Fat32)
        .total_sectors(sectors)
        .volume_id(volume_id)
        .volume_label(*b"BAKELITE   ");
    fatfs::format_volume(&mut partition, format)?;
    let volume = FileSystem::new(&mut partition, FsOptions::new().time_provider(clock(time)))?;
    for (path, entry) in tree.entries() {
        match &entry.node {
            Node::Folder => drop(volume.root_dir().create_dir(path)?),
            Node::Link(_) => return Err(io::Error::other(format!("{path} is a link, which FAT doesn't have"))),
            Node::File(blob) => {
                let mut file = volume.root_dir().create_file(path)?;
                io::copy(&mut blob.open()?, &mut file)?;
                file.flush()?;
            }
        }
    }
    volume.unmount()?;
    mend_dots(&mut partition)
}

/// Puts a file into the root folder of a partition that was formatted before; one of that name is replaced.
///
/// # Errors
/// When it doesn't fit, the partition holds no FAT, or reading or writing fails.
pub fn add(mut partition: impl ReadWriteSeek, name: &str, content: &[u8], time: i64) -> io::Result<()> {
    let volume = FileSystem::new(&mut partition, FsOptions::new().time_provider(clock(time)))?;
    let mut file = volume.root_dir().create_file(name)?;
    file.truncate()?;
    file.write_all(content)?;
    file.flush()?;
    drop(file);
    volume.unmount()?;
    partition.flush()
}

/// Bytes of an entry of a folder.
const SLOT: usize = 32;

/// Takes away the long names that fatfs gives to `.` and `..` in each folder. The two dots have to be the first two entries (FAT
/// specification, 6.5): fsck.fat, which the device runs after a pulled plug, takes anything else for damage.
fn mend_dots(partition: &mut impl ReadWriteSeek) -> io::Result<()> {
    let mut head = [0; 512];
    partition.seek(SeekFrom::Start(0))?;
    partition.read_exact(&mut head)?;
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    let (table, cluster) = (number(&head[14..16]) * 512, u64::from(head[13]) * 512);
    let data = table + u64::from(head[16]) * number(&head[36..40]) * 512;
    let root = number(&head[44..48]);
    let mut folders = vec![root];
    while let Some(first) = folders.pop() {
        let (mut places, mut bytes, mut next) = (Vec::new(), Vec::new(), first);
        while (2..0x0fff_fff8).contains(&next) {
            places.push(data + (next - 2) * cluster);
            let mut piece = vec![0; usize::try_from(cluster).unwrap_or_default()];
            partition.seek(SeekFrom::Start(data + (next - 2) * cluster))?;
            partition.read_exact(&mut piece)?;
            bytes.extend(piece);
            let mut entry = [0; 4];
            partition.seek(SeekFrom::Start(table + next * 4))?;
            partition.read_exact(&mut entry)?;
            next = number(&entry) & 0x0fff_ffff;
        }
        let is = |slot: usize, name: &[u8; 11]| bytes.get(slot * SLOT..slot * SLOT + 11) == Some(name);
        if is(1, b".          ") && is(3, b"..         ") {
            bytes.drain(2 * SLOT..3 * SLOT);
            bytes.drain(..SLOT);
            bytes.resize(bytes.len() + 2 * SLOT, 0);
            // The root folder is 0 here, wherever it is.
            if number(&bytes[SLOT + 20..SLOT + 22]) << 16 | number(&bytes[SLOT + 26..SLOT + 28]) == root {
                bytes[SLOT + 20..SLOT + 22].fill(0);
                bytes[SLOT + 26..SLOT + 28].fill(0);
            }
            for (place, piece) in places.iter().zip(bytes.chunks(usize::try_from(cluster).unwrap_or(SLOT))) {
                partition.seek(SeekFrom::Start(*place))?;
                partition.write_all(piece)?;
            }
        }
        let below = bytes.chunks(SLOT).take_while(|slot| slot[0] != 0);
        let below = below.filter(|slot| slot[11] & 0x18 == 0x10 && !matches!(slot[0], b'.' | 0xe5));
        folders.extend(below.map(|slot| number(&slot[20..22]) << 16 | number(&slot[26..28])));
    }
    partition.flush()
}

/// The clock of an image: always the same moment.
#[derive(Debug)]
struct FixedClock(DateTime);

impl TimeProvider for FixedClock {
    fn get_current_date(&self) -> Date {
        self.0.date
    }

    fn get_current_date_time(&self) -> DateTime {
        self.0
    }
}

/// fatfs asks for a clock that lives for ever; one of these small ones is left behind for each volume that is written.
fn clock(time: i64) -> &'static FixedClock {
    Box::leak(Box::new(FixedClock(date_time(time))))
}

/// Seconds since 1970 as FAT's date and time (UTC), within the years that FAT knows.
fn date_time(time: i64) -> DateTime {
    const FIRST: i64 = 315_532_800; // 1980-01-01
    let moment = OffsetDateTime::from_unix_timestamp(time.max(FIRST)).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let date = Date {
        year: moment.year().clamp(1980, 2107) as u16,
        month: u8::from(moment.month()).into(),
        day: moment.day().into(),
    };
    // FAT keeps even seconds.
    let second = u16::from(moment.second()) / 2 * 2;
    DateTime { date, time: Time { hour: moment.hour().into(), min: moment.minute().into(), sec: second, millis: 0 } }
}

/// A part of a file or device that looks like a whole one; nothing outside it is reached.
#[derive(Debug)]
pub struct Window<F> {
    inner: F,
    start: u64,
    length: u64,
    at: u64,
}

impl<F: Seek> Window<F> {
    /// The part from a byte on.
    pub fn new(inner: F, start: u64, length: u64) -> Self {
        Self { inner, start, length, at: 0 }
    }

    fn room(&mut self, wanted: usize) -> io::Result<usize> {
        self.inner.seek(SeekFrom::Start(self.start + self.at))?;
        Ok(wanted.min(self.length.saturating_sub(self.at).try_into().unwrap_or(usize::MAX)))
    }
}

impl<F: Read + Seek> Read for Window<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = self.room(buffer.len())?;
        let count = self.inner.read(&mut buffer[..room])?;
        self.at += count as u64;
        Ok(count)
    }
}

impl<F: Write + Seek> Write for Window<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.room(bytes.len())?;
        let count = self.inner.write(&bytes[..room])?;
        self.at += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<F: Seek> Seek for Window<F> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
        };
        self.at = target.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let shown = |time| {
            let DateTime { date, time } = date_time(time);
            (date.year, date.month, date.day, time.hour, time.min, time.sec)
        };
        assert_eq!(shown(1_763_719_271), (2025, 11, 21, 10, 1, 10));
        assert_eq!(shown(951_827_696), (2000, 2, 29, 12, 34, 56));
        assert_eq!(shown(0), (1980, 1, 1, 0, 0, 0));
    }

    #[test]
    fn equal_trees_give_equal_bytes_that_read_back() {
        let mut tree = Tree::default();
        tree.file("loader/entries/bakelite-a+3.conf", 0o644, b"title x\n".to_vec());
        let make = || {
            let mut disk = Cursor::new(vec![0u8; (320 << 20) + 1024]);
            write(&tree, 1_763_719_271, 7, 320 << 20, Window::new(&mut disk, 512, 320 << 20)).unwrap();
            disk.into_inner()
        };
        let bytes = make();
        assert!(bytes == make(), "two volumes of the same tree differ");
        let window = Window::new(Cursor::new(bytes.clone()), 512, 320 << 20);
        let volume = FileSystem::new(window, FsOptions::new()).unwrap();
        let mut text = String::new();
        let mut file = volume.root_dir().open_file("loader/entries/bakelite-a+3.conf").unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "title x\n");
        assert!(bytes[..512].iter().all(|byte| *byte == 0));
        // Each folder begins with its two dots, and what is in it follows.
        let is_dots = |piece: &&[u8]| {
            piece.starts_with(b".          ") && piece.get(SLOT..).is_some_and(|next| next.starts_with(b"..         "))
        };
        assert_eq!(bytes.chunks(512).filter(is_dots).count(), 2);
        let long_dot = bytes.chunks(SLOT).any(|slot| slot.starts_with(b"A.\0\0\0\xff\xff"));
        assert!(!long_dot, "a long name of a dot is left");
    }
}
