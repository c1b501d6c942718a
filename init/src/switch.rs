//! From the initramfs to the system partition: mount it, take the kernel's mounts along, free the memory, become it.

use crate::error::InitError;
use crate::medium::Found;
use bakelite_spec::fault::Code;
use bakelite_sys::mount::{MountFlags, mount, move_to};
use bakelite_sys::{SysError, tool, words};
use rustix::fs::Dev;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Where the initramfs mounts what it moves to.
pub const NEW_ROOT: &str = "/newroot";
/// The same program in the system partition.
const INIT: &str = "/usr/lib/bakelite/init";

/// Mounts the system partition.
///
/// # Errors
/// The fault that the slot can't be read.
pub fn mount_system(found: &Found) -> Result<(), InitError> {
    bakelite_sys::durable::make_folder(NEW_ROOT)?;
    let flags = MountFlags::RDONLY | MountFlags::NODEV;
    let source = found.device.to_string_lossy();
    mount(&source, NEW_ROOT, "squashfs", flags, "").map_err(|error| {
        InitError::fault(Code::SlotUnreadable, format!("system {} on {}: {}", found.slot, found.disk, words(&error)))
    })
}

/// Moves to the mounted system; returns only when that fails.
pub fn switch() -> InitError {
    match enter(true) {
        Ok(()) => tool::become_program(INIT, &[], &BTreeMap::new()).into(),
        Err(error) => error.into(),
    }
}

/// Moves to what is mounted at [`NEW_ROOT`]. `for_good`: nobody needs the initramfs any more.
pub fn enter(for_good: bool) -> Result<(), SysError> {
    for place in ["/dev", "/proc", "/sys", "/run"] {
        move_to(Path::new(place), &Path::new(NEW_ROOT).join(&place[1..]))?;
    }
    let root = |source: std::io::Error| SysError::Change { path: "/".into(), source };
    if for_good {
        let device = std::fs::metadata("/").map_err(root)?.dev();
        empty(Path::new("/"), device);
    }
    std::env::set_current_dir(NEW_ROOT).map_err(root)?;
    move_to(Path::new("."), Path::new("/"))?;
    std::os::unix::fs::chroot(".").map_err(root)?;
    std::env::set_current_dir("/").map_err(root)
}

/// Frees the initramfs: removes all that is on its own file system. What can't be removed only costs memory.
fn empty(folder: &Path, device: Dev) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match std::fs::symlink_metadata(&path) {
            Ok(meta) if meta.dev() != device => {}
            Ok(meta) if meta.is_dir() => {
                empty(&path, device);
                let _ = std::fs::remove_dir(&path);
            }
            _ => {
                let _ = std::fs::remove_file(&path);
            }
        }
    }
}
