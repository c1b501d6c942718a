//! Durable files on the build host: written beside their place, synced, renamed, and the folder synced.
//!
//! Keeps law 3 (publish last and small): a reader sees the old file or the new one, never half of one, and a killed
//! build leaves only a nameless temporary. Must not be used for block devices: writing media is the press's trade.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// A file could not be made durable.
#[derive(Debug, thiserror::Error)]
#[error("cannot {act} {}", path.display())]
pub struct FileError {
    /// What was tried, as a verb: "create a file in", "write", "sync", "publish".
    pub act: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// What the operating system said.
    #[source]
    pub source: std::io::Error,
}

/// Writes `content` to `path`: whole and durable, or not at all. The mode follows the umask, as for any new file.
pub fn write(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let mut temporary = begin(folder_of(path))?;
    temporary.as_file_mut().write_all(content).map_err(failed("write", path))?;
    publish(temporary, path)
}

/// Starts a file in `folder` that vanishes when dropped, to be named by [`publish`].
pub fn begin(folder: &Path) -> Result<NamedTempFile, FileError> {
    tempfile::Builder::new()
        .prefix(".partial-")
        .permissions(std::fs::Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(failed("create a file in", folder))
}

/// Starts the file that will be `path`, beside it as `<path>.partial`; it vanishes when dropped, and what a killed
/// run left there is replaced. While one run has it, another is refused.
pub fn begin_as(path: &Path) -> Result<NamedTempFile, FileError> {
    let folder = folder_of(path);
    let name = format!("{}.partial", path.file_name().unwrap_or_default().to_string_lossy());
    let leftover = folder.join(&name);
    let replaced = match File::open(&leftover) {
        Ok(left) => claim(&left).and_then(|()| std::fs::remove_file(&leftover)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    replaced.map_err(failed("replace", &leftover))?;
    let temporary = tempfile::Builder::new()
        .prefix(&name)
        .rand_bytes(0)
        .permissions(std::fs::Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(failed("create a file in", folder))?;
    claim(temporary.as_file()).map_err(failed("claim", &leftover))?;
    Ok(temporary)
}

/// Locks a file until it is closed; the kernel takes the lock off a killed run's.
fn claim(file: &File) -> std::io::Result<()> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => std::io::Error::new(std::io::ErrorKind::WouldBlock, "another build is writing it"),
        TryLockError::Error(error) => error,
    })
}

/// Syncs a file from [`begin`] or [`begin_as`], gives it its name (replacing what had it) and syncs the folder.
/// `path` must be on the file system that [`begin`] was given.
pub fn publish(temporary: NamedTempFile, path: &Path) -> Result<(), FileError> {
    temporary.as_file().sync_all().map_err(failed("sync", path))?;
    temporary.persist(path).map_err(|refused| failed("publish", path)(refused.error))?;
    sync_folder(folder_of(path))
}

/// The same with a name that nothing has; whether it has got it.
pub fn publish_new(temporary: NamedTempFile, path: &Path) -> Result<bool, FileError> {
    temporary.as_file().sync_all().map_err(failed("sync", path))?;
    match temporary.persist_noclobber(path) {
        Ok(_) => sync_folder(folder_of(path)).map(|()| true),
        Err(refused) if refused.error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(refused) => Err(failed("publish", path)(refused.error)),
    }
}

/// Syncs some files, then gives them their names in this order, then syncs their folder, which is one for all.
pub fn publish_together<const COUNT: usize>(files: [(NamedTempFile, PathBuf); COUNT]) -> Result<(), FileError> {
    for (temporary, path) in &files {
        temporary.as_file().sync_all().map_err(failed("sync", path))?;
    }
    let mut folder = PathBuf::new();
    for (temporary, path) in files {
        temporary.persist(&path).map_err(|refused| failed("publish", &path)(refused.error))?;
        folder = folder_of(&path).into();
    }
    sync_folder(&folder)
}

/// Removes a file, if it is there.
pub fn remove(path: &Path) -> Result<(), FileError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Gives a file its name without waiting for the disk: for what can be made again and is checked whenever it is read.
pub fn keep(temporary: NamedTempFile, path: &Path) -> Result<File, FileError> {
    temporary.persist(path).map_err(|refused| failed("publish", path)(refused.error))
}

/// Makes a folder and those above it, as far as they are missing.
pub fn make_folder(folder: &Path) -> Result<(), FileError> {
    std::fs::create_dir_all(folder).map_err(failed("make the folder", folder))
}

/// Makes the names in a folder durable.
pub fn sync_folder(folder: &Path) -> Result<(), FileError> {
    File::open(folder).and_then(|handle| handle.sync_all()).map_err(failed("sync", folder))
}

/// The folder a path lies in; "." for a bare name.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// For `map_err` on what this module is not asked to do itself, such as writing to a file from [`begin`].
pub(crate) fn failed<'a>(act: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> FileError + 'a {
    move |source| FileError { act, path: path.to_path_buf(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_a_file_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock.json");
        write(&path, b"old").unwrap();
        write(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        for (name, is_free) in [("lock.json", false), ("key", true), ("key", false)] {
            let mut half = begin(folder.path()).unwrap();
            half.write_all(b"newer").unwrap();
            assert_eq!(publish_new(half, &folder.path().join(name)).unwrap(), is_free);
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn one_run_has_a_partial_file_and_a_dead_one_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let (path, partial) = (folder.path().join("shop.img"), folder.path().join("shop.img.partial"));
        write(&partial, b"left by a killed run").unwrap();
        let mut first = begin_as(&path).unwrap();
        let refused = begin_as(&path).unwrap_err();
        assert_eq!(refused.to_string(), format!("cannot replace {}", partial.display()));
        assert_eq!(refused.source.to_string(), "another build is writing it");
        first.write_all(b"image").unwrap();
        publish(first, &path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"image");
        drop(begin_as(&path).unwrap());
        assert!(!partial.exists());
    }

    #[test]
    fn a_missing_folder_is_named() {
        let error = write(Path::new("/nonexistent-folder/file"), b"x").unwrap_err();
        assert_eq!(error.to_string(), "cannot create a file in /nonexistent-folder");
    }
}
