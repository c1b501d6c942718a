//! The early mounts as one table: what the kernel's own file systems are and where they belong.
//!
//! Nothing of a medium is mounted here. An optional entry that this kernel lacks is no fault.

use bakelite_sys::mount::{MountFlags, MountPropagationFlags, mount, propagate};
use bakelite_sys::{SysError, durable};
use std::path::Path;

/// When an entry is mounted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// In the initramfs; moved along to the real root.
    Initramfs,
    /// In the real root.
    Root,
    /// In the real root, beside what the machine waits for: the kernel looks for a helper of bpf's, in vain.
    Beside,
}

struct Entry {
    stage: Stage,
    kind: &'static str,
    target: &'static str,
    flags: MountFlags,
    options: &'static str,
    optional: bool,
}

const NONE: MountFlags = MountFlags::empty();
const SAFE: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);
const STRICT: MountFlags = SAFE.union(MountFlags::NOEXEC);

const fn entry(
    stage: Stage,
    kind: &'static str,
    target: &'static str,
    flags: MountFlags,
    options: &'static str,
    optional: bool,
) -> Entry {
    Entry { stage, kind, target, flags, options, optional }
}

/// Options by k3s.md 2.2 and 2.3; the tmpfs caps keep a runaway log or temporary file from eating the memory.
const TABLE: &[Entry] = &[
    entry(Stage::Initramfs, "proc", "/proc", STRICT, "", false),
    entry(Stage::Initramfs, "sysfs", "/sys", STRICT, "", false),
    entry(Stage::Initramfs, "devtmpfs", "/dev", MountFlags::NOSUID, "mode=755", false),
    entry(Stage::Initramfs, "tmpfs", "/run", SAFE, "mode=755,size=25%", false),
    entry(Stage::Initramfs, "efivarfs", "/sys/firmware/efi/efivars", STRICT, "", true),
    entry(
        Stage::Root,
        "devpts",
        "/dev/pts",
        NONE.union(MountFlags::NOSUID).union(MountFlags::NOEXEC),
        "gid=5,mode=620,ptmxmode=666",
        false,
    ),
    entry(Stage::Root, "tmpfs", "/dev/shm", SAFE, "mode=1777,size=50%", false),
    entry(Stage::Root, "mqueue", "/dev/mqueue", STRICT, "", true),
    entry(Stage::Root, "cgroup2", "/sys/fs/cgroup", STRICT, "nsdelegate,memory_recursiveprot", false),
    entry(Stage::Beside, "bpf", "/sys/fs/bpf", STRICT, "mode=700", true),
    entry(Stage::Root, "securityfs", "/sys/kernel/security", STRICT, "", true),
    entry(Stage::Root, "pstore", "/sys/fs/pstore", STRICT, "", true),
    entry(Stage::Root, "tmpfs", "/tmp", SAFE, "mode=1777,size=20%", false),
    entry(Stage::Root, "tmpfs", "/var", SAFE, "mode=755,size=25%", false),
];

/// Mounts what the table has for a stage.
///
/// # Errors
/// When an entry that isn't optional can't be mounted.
pub fn early(stage: Stage) -> Result<(), SysError> {
    for entry in TABLE.iter().filter(|entry| entry.stage == stage) {
        let target = Path::new(entry.target);
        if !target.is_dir() && !entry.optional {
            durable::make_folder(target)?;
        }
        match mount(entry.kind, target, entry.kind, entry.flags, entry.options) {
            Err(error) if !entry.optional => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Mounts the EFI variables, for when their driver is a module that was loaded after [`early`].
///
/// # Errors
/// The kernel's answer.
pub fn efi_variables() -> Result<(), SysError> {
    mount("efivarfs", "/sys/firmware/efi/efivars", "efivarfs", STRICT, "")
}

/// Shares all mounts with the containers' namespaces: volumes with mount propagation need it (k3s.md 2.3).
///
/// # Errors
/// The kernel's answer.
pub fn share_all() -> Result<(), SysError> {
    propagate(Path::new("/"), MountPropagationFlags::SHARED | MountPropagationFlags::REC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_place_stands_twice_and_none_before_the_one_it_is_in() {
        for (number, entry) in TABLE.iter().enumerate() {
            for later in &TABLE[number + 1..] {
                assert_ne!(entry.target, later.target);
                assert!(!Path::new(entry.target).starts_with(later.target), "{} hides {}", later.target, entry.target);
            }
        }
    }
}
