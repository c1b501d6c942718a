//! What is done to disks: looked at, claimed, made, attached, shown. Each act ends durable and may be done twice.
//!
//! A disk that isn't ours yet is only opened for reading, and the kernel refuses writes to it meanwhile.

use crate::disks;
use crate::error::FirstbootError;
use crate::world::{Changed, Machine};
use crate::{sealing, sets};
use bakelite_disk::blank::{self, Proof as Blankness};
use bakelite_disk::born::Born;
use bakelite_disk::data::{self, Found};
use bakelite_disk::ext4::BLOCK;
use bakelite_disk::{Guid, begun, signature};
use bakelite_plan::disk::{Disk, Proof};
use bakelite_plan::seal::SEAL;
use bakelite_spec::layout::{RECORD, Role, SECTOR};
use bakelite_spec::status::paths;
use bakelite_sys::mount::{self, MountFlags};
use bakelite_sys::{SysError, block, durable, ext4, machine, names_in, raw, socket, words};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where a partition is mounted to be looked into.
pub(crate) const LOOK: &str = "/run/bakelite/look";
/// What init answers in, as a rule: it does nothing else while early runs.
pub(crate) const SOON: Duration = Duration::from_secs(5);
/// Folders that systems make by themselves on a medium: not a user's files.
const SYSTEMS_OWN: &[&str] =
    &["System Volume Information", "$RECYCLE.BIN", ".Trashes", ".fseventsd", ".Spotlight-V100", "found.000"];

impl Machine {
    fn disk(&self, fits: impl Fn(&Disk) -> bool, what: &str) -> Result<block::Disk, FirstbootError> {
        let gone = || FirstbootError::NoDisk(what.into());
        let disk = disks::all(&self.root, &self.looked).into_iter().find(|disk| !disk.boot && fits(disk));
        let name = disk.ok_or_else(gone)?.name;
        block::disks(&self.root).into_iter().find(|disk| disk.name == name).ok_or_else(gone)
    }

    /// A partition of our type, made known to the kernel if it wasn't.
    fn partition(&self, guid: &str) -> Result<(block::Disk, Found, PathBuf), FirstbootError> {
        let has = |disk: &Disk| disk.data.as_ref().is_some_and(|data| data.guid == guid);
        let disk = self.disk(has, guid)?;
        let (mut medium, length) = block::open(&disk.device(), false)?;
        let found = data::find(&mut medium, length / SECTOR).map_err(on(&disk))?;
        let found = found.ok_or_else(|| FirstbootError::NoDisk(guid.into()))?;
        disk.tell_kernel(&medium, [(found.number, found.entry.start(), found.entry.length())].into_iter())?;
        let device = disk.partition_device(found.number);
        Ok((disk, found, device))
    }

    pub(crate) fn look_at(&mut self, key: &str, look_into: bool) -> Result<Changed, FirstbootError> {
        let disk = self.disk(|disk| disk.key() == key, key)?;
        let looked = || match is_stick(&disk)? {
            true => Ok(Proof::Stick),
            false => read_only(&disk.device(), |medium, length| look(&disk, medium, length, look_into)),
        };
        let proof = looked().unwrap_or_else(|error: FirstbootError| Proof::Unreadable(words(&error)));
        self.looked.proofs.insert(key.into(), proof);
        Ok(Changed::Yes)
    }

    pub(crate) fn look_into(&mut self, guid: &str) -> Result<Changed, FirstbootError> {
        let (_, _, device) = self.partition(guid)?;
        durable::make_folder(LOOK)?;
        let looked = read_only(&device, |_, _| {
            ext4::look(&device, LOOK)?;
            let content = disks::content(Path::new("/"), LOOK);
            mount::unmount(Path::new(LOOK), false)?;
            Ok(content)
        });
        match looked {
            Ok(content) => drop(self.looked.contents.insert(guid.into(), content)),
            Err(error) => drop(self.looked.damaged.insert(guid.into(), words(&error))),
        }
        Ok(Changed::Yes)
    }

    pub(crate) fn claim(&mut self, key: &str) -> Result<Changed, FirstbootError> {
        let disk = self.disk(|disk| disk.key() == key, key)?;
        let (mut medium, length) = block::open(&disk.device(), true)?;
        let fresh = || machine::random().map(Guid::from_random);
        let table = data::table(fresh()?, fresh()?, length / SECTOR);
        table.write(&mut medium).map_err(on(&disk))?;
        // What the kernel knew of an earlier table is gone with it.
        raw::read_table_again(&medium).map_err(|source| SysError::Device {
            act: "reading the new partition table",
            path: disk.device(),
            source,
        })?;
        self.looked.proofs.remove(key);
        log::info!("wrote the partition table of a data disk onto {}", disk.name);
        Ok(Changed::Yes)
    }

