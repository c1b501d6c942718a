//! The blocks of an .xz file, so that several threads can decompress one file (xz file format 1.2.1, sections 2 to 4).
//!
//! Only the index at the end is read here; each block is then given to liblzma as a file of its own, with a head and an
//! index made for it, and liblzma checks it as any other. What isn't one plain stream has no blocks here, and whoever
//! asks decompresses it as a whole. Must never allocate what foreign bytes ask for.

use crate::source::packages::xz;
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::os::unix::fs::FileExt;

const HEAD: u64 = 12;
const FOOT: u64 = 12;
/// The most blocks that an index may list; a package of 8 GiB in blocks of 24 MiB has 342.
const MOST_BLOCKS: u64 = 1 << 16;

/// One block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Where it begins in the file that holds the stream.
    pub at: u64,
    /// Its length in the index's words: without padding.
    unpadded: u64,
    /// The length of what it unpacks to.
    pub length: u64,
    /// The stream's flags: which check its blocks have.
    flags: [u8; 2],
}

/// The blocks of the stream in a part of a file; none where that isn't exactly one whole stream.
///
/// # Errors
/// When the file can't be read.
pub fn blocks(file: &File, start: u64, length: u64) -> io::Result<Vec<Block>> {
    let part = |at: u64, length: u64| {
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        file.read_exact_at(&mut bytes, start + at).map(|()| bytes)
    };
    if length < HEAD + FOOT || !length.is_multiple_of(4) {
        return Ok(Vec::new());
    }
    let (head, foot) = (part(0, HEAD)?, part(length - FOOT, FOOT)?);
    let index_length = (u64::from(u32_at(&foot, 4)) + 1) * 4;
    let whole = head[..6] == *b"\xfd7zXZ\0"
        && foot[10..] == *b"YZ"
        && head[6..8] == foot[8..10]
        && u32_at(&foot, 0) == crc32fast::hash(&foot[4..10])
        && index_length <= MOST_BLOCKS * 18 + 16
        && index_length + HEAD + FOOT <= length;
    if !whole {
        return Ok(Vec::new());
    }
    let index = part(length - FOOT - index_length, index_length)?;
    let end = length - FOOT - index_length;
    Ok(read_index(&index, [head[6], head[7]], start, end).unwrap_or_default())
}

/// The blocks that an index lists, for a stream that begins at `start` and whose index begins `end` bytes later;
/// `None` for an index that makes no sense.
pub fn read_index(index: &[u8], flags: [u8; 2], start: u64, end: u64) -> Option<Vec<Block>> {
    let (records, crc) = index.split_at_checked(index.len().checked_sub(4)?)?;
    if crc32fast::hash(records) != u32_at(crc, 0) {
        return None;
    }
    let mut rest = records.strip_prefix(&[0])?;
    let count = number(&mut rest)?;
    let mut blocks = Vec::new();
    let mut at = HEAD;
    for _ in 0..count.min(MOST_BLOCKS) {
        let (unpadded, length) = (number(&mut rest)?, number(&mut rest)?);
        blocks.push(Block { at: start + at, unpadded, length, flags });
        at = at.checked_add(unpadded.checked_next_multiple_of(4)?)?;
    }
    (at == end && count <= MOST_BLOCKS && rest.iter().all(|byte| *byte == 0)).then_some(blocks)
}

