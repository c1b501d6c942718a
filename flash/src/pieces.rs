//! What has to be written of an image, piece by piece in order; with a map each range is compared with its sum.
//!
//! Without a map the content tells: blocks of zeros are holes. Reading again from a place on gives the same pieces, so
//! a medium that fell behind can go on by itself.

use crate::error::{FlashError, io_error};
use crate::image::{Content, Image};
use bakelite_disk::bmap::{Map, Range};
use bakelite_disk::press::{Buffer, PIECE, Piece, is_zero};
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::io;

/// Without a map, so many bytes of zeros and more are a hole.
const HOLE: usize = 64 << 10;

/// The pieces of an image.
pub struct Pieces<'a> {
    image: &'a Image,
    content: Content,
    /// Ranges of the map that weren't begun.
    ranges: VecDeque<Range>,
    /// The range that is being read, and the sum of what was read of it.
    reading: Option<(Range, Sha256)>,
    at: u64,
    /// Pieces that end before this aren't given.
    from: u64,
    /// Of one block, those that weren't given yet.
    ready: VecDeque<Piece>,
    holes: Vec<(u64, u64)>,
}

impl<'a> Pieces<'a> {
    /// Begins with an image; pieces that end before a byte were given before.
    ///
    /// # Errors
    /// When the image can't be read.
    pub fn new(image: &'a Image, from: u64) -> Result<Self, FlashError> {
        let whole = || VecDeque::from([Range { start: 0, length: image.length, sum: None }]);
        let ranges = image.map.as_ref().map_or_else(whole, |map| map.ranges.iter().copied().collect());
        let holes = image.map.as_ref().map(|map| map.holes()).unwrap_or_default();
        let content = image.content()?;
        Ok(Self { image, content, ranges, reading: None, at: 0, from, ready: VecDeque::new(), holes })
    }

    /// What has to be zeros on the medium, once all pieces were given.
    pub fn holes(self) -> Vec<(u64, u64)> {
        self.holes
    }

