//! The target: an attached disk or stick, found by the label that the owner has given, that gets each backup, too.
//!
//! It is somebody's medium: looked at read-only, written only where a set is missing on it, and only below its folder of
//! sets. Another medium is never written to (law 5). A set that is there has been opened again, from the medium.

use crate::KeeperError;
use crate::backup::{self, Record, Target};
use crate::shelf::Shelf;
use bakelite_disk::signature;
use bakelite_plan::Settings;
use bakelite_sys::{block, durable, machine, mount, stick as medium, words};
use bakelite_trust::stick;
use std::path::{Path, PathBuf};

/// What stays free on a target: file systems are slow when they are full.
const SPARE: u64 = 1 << 20;

/// Gives the target the newest set, if there is a target and it hasn't got it. What comes of it is in the record.
/// Whether it has newer ones, of an earlier life of this node: the next set gets a higher number. The caller has the lock.
pub fn serve(settings: &Settings, node: &str, record: &mut Record) -> bool {
    let Some(label) = &settings.appliance.backup.target else { return false };
    let newest = Shelf::all(node).into_iter().filter_map(|shelf| Some((shelf.newest()?, shelf)));
    let Some(((name, _), shelf)) = newest.max_by_key(|((_, shelved), _)| *shelved) else { return false };
    match visit(settings, label, node, &shelf.folder.join(&name), record) {
        Ok(has_newer) => {
            record.target_failed = None;
            has_newer
        }
        Err(error) => {
            let words = words(&error);
            log::warn!("{words}");
            record.target_failed = Some(words);
            false
        }
    }
}

fn visit(settings: &Settings, label: &str, node: &str, set: &Path, record: &mut Record) -> Result<bool, KeeperError> {
    let Some((device, driver)) = find(label)? else { return Ok(false) };
    let place = format!("stick {label}");
    let shelf = |root: &Path| Shelf { place: place.clone(), folder: folder(root, label).join(stick::SETS).join(node) };
    let newest = |root: &Path| -> Result<Option<Held>, KeeperError> {
        let shelf = shelf(root);
        Ok(shelf.newest().map(|(name, _)| Held::of(&shelf.folder.join(name))))
    };
    let there = medium::look(&device, driver, newest)?;
    record.behind = there.as_ref().map_or(0, |there| there.number);
    let here = Held::of(set);
    match lacks(there.as_ref(), &here) {
        Lacks::Nothing => return Ok(false),
        Lacks::Newer => return Ok(true),
        Lacks::This => {}
    }
    let keep = &settings.appliance.backup.keep;
    let bytes = medium::change(&device, driver, |root| {
        let shelf = shelf(root);
        durable::make_folder(&shelf.folder)?;
        shelf.clear_halves()?;
        let needed = here.bytes + SPARE;
        let early = shelf.make_room(needed, keep, machine::clock())?;
        let bytes = shelf.take(set, &here.name, |half| backup::open(settings, half).map(drop))?;
        shelf.prune(keep, machine::clock())?;
        record.note_room(&place, Ok(early))?;
        Ok::<_, KeeperError>(bytes)
    })?;
    log::info!("copied {} onto {label} ({bytes} bytes), and opened it again there", here.name);
    record.target = Some(Target { label: label.into(), set: here.name, at: machine::clock() });
    Ok(false)
}

/// A set's file, as far as can be told without opening it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    name: String,
    number: u64,
    bytes: u64,
}

impl Held {
    fn of(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let number = bakelite_spec::set::number(&name).unwrap_or(0);
        Self { name, number, bytes: path.metadata().map_or(0, |meta| meta.len()) }
    }
}

/// What a target lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lacks {
    Nothing,
    /// The newest set of here.
    This,
    /// A set that is newer than what it has of an earlier life of this node.
    Newer,
}

/// Compares the newest set on a target with the newest here. One of the same name that is shorter is what a stick pulled out
/// too early has left of it: FAT's repair takes bytes from one of two names.
fn lacks(there: Option<&Held>, here: &Held) -> Lacks {
    match there {
        Some(there) if there == here => Lacks::Nothing,
        Some(there) if there.name != here.name && there.number >= here.number => Lacks::Newer,
        _ => Lacks::This,
    }
}