impl Block {
    /// Opens the block for decompressing.
    ///
    /// # Errors
    /// When liblzma has no memory.
    pub fn open<'a>(&self, file: &'a File) -> io::Result<impl Read + 'a> {
        let mut index = vec![0, 1];
        push_number(&mut index, self.unpadded);
        push_number(&mut index, self.length);
        index.resize(index.len().next_multiple_of(4), 0);
        index.extend(crc32fast::hash(&index).to_le_bytes());
        let mut head = b"\xfd7zXZ\0".to_vec();
        head.extend(self.flags);
        head.extend(crc32fast::hash(&self.flags).to_le_bytes());
        let mut tail = ((index.len() / 4 - 1) as u32).to_le_bytes().to_vec();
        tail.extend(self.flags);
        let mut foot = crc32fast::hash(&tail).to_le_bytes().to_vec();
        foot.extend(tail);
        foot.extend(b"YZ");
        let block = Span { file, at: self.at, left: self.unpadded.next_multiple_of(4) };
        let stream = Cursor::new(head).chain(block).chain(Cursor::new(index)).chain(Cursor::new(foot));
        xz(BufReader::with_capacity(1 << 16, stream))
    }
}

/// A part of a file, read without moving the file's own place: several threads may.
#[derive(Debug)]
pub struct Span<'a> {
    /// The file.
    pub file: &'a File,
    /// Where to read next.
    pub at: u64,
    /// Bytes still to read.
    pub left: u64,
}

impl Read for Span<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.file.read_at(&mut buffer[..most], self.at)?;
        if count == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

/// A number of the format: seven bits a byte, lowest first, at most nine bytes.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for place in 0..9 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn push_number(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|part| part.try_into().ok()).map_or(0, u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use liblzma::stream::MtStreamBuilder;
    use proptest::prelude::*;
    use std::io::Write;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    /// A stream of several blocks, as `xz -T` makes them.
    fn stream(content: &[u8], block: u64) -> Vec<u8> {
        let stream = MtStreamBuilder::new().preset(1).block_size(block).threads(2).encoder().unwrap();
        let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn content() -> Vec<u8> {
        (0..100_000u32).flat_map(|number| (number.wrapping_mul(number) / 7).to_le_bytes()).collect()
    }

    #[test]
    fn blocks_put_together_are_the_whole() {
        let content = content();
        let bytes = [&b"before"[..], &stream(&content, 30_000), b"behind"].concat();
        let file = file(&bytes);
        let blocks = blocks(&file, 6, bytes.len() as u64 - 12).unwrap();
        assert!(blocks.len() > 10, "{}", blocks.len());
        let mut whole = Vec::new();
        for block in &blocks {
            let before = whole.len();
            block.open(&file).unwrap().read_to_end(&mut whole).unwrap();
            assert_eq!((whole.len() - before) as u64, block.length);
        }
        assert_eq!(whole, content);
    }

    #[test]
    fn a_damaged_block_is_an_error_and_a_damaged_index_no_index() {
        let good = stream(&content(), 30_000);
        let length = good.len() as u64;
        let mut bad = good.clone();
        bad[2000] ^= 1;
        let damaged = file(&bad);
        let found = blocks(&damaged, 0, length).unwrap();
        let failing =
            found.iter().filter(|block| io::copy(&mut block.open(&damaged).unwrap(), &mut io::sink()).is_err());
        assert_eq!(failing.count(), 1);
        for at in [0, 6, good.len() - 1, good.len() - 12, good.len() - 20] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(blocks(&file(&bad), 0, length).unwrap().is_empty(), "{at}");
        }
        let two = [&good[..], &good].concat();
        assert!(blocks(&file(&two), 0, two.len() as u64).unwrap().is_empty(), "two streams");
    }

    proptest! {
        #[test]
        fn any_bytes_end_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), flips in proptest::collection::vec((any::<u16>(), any::<u8>()), 0..3)) {
            let _ = read_index(&bytes, [0, 4], 0, 100);
            let _ = blocks(&file(&bytes), 0, bytes.len() as u64).unwrap();
            let mut stream = stream(b"some content", 4096);
            for (at, value) in flips {
                let at = at as usize % stream.len();
                stream[at] = value;
            }
            let file = file(&stream);
            for block in blocks(&file, 0, stream.len() as u64).unwrap() {
                let _ = io::copy(&mut block.open(&file).unwrap().take(1 << 20), &mut io::sink());
            }
        }
    }
}
