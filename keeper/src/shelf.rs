//! Shelves: the folders in which a node's sets lie, on this machine's own media and on the configured target.
//!
//! Only names of sets are looked at and removed; half a set, which a power cut may leave, is cleared before the next one.

use crate::KeeperError;
use crate::retention::{self, Shelved};
use bakelite_plan::restore::OWN;
use bakelite_spec::backup::Keep;
use bakelite_spec::set;
use bakelite_spec::status::paths;
use bakelite_sys::{durable, mount, names_in};
use std::cmp::Reverse;
use std::fs::File;
use std::path::{Path, PathBuf};

/// One node's sets in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shelf {
    /// As a person calls the place.
    pub place: String,
    /// The node's folder.
    pub folder: PathBuf,
}

/// Half a set has this behind a dot and its name.
const HALF: &str = ".half";

impl Shelf {
    /// The card's shelf of a node.
    pub fn of_card(node: &str) -> Self {
        Self { place: "card".into(), folder: Path::new(OWN.card).join(node) }
    }

    /// The data disk's shelf of a node, if there is a data disk.
    pub fn of_disk(node: &str) -> Option<Self> {
        let is_there = mount::points().iter().any(|point| point == paths::DATA_MOUNT);
        is_there.then(|| Self { place: "data disk".into(), folder: Path::new(OWN.disk).join(node) })
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
        self.remove(&sets, &expired)?;
        Ok(expired.len())
    }

    /// Makes so many bytes free where they aren't: by sets that are kept no longer, then by the oldest ones, never by the
    /// newest. How many went before their time.
    ///
    /// # Errors
    /// When all but the newest isn't enough, and nothing is removed then; or when one can't be removed.
    pub fn make_room(&self, needed: u64, keep: &Keep, now: i64) -> Result<usize, KeeperError> {
        self.make_room_of(mount::free(&self.folder), needed, keep, now)
    }

    /// [`Shelf::make_room`], where so many bytes are free.
    fn make_room_of(&self, free: u64, needed: u64, keep: &Keep, now: i64) -> Result<usize, KeeperError> {
        let sets = self.sets();
        let gone = self.in_the_way(&sets, free, needed, keep, now)?;
        let shelved: Vec<Shelved> = sets.iter().map(|(_, shelved)| *shelved).collect();
        let expired = retention::expired(&shelved, keep, now);
        self.remove(&sets, &gone)?;
        Ok(gone.iter().filter(|number| !expired.contains(number)).count())
    }

    /// Whether [`Shelf::make_room`] would make that room; nothing is removed.
    ///
    /// # Errors
    /// When it wouldn't.
    pub fn could_make_room(&self, needed: u64, keep: &Keep, now: i64) -> Result<(), KeeperError> {
        self.in_the_way(&self.sets(), mount::free(&self.folder), needed, keep, now).map(drop)
    }

    /// Which sets have to go for room.
    fn in_the_way(
        &self,
        sets: &[(String, Shelved)],
        free: u64,
        needed: u64,
        keep: &Keep,
        now: i64,
    ) -> Result<Vec<u64>, KeeperError> {
        let sized = |name: &String| self.folder.join(name).metadata().map_or(0, |meta| meta.len());
        let shelved: Vec<(Shelved, u64)> = sets.iter().map(|(name, shelved)| (*shelved, sized(name))).collect();
        retention::for_room(&shelved, keep, now, needed.saturating_sub(free)).ok_or_else(|| KeeperError::NoRoom {
            place: self.place.clone(),
            free,
            needed,
        })
    }

    fn remove(&self, sets: &[(String, Shelved)], gone: &[u64]) -> Result<(), KeeperError> {
        for (name, _) in sets.iter().filter(|(_, shelved)| gone.contains(&shelved.number)) {
            durable::remove_file(self.folder.join(name))?;
        }
        if !gone.is_empty() {
            durable::sync_folder(&self.folder)?;
        }
        Ok(())
    }

    /// Puts a copy of a set here. It gets its name when it was opened again, from the medium: `opens` says whether it does.
    /// The bytes of it.
    ///
    /// # Errors
    /// When it can't be written, or doesn't open.
    pub fn take(
        &self,
        from: &Path,
        name: &str,
        opens: impl FnOnce(&Path) -> Result<(), KeeperError>,
    ) -> Result<u64, KeeperError> {
        durable::make_folder(&self.folder)?;
        let failed = |source| KeeperError::Copy { name: name.into(), place: self.place.clone(), source };
        let half = self.folder.join(format!(".{name}{HALF}"));
        let copy = || -> std::io::Result<u64> {
            let mut file = durable::create_private(&half).map_err(std::io::Error::other)?;
            let bytes = std::io::copy(&mut File::open(from)?, &mut file)?;
            file.sync_all()?;
            Ok(bytes)
        };
        let copied = copy().map_err(failed).and_then(|bytes| {
            durable::forget_cached(&half)?;
            opens(&half)?;
            Ok(bytes)
        });
        match copied {
            Ok(bytes) => {
                durable::publish(&half, &self.folder.join(name))?;
                Ok(bytes)
            }
            Err(error) => {
                durable::remove_file(&half)?;
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shelf_shows_whole_sets_only_takes_copies_and_is_thinned() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf { place: "card".into(), folder: folder.path().join("shop-1") };
        assert_eq!(shelf.sets(), []);
        let name = |number: u64| set::name(number, 1_795_280_100 + number as i64 * 3600) + set::ENCRYPTED;
        let from = folder.path().join("set");
        durable::replace(&from, b"a set", 0o600).unwrap();
        for number in [1, 2, 3] {
            assert_eq!(shelf.take(&from, &name(number), |_| Ok(())).unwrap(), 5);
        }
        for other in [".00000004-20261121T165500Z.tar.zst.age.half", "readme.txt"] {
            durable::replace(shelf.folder.join(other), b"", 0o600).unwrap();
        }
        assert_eq!(shelf.newest().unwrap().0, name(3));
        assert_eq!(shelf.prune(&"2".parse().unwrap(), 0).unwrap(), 1);
        shelf.clear_halves().unwrap();
        assert_eq!(names_in(&shelf.folder), [name(2), name(3), "readme.txt".into()]);
        assert!(shelf.take(&folder.path().join("gone"), &name(4), |_| Ok(())).is_err());
        let refused = shelf.take(&from, &name(4), |half| {
            assert_eq!(std::fs::read(half).unwrap(), b"a set");
            Err(KeeperError::NoCluster)
        });
        assert!(matches!(refused, Err(KeeperError::NoCluster)));
        assert_eq!(names_in(&shelf.folder).len(), 3, "what doesn't open has no name");
        let keep = "9".parse().unwrap();
        assert_eq!(shelf.make_room_of(0, 0, &keep, 0).unwrap(), 0);
        assert!(matches!(shelf.make_room(u64::MAX, &keep, 0), Err(KeeperError::NoRoom { .. })));
        assert_eq!(shelf.sets().len(), 2, "in vain nothing is removed");
        assert_eq!(shelf.make_room_of(100, 101, &keep, 0).unwrap(), 1);
        assert_eq!(shelf.newest().unwrap().0, name(3));
    }
}
