//! Mounting and unmounting, with what was mounted in the error.

use crate::{SysError, raw};
use rustix::mount::UnmountFlags;
pub use rustix::mount::{MountFlags, MountPropagationFlags};
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Mounts a file system.
///
/// # Errors
/// The kernel's answer.
pub fn mount(
    source: &str,
    target: impl AsRef<Path>,
    kind: &str,
    flags: MountFlags,
    options: &str,
) -> Result<(), SysError> {
    let target = target.as_ref();
    let failed =
        |error: io::Error| SysError::Mount { what: format!("{source} ({kind})"), target: target.into(), source: error };
    let options = CString::new(options).map_err(|error| failed(error.into()))?;
    rustix::mount::mount(source, target, kind, flags, options.as_c_str()).map_err(|error| failed(error.into()))
}

/// Mounts what is in a file, such as a squashfs, read-only. The loop device goes with the mount.
///
/// # Errors
/// The kernel's answer.
pub fn mount_file(file: &Path, target: &Path, kind: &str) -> Result<(), SysError> {
    let failed = |source| SysError::Mount { what: file.display().to_string(), target: target.into(), source };
    let content = File::open(file).map_err(failed)?;
    let control = File::options().read(true).write(true).open("/dev/loop-control").map_err(failed)?;
    let path = format!("/dev/loop{}", raw::free_loop(&control).map_err(failed)?);
    // Open until it is mounted: what nobody uses is taken back at once.
    let device = File::open(&path).map_err(failed)?;
    raw::show_file(&device, &content).map_err(failed)?;
    mount(&path, target, kind, MountFlags::RDONLY | MountFlags::NODEV, "")
}

/// Has this program and its children mount for themselves alone: what they leave mounted goes when they end.
///
/// # Errors
/// The kernel's answer.
pub fn apart() -> Result<(), SysError> {
    let failed = |source| SysError::Change { path: "/".into(), source };
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).map_err(|error| failed(error.into()))?;
    propagate(Path::new("/"), MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
}

/// Has this program see a folder as its root.
///
/// # Errors
/// The kernel's answer.
pub fn enter(root: &Path) -> Result<(), SysError> {
    let entered = rustix::process::chroot(root).and_then(|()| rustix::process::chdir("/"));
    entered.map_err(|error| SysError::Change { path: root.into(), source: error.into() })
}

/// Shows a folder at a second place, too.
///
/// # Errors
/// The kernel's answer.
pub fn bind(source: &Path, target: &Path) -> Result<(), SysError> {
    rustix::mount::mount_bind(source, target).map_err(|error| SysError::Mount {
        what: source.display().to_string(),
        target: target.into(),
        source: error.into(),
    })
}

/// Mounts again with other flags.
///
/// # Errors
/// The kernel's answer, such as EBUSY where files are open for writing.
pub fn remount(target: &Path, flags: MountFlags) -> Result<(), SysError> {
    rustix::mount::mount_remount(target, flags, c"").map_err(|error| SysError::Mount {
        what: "again".into(),
        target: target.into(),
        source: error.into(),
    })
}

/// Moves a mount to another place.
///
/// # Errors
/// The kernel's answer.
pub fn move_to(source: &Path, target: &Path) -> Result<(), SysError> {
    rustix::mount::mount_move(source, target).map_err(|error| SysError::Mount {
        what: source.display().to_string(),
        target: target.into(),
        source: error.into(),
    })
}

/// Changes how mounts below a folder reach other namespaces.
///
/// # Errors
/// The kernel's answer.
pub fn propagate(target: &Path, flags: MountPropagationFlags) -> Result<(), SysError> {
    rustix::mount::mount_change(target, flags).map_err(|error| SysError::Mount {
        what: "propagation".into(),
        target: target.into(),
        source: error.into(),
    })
}

/// Unmounts; lazily means: out of sight at once, ended when nobody uses it any more.
///
/// # Errors
/// The kernel's answer.
pub fn unmount(target: &Path, lazily: bool) -> Result<(), SysError> {
    let flags = if lazily { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    rustix::mount::unmount(target, flags | UnmountFlags::NOFOLLOW)
        .map_err(|error| SysError::Unmount { target: target.into(), source: error.into() })
}

/// Unmounts what somebody may just be looking at, such as a program that asks for its free space: tries for five seconds.
///
/// # Errors
/// The kernel's answer.
pub fn unmount_soon(target: &Path) -> Result<(), SysError> {
    for _ in 0..50 {
        match unmount(target, false) {
            Err(SysError::Unmount { source, .. }) if source.kind() == io::ErrorKind::ResourceBusy => {
                std::thread::sleep(Duration::from_millis(100));
            }
            unmounted => return unmounted,
        }
    }
    unmount(target, false)
}

/// A mount, as /proc/self/mountinfo has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// The device's number, `major:minor`.
    pub device: String,
    /// The folder of the file system that is shown.
    pub folder: String,
    /// Where it is shown.
    pub point: String,
}

/// All mounts in the order in which they were made.
pub fn all() -> Vec<Mounted> {
    parse(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

fn parse(text: &str) -> Vec<Mounted> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(2);
            let (device, folder, point) = (words.next()?, words.next()?, words.next()?);
            Some(Mounted { device: device.into(), folder: unescape(folder), point: unescape(point) })
        })
        .collect()
}

/// All mount points in the order in which they were mounted.
pub fn points() -> Vec<String> {
    all().into_iter().map(|mounted| mounted.point).collect()
}

fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// Bytes that are free on the file system of a path; 0 where that can't be told.
pub fn free(path: &Path) -> u64 {
    rustix::fs::statvfs(path).map_or(0, |room| room.f_bavail * room.f_frsize)
}

/// The size of the file system of a path in bytes; 0 where that can't be told.
pub fn size(path: &Path) -> u64 {
    rustix::fs::statvfs(path).map_or(0, |room| room.f_blocks * room.f_frsize)
}

/// Whether what is written below a path is forgotten at power-off.
pub fn is_volatile(path: &Path) -> bool {
    use nix::sys::statfs::{TMPFS_MAGIC, statfs};
    !statfs(path).is_ok_and(|found| found.filesystem_type() != TMPFS_MAGIC)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_root_is_among_the_mount_points() {
        assert!(super::points().iter().any(|point| point == "/"));
        let line = "36 35 98:0 /mnt1 /a\\040b rw,noatime master:1 - ext4 /dev/root rw";
        let expected = super::Mounted { device: "98:0".into(), folder: "/mnt1".into(), point: "/a b".into() };
        assert_eq!(super::parse(line), [expected]);
    }
}
