//! The boot partition's FAT: looked at read-only, and changed only for a moment (laws 3 and 4).
//!
//! FAT can't be frozen and has no journal: a cut may leave a name without its bytes, or two names for the same ones. So it
//! isn't mounted but for a look or a change, nothing live is ever replaced in it, a change ends with syncfs, unmounting
//! and fsync of the device, and what a cut has left is put in order by Debian's fsck.fat before the next change: else
//! removing one of two names would take the bytes away from the other. Only one program at a time mounts it.

use crate::mount::{MountFlags, mount, points, unmount_soon};
use crate::tool::{self, Ended};
use crate::{SysError, durable};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

/// Where it is mounted meanwhile.
pub const BOOT: &str = "/boot";
const FSCK: &str = "/usr/sbin/fsck.fat";
/// So often it is asked to repair at most.
const PASSES: usize = 3;
const LIMIT: Duration = Duration::from_secs(120);
const LOCK: &str = "/run/bakelite/boot.lock";
/// The flags of a boot sector, FAT32's and that of the older ones: bit 0 says that it wasn't unmounted in order.
const FLAGS_AT: (usize, usize) = (0x41, 0x25);
/// Where a FAT32 names itself.
const NAME_AT: usize = 82;
const OPTIONS: &str = "umask=0077,shortname=winnt";

/// Holds others off while it lives.
fn lock() -> Result<File, SysError> {
    let refused = |source| SysError::Change { path: LOCK.into(), source };
    let file = File::options().write(true).create(true).truncate(false).open(LOCK).map_err(refused)?;
    for _ in 0..50 {
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::AGAIN) => std::thread::sleep(Duration::from_millis(100)),
            Err(error) => return Err(refused(error.into())),
        }
    }
    Err(refused(std::io::ErrorKind::ResourceBusy.into()))
}

/// The partition while it can be written.
#[derive(Clone, Copy, Debug)]
pub struct Writable<'a> {
    /// Where its root is.
    pub root: &'a Path,
    device: &'a Path,
}

impl Writable<'_> {
    /// Makes all that was done so far durable: what comes next may depend on it.
    ///
    /// # Errors
    /// When the medium doesn't take it.
    pub fn sync(&self) -> Result<(), SysError> {
        durable::sync_file_system(self.root)?;
        flush(self.device)
    }
}

pub(crate) fn flush(device: &Path) -> Result<(), SysError> {
    let flushed = File::open(device).and_then(|device| device.sync_all());
    flushed.map_err(|source| SysError::Change { path: device.into(), source })
}

/// What is mounted there already was left behind, or is a person's: what is repaired must not be mounted, and what is mounted
/// read-only elsewhere can't be written.
fn clear() -> Result<(), SysError> {
    if points().iter().any(|point| point == BOOT) { unmount_soon(Path::new(BOOT)) } else { Ok(()) }
}

fn attach(device: &Path, flags: MountFlags) -> Result<(), SysError> {
    let flags = flags | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount(&device.to_string_lossy(), BOOT, "vfat", flags, OPTIONS)
}

/// Looks at it; nothing of it is changed.
///
/// # Errors
/// When it can't be mounted, or what the look itself says.
pub fn look<T, E: From<SysError>>(device: &Path, look: impl FnOnce(&Path) -> Result<T, E>) -> Result<T, E> {
    let _lock = lock()?;
    clear()?;
    attach(device, MountFlags::RDONLY)?;
    let seen = look(Path::new(BOOT));
    unmount_soon(Path::new(BOOT))?;
    seen
}

/// Changes it; when this ends well, the change is on the medium.
///
/// # Errors
/// When it can't be put in order, mounted or written, or what the change itself says.
pub fn change<T, E: From<SysError>>(device: &Path, change: impl FnOnce(Writable<'_>) -> Result<T, E>) -> Result<T, E> {
    let _lock = lock()?;
    clear()?;
    put_in_order(device)?;
    attach(device, MountFlags::empty())?;
    let writable = Writable { root: Path::new(BOOT), device };
    let changed = change(writable);
    let synced = writable.sync();
    unmount_soon(writable.root)?;
    let changed = changed?;
    synced?;
    flush(device)?;
    Ok(changed)
}

/// After a pulled plug: what is inconsistent is repaired, which the kernel itself never does.
///
/// # Errors
/// When it can't be repaired without a person.
pub fn put_in_order(device: &Path) -> Result<(), SysError> {
    let mut head = [0; 512];
    let read = |source| SysError::Read { path: device.into(), source };
    File::open(device).and_then(|file| file.read_exact_at(&mut head, 0)).map_err(read)?;
    if is_dirty(&head) { repair(device) } else { Ok(()) }
}

/// Repairs a file system that isn't mounted, whatever its boot sector says, as far as that needs no person: until nothing is
/// found any more. A folder that lost its bytes is only cut short by the first pass, and removed by the next; in between the kernel
/// takes it for damage.
///
/// # Errors
/// When it can't be repaired without one.
pub fn repair(device: &Path) -> Result<(), SysError> {
    until_whole(&mut || tool::run(FSCK, &["-a", "-w", &device.to_string_lossy()], LIMIT))
}

fn until_whole(pass: &mut dyn FnMut() -> Result<Ended, SysError>) -> Result<(), SysError> {
    for _ in 0..PASSES {
        let ended = pass()?;
        match ended.status {
            Some(0) => return Ok(()),
            Some(1) => {}
            _ => return Err(ended.into_error()),
        }
    }
    Ok(())
}

fn is_dirty(head: &[u8; 512]) -> bool {
    let at = if head[NAME_AT..].starts_with(b"FAT32") { FLAGS_AT.0 } else { FLAGS_AT.1 };
    head[at] & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_repaired_until_nothing_is_found() {
        for (ends, passes, good) in [
            (&[0][..], 1, true),
            (&[1, 0], 2, true),
            (&[1, 1, 0], 3, true),
            (&[1, 1, 1, 1], 3, true),
            (&[1, 2], 2, false),
        ] {
            let mut left = ends.iter();
            let repaired = until_whole(&mut || {
                let (command, status) = (String::new(), left.next().copied());
                Ok(Ended { command, status, signal: None, timed_out: false, output: Vec::new() })
            });
            assert_eq!((repaired.is_ok(), ends.len() - left.len()), (good, passes), "{ends:?}");
        }
    }

    #[test]
    fn a_fat_says_where_its_kind_has_it_that_it_was_not_unmounted() {
        for (name, at, other) in [(&b"FAT32   "[..], 0x41, 0x25), (b"", 0x25, 0x41)] {
            let mut head = [0; 512];
            head[NAME_AT..NAME_AT + name.len()].copy_from_slice(name);
            head[other] = 1;
            assert!(!is_dirty(&head));
            head[at] = 1;
            assert!(is_dirty(&head));
        }
    }
}
