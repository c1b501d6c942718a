//! Durable files: what these functions have written is on the medium, or the file is as it was before.
//!
//! Publishing is: a temporary file beside the target, fsync, rename, fsync of the folder (law 3 and 4 of the design).
//! For tmpfs and kernel files, where there is nothing to make durable, [`write_plain`] is the one door.

use crate::SysError;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    path.with_file_name(name)
}

fn write_new(path: &Path, bytes: &[u8], mode: u32, durable: bool) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    if durable { file.sync_all() } else { Ok(()) }
}

/// Writes a new file and makes its bytes durable; for media where a rename isn't the commit.
///
/// # Errors
/// When it can't be written.
pub fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<(), SysError> {
    write_new(path, bytes, mode, true).map_err(|source| SysError::Write { path: path.into(), source })
}

/// Overwrites a file in place with as many bytes as it has, and makes them durable. For what is one sector on the medium,
/// where a cut leaves the old bytes or the new ones and a rename isn't safe (FAT).
///
/// # Errors
/// When it isn't there, has another length, or can't be written.
pub fn overwrite(path: &Path, bytes: &[u8]) -> Result<(), SysError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).open(path)?;
        if file.metadata()?.len() != bytes.len() as u64 {
            return Err(std::io::Error::other("it has another length than what is to be written"));
        }
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|source| SysError::Write { path: path.into(), source })
}

/// Replaces a file's content so that a power cut leaves the old content or the new one.
///
/// # Errors
/// When any step fails; the old content is then still there.
pub fn write_durable(path: impl AsRef<Path>, bytes: &[u8], mode: u32) -> Result<(), SysError> {
    let path = path.as_ref();
    let temporary = beside(path);
    write_new(&temporary, bytes, mode, true).map_err(|source| SysError::Write { path: temporary.clone(), source })?;
    publish(&temporary, path)
}

/// Replaces a file's content as [`write_durable`] does, or where `durable` is false as [`replace`], with an owner. Nobody
/// ever sees the content under another owner or mode.
///
/// # Errors
/// When any step fails; the old content is then still there.
pub fn write_owned(
    path: impl AsRef<Path>,
    bytes: &[u8],
    mode: u32,
    owner: Option<(u32, u32)>,
    durable: bool,
) -> Result<(), SysError> {
    let path = path.as_ref();
    let temporary = beside(path);
    remove_file(&temporary)?;
    let write = || {
        write_new(&temporary, b"", 0o600, false)?;
        if let Some((user, group)) = owner {
            std::os::unix::fs::chown(&temporary, Some(user), Some(group))?;
        }
        write_new(&temporary, bytes, 0o600, false)?;
        std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(mode))?;
        if durable { File::open(&temporary)?.sync_all() } else { Ok(()) }
    };
    write().map_err(|source| SysError::Write { path: temporary.clone(), source })?;
    if durable { publish(&temporary, path) } else { rename(&temporary, path) }
}

/// Moves a finished and synced file to its name, and makes the name durable. The file comes first: on FAT a rename makes a
/// name without bytes, which it gets when the inode is written (Linux fs/fat/namei_vfat.c, `vfat_rename`).
///
/// # Errors
/// When the rename or an fsync fails.
pub fn publish(from: &Path, to: &Path) -> Result<(), SysError> {
    rename(from, to)?;
    File::open(to).and_then(|file| file.sync_all()).map_err(|source| SysError::Change { path: to.into(), source })?;
    sync_folder(to.parent().unwrap_or(Path::new("/")))
}

/// Renames without making it durable.
///
/// # Errors
/// When the rename fails.
#[expect(clippy::disallowed_methods, reason = "the door itself")]
pub fn rename(from: &Path, to: &Path) -> Result<(), SysError> {
    std::fs::rename(from, to).map_err(|source| SysError::Change { path: to.into(), source })
}

/// Makes the names in a folder durable.
///
/// # Errors
/// When the folder can't be opened or synced.
pub fn sync_folder(folder: &Path) -> Result<(), SysError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| SysError::Change { path: folder.into(), source })
}

/// Makes the whole file system that a path is on durable.
///
/// # Errors
/// When the path can't be opened or the medium fails.
pub fn sync_file_system(path: &Path) -> Result<(), SysError> {
    let change = |source| SysError::Change { path: path.into(), source };
    let file = File::open(path).map_err(change)?;
    rustix::fs::syncfs(&file).map_err(|error| change(error.into()))
}

