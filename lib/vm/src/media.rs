//! Media of a machine: copies of an image that may be written to and damaged, and disks besides.
//!
//! A copy is sparse and as large as a real card (so that there is room for the state partition). It is a plain file on
//! purpose, not an overlay in a format of its own: tests cut, damage and read it with nothing but a file at hand.

use crate::error::{VmError, at_file};
use bakelite_spec::quantity::Size;
use rustix::fs::SeekFrom as Sparse;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// How a medium is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bus {
    /// virtio-blk.
    #[default]
    Virtio,
    /// NVMe.
    Nvme,
    /// SATA.
    Ahci,
    /// USB mass storage.
    Usb,
    /// The same with UAS.
    Uas,
    /// An SD card.
    Sd,
}

impl Bus {
    /// All words for a bus.
    pub const NAMES: [(&'static str, Self); 6] = [
        ("virtio", Self::Virtio),
        ("nvme", Self::Nvme),
        ("ahci", Self::Ahci),
        ("usb", Self::Usb),
        ("uas", Self::Uas),
        ("sd", Self::Sd),
    ];

    /// The bus of a word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(name, _)| *name == word).map(|(_, bus)| *bus)
    }

    /// How a stick is attached that was asked for on this bus: there is no other than USB.
    pub fn of_stick(self) -> Self {
        if self == Self::Uas { self } else { Self::Usb }
    }

    /// The size that a medium on this bus has for a wanted one: QEMU takes only powers of two for SD cards.
    pub fn fitting(self, size: u64) -> u64 {
        if self == Self::Sd { size.next_power_of_two() } else { size }
    }
}

/// What a disk is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A new one, all zeros.
    Blank(Size),
    /// A file, attached as it is.
    File(PathBuf),
}

/// A disk besides the boot medium.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Its serial number, and what [`crate::Running::unplug`] calls it; without one `disk0` and so on.
    pub name: Option<String>,
    /// How it is attached.
    pub bus: Bus,
    /// What it is made of.
    pub source: Source,
}

impl Disk {
    /// Reads `nvme:20G`, `usb:backup.img`.
    ///
    /// # Errors
    /// When it isn't of that form.
    pub fn parse(words: &str) -> Result<Self, VmError> {
        let parsed = words.split_once(':').filter(|(_, what)| !what.is_empty()).and_then(|(bus, what)| {
            let source = Size::parse(what).map_or_else(|| Source::File(what.into()), Source::Blank);
            Some(Self { name: None, bus: Bus::parse(bus)?, source })
        });
        parsed.ok_or_else(|| VmError::DiskWords(words.into()))
    }

    /// The disk's file; that of a blank one is made at `blank_at` if it isn't there.
    ///
    /// # Errors
    /// When it can't be made, or isn't there.
    pub fn file(&self, blank_at: &Path) -> Result<PathBuf, VmError> {
        let path = match &self.source {
            Source::File(path) => path,
            Source::Blank(size) => {
                if !blank_at.exists() {
                    blank(blank_at, self.bus.fitting(size.0))?;
                }
                blank_at
            }
        };
        if path.is_file() {
            Ok(path.into())
        } else {
            Err(VmError::Unsupported(format!("{} is no file", path.display())))
        }
    }
}

/// Copies what is in a file, leaving holes where it has holes, and makes the copy `size` bytes long if that is more.
///
/// # Errors
/// When one of the files can't be read or written.
pub fn copy_sparse(from: &Path, to: &Path, size: u64) -> Result<(), VmError> {
    let mut target = File::create(to).map_err(at_file("making", to))?;
    copy_behind(from, &mut target, 0, size).map(drop)
}

/// Puts media one behind the other into one file; where each begins, and how long it is.
pub(crate) fn join(media: &[&Path], to: &Path) -> Result<Vec<(u64, u64)>, VmError> {
    let mut target = File::create(to).map_err(at_file("making", to))?;
    let mut places = Vec::new();
    let mut start = 0;
    for medium in media {
        let length = copy_behind(medium, &mut target, start, 0)?;
        places.push((start, length));
        start += length;
    }
    Ok(places)
}

