//! What an image says of itself, for the check of a seed: its manifest and settings, from the last archive of its initramfs.
//!
//! The boot partition is taken out of the image for that, as a compressed one can be read only in order.

use crate::error::{FlashError, io_error};
use crate::image::Image;
use bakelite_disk::{boot, cpio};
use bakelite_image::opened::{fat, read_cpio};
use bakelite_spec::layers::Effective;
use bakelite_spec::layout::SECTOR;
use bakelite_spec::manifest::Manifest;
use std::cell::RefCell;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

/// The most of an initramfs's end in which its last archive is looked for.
const LAST: usize = 1 << 20;
const MANIFEST: &str = "bakelite/manifest.json";
const SETTINGS: &str = "bakelite/appliance.json";

/// What an image says of itself.
#[derive(Clone, Debug)]
pub struct Baked {
    /// What is in it.
    pub manifest: Manifest,
    /// Its settings, with who set them.
    pub effective: Effective,
    /// Where its boot partition is, as first byte and length.
    pub boot: (u64, u64),
}

impl Baked {
    /// Reads it.
    ///
    /// # Errors
    /// When the image can't be read, or takes no seed.
    pub fn read(image: &Image) -> Result<Self, FlashError> {
        let none = |why: String| FlashError::TakesNoSeed { path: image.path.clone(), why };
        if !image.is_ours {
            return Err(none("it is not an image that bakelite built, or one that was booted already".into()));
        }
        let head = &mut Cursor::new(&image.head);
        let (start, length) = boot::partition(head, image.length / SECTOR).map_err(|error| none(error.to_string()))?;
        let reading = || io_error("reading", &image.path);
        let copy = tempfile::tempfile().map_err(io_error("making a file in", std::env::temp_dir()))?;
        copy.set_len(length).map_err(reading())?;
        let mut pieces = image.pieces(start)?;
        while let Some(piece) = pieces.next()? {
            if piece.at >= start + length {
                break;
            }
            let skip = start.saturating_sub(piece.at).min(piece.bytes.len() as u64);
            let inside = &piece.bytes[usize::try_from(skip).unwrap_or_default()..];
            copy.write_all_at(inside, piece.at + skip - start).map_err(reading())?;
        }
        let read_at = |at: u64, bytes: &mut [u8]| copy.read_exact_at(bytes, at);
        let volume = fat::read(&read_at, length).map_err(|error| none(error.to_string()))?;
        let initramfs = volume.files.keys().filter(|path| path.rsplit('/').next().is_some_and(is_initramfs));
        for path in initramfs {
            let bytes = volume.content(&read_at, path).map_err(reading())?;
            if let Some((manifest, effective)) = last_archive(&bytes) {
                return Ok(Self { manifest, effective, boot: (start, length) });
            }
        }
        Err(none("its boot partition holds no settings".into()))
    }
}

fn is_initramfs(name: &str) -> bool {
    name.starts_with("initrd") || name.starts_with("initramfs")
}

/// The settings in the last archive of an initramfs: the first place from which archives are whole up to the end.
fn last_archive(bytes: &[u8]) -> Option<(Manifest, Effective)> {
    let from = bytes.len().saturating_sub(LAST).next_multiple_of(4);
    let places = (from..bytes.len()).step_by(4).filter(|at| bytes[*at..].starts_with(cpio::MAGIC));
    places.filter_map(|at| read_cpio(&bytes[at..]).ok()).find_map(|members| {
        let manifest = serde_json::from_slice(&members.get(MANIFEST)?.content).ok()?;
        let effective = serde_json::from_slice(&members.get(SETTINGS)?.content).ok()?;
        Some((manifest, effective))
    })
}

/// A file of the boot partition of a medium that a machine may have used; `None` where there is none.
///
/// # Errors
/// When the medium can't be read, or has no boot partition of ours.
pub fn on_boot(medium: &mut (impl Read + Seek), length: u64, names: &[&str]) -> io::Result<Option<Vec<u8>>> {
    let (start, size) = boot::partition(medium, length / SECTOR).map_err(io::Error::other)?;
    let medium = RefCell::new(medium);
    let read_at = |at: u64, bytes: &mut [u8]| {
        let mut medium = medium.borrow_mut();
        medium.seek(SeekFrom::Start(start + at))?;
        medium.read_exact(bytes)
    };
    let volume = fat::read(&read_at, size)?;
    let found = names.iter().find(|name| volume.files.contains_key(**name));
    found.map(|name| volume.content(&read_at, name)).transpose()
}