    pub(crate) fn bear(&mut self, guid: &str) -> Result<Changed, FirstbootError> {
        let (disk, found, device) = self.partition(guid)?;
        if found.born {
            return Ok(Changed::No);
        }
        let (start, length) = (found.entry.start(), found.entry.length());
        ext4::make(&device, BLOCK, length - RECORD)?;
        ext4::attach(&device, paths::DATA_MOUNT)?;
        ext4::finish(Path::new(paths::DATA_MOUNT), Role::Data.label())?;
        let (mut medium, _) = block::open(&disk.device(), true)?;
        Born { id: found.entry.guid }.write(&mut medium, start, length).map_err(on(&disk))?;
        own_folder()?;
        log::info!("made a file system of {} MiB on {}", length >> 20, disk.name);
        Ok(Changed::Yes)
    }

    pub(crate) fn attach(&mut self, guid: &str) -> Result<Changed, FirstbootError> {
        let (disk, _, device) = self.partition(guid)?;
        let attached = ext4::check(&device).and_then(|repaired| {
            ext4::attach(&device, paths::DATA_MOUNT)?;
            Ok(repaired)
        });
        match attached {
            Ok(repaired) => {
                own_folder()?;
                let what = if repaired { "repaired and attached" } else { "attached" };
                log::info!("{what} the data disk {}", disk.name);
            }
            Err(error) => drop(self.looked.damaged.insert(guid.into(), words(&error))),
        }
        Ok(Changed::Yes)
    }

    pub(crate) fn unbear(&mut self, guid: &str) -> Result<Changed, FirstbootError> {
        let (disk, found, _) = self.partition(guid)?;
        if !found.born {
            return Ok(Changed::No);
        }
        let (mut medium, _) = block::open(&disk.device(), true)?;
        Born::erase(&mut medium, found.entry.start(), found.entry.length()).map_err(on(&disk))?;
        log::info!("took the record of its making off {}", disk.name);
        Ok(Changed::Yes)
    }

    pub(crate) fn seal(&self, generation: u64) -> Result<Changed, FirstbootError> {
        let bytes = sealing::seal(&sealing::collect(&self.root), generation);
        durable::write_durable(SEAL, &bytes, 0o600)?;
        empty_journal()?;
        Ok(Changed::Yes)
    }

    pub(crate) fn unseal(&self) -> Result<Changed, FirstbootError> {
        let bytes = std::fs::read(SEAL).map_err(|source| SysError::Read { path: SEAL.into(), source })?;
        sealing::unseal(&bytes, &self.root)?;
        take_up_host_key();
        Ok(Changed::Yes)
    }
}

/// An ssh server that runs already has a key of this boot only; without one there is nothing to restart.
pub(crate) fn take_up_host_key() {
    if let Err(error) = socket::ask(Path::new(paths::CONTROL), "restart ssh", SOON) {
        log::info!("{}", words(&error));
    }
}

/// The seal and the records have to be there for whoever reads the disk without playing its journal.
pub(crate) fn empty_journal() -> Result<(), SysError> {
    let path = PathBuf::from(paths::DATA_MOUNT);
    File::open(&path).and_then(|folder| raw::empty_journal(&folder)).map_err(|source| SysError::Device {
        act: "writing out the journal",
        path,
        source,
    })
}

/// Bakelite's own folder on the data disk: nobody else's business.
fn own_folder() -> Result<(), SysError> {
    let path = Path::new(paths::DATA_MOUNT).join("bakelite");
    durable::make_folder(&path)?;
    durable::set_mode(&path, 0o700)?;
    durable::sync_folder(Path::new(paths::DATA_MOUNT))
}

/// What the medic asks of disks is asked here: who may be written to is decided in one way.
impl bakelite_recovery::Disks for Machine {
    fn all(&mut self) -> Vec<Disk> {
        disks::all(&self.root, &self.looked)
    }

    fn prove(&mut self, key: &str, look_into: bool) {
        if let Err(error) = self.look_at(key, look_into) {
            log::info!("{key}: {}", words(&error));
        }
    }
}

fn on(disk: &block::Disk) -> impl Fn(bakelite_disk::DiskError) -> FirstbootError {
    let name = disk.name.clone();
    move |source| FirstbootError::Disk { disk: name.clone(), source }
}