/// Where the stick's layout begins on such a medium.
fn folder(root: &Path, label: &str) -> PathBuf {
    let folder = root.join(stick::FOLDER);
    if label == stick::LABEL && !folder.is_dir() { root.into() } else { folder }
}

/// The one attached file system with this label that nobody has mounted, and the kernel's driver for it.
fn find(label: &str) -> Result<Option<(PathBuf, &'static str)>, KeeperError> {
    let mounted: Vec<String> = mount::all().into_iter().map(|mounted| mounted.device).collect();
    let mut found = Vec::new();
    for disk in block::disks(Path::new("/")) {
        // What is mounted is this machine's own, or a person is at it.
        let numbers = disk.partitions.values().map(|partition| &partition.number).chain([&disk.number]);
        if numbers.into_iter().any(|number| mounted.contains(number)) || disk.read_only {
            continue;
        }
        for device in disk.places().iter().map(|place| Path::new("/dev").join(place)) {
            match labelled(&device, label) {
                Ok(driver) => found.extend(driver.map(|driver| (device, driver))),
                // A sick disk is no reason not to look at the others.
                Err(error) => log::warn!("looking for {label} on {}: {}", device.display(), words(&error)),
            }
        }
    }
    match found.len() {
        0 | 1 => Ok(found.pop()),
        _ => Err(KeeperError::TwoTargets { label: label.into(), count: found.len() }),
    }
}

/// The driver for a file system that has this label.
fn labelled(device: &Path, label: &str) -> Result<Option<&'static str>, KeeperError> {
    let (mut file, length) = block::open(device, false)?;
    let kinds = signature::recognise(&mut file, 0, length)?;
    let Some((kind, driver)) = kinds.iter().find_map(|kind| Some((*kind, medium::driver(kind)?))) else {
        return Ok(None);
    };
    // FAT has capital letters only.
    let has_it = signature::label(&mut file, 0, kind)?.eq_ignore_ascii_case(label);
    Ok(has_it.then_some(driver))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_medium_with_the_label_is_a_target() {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk");
        let mut bytes = vec![0u8; 1 << 20];
        bytes[71..82].copy_from_slice(b"BACKUPS    ");
        bytes[82..90].copy_from_slice(b"FAT32   ");
        durable::replace(&disk, &bytes, 0o600).unwrap();
        assert_eq!(labelled(&disk, "Backups").unwrap(), Some("vfat"));
        assert_eq!(labelled(&disk, "Backup").unwrap(), None);
        durable::replace(&disk, &vec![0u8; 1 << 20], 0o600).unwrap();
        assert_eq!(labelled(&disk, "Backups").unwrap(), None);
        assert_eq!(labelled(&disk, "").unwrap(), None);
    }

    #[test]
    fn a_target_gets_what_it_lacks_and_what_a_pulled_stick_has_left_half() {
        let copy =
            |name: &str, bytes| Held { name: name.into(), number: bakelite_spec::set::number(name).unwrap(), bytes };
        let here = copy("00000007-20261121T165500Z.tar.zst.age", 900);
        assert_eq!(lacks(None, &here), Lacks::This);
        assert_eq!(lacks(Some(&copy("00000006-20261121T155500Z.tar.zst.age", 900)), &here), Lacks::This);
        assert_eq!(lacks(Some(&here), &here), Lacks::Nothing);
        assert_eq!(lacks(Some(&Held { bytes: 0, ..here.clone() }), &here), Lacks::This);
        for name in ["00000007-20260101T165500Z.tar.zst.age", "00000009-20260101T165500Z.tar.zst.age"] {
            assert_eq!(lacks(Some(&copy(name, 900)), &here), Lacks::Newer, "{name}");
        }
    }

    #[test]
    fn sets_lie_where_a_restore_looks_for_them() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(folder(root.path(), stick::LABEL), root.path());
        assert_eq!(folder(root.path(), "SHOP"), root.path().join(stick::FOLDER));
        durable::make_folder(root.path().join(stick::FOLDER)).unwrap();
        assert_eq!(folder(root.path(), stick::LABEL), root.path().join(stick::FOLDER));
    }
}
