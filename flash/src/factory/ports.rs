//! The ports of a line, and what is plugged in at each: disks by their by-path names, and files that stand for media.

use crate::disks::choose::{Named, permit};
use crate::disks::{Disk, disks};
use crate::error::{FlashError, io_error};
use bakelite_disk::press::{OpenMedium, Target};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Something that is plugged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// Where.
    pub port: String,
    /// Which plugging in it is: another one for whatever comes next, also under the same name.
    pub attachment: String,
    /// What it is, in words.
    pub words: String,
    disk: Option<Disk>,
}

/// Where media come from.
pub trait Ports: Sync {
    /// What is plugged in now.
    fn look(&self) -> Vec<Present>;

    /// Opens a medium for this program alone, if it may be overwritten with an image of a length.
    ///
    /// # Errors
    /// Why not.
    fn open(&self, present: &Present, image: u64) -> Result<Box<dyn Target + Send>, FlashError>;

    /// Whether its capacity is doubted.
    fn is_doubted(&self, present: &Present) -> bool {
        present.disk.is_some()
    }
}

/// The ports of this host.
#[derive(Debug)]
pub struct HostPorts {
    names: Vec<String>,
    boot: String,
}

impl HostPorts {
    /// Watches ports by their names.
    pub fn new(names: &[String]) -> Self {
        // Attachments are counted from 1 at each start of the host.
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self { names: names.to_vec(), boot: boot.trim().chars().take(8).collect() }
    }
}

/// The file that stands for a medium.
pub(super) fn file_of(port: &str) -> Option<PathBuf> {
    port.strip_prefix("file:").map(PathBuf::from)
}

fn file(port: &str, path: &Path) -> Option<Present> {
    let found = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
    let born =
        found.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |time| time.as_nanos());
    let attachment = format!("{}-{born}", found.ino());
    Some(Present { port: port.into(), attachment, words: path.display().to_string(), disk: None })
}

impl Ports for HostPorts {
    fn look(&self) -> Vec<Present> {
        let is_disk = |name: &String| file_of(name).is_none();
        let all = if self.names.iter().any(is_disk) { disks(Path::new("/")) } else { Vec::new() };
        let present = |port: &String| match file_of(port) {
            Some(path) => file(port, &path),
            None => {
                let disk = all.iter().find(|disk| disk.port == *port && disk.size > 0)?;
                let attachment = format!("{}-{}-{}", self.boot, disk.attachment, disk.size);
                Some(Present { port: port.clone(), attachment, words: disk.words(), disk: Some(disk.clone()) })
            }
        };
        self.names.iter().filter_map(present).collect()
    }

    fn open(&self, present: &Present, image: u64) -> Result<Box<dyn Target + Send>, FlashError> {
        if let Some(path) = file_of(&present.port) {
            let medium = OpenMedium::file(&path, image).map_err(io_error("opening", &path))?;
            return Ok(Box::new(medium));
        }
        let none = || FlashError::NoSuchDisk(present.port.clone());
        let all = disks(Path::new("/"));
        let before = present.disk.as_ref().ok_or_else(none)?;
        let disk = all.iter().find(|disk| disk.port == present.port && disk.attachment == before.attachment);
        let disk = disk.ok_or_else(none)?;
        permit(&Named { disk, surely: true }, image)?;
        let device = disk.device();
        Ok(Box::new(OpenMedium::device(&device).map_err(io_error("opening", &device))?))
    }
}