/// Does something with a device while the kernel refuses every write to it.
pub(crate) fn read_only<T>(
    device: &Path,
    act: impl FnOnce(&mut File, u64) -> Result<T, FirstbootError>,
) -> Result<T, FirstbootError> {
    let (mut medium, length) = block::open(device, false)?;
    let set = |medium: &File, read_only| {
        raw::set_read_only(medium, read_only).map_err(|source| SysError::Device {
            act: "having the kernel refuse writes",
            path: device.into(),
            source,
        })
    };
    set(&medium, true)?;
    let done = act(&mut medium, length);
    set(&medium, false)?;
    done
}

/// Whether a disk is a stick of ours, or a part of it: then somebody's backups are on it, whatever else is.
fn is_stick(disk: &block::Disk) -> Result<bool, FirstbootError> {
    for place in disk.places() {
        if sets::is_stick(&place)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Looks what a disk holds; the kernel refuses writes to it.
fn look(disk: &block::Disk, medium: &mut File, length: u64, look_into: bool) -> Result<Proof, FirstbootError> {
    // One that is too short to be read there isn't marked either.
    if begun::is_marked(medium).unwrap_or(false) {
        return Ok(Proof::Begun);
    }
    let at = match blank::prove(medium, length).map_err(on(disk))? {
        Blankness::Blank { read } => {
            log::info!("{} is blank as far as {} MiB of it say", disk.name, read >> 20);
            return Ok(Proof::Blank);
        }
        Blankness::Holds { at } => at,
    };
    let mut seen = |start, length| signature::recognise(medium, start, length).map_err(on(disk));
    let (whole, mut inside) = (seen(0, length)?, Vec::new());
    for partition in disk.partitions.values() {
        let kinds = seen(partition.start, partition.length)?;
        inside.extend(kinds.into_iter().map(|kind| (partition.name.clone(), kind)));
    }
    let is_table = |kind: &&str| kind.contains("partition table");
    let single = match (&inside[..], &whole[..]) {
        ([(name, kind)], whole) if disk.partitions.len() == 1 && whole.iter().all(is_table) => {
            Some((name.clone(), *kind))
        }
        ([], [kind]) if disk.partitions.is_empty() && !is_table(kind) => Some((disk.name.clone(), *kind)),
        _ => None,
    };
    if let Some((name, kind)) = single
        && look_into
        && let Some(driver) = driver(kind)
        && is_empty(&Path::new("/dev").join(name), driver)?
    {
        return Ok(Proof::EmptyFilesystem(kind.into()));
    }
    let mut kinds: Vec<&str> = inside.iter().map(|(_, kind)| *kind).chain(whole.iter().copied()).collect();
    kinds.dedup();
    let unknown = format!("bytes that aren't known here, from byte {at} on");
    Ok(Proof::Holds(if kinds.is_empty() { unknown } else { kinds.join(", ") }))
}

/// The kernel's driver for the file systems that disks are sold with.
fn driver(kind: &str) -> Option<&'static str> {
    match kind {
        "FAT" => Some("vfat"),
        "exFAT" => Some("exfat"),
        "NTFS" => Some("ntfs3"),
        _ => None,
    }
}

/// Whether a file system holds nothing but what systems make by themselves. One that can't be mounted isn't empty.
fn is_empty(device: &Path, driver: &str) -> Result<bool, SysError> {
    durable::make_folder(LOOK)?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    if mount::mount(&device.to_string_lossy(), LOOK, driver, flags, "").is_err() {
        return Ok(false);
    }
    let empty = names_in(LOOK).iter().all(|name| SYSTEMS_OWN.iter().any(|own| name.eq_ignore_ascii_case(own)));
    mount::unmount(Path::new(LOOK), false)?;
    Ok(empty)
}

/// What is shown at a place steps aside; where somebody holds it, it can only be covered.
pub(crate) fn hide(place: &Path) {
    if mount::points().iter().any(|point| Path::new(point) == place)
        && let Err(error) = mount::unmount(place, false)
    {
        log::info!("{}", words(&error));
    }
}

/// Shows a folder of a medium at a place.
pub(crate) fn show(folder: &str, place: &str, mode: u32) -> Result<Changed, FirstbootError> {
    let (folder, place) = (Path::new(folder), Path::new(place));
    if !folder.is_dir() {
        durable::make_folder(folder)?;
        durable::set_mode(folder, mode)?;
        durable::sync_folder(folder.parent().unwrap_or(folder))?;
    }
    hide(place);
    durable::make_folder(place)?;
    mount::bind(folder, place)?;
    Ok(Changed::Yes)
}
