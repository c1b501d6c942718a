//! Media of this machine: a block device that nobody else holds, or a file that stands for one. The press's door to both.
//!
//! Whole pages go past the page cache, so that the speed that is shown is the medium's, a stick doesn't fill this
//! machine's memory with what it has yet to write, and what is read back comes from the medium. What isn't whole pages
//! goes through the cache, is synced, and dropped from it before it is read.

use super::{ALIGNED, Target};
use crate::Medium;
use rustix::fs::{Advice, FallocateFlags, FlockOperation, OFlags};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Bytes of one write of zeros.
const ZEROS: u64 = 1 << 20;

/// An open medium.
#[derive(Debug)]
pub struct OpenMedium {
    /// Through the page cache.
    file: File,
    /// Past it, where that can be had.
    direct: Option<File>,
    is_device: bool,
}

impl OpenMedium {
    /// Opens a block device for this program alone.
    ///
    /// # Errors
    /// When it isn't one, or somebody holds it (`EBUSY`).
    pub fn device(path: &Path) -> io::Result<Self> {
        let exclusive = i32::try_from(OFlags::EXCL.bits()).unwrap_or_default();
        let file = File::options().read(true).write(true).custom_flags(exclusive).open(path)?;
        if !file.metadata()?.file_type().is_block_device() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no block device"));
        }
        Ok(Self { direct: direct(&file), file, is_device: true })
    }

    /// Opens a file that stands for a medium; one that is new or empty gets a length.
    ///
    /// # Errors
    /// When it can't be opened, or another program has it.
    pub fn file(path: &Path, length: u64) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        if file.metadata()?.len() == 0 {
            file.set_len(length)?;
        }
        Ok(Self { direct: direct(&file), file, is_device: false })
    }

    fn through(&self, at: u64, length: usize, memory: *const u8) -> Option<&File> {
        let whole = |value: u64| value.is_multiple_of(ALIGNED as u64);
        self.direct.as_ref().filter(|_| whole(at) && whole(length as u64) && whole(memory.addr() as u64))
    }

    fn write_through(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        match self.through(at, bytes.len(), bytes.as_ptr()) {
            Some(direct) => match direct.write_all_at(bytes, at) {
                // Not every file system and sector size takes what is aligned to a page.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => self.file.write_all_at(bytes, at),
                written => written,
            },
            None => self.file.write_all_at(bytes, at),
        }
    }
}

/// The same medium, past the page cache.
fn direct(file: &File) -> Option<File> {
    let flags = i32::try_from(OFlags::DIRECT.bits()).unwrap_or_default();
    File::options().read(true).write(true).custom_flags(flags).open(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()
}

impl Read for OpenMedium {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Write for OpenMedium {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for OpenMedium {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl Medium for OpenMedium {
    fn make_durable(&mut self) -> io::Result<()> {
        self.file.sync_all()
    }
}

impl Target for OpenMedium {
    fn length(&mut self) -> io::Result<u64> {
        self.file.seek(SeekFrom::End(0))
    }

    fn read_back(&mut self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        if let Some(direct) = self.through(at, bytes.len(), bytes.as_ptr()) {
            match direct.read_exact_at(bytes, at) {
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
                read => return read,
            }
        }
        let length = std::num::NonZeroU64::new(bytes.len() as u64);
        rustix::fs::fadvise(&self.file, at, length, Advice::DontNeed)?;
        self.file.read_exact_at(bytes, at)
    }

    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_through(at, bytes)
    }

    fn zero(&mut self, at: u64, length: u64) -> io::Result<()> {
        if length == 0 {
            return Ok(());
        }
        // The device's own zeroing or discarding, where it promises that zeros come back; the kernel writes them else.
        let modes = [FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, FallocateFlags::ZERO_RANGE];
        if modes.into_iter().any(|mode| rustix::fs::fallocate(&self.file, mode, at, length).is_ok()) {
            return Ok(());
        }
        let zeros = vec![0; usize::try_from(length.min(ZEROS)).unwrap_or_default()];
        let (mut at, end) = (at, at + length);
        while at < end {
            let size = usize::try_from((end - at).min(ZEROS)).unwrap_or_default();
            self.file.write_all_at(&zeros[..size], at)?;
            at += size as u64;
        }
        Ok(())
    }

    fn is_hole(&mut self, at: u64, length: u64) -> bool {
        // No data at all from here on is told as ENXIO.
        !self.is_device
            && match rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Data(at)) {
                Ok(data) => data >= at + length,
                Err(error) => error == rustix::io::Errno::NXIO,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::press::Buffer;

    #[test]
    fn a_file_is_written_and_read_back_in_whole_pages_and_in_parts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("card");
        let mut medium = OpenMedium::file(&path, (4 << 20) + 512).unwrap();
        assert!(OpenMedium::file(&path, 9).is_err(), "another one has it");
        assert_eq!(Target::length(&mut medium).unwrap(), (4 << 20) + 512);
        assert!(medium.is_hole(0, 4 << 20));
        let mut page = Buffer::new(1 << 20);
        page.fill(7);
        medium.write_at(1 << 20, &page).unwrap();
        medium.write_at(4 << 20, &[9; 512]).unwrap();
        medium.make_durable().unwrap();
        assert!(medium.is_hole(0, 1 << 20) && !medium.is_hole(0, (1 << 20) + 1));
        page.fill(0);
        medium.read_back(1 << 20, &mut page).unwrap();
        assert!(page.iter().all(|byte| *byte == 7));
        let mut end = [0; 512];
        medium.read_back(4 << 20, &mut end).unwrap();
        assert_eq!(end, [9; 512]);
        medium.zero(1 << 20, 1 << 20).unwrap();
        medium.zero((4 << 20) + 100, 5).unwrap();
        medium.read_back(1 << 20, &mut page).unwrap();
        assert!(page.iter().all(|byte| *byte == 0));
        medium.read_back(4 << 20, &mut end).unwrap();
        assert_eq!((end[99], end[100], end[104], end[105]), (9, 0, 0, 9));
        drop(medium);
        assert_eq!(Target::length(&mut OpenMedium::file(&path, 9).unwrap()).unwrap(), (4 << 20) + 512);
    }
}
