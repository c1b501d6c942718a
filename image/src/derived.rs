//! What can be made again from the cache's inputs: unpacked packages, compressed blocks, indices. And the folders in
//! which builds work.
//!
//! Entries are named by a hash over everything that made them, so none is ever out of date; each is checked when it is
//! read, so none needs an fsync. What wasn't used for longest is removed when there is too much. A work folder is held
//! by a lock that the kernel takes off a killed build, and the next build removes it. Must not hold what can't be made
//! again: anybody may delete this folder at any time.

use crate::error::{BuildError, io_error};
use crate::host::file;
use crate::source::digest::Sha256;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tempfile::{NamedTempFile, TempDir};

/// Counts up when the content of an entry changes although its inputs don't.
const VERSION: &str = "1";

/// The most that all entries may take, in bytes.
const LIMIT: u64 = 4 << 30;

/// A work folder whose lock isn't held may just be in the making by another build; it isn't when it is this old.
const MAKING: Duration = Duration::from_secs(60);

/// What an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A package's files, unpacked.
    Layer,
    /// Compressed blocks of a squashfs.
    Blocks,
    /// What depmod made.
    Index,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Layer, Self::Blocks, Self::Index];

    fn folder(self) -> &'static str {
        match self {
            Self::Layer => "layers",
            Self::Blocks => "blocks",
            Self::Index => "indices",
        }
    }
}

/// The entries of one cache.
#[derive(Debug)]
pub struct Derived {
    folder: PathBuf,
    work: PathBuf,
}

/// A build's own folder: gone with it.
#[derive(Debug)]
pub struct Work {
    folder: TempDir,
    _lock: File,
}

impl Work {
    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Derived {
    /// Opens the part of a cache's folder that is for this, and makes it where it is missing.
    ///
    /// # Errors
    /// When a folder can't be made.
    pub fn open(cache: &Path) -> Result<Self, BuildError> {
        let derived = Self { folder: cache.join("made").join(VERSION), work: cache.join("work") };
        file::make_folder(&derived.work)?;
        for kind in Kind::ALL {
            file::make_folder(&derived.folder.join(kind.folder()))?;
        }
        Ok(derived)
    }

    /// Starts a work folder, and removes those of builds that are dead.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn work(&self) -> Result<Work, BuildError> {
        self.remove_dead();
        let making = || io_error("making a working folder in", &self.work);
        let folder = tempfile::Builder::new().prefix("build-").tempdir_in(&self.work).map_err(making())?;
        let lock = File::create(folder.path().join("lock")).map_err(making())?;
        lock.try_lock().map_err(|error| making()(error.into()))?;
        Ok(Work { folder, _lock: lock })
    }

    /// Best effort: what can't be removed is only a waste of space.
    fn remove_dead(&self) {
        for entry in fs::read_dir(&self.work).into_iter().flatten().flatten() {
            let dead = match File::open(entry.path().join("lock")) {
                Ok(lock) => lock.try_lock().is_ok(),
                Err(_) => age(&entry).is_some_and(|age| age > MAKING),
            };
            if dead {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Opens an entry, and notes that it was used.
    pub fn find(&self, kind: Kind, key: &Sha256) -> Option<File> {
        let found = File::open(self.entry(kind, key)).ok()?;
        let _ = found.set_modified(SystemTime::now());
        Some(found)
    }

    /// Removes an entry that turned out to be damaged.
    ///
    /// # Errors
    /// When it can't be removed.
    pub fn remove(&self, kind: Kind, key: &Sha256) -> Result<(), BuildError> {
        Ok(file::remove(&self.entry(kind, key))?)
    }

    /// Gives a finished file of a work folder its name as an entry.
    ///
    /// # Errors
    /// When it can't be renamed.
    pub fn keep(&self, temporary: NamedTempFile, kind: Kind, key: &Sha256) -> Result<File, BuildError> {
        Ok(file::keep(temporary, &self.entry(kind, key))?)
    }

    /// Removes the entries that weren't used for longest, as far as there is too much.
    pub fn trim(&self) {
        self.trim_to(LIMIT);
    }

    fn trim_to(&self, limit: u64) {
        let mut entries: Vec<_> = Kind::ALL
            .iter()
            .flat_map(|kind| fs::read_dir(self.folder.join(kind.folder())).into_iter().flatten().flatten())
            .filter_map(|entry| {
                let metadata = entry.metadata().ok()?;
                Some((metadata.modified().ok()?, entry.path(), metadata.len()))
            })
            .collect();
        entries.sort();
        let mut total: u64 = entries.iter().map(|(_, _, length)| length).sum();
        for (_, path, length) in entries {
            if total <= limit {
                return;
            }
            // Whoever reads it has it open and isn't disturbed.
            if fs::remove_file(path).is_ok() {
                total -= length;
            }
        }
    }

    fn entry(&self, kind: Kind, key: &Sha256) -> PathBuf {
        self.folder.join(kind.folder()).join(key.to_string())
    }
}

fn age(entry: &fs::DirEntry) -> Option<Duration> {
    let modified = entry.metadata().and_then(|metadata| metadata.modified()).ok()?;
    SystemTime::now().duration_since(modified).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn kept(derived: &Derived, work: &Work, content: &[u8]) -> Sha256 {
        let (key, mut temporary) = (Sha256::of(content), file::begin(work.path()).unwrap());
        temporary.write_all(content).unwrap();
        derived.keep(temporary, Kind::Layer, &key).unwrap();
        key
    }

    #[test]
    fn entries_are_found_and_the_oldest_go_first() {
        let folder = tempfile::tempdir().unwrap();
        let derived = Derived::open(folder.path()).unwrap();
        let work = derived.work().unwrap();
        let keys = [b"one", b"two", b"six"].map(|content| kept(&derived, &work, content));
        for (number, key) in (1..).zip(&keys) {
            let time = SystemTime::now() - Duration::from_secs(100 - number);
            derived.find(Kind::Layer, key).unwrap().set_modified(time).unwrap();
        }
        // Using the oldest makes it the newest.
        let mut text = String::new();
        derived.find(Kind::Layer, &keys[0]).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "one");
        derived.trim_to(6);
        let there = keys.map(|key| derived.find(Kind::Layer, &key).is_some());
        assert_eq!(there, [true, false, true]);
        assert!(derived.find(Kind::Blocks, &keys[0]).is_none());
    }

    #[test]
    fn the_folders_of_dead_builds_are_removed_and_those_of_living_ones_stay() {
        let folder = tempfile::tempdir().unwrap();
        let derived = Derived::open(folder.path()).unwrap();
        let living = derived.work().unwrap();
        let killed = derived.work().unwrap();
        let left = killed.path().to_path_buf();
        // A killed build's files stay, its lock doesn't.
        let Work { folder: temporary, _lock } = killed;
        let _ = temporary.keep();
        assert!(left.join("lock").exists());
        derived.work().unwrap();
        assert!(left.exists(), "it is still locked");
        drop(_lock);
        let next = derived.work().unwrap();
        assert!(!left.exists() && living.path().exists() && next.path().exists());
        let (one, other) = (living.path().to_path_buf(), next.path().to_path_buf());
        drop((living, next));
        assert!(!one.exists() && !other.exists());
    }
}
