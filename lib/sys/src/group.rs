//! Control groups: a process enters one through its door, and is killed there with all that it has started.

use crate::{SysError, durable, machine};
use rustix::fs::{Mode, OFlags};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Makes a group, if it isn't there, and opens the file by which a process enters it; `None` where it can't be opened.
///
/// # Errors
/// When the folder can't be made.
pub fn open(group: &Path) -> Result<Option<OwnedFd>, SysError> {
    durable::make_folder(group)?;
    Ok(rustix::fs::open(group.join("cgroup.procs"), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).ok())
}

/// Kills all that is left in a group; one that isn't there has nothing left.
pub fn kill(group: &Path) {
    let _ = durable::write_plain(group.join("cgroup.kill"), "1");
}

/// Kills all that is left in a group, waits until it is gone, and removes the group.
pub fn end(group: &Path, limit: Duration) {
    kill(group);
    let until = Instant::now() + limit;
    while !machine::processes_below(group).is_empty() && Instant::now() < until {
        std::thread::sleep(PAUSE);
    }
    let _ = rustix::fs::rmdir(group);
}
