//! Shelves: the folders on this machine's own media in which its sets lie.
//!
//! Only names of sets are looked at and removed; half a set, which a power cut may leave, is cleared before the next one.

use crate::KeeperError;
use crate::retention::{self, Shelved};
use bakelite_plan::restore::OWN;
use bakelite_spec::backup::Keep;
use bakelite_spec::set;
use bakelite_spec::status::paths;
use bakelite_sys::sum::pour;
use bakelite_sys::{durable, mount, names_in};
use std::cmp::Reverse;
use std::fs::File;
use std::path::{Path, PathBuf};

/// One node's sets in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shelf {
    /// As a person calls the place.
    pub place: &'static str,
    /// The node's folder.
    pub folder: PathBuf,
}

/// Half a set has this behind a dot and its name.
const HALF: &str = ".half";

impl Shelf {
    /// The card's shelf of a node.
    pub fn of_card(node: &str) -> Self {
        Self { place: "card", folder: Path::new(OWN.card).join(node) }
    }

    /// The data disk's shelf of a node, if there is a data disk.
    pub fn of_disk(node: &str) -> Option<Self> {
        let is_there = mount::points().iter().any(|point| point == paths::DATA_MOUNT);
        is_there.then(|| Self { place: "data disk", folder: Path::new(OWN.disk).join(node) })
    }

    /// All shelves of a node, the one that new sets go to first.
    pub fn all(node: &str) -> Vec<Self> {
        Self::of_disk(node).into_iter().chain([Self::of_card(node)]).collect()
    }

    /// The sets on it, the newest first: file name, number and time.
    pub fn sets(&self) -> Vec<(String, Shelved)> {
        let mut found: Vec<(String, Shelved)> = names_in(&self.folder)
            .into_iter()
            .filter_map(|name| {
                let shelved = Shelved { number: set::number(&name)?, made: set::made(&name)? };
                Some((name, shelved))
            })
            .collect();
        found.sort_by_key(|(_, shelved)| Reverse(*shelved));
        found
    }

    /// The newest set on it.
    pub fn newest(&self) -> Option<(String, Shelved)> {
        self.sets().into_iter().next()
    }

    /// Removes what a power cut has left of a set.
    ///
    /// # Errors
    /// When it can't be removed.
    pub fn clear_halves(&self) -> Result<(), KeeperError> {
        for name in names_in(&self.folder).into_iter().filter(|name| name.starts_with('.') && name.ends_with(HALF)) {
            durable::remove_file(self.folder.join(name))?;
        }
        Ok(())
    }

    /// Removes the sets that are kept no longer; how many they were.
    ///
    /// # Errors
    /// When one can't be removed.
    pub fn prune(&self, keep: &Keep, now: i64) -> Result<usize, KeeperError> {
        let sets = self.sets();
        let shelved: Vec<Shelved> = sets.iter().map(|(_, shelved)| *shelved).collect();
        let expired = retention::expired(&shelved, keep, now);
        for (name, _) in sets.iter().filter(|(_, shelved)| expired.contains(&shelved.number)) {
            durable::remove_file(self.folder.join(name))?;
        }
        if !expired.is_empty() {
            durable::sync_folder(&self.folder)?;
        }
        Ok(expired.len())
    }

    /// Puts a copy of a verified set here, compared with what was read; the bytes of it.
    ///
    /// # Errors
    /// When there is no room, it can't be written, or what is read back isn't what was written.
    pub fn take(&self, from: &Path, name: &str) -> Result<u64, KeeperError> {
        durable::make_folder(&self.folder)?;
        let failed = |source| KeeperError::Copy { name: name.into(), place: self.place, source };
        let needed = from.metadata().map_err(failed)?.len();
        let free = mount::free(&self.folder);
        if free < needed.saturating_mul(2) {
            return Err(KeeperError::NoRoom { place: self.place, free, needed });
        }
        let half = self.folder.join(format!(".{name}{HALF}"));
        let copied = || -> std::io::Result<(String, String)> {
            let file = durable::create_private(&half).map_err(std::io::Error::other)?;
            let (_, read) = pour(File::open(from)?, &file)?;
            file.sync_all()?;
            Ok((read, pour(File::open(&half)?, std::io::sink())?.1))
        };
        let (read, written) = copied().map_err(failed)?;
        if read != written {
            durable::remove_file(&half)?;
            return Err(KeeperError::Differs { name: name.into(), place: self.place });
        }
        durable::publish(&half, &self.folder.join(name))?;
        Ok(needed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shelf_shows_whole_sets_only_takes_copies_and_is_thinned() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf { place: "card", folder: folder.path().join("shop-1") };
        assert_eq!(shelf.sets(), []);
        let name = |number: u64| set::name(number, 1_795_280_100 + number as i64 * 3600) + set::ENCRYPTED;
        let from = folder.path().join("set");
        durable::replace(&from, b"a set", 0o600).unwrap();
        for number in [1, 2, 3] {
            assert_eq!(shelf.take(&from, &name(number)).unwrap(), 5);
        }
        for other in [".00000004-20261121T165500Z.tar.zst.age.half", "readme.txt"] {
            durable::replace(shelf.folder.join(other), b"", 0o600).unwrap();
        }
        assert_eq!(shelf.newest().unwrap().0, name(3));
        assert_eq!(shelf.prune(&"2".parse().unwrap(), 0).unwrap(), 1);
        shelf.clear_halves().unwrap();
        assert_eq!(names_in(&shelf.folder), [name(2), name(3), "readme.txt".into()]);
        assert!(shelf.take(&folder.path().join("gone"), &name(4)).is_err());
        assert_eq!(names_in(&shelf.folder).len(), 3);
    }
}
