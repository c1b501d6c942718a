//! Where things live: /var in memory, and what has to last shown there from the state partition.
//!
//! Only bind mounts, never symbolic links, under the paths that Debian's and k3s's programs expect (DESIGN, section 3).

use bakelite_spec::status::paths;
use bakelite_sys::mount::{self, MountFlags, bind, mount};
use bakelite_sys::{SysError, durable, read_text};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

/// Folders of the state partition and where they are shown. While there is no data disk, k3s's are among them.
const SHOWN: &[(&str, &str, u32)] = &[
    ("bakelite", "/var/lib/bakelite", 0o700),
    ("dhcpcd", "/var/lib/dhcpcd", 0o755),
    ("chrony", "/var/lib/chrony", 0o750),
    ("dropbear", "/var/lib/dropbear", 0o700),
    ("rancher-etc", "/etc/rancher", 0o755),
    ("rancher", "/var/lib/rancher", 0o755),
    ("kubelet", "/var/lib/kubelet", 0o750),
    ("opt", "/opt", 0o755),
    ("srv", "/srv", 0o755),
    ("data", "/data", 0o755),
];

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
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .map_err(|source| SysError::Change { path: path.into(), source })
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
    for (folder, target, mode) in SHOWN {
        let source = format!("{}/{folder}", paths::STATE_MOUNT);
        if !Path::new(&source).is_dir() {
            make(&source, *mode)?;
        }
        if target.starts_with("/var") {
            durable::make_folder(target)?;
        }
        bind(Path::new(&source), Path::new(target))?;
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