/// Copies a part of a file into a new one.
///
/// # Errors
/// When one of the files can't be read or written.
pub fn copy_part(from: &Path, start: u64, length: u64, to: &Path) -> Result<(), VmError> {
    let mut source = File::open(from).map_err(at_file("opening", from))?;
    let mut target = File::create(to).map_err(at_file("making", to))?;
    target.set_len(length).map_err(at_file("making", to))?;
    copy_data(&mut source, start..start + length, &mut target, 0).map_err(at_file("copying", from))
}

/// Copies what is in a file to a place of another one, which then has at least a size; the length of the copied one.
fn copy_behind(from: &Path, target: &mut File, place: u64, size: u64) -> Result<u64, VmError> {
    let mut copy = || {
        let mut source = File::open(from)?;
        let length = source.metadata()?.len();
        target.set_len((place + length).max(size))?;
        copy_data(&mut source, 0..length, target, place)?;
        Ok(length)
    };
    copy().map_err(at_file("copying", from))
}

fn copy_data(source: &mut File, part: Range<u64>, target: &mut File, place: u64) -> io::Result<()> {
    let mut at = part.start;
    while at < part.end {
        let start = match rustix::fs::seek(&*source, Sparse::Data(at)) {
            Ok(start) if start < part.end => start,
            Ok(_) | Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(&*source, Sparse::Hole(start))?.min(part.end);
        source.seek(SeekFrom::Start(start))?;
        target.seek(SeekFrom::Start(place + start - part.start))?;
        io::copy(&mut source.by_ref().take(end - start), target)?;
        at = end;
    }
    Ok(())
}

/// Makes an empty file of a size.
///
/// # Errors
/// When it can't be made.
pub fn blank(path: &Path, size: u64) -> Result<(), VmError> {
    File::create(path).and_then(|file| file.set_len(size)).map_err(at_file("making", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn disks_as_people_write_them() {
        let blank = Disk { name: None, bus: Bus::Nvme, source: Source::Blank(Size(20 << 30)) };
        assert_eq!(Disk::parse("nvme:20G").unwrap(), blank);
        let file = Disk { name: None, bus: Bus::Usb, source: Source::File("backup.img".into()) };
        assert_eq!(Disk::parse("usb:backup.img").unwrap(), file);
        for words in ["", "nvme", "nvme:", "floppy:1G", "20G"] {
            assert!(matches!(Disk::parse(words), Err(VmError::DiskWords(_))), "{words}");
        }
        assert_eq!((Bus::Virtio.of_stick(), Bus::Uas.of_stick()), (Bus::Usb, Bus::Uas));
        assert_eq!((Bus::Sd.fitting(600 << 20), Bus::Usb.fitting(600 << 20)), (1 << 30, 600 << 20));
    }

    #[test]
    fn a_copy_has_the_same_bytes_the_holes_and_the_wanted_size() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("a"), folder.path().join("b"));
        let mut file = File::create(&from).unwrap();
        file.set_len(64 << 20).unwrap();
        for at in [0u64, 20 << 20, (64 << 20) - 5] {
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(b"bytes").unwrap();
        }
        copy_sparse(&from, &to, 100 << 20).unwrap();
        let (a, b) = (std::fs::read(&from).unwrap(), std::fs::read(&to).unwrap());
        assert_eq!(b.len(), 100 << 20);
        assert!(a == b[..a.len()] && b[a.len()..].iter().all(|byte| *byte == 0));
        assert!(std::fs::metadata(&to).unwrap().blocks() * 512 < 8 << 20, "the copy isn't sparse");
        copy_sparse(&from, &to, 0).unwrap();
        assert_eq!(std::fs::metadata(&to).unwrap().len(), 64 << 20);
        assert_eq!(join(&[&to, &from], &folder.path().join("c")).unwrap(), [(0, 64 << 20), (64 << 20, 64 << 20)]);
        assert!(std::fs::read(folder.path().join("c")).unwrap() == [&a[..], &a[..]].concat());
        copy_part(&from, 19 << 20, 2 << 20, &to).unwrap();
        assert!(std::fs::read(&to).unwrap() == a[19 << 20..21 << 20]);
    }
}
