//! Where things live: /var in memory, and what has to last shown there from the state partition.
//!
//! Only bind mounts, never symbolic links, under the paths that Debian's and k3s's programs expect (DESIGN, section 3).

use bakelite_spec::places::on_state;
use bakelite_spec::status::paths;
use bakelite_sys::mount::{self, MountFlags, bind, mount};
use bakelite_sys::{SysError, durable, read_text};
use std::os::unix::fs::chown;
use std::path::Path;

/// Folders in memory that programs expect.
const MADE: &[(&str, u32)] = &[
    ("/var/log", 0o755),
    ("/var/cache", 0o755),
    ("/var/spool", 0o755),
    ("/var/tmp", 0o1777),
    ("/var/lib/cni", 0o755),
    ("/run/log/bakelite", 0o755),
    ("/run/lock", 0o1777),
    ("/run/dhcpcd", 0o755),
    ("/run/chrony", 0o750),
    ("/run/bakelite", 0o755),
];

fn make(path: &str, mode: u32) -> Result<(), SysError> {
    durable::make_folder(path)?;
    durable::set_mode(Path::new(path), mode)
}

/// Arranges all places. Without a state partition what should last lives in memory and is gone after a restart.
///
/// # Errors
/// When a place can't be made or shown.
pub fn arrange(has_state: bool) -> Result<(), SysError> {
    if !has_state {
        mount("tmpfs", paths::STATE_MOUNT, "tmpfs", MountFlags::NODEV, "mode=755,size=25%")?;
    }
    for (path, mode) in MADE {
        make(path, *mode)?;
    }
    std::os::unix::fs::symlink("/run", "/var/run")
        .map_err(|source| SysError::Change { path: "/var/run".into(), source })?;
    make("/var/log/pods", 0o755)?;
    mount("tmpfs", "/var/log/pods", "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, "mode=755,size=5%")?;
    for place in on_state() {
        let source = format!("{}/{}", paths::STATE_MOUNT, place.folder);
        if !Path::new(&source).is_dir() {
            make(&source, place.mode)?;
        }
        if place.at.starts_with("/var") {
            durable::make_folder(place.at)?;
        }
        bind(Path::new(&source), Path::new(place.at))?;
    }
    for folder in ["/var/lib/chrony", "/run/chrony"] {
        if let Some((user, group)) = account("_chrony") {
            chown(folder, Some(user), Some(group))
                .map_err(|source| SysError::Change { path: folder.into(), source })?;
        }
    }
    Ok(())
}

/// Whether the data disk that firstboot has mounted isn't there any more: settle then asks for a restart.
pub fn data_disk_has_vanished() -> bool {
    let mounted = mount::all().into_iter().find(|mounted| mounted.point == paths::DATA_MOUNT);
    mounted.is_some_and(|mounted| !Path::new("/sys/dev/block").join(mounted.device).exists())
}

/// The user and group number of an account. Static programs must not ask the C library for names.
fn account(name: &str) -> Option<(u32, u32)> {
    let text = read_text("/etc/passwd").ok()?;
    let line = text.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}
