//! Control groups: each unit in a leaf of its own below bakelite.slice, PID 1 in the root (k3s.md 2.2).

use bakelite_sys::{SysError, durable, group, words};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Where the tree is.
pub const ROOT: &str = "/sys/fs/cgroup";
/// Where k3s's pods are.
pub const PODS: &str = "/sys/fs/cgroup/kubepods";
const CONTROLLERS: [&str; 6] = ["cpu", "cpuset", "memory", "pids", "io", "hugetlb"];

/// A unit's folder.
pub fn of_unit(unit: &str) -> PathBuf {
    Path::new(ROOT).join("bakelite.slice").join(unit)
}

/// Hands the controllers down, one by one: a kernel may lack some.
///
/// # Errors
/// When the slice can't be made.
pub fn prepare() -> Result<(), SysError> {
    let slice = Path::new(ROOT).join("bakelite.slice");
    durable::make_folder(&slice)?;
    for folder in [Path::new(ROOT), &slice] {
        for controller in CONTROLLERS {
            let _ = durable::write_plain(folder.join("cgroup.subtree_control"), &format!("+{controller}"));
        }
    }
    Ok(())
}

/// Opens a unit's group for its process to enter; without one it stays where PID 1 is.
pub fn open(unit: &str) -> Option<OwnedFd> {
    group::open(&of_unit(unit)).unwrap_or_else(|error| {
        log::warn!("{}", words(&error));
        None
    })
}
