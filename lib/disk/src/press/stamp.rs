//! A fresh image of ours gets GUIDs of its own, and its partition table the medium's size, while it is still in memory.
//!
//! Only an image that nobody has restamped yet: others name their partitions by these numbers in places that aren't known
//! here. Where the state partition is going to be, an earlier life of the medium may have left one; init leaves that alone on
//! a medium that carries a GUID of its own, so whoever stamps has to take it away.

use super::PIECE;
use crate::table::Table;
use crate::{DiskError, Guid, Medium};
use bakelite_spec::layout::{Layout, Role, SECTOR, STATE_MINIMUM};
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};

/// What a stamped medium needs besides its first MiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamped {
    /// The disk's new GUID.
    pub disk: Guid,
    /// What of the table lies elsewhere, as the backup at the medium's end: first bytes, and what goes there.
    pub elsewhere: Vec<(u64, Vec<u8>)>,
    /// From which byte on the image holds nothing but its own backup table, which this one takes the place of.
    pub end: u64,
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
    if !found.is_unstamped() {
        return Ok(None);
    }
    let table = Table { sectors: medium / SECTOR, needs_repair: false, ..found };
    put(table, head, fresh).map(Some)
}

/// The first MiB of a medium of a length that is laid out like an image, and what such a medium needs besides.
///
/// # Errors
/// When the partitions don't fit onto the medium.
pub fn lay(layout: &Layout, medium: u64, fresh: &mut dyn FnMut() -> Guid) -> Result<(Vec<u8>, Stamped), DiskError> {
    let mut head = vec![0; PIECE];
    let table = Table { sectors: medium / SECTOR, ..Table::of_layout(layout) };
    let stamped = put(table, &mut head, fresh)?;
    Ok((head, stamped))
}

fn put(mut table: Table, head: &mut [u8], fresh: &mut dyn FnMut() -> Guid) -> Result<Stamped, DiskError> {
    table.restamp(&mut || fresh());
    let mut written = Written { head, at: 0, elsewhere: Vec::new() };
    table.write(&mut written)?;
    let elsewhere = written.elsewhere;
    let end = table.entries.values().map(|entry| entry.last + 1).max().unwrap_or(table.sectors);
    let first = table.first_free();
    let length = (table.last_usable() + 1).saturating_sub(first) * SECTOR;
    let state = (table.role(Role::State).is_none() && length >= STATE_MINIMUM.0).then_some((first * SECTOR, length));
    Ok(Stamped { disk: table.disk, elsewhere, end: end * SECTOR, state })
}

/// A medium of which only the head is there; what is written elsewhere is kept.
struct Written<'a> {
    head: &'a mut [u8],
    at: u64,
    elsewhere: Vec<(u64, Vec<u8>)>,
}

impl Written<'_> {
    fn in_head(&self, length: usize) -> Option<std::ops::Range<usize>> {
        let at = usize::try_from(self.at).ok()?;
        (at.checked_add(length)? <= self.head.len()).then_some(at..at + length)
    }
}

impl Read for Written<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let range = self.in_head(buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(&self.head[range]);
        self.at += buffer.len() as u64;
        Ok(buffer.len())
    }
}

impl Write for Written<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.in_head(bytes.len()) {
            Some(range) => self.head[range].copy_from_slice(bytes),
            None => self.elsewhere.push((self.at, bytes.to_vec())),
        }
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Written<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let SeekFrom::Start(at) = to else { return Err(io::ErrorKind::Unsupported.into()) };
        self.at = at;
        Ok(at)
    }
}

impl Medium for Written<'_> {
    fn make_durable(&mut self) -> io::Result<()> {
        Ok(())
    }
}