/// Replaces a file on a tmpfs in one step; nothing is made durable.
///
/// # Errors
/// When writing or renaming fails.
pub fn replace(path: impl AsRef<Path>, bytes: &[u8], mode: u32) -> Result<(), SysError> {
    let path = path.as_ref();
    let temporary = beside(path);
    write_new(&temporary, bytes, mode, false).map_err(|source| SysError::Write { path: temporary.clone(), source })?;
    rename(&temporary, path)
}

/// Writes to a file of the kernel (sysfs, procfs, cgroup) or a device; it has to be there.
///
/// # Errors
/// When it isn't there or refuses the value.
pub fn write_plain(path: impl AsRef<Path>, text: &str) -> Result<(), SysError> {
    let path = path.as_ref();
    OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|source| SysError::Write { path: path.into(), source })
}

/// Makes a folder and those above it.
///
/// # Errors
/// When one of them can't be made.
pub fn make_folder(path: impl AsRef<Path>) -> Result<(), SysError> {
    let path = path.as_ref();
    std::fs::create_dir_all(path).map_err(|source| SysError::Change { path: path.into(), source })
}

/// Makes a file that only its owner reads, in place of one that is there, for writing in pieces; nothing is durable yet.
///
/// # Errors
/// When it can't be made.
pub fn create_private(path: &Path) -> Result<File, SysError> {
    remove_file(path)?;
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|source| SysError::Write { path: path.into(), source })
}

/// Has the kernel forget what it keeps of a synced file, so that the next read is the medium's.
///
/// # Errors
/// When it can't be opened.
pub fn forget_cached(path: &Path) -> Result<(), SysError> {
    let failed = |source| SysError::Read { path: path.into(), source };
    let file = File::open(path).map_err(failed)?;
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).map_err(|error| failed(error.into()))
}

/// Sets the permission bits of a file or folder.
///
/// # Errors
/// When it isn't there or isn't ours.
pub fn set_mode(path: &Path, mode: u32) -> Result<(), SysError> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .map_err(|source| SysError::Change { path: path.into(), source })
}

/// Removes a file; one that isn't there is no error.
///
/// # Errors
/// When it is there and can't be removed.
pub fn remove_file(path: impl AsRef<Path>) -> Result<(), SysError> {
    let path = path.as_ref();
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(SysError::Change { path: path.into(), source })
        }
        _ => Ok(()),
    }
}

/// Removes a folder with all that is in it; one that isn't there is no error.
///
/// # Errors
/// When it is there and can't be removed.
pub fn remove_tree(path: &Path) -> Result<(), SysError> {
    match std::fs::remove_dir_all(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(SysError::Change { path: path.into(), source })
        }
        _ => Ok(()),
    }
}

/// The same, durably; nor is it an error that the folder which it would be in isn't there.
///
/// # Errors
/// When it is there and can't be removed, or that can't be made durable.
pub fn remove_folder(path: &Path) -> Result<(), SysError> {
    remove_tree(path)?;
    path.parent().filter(|parent| parent.is_dir()).map_or(Ok(()), sync_folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_goes_with_all_that_is_in_it_and_may_be_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("aside/aside-1");
        make_folder(&path).unwrap();
        write_durable(path.join("x"), b"x", 0o600).unwrap();
        for _ in 0..2 {
            remove_folder(&path).unwrap();
            assert!(crate::names_in(folder.path().join("aside")).is_empty());
        }
        remove_folder(&folder.path().join("none/aside-1")).unwrap();
    }

    #[test]
    fn content_and_mode_are_replaced_and_nothing_is_left_beside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seal");
        write_durable(&path, b"one", 0o644).unwrap();
        write_durable(&path, b"two", 0o600).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(crate::names_in(folder.path()), ["seal"]);
        assert!(write_durable(folder.path().join("none/seal"), b"", 0o600).is_err());
    }

    #[test]
    fn kernel_files_are_never_created() {
        let folder = tempfile::tempdir().unwrap();
        assert!(write_plain(folder.path().join("cgroup.kill"), "1").is_err());
        assert!(crate::names_in(folder.path()).is_empty());
    }
}
