//! Locks between programs of ours: a file in memory that one of them holds.

use crate::SysError;
use std::fs::{File, TryLockError};
use std::path::Path;

/// Takes a lock as soon as nobody else has it; it is held as long as the file is.
///
/// # Errors
/// When there can be no lock.
pub fn take(path: &Path) -> Result<File, SysError> {
    let file = open(path)?;
    file.lock().map_err(|source| SysError::Change { path: path.into(), source })?;
    Ok(file)
}

/// The same without waiting; `None` while somebody else has it.
///
/// # Errors
/// When there can be no lock.
pub fn try_take(path: &Path) -> Result<Option<File>, SysError> {
    let file = open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(SysError::Change { path: path.into(), source }),
    }
}

fn open(path: &Path) -> Result<File, SysError> {
    let failed = |source| SysError::Change { path: path.into(), source };
    File::options().create(true).truncate(false).write(true).open(path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = try_take(&path).unwrap();
        assert!(held.is_some() && try_take(&path).unwrap().is_none());
        drop(held);
        let held = take(&path).unwrap();
        assert!(try_take(&path).unwrap().is_none());
        drop(held);
    }
}