    /// The next piece.
    ///
    /// # Errors
    /// When the image can't be read, or a range isn't what the map says.
    pub fn next(&mut self) -> Result<Option<Piece>, FlashError> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Ok(Some(piece));
            }
            let Some((range, mut sum)) = self.begin_range() else { return self.end().map(|()| None) };
            let size = (range.end() - self.at).min(PIECE as u64 - self.at % PIECE as u64);
            let mut bytes = Buffer::new(usize::try_from(size).unwrap_or(PIECE));
            self.content.read_at(self.at, &mut bytes).map_err(io_error("reading", &self.image.path))?;
            let at = self.at;
            self.at += size;
            if range.sum.is_some() {
                sum.update(&*bytes);
            }
            if self.at < range.end() {
                self.reading = Some((range, sum));
            } else if range.sum.is_some_and(|wanted| wanted != <[u8; 32]>::from(sum.finalize())) {
                return Err(FlashError::ImageDamaged { path: self.image.path.clone(), at: range.start });
            }
            if self.image.map.is_none() {
                // Also for what was given before: nobody has told of its holes.
                self.split(at, bytes);
            } else if self.at > self.from {
                return Ok(Some(Piece::new(at, bytes)));
            }
        }
    }

    /// What no sum of a map vouches for, the compression's own does, once it is read to its end.
    fn end(&mut self) -> Result<(), FlashError> {
        let is_vouched_for = self.image.map.as_ref().is_some_and(Map::is_summed);
        if self.image.is_compressed && !is_vouched_for {
            io::copy(&mut self.content, &mut io::sink()).map_err(io_error("reading", &self.image.path))?;
        }
        Ok(())
    }

    fn begin_range(&mut self) -> Option<(Range, Sha256)> {
        if let Some(reading) = self.reading.take() {
            return Some(reading);
        }
        loop {
            let range = self.ranges.pop_front()?;
            // A sum is over all of its range; what was given before and has none needn't be read again.
            if range.end() > self.from {
                self.at = range.start;
                return Some((range, Sha256::new()));
            }
        }
    }

    /// Tells data from holes in a block.
    fn split(&mut self, at: u64, bytes: Buffer) {
        let blocks: Vec<bool> = bytes.chunks(HOLE).map(is_zero).collect();
        if !blocks.contains(&true) {
            if self.at > self.from {
                self.ready.push_back(Piece::new(at, bytes));
            }
            return;
        }
        let mut start = 0;
        while start < blocks.len() {
            let end = start + blocks[start..].iter().take_while(|zero| **zero == blocks[start]).count();
            let (from, to) = (start * HOLE, (end * HOLE).min(bytes.len()));
            if blocks[start] {
                self.hole(at + from as u64, (to - from) as u64);
            } else if at + to as u64 > self.from {
                let mut part = Buffer::new(to - from);
                part.copy_from_slice(&bytes[from..to]);
                self.ready.push_back(Piece::new(at + from as u64, part));
            }
            start = end;
        }
    }

    fn hole(&mut self, at: u64, length: u64) {
        match self.holes.last_mut() {
            Some((start, before)) if *start + *before == at => *before += length,
            _ => self.holes.push((at, length)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::path::PathBuf;

    const MIB: usize = 1 << 20;

    fn content() -> Vec<u8> {
        let mut bytes: Vec<u8> =
            (0..3 * MIB as u32 / 4).flat_map(|number| number.wrapping_mul(77).to_le_bytes()).collect();
        bytes[MIB + 100_000..2 * MIB + 300_000].fill(0);
        bytes.extend([5; 700]);
        bytes
    }

    fn put(folder: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
        let path = folder.path().join(name);
        std::fs::File::create(&path).unwrap().write_all(bytes).unwrap();
        path
    }

    fn together(image: &Image, from: u64) -> (Vec<u8>, Vec<(u64, u64)>, Vec<u64>) {
        let mut bytes = vec![0; image.length as usize];
        let (mut pieces, mut places) = (image.pieces(from).unwrap(), Vec::new());
        while let Some(piece) = pieces.next().unwrap() {
            bytes[piece.at as usize..piece.at as usize + piece.bytes.len()].copy_from_slice(&piece.bytes);
            places.push(piece.at);
        }
        (bytes, pieces.holes(), places)
    }

    fn map(length: usize, ranges: &[(usize, usize)], bytes: &[u8]) -> String {
        let ranges = ranges.iter().map(|(first, last)| {
            let sum = Sha256::digest(&bytes[first * 4096..((last + 1) * 4096).min(length)]);
            let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("<Range chksum=\"{sum}\"> {first}-{last} </Range>")
        });
        format!(
            "<bmap version=\"2.0\"><ImageSize>{length}</ImageSize><BlockSize>4096</BlockSize>\
             <ChecksumType>sha256</ChecksumType><BlockMap>{}</BlockMap></bmap>",
            ranges.collect::<String>()
        )
    }

    #[test]
    fn raw_and_packed_give_the_same_and_holes_are_told_by_content() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = content();
        let raw = Image::open(&put(&folder, "a.img", &bytes), None).unwrap();
        let one = put(&folder, "b.img.zst", &zstd::encode_all(&bytes[..], 3).unwrap());
        let two = zstd::encode_all(&bytes[..MIB], 3).unwrap();
        let two = put(&folder, "c.img.zst", &[two, zstd::encode_all(&bytes[MIB..], 3).unwrap()].concat());
        for image in [raw, Image::open(&one, None).unwrap(), Image::open(&two, None).unwrap()] {
            let (read, holes, places) = together(&image, 0);
            assert!(read == bytes && image.length == bytes.len() as u64, "{}", image.path.display());
            assert_eq!(holes, [((MIB + 131_072) as u64, (MIB + 131_072) as u64)]);
            let (_, _, later) = together(&image, 2 * MIB as u64);
            assert!(later.iter().all(|at| *at >= 2 * MIB as u64) && places.ends_with(&later), "{later:?}");
        }
    }

    #[test]
    fn a_map_says_what_is_written_and_a_damaged_image_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = content();
        let path = put(&folder, "a.img.zst", &zstd::encode_all(&bytes[..], 3).unwrap());
        let ranges = [(0, 10), (100, 400), (760, 768)];
        put(&folder, "a.img.bmap", map(bytes.len(), &ranges, &bytes).as_bytes());
        let image = Image::open(&path, None).unwrap();
        let (read, holes, places) = together(&image, 0);
        assert_eq!((places.len(), holes.len(), image.to_write()), (5, 2, 4096 * 321 - 3396));
        assert!(read[100 * 4096..401 * 4096] == bytes[100 * 4096..401 * 4096]);
        // The sum of a range that is gone on with is of all of it.
        assert_eq!(together(&image, 300 * 4096).2, [MIB as u64, 760 * 4096, 3 * MIB as u64]);
        let mut spoilt = bytes.clone();
        spoilt[120 * 4096] ^= 1;
        let path = put(&folder, "a.img.zst", &zstd::encode_all(&spoilt[..], 3).unwrap());
        let image = Image::open(&path, None).unwrap();
        let mut pieces = image.pieces(0).unwrap();
        let error = std::iter::from_fn(|| pieces.next().transpose()).find_map(Result::err).unwrap();
        assert!(matches!(error, FlashError::ImageDamaged { at: 409_600, .. }), "{error}");
    }

    #[test]
    fn what_is_no_image_is_told_with_what_to_type() {
        let folder = tempfile::tempdir().unwrap();
        let told = |name: &str, bytes: &[u8]| Image::open(&put(&folder, name, bytes), None).unwrap_err().to_string();
        assert!(told("a.img.gz", b"\x1f\x8b\x08\0").contains("gzip -dc"));
        assert!(told("empty.img", b"").contains("is empty"));
        put(&folder, "b.img.bmap", map(8192, &[(0, 0)], &[0; 8192]).as_bytes());
        assert!(told("b.img", &[1; 4096]).contains("another image"));
        assert!(matches!(Image::open(&folder.path().join("none"), None), Err(FlashError::Io { .. })));
    }

    #[test]
    fn an_image_that_changes_meanwhile_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = put(&folder, "a.img", &[1; 4096]);
        let image = Image::open(&path, None).unwrap();
        std::fs::remove_file(&path).unwrap();
        put(&folder, "a.img", &[2; 8192]);
        assert!(matches!(image.pieces(0), Err(FlashError::ImageChanged(_))));
    }
}
