//! An image to be flashed: raw or .zst, with the block map beside it if there is one. Opened, measured, never changed.
//!
//! The map is looked for as `bmaptool` does: beside `shop.img.zst` that is `shop.img.zst.bmap` or `shop.img.bmap`. Without
//! one, what is zero counts as a hole, and has to be zero on the medium as well.

use crate::error::{FlashError, io_error};
use crate::pieces::Pieces;
use bakelite_disk::bmap::{self, Map};
use bakelite_disk::press::HEAD;
use bakelite_disk::table::Table;
use bakelite_image::source::zstd_frames;
use bakelite_spec::layout::SECTOR;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// zstd's magic.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Endings of a compressed image that isn't read here.
const FOREIGN: &[(&[u8], &str)] =
    &[(b"\x1f\x8b", "gzip -dc"), (b"\xfd7zXZ\0", "xz -dc"), (b"BZh", "bzip2 -dc"), (b"PK\x03\x04", "unzip -p")];

/// An image.
#[derive(Debug)]
pub struct Image {
    /// Its file.
    pub path: PathBuf,
    /// Bytes that it unpacks to.
    pub length: u64,
    /// Whether the file is compressed.
    pub is_compressed: bool,
    /// Its block map.
    pub map: Option<Map>,
    /// Whether it is a fresh image of ours: then its map tells all that counts, and nothing between is relied upon.
    pub is_ours: bool,
    /// Its first MiB, or all of a smaller one.
    pub head: Vec<u8>,
    /// What the file was when it was opened.
    stamp: Stamp,
}

/// By what a file that was changed meanwhile is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp(u64, u64, i64, i64);

impl Stamp {
    fn of(file: &File) -> io::Result<Self> {
        let found = file.metadata()?;
        Ok(Self(found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
    }
}

impl Image {
    /// Opens an image, and its map from a place that was given or from beside it.
    ///
    /// # Errors
    /// When it can't be read, or its map makes no sense or is another image's.
    pub fn open(path: &Path, map: Option<&Path>) -> Result<Self, FlashError> {
        let reading = || io_error("reading", path);
        let mut file = File::open(path).map_err(reading())?;
        let stamp = Stamp::of(&file).map_err(reading())?;
        let mut start = [0; 8];
        let count = file.read(&mut start).map_err(reading())?;
        if let Some((_, command)) = FOREIGN.iter().find(|(magic, _)| start[..count].starts_with(magic)) {
            return Err(FlashError::ForeignCompression { path: path.into(), command });
        }
        let is_compressed = start[..count].starts_with(&ZSTD);
        let told = if is_compressed {
            zstd_frames::walk(io::BufReader::new(&file)).map_err(reading())?.content
        } else {
            Some(file.seek(SeekFrom::End(0)).map_err(reading())?)
        };
        let map = match map {
            Some(map) => Some(read_map(map)?),
            None => beside(path).map(|map| read_map(&map)).transpose()?,
        };
        let mut image =
            Self { path: path.into(), length: 0, is_compressed, map, is_ours: false, head: Vec::new(), stamp };
        image.length = match (told, &image.map) {
            (Some(told), Some(map)) if told != map.length => {
                return Err(FlashError::OtherMap { path: path.into(), image: told, map: map.length });
            }
            (Some(told), _) => told,
            (None, Some(map)) => map.length,
            // Nobody says how long it is: it is unpacked once to know.
            (None, None) => io::copy(&mut image.content()?, &mut io::sink()).map_err(reading())?,
        };
        if image.length == 0 {
            return Err(FlashError::EmptyImage(path.into()));
        }
        let mut head = vec![0; usize::try_from(image.length.min(HEAD)).unwrap_or_default()];
        image.content()?.read_exact(&mut head).map_err(reading())?;
        let table = Table::read(&mut Cursor::new(&head), image.length / SECTOR);
        image.is_ours = table.is_ok_and(|table| table.is_unstamped());
        image.head = head;
        Ok(image)
    }

    /// What is in it from its first byte on.
    ///
    /// # Errors
    /// When it can't be read, or was changed since it was opened.
    pub fn content(&self) -> Result<Content, FlashError> {
        let file = File::open(&self.path).map_err(io_error("reading", &self.path))?;
        if Stamp::of(&file).map_err(io_error("reading", &self.path))? != self.stamp {
            return Err(FlashError::ImageChanged(self.path.clone()));
        }
        if !self.is_compressed {
            return Ok(Content::Raw(file, 0));
        }
        let decoder = zstd::Decoder::new(file).map_err(io_error("unpacking", &self.path))?;
        Ok(Content::Packed(Box::new(decoder), 0))
    }

    /// Its pieces in order, but for those that end before a byte.
    ///
    /// # Errors
    /// As [`Self::content`].
    pub fn pieces(&self, from: u64) -> Result<Pieces<'_>, FlashError> {
        Pieces::new(self, from)
    }

    /// Bytes that have to be written at most.
    pub fn to_write(&self) -> u64 {
        self.map.as_ref().map_or(self.length, Map::mapped)
    }
}

/// The content of an image, read in order.
pub enum Content {
    /// A file as it is.
    Raw(File, u64),
    /// One that is unpacked.
    Packed(Box<zstd::Decoder<'static, io::BufReader<File>>>, u64),
}

impl Content {
    /// Reads at a place that is not before the last one.
    ///
    /// # Errors
    /// When it can't be read or ends before.
    pub fn read_at(&mut self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Raw(file, place) => {
                *place = at + bytes.len() as u64;
                file.read_exact_at(bytes, at)
            }
            Self::Packed(decoder, place) => {
                let skip = at.saturating_sub(*place);
                let skipped = io::copy(&mut decoder.by_ref().take(skip), &mut io::sink())?;
                decoder.read_exact(bytes)?;
                *place += skipped + bytes.len() as u64;
                Ok(())
            }
        }
    }
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (count, place) = match self {
            Self::Raw(file, place) => (file.read_at(buffer, *place)?, place),
            Self::Packed(decoder, place) => (decoder.read(buffer)?, place),
        };
        *place += count as u64;
        Ok(count)
    }
}

fn beside(image: &Path) -> Option<PathBuf> {
    let with_ending = |path: &Path| {
        let mut name = path.as_os_str().to_owned();
        name.push(".bmap");
        PathBuf::from(name)
    };
    let unpacked = image.extension().is_some_and(|ending| ending == "zst").then(|| image.with_extension(""));
    [Some(with_ending(image)), unpacked.as_deref().map(with_ending)].into_iter().flatten().find(|path| path.is_file())
}

fn read_map(path: &Path) -> Result<Map, FlashError> {
    let mut text = String::new();
    let file = File::open(path).map_err(io_error("reading", path))?;
    file.take(bmap::LIMIT).read_to_string(&mut text).map_err(io_error("reading", path))?;
    Map::parse(&text).map_err(|source| FlashError::Map { path: path.into(), source })
}
