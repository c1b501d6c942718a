//! A recording: QEMU's log of all writes to two media, and the moments of it that are looked at.

use super::partition;
use crate::steps::{Mark, Span};
use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

const MAGIC: u64 = 0x6a_7366_7773_6872;
const SECTOR: u64 = 512;
const FLUSH: u64 = 1;
const DISCARD: u64 = 4;
/// A longer write counts as several: a plug that is pulled leaves a part of it, and a disk's cache may lose any.
const PIECE: u64 = 64 << 10;

/// A write, or a flush without bytes.
pub struct Entry {
    /// Its first byte, on both media one behind the other.
    pub at: u64,
    /// Its length in bytes; a flush has none.
    pub length: u64,
    flags: u64,
    /// Where its bytes are in the log.
    bytes: u64,
}

/// A recording.
pub struct Log {
    file: File,
    /// Writes and flushes, in their order.
    pub entries: Vec<Entry>,
}

impl Log {
    /// Reads a log.
    pub fn read(path: &Path) -> Result<Self> {
        let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        let head = words(&mut file, 0)?;
        ensure!(head[0] == MAGIC && head[1] == 1, "{} is no log of writes", path.display());
        let (count, sector) = (head[2], head[3] & 0xffff_ffff);
        ensure!(sector == SECTOR, "the log has sectors of {sector} bytes");
        let (mut entries, mut place) = (Vec::new(), SECTOR);
        for _ in 0..count {
            let [at, sectors, flags, _] = words(&mut file, place)?;
            let length = if flags & DISCARD == 0 { sectors * SECTOR } else { 0 };
            for torn in (0..length.max(1)).step_by(PIECE as usize) {
                let length = PIECE.min(length - torn);
                entries.push(Entry { at: at * SECTOR + torn, length, flags, bytes: place + SECTOR + torn });
            }
            place += SECTOR + length;
        }
        Ok(Self { file, entries })
    }

    /// The bytes of a write.
    pub fn bytes(&self, entry: &Entry) -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(entry.length)?];
        self.file.read_exact_at(&mut bytes, entry.bytes)?;
        Ok(bytes)
    }

    /// The end of what is flushed before an entry.
    pub fn flushed(&self, before: usize) -> usize {
        self.entries[..before].iter().rposition(|entry| entry.flags & FLUSH != 0).map_or(0, |at| at + 1)
    }

    /// The writes of a span, by their numbers.
    pub fn span(&self, span: &Span, boot: &Path) -> Result<Vec<usize>> {
        let place = span.writes_to.map(|role| partition(boot, role)).transpose()?;
        let (from, to) =
            (self.mark(span.after.as_ref(), boot, 0)?, self.mark(span.until.as_ref(), boot, self.entries.len())?);
        let counts = |number: &usize| {
            let entry = &self.entries[*number];
            entry.length > 0 && place.as_ref().is_none_or(|place| entry.touches(place))
        };
        Ok((from..to).filter(counts).collect())
    }

    /// Behind the first write with words to a partition; without a mark `or`.
    fn mark(&self, mark: Option<&Mark>, boot: &Path, or: usize) -> Result<usize> {
        let Some(mark) = mark else { return Ok(or) };
        let place = partition(boot, mark.to)?;
        let words = mark.words.as_bytes();
        for (number, entry) in self.entries.iter().enumerate().filter(|(_, entry)| entry.touches(&place)) {
            if self.bytes(entry)?.windows(words.len()).any(|piece| piece == words) {
                return Ok(number + 1);
            }
        }
        bail!("{:?} was never written to the partition {}", mark.words, mark.to.label())
    }
}

impl Entry {
    fn touches(&self, place: &Range<u64>) -> bool {
        self.length > 0 && self.at < place.end && place.start < self.at + self.length
    }
}

fn words(file: &mut File, at: u64) -> Result<[u64; 4]> {
    let mut bytes = [0; 32];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut bytes).context("the log of writes is too short")?;
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_le_bytes(bytes.try_into()?);
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bakelite_disk::table::Table;
    use bakelite_spec::layout::{Role, Scheme, layout};
    use bakelite_spec::quantity::Size;
    use std::io::Write;

    /// A log of writes, each by where it goes and its bytes; `None` is a flush.
    fn log(path: &Path, writes: &[Option<(u64, Vec<u8>)>]) -> Log {
        let sector = |words: [u64; 4]| {
            let mut bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
            bytes.resize(SECTOR as usize, 0);
            bytes
        };
        let mut file = File::create(path).unwrap();
        file.write_all(&sector([MAGIC, 1, writes.len() as u64, SECTOR])).unwrap();
        for write in writes {
            let (at, bytes) = write.clone().unwrap_or_default();
            let flags = if write.is_none() { FLUSH } else { 0 };
            file.write_all(&sector([at / SECTOR, bytes.len() as u64 / SECTOR, flags, 0])).unwrap();
            file.write_all(&bytes).unwrap();
        }
        Log::read(path).unwrap()
    }

    #[test]
    fn a_span_is_the_writes_to_a_partition_between_two_marks_and_a_long_write_is_several() {
        let folder = tempfile::tempdir().unwrap();
        let medium = folder.path().join("medium");
        let layout = layout(Scheme::Gpt, Size(1 << 20));
        File::create(&medium).unwrap().set_len(layout.length).unwrap();
        Table::of_layout(&layout).write(&mut File::options().read(true).write(true).open(&medium).unwrap()).unwrap();
        let at = |role: Role| partition(&medium, role).unwrap().start;
        let word = |text: &str| {
            let mut bytes = text.as_bytes().to_vec();
            bytes.resize(4096, 0);
            bytes
        };
        let log = log(
            &folder.path().join("log"),
            &[
                Some((at(Role::Boot), word("BKLTSLOT"))),
                Some((at(Role::SystemB), vec![7; (PIECE + 4096) as usize])),
                None,
                Some((at(Role::SystemB) + 8192, word("..BKLTSLOT"))),
                Some((at(Role::Boot), word("an entry"))),
                None,
                Some((at(Role::SystemA), word("a record"))),
            ],
        );
        assert_eq!(
            log.entries.iter().map(|entry| entry.length).collect::<Vec<_>>(),
            [4096, PIECE, 4096, 0, 4096, 4096, 0, 4096]
        );
        assert_eq!((log.flushed(3), log.flushed(5), log.flushed(8)), (0, 4, 7));
        let footer = || Some(Mark { to: Role::SystemB, words: "BKLTSLOT".into() });
        let span = |writes_to, after, until| log.span(&Span { writes_to, after, until }, &medium);
        assert_eq!(span(None, None, None).unwrap(), [0, 1, 2, 4, 5, 7]);
        assert_eq!(span(Some(Role::SystemB), None, None).unwrap(), [1, 2, 4]);
        assert_eq!(span(Some(Role::Boot), None, footer()).unwrap(), [0]);
        assert_eq!(span(Some(Role::Boot), footer(), None).unwrap(), [5]);
        assert_eq!(span(None, footer(), None).unwrap(), [5, 7]);
        let nowhere = Some(Mark { to: Role::SystemA, words: "BKLTSLOT".into() });
        assert!(span(None, nowhere, None).unwrap_err().to_string().contains("bakelite-a"));
    }
}
