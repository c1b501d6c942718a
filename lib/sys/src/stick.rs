//! Somebody's stick or disk: mounted for a look, or for a change where the owner has said so, and never longer than that.
//!
//! It may be pulled out at any moment: a change ends with syncfs, unmounting and fsync of the device, and before one is
//! begun the file system is put in order by its own tool, where there is one on the machine. Programs on it don't run.

use crate::mount::{MountFlags, mount, unmount};
use crate::{SysError, durable, ext4, fat};
use std::path::{Path, PathBuf};

/// Where it is mounted meanwhile: each program has a place of its own, as several look at sticks at the same time.
fn place() -> PathBuf {
    PathBuf::from(format!("/run/bakelite/stick-{}", std::process::id()))
}

const NO_PROGRAMS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// The kernel's driver for a kind of file system that a stick of ours may have, as `bakelite_disk::signature` names kinds.
pub fn driver(kind: &str) -> Option<&'static str> {
    match kind {
        "FAT" => Some("vfat"),
        "exFAT" => Some("exfat"),
        "ext4" => Some("ext4"),
        _ => None,
    }
}

/// Looks at it; nothing of it is changed.
///
/// # Errors
/// When it can't be mounted, or what the look itself says.
pub fn look<T, E: From<SysError>>(
    device: &Path,
    driver: &str,
    look: impl FnOnce(&Path) -> Result<T, E>,
) -> Result<T, E> {
    let place = place();
    durable::make_folder(&place)?;
    if driver == "ext4" {
        ext4::look(device, &place)?;
    } else {
        mount(&device.to_string_lossy(), &place, driver, MountFlags::RDONLY | NO_PROGRAMS, options(driver))?;
    }
    let seen = look(&place);
    leave(&place, false)?;
    seen
}

/// Changes it; when this ends well, the change is on the medium.
///
/// # Errors
/// When it can't be put in order, mounted or written, or what the change itself says.
pub fn change<T, E: From<SysError>>(
    device: &Path,
    driver: &str,
    change: impl FnOnce(&Path) -> Result<T, E>,
) -> Result<T, E> {
    let place = place();
    durable::make_folder(&place)?;
    match driver {
        "vfat" => fat::put_in_order(device)?,
        "ext4" => drop(ext4::check(device)?),
        // Debian's exfatprogs aren't part of an image.
        _ => {}
    }
    let flags = NO_PROGRAMS | MountFlags::NOATIME;
    mount(&device.to_string_lossy(), &place, driver, flags, options(driver))?;
    let changed = change(&place);
    let synced = durable::sync_file_system(&place);
    // A stick that was pulled out meanwhile still has to go from its place.
    leave(&place, synced.is_err())?;
    let changed = changed?;
    synced?;
    fat::flush(device)?;
    Ok(changed)
}

/// Unmounts it. Its place goes as well: the next program has another one.
fn leave(place: &Path, lazily: bool) -> Result<(), SysError> {
    unmount(place, lazily)?;
    let _ = std::fs::remove_dir(place);
    Ok(())
}

fn options(driver: &str) -> &'static str {
    match driver {
        "vfat" => "umask=0077,shortname=winnt",
        "exfat" => "umask=0077",
        _ => "",
    }
}
