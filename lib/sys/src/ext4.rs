//! Making, checking, growing and mounting ext4 with Debian's own tools.
//!
//! What is to be done with which partition is decided elsewhere; a file system that e2fsck can't repair by itself is an
//! error here and stays as it is.

use crate::mount::{MountFlags, mount};
use crate::{SysError, durable, raw, tool};
use std::fs::File;
use std::path::Path;
use std::time::Duration;

const E2FSCK: &str = "/usr/sbin/e2fsck";
/// A whole disk may have to be checked.
const LIMIT: Duration = Duration::from_secs(3600);

/// Makes a file system of a length in bytes, without a label: a half-made one must not look like one that holds something.
///
/// # Errors
/// The tool's words.
pub fn make(device: &Path, block: u64, length: u64) -> Result<(), SysError> {
    let (block, blocks) = (block.to_string(), (length / block).to_string());
    // Without discards: with them an SD card takes half a minute (boot.md 4b).
    let options = "nodiscard,lazy_itable_init=1,lazy_journal_init=1";
    let arguments = ["-q", "-F", "-b", &block, "-E", options, &device.to_string_lossy(), &blocks];
    tool::must("/usr/sbin/mkfs.ext4", &arguments, LIMIT).map(drop)
}

/// Checks a file system that isn't mounted and repairs what can be repaired without a person; whether it did.
///
/// # Errors
/// When a person is needed.
pub fn check(device: &Path) -> Result<bool, SysError> {
    // The exit status is a sum: 1 repaired, 2 reboot if mounted (it isn't), 4 and more not repaired.
    let ended = tool::run(E2FSCK, &["-p", &device.to_string_lossy()], LIMIT)?;
    match ended.status {
        Some(0) => Ok(false),
        Some(1..=3) => Ok(true),
        _ => Err(ended.into_error()),
    }
}

/// Repairs a file system that isn't mounted, with all that e2fsck may do: what has lost its name goes to `lost+found`.
///
/// # Errors
/// When it can't be repaired at all.
pub fn repair(device: &Path) -> Result<(), SysError> {
    let ended = tool::run(E2FSCK, &["-f", "-y", &device.to_string_lossy()], LIMIT)?;
    match ended.status {
        Some(0..=3) => Ok(()),
        _ => Err(ended.into_error()),
    }
}

/// Grows a mounted file system to a length in bytes.
///
/// # Errors
/// The tool's words.
pub fn grow(device: &Path, length: u64) -> Result<(), SysError> {
    let size = format!("{}K", length / 1024);
    tool::must("/usr/sbin/resize2fs", &[&device.to_string_lossy(), &size], LIMIT).map(drop)
}

/// Mounts a file system for use.
///
/// # Errors
/// The kernel's answer.
pub fn attach(device: &Path, target: &str) -> Result<(), SysError> {
    mount(&device.to_string_lossy(), target, "ext4", MountFlags::NOATIME, "errors=remount-ro")
}

/// Mounts a file system only to look at it: nothing of it is changed, not even its journal is played.
///
/// # Errors
/// The kernel's answer.
pub fn look(device: &Path, target: impl AsRef<Path>) -> Result<(), SysError> {
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount(&device.to_string_lossy(), target, "ext4", flags, "noload")
}

/// Gives a new, mounted file system its label and makes all of it durable.
///
/// # Errors
/// When the label can't be set or the medium fails.
pub fn finish(root: &Path, label: &str) -> Result<(), SysError> {
    let folder = File::open(root).map_err(|source| SysError::Read { path: root.into(), source })?;
    raw::set_label(&folder, label).map_err(|source| SysError::Device {
        act: "setting the label",
        path: root.into(),
        source,
    })?;
    durable::sync_file_system(root)
}
