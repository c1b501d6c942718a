//! The slot that doesn't run: its partition, and its files on the boot partition.
//!
//! Before anything is written the loader forgets the slot and its footer goes, both durable: so whatever a cut leaves is never
//! started (law 3). What is written is read back from the medium, and the footer comes last. Little is held in memory, and
//! what was written doesn't push k3s's pages out of it.

use super::delta;
use crate::error::FirstbootError;
use crate::{boot_partition, disks, loader};
use bakelite_disk::footer::Footer;
use bakelite_disk::table::Table;
use bakelite_spec::bundle::Part;
use bakelite_spec::hexadecimal::hexadecimal;
use bakelite_spec::layout::{RECORD, Role, SECTOR};
use bakelite_spec::loader_entry::EntryName;
use bakelite_sys::sum::pour;
use bakelite_sys::{SysError, block, durable, fat, onto};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The slot's partition, and its length in bytes.
///
/// # Errors
/// When there is no such partition.
pub fn partition(root: &Path, slot: &str) -> Result<(PathBuf, u64), FirstbootError> {
    let gone = || FirstbootError::NoDisk(format!("with a slot {slot}"));
    let boot_disk = disks::boot_disk(root);
    let disk = block::disks(root).into_iter().find(|disk| disk.name == boot_disk).ok_or_else(gone)?;
    let (mut medium, length) = block::open(&disk.device(), false)?;
    let table = Table::read(&mut medium, length / SECTOR).map_err(|source| on(&disk.name, source))?;
    let (number, entry) = Role::of_slot(slot).and_then(|role| table.role(role)).ok_or_else(gone)?;
    Ok((disk.partition_device(number), entry.length()))
}

pub(super) fn on(disk: &str, source: bakelite_disk::DiskError) -> FirstbootError {
    FirstbootError::Disk { disk: disk.into(), source }
}

/// The slot's length in bytes.
///
/// # Errors
/// When there is no such partition.
pub fn length(root: &Path, slot: &str) -> Result<u64, FirstbootError> {
    Ok(partition(root, slot)?.1)
}

/// Has the loader and init know nothing of the slot any more.
///
/// # Errors
/// When the boot partition or the slot can't be written.
pub fn forget(root: &Path, slot: &str) -> Result<(), FirstbootError> {
    let seen = loader::seen(root).unwrap_or_default();
    let is_of_slot = |name: &&String| EntryName::parse(name).is_some_and(|name| name.slot == slot);
    let names: Vec<String> = seen.entries.into_keys().filter(|name| is_of_slot(&name)).collect();
    if !names.is_empty() {
        loader::remove(root, &names)?;
    }
    // Nothing names them any more; a file that the new system doesn't have must not be taken for one of its own.
    let boot = boot_device(root)?;
    fat::change(&boot, |boot| durable::remove_tree(&folder(boot.root, slot)))?;
    let (device, length) = partition(root, slot)?;
    let (mut medium, _) = block::open(&device, true)?;
    write_at(&mut medium, &device, length - RECORD, &[0; RECORD as usize])
}

fn boot_device(root: &Path) -> Result<PathBuf, FirstbootError> {
    boot_partition::device(root)?.ok_or_else(|| FirstbootError::NoDisk("with a boot partition".into()))
}

/// The slot's files on the mounted boot partition.
fn folder(boot: &Path, slot: &str) -> PathBuf {
    boot.join("bakelite").join(slot)
}

fn write_at(medium: &mut File, device: &Path, at: u64, bytes: &[u8]) -> Result<(), FirstbootError> {
    let write = |medium: &mut File| {
        medium.seek(SeekFrom::Start(at))?;
        medium.write_all(bytes)?;
        medium.sync_all()
    };
    Ok(write(medium).map_err(|source| SysError::Write { path: device.into(), source })?)
}

/// Puts a file onto the boot partition, in the folder of the slot that doesn't run; nothing there names it. A delta is against the
/// file of that name of the slot that runs, which comes first.
///
/// # Errors
/// When it can't be written, isn't what was signed, or what is read back is something else.
pub fn put_boot_file(
    root: &Path,
    [running, slot]: [&str; 2],
    part: &Part,
    input: &mut dyn Read,
) -> Result<(), FirstbootError> {
    fat::change(&boot_device(root)?, |boot| {
        let mut input = delta::boot_file(&folder(boot.root, running), part, input)?;
        let folder = folder(boot.root, slot);
        let path = folder.join(&part.name);
        durable::make_folder(&folder)?;
        let mut file = durable::create_private(&path)?;
        let written = pour(&mut input, &mut file).and_then(|written| file.sync_all().map(|()| written));
        let (length, sum) = written.map_err(|source| SysError::Write { path: path.clone(), source })?;
        delta::is_signed(part, length, &sum)?;
        boot.sync()?;
        durable::forget_cached(&path)?;
        is_back(&path, &sum, part.size)
    })?;
    log::info!("wrote {} of slot {slot} ({} bytes), and read it back", part.name, part.size);
    Ok(())
}

/// Follows the delta of a file on the boot partition, and writes nothing.
///
/// # Errors
/// When it can't be followed, or doesn't give what was signed.
pub fn try_boot_file(root: &Path, running: &str, part: &Part, input: &mut dyn Read) -> Result<(), FirstbootError> {
    fat::look(&boot_device(root)?, |boot| {
        delta::is_it(part, &mut *delta::boot_file(&folder(boot, running), part, input)?)
    })
}

/// Puts the system into the slot; its footer is the last that is written.
///
/// # Errors
/// When it can't be written, isn't what was signed, or what is read back is something else.
pub fn put_system(root: &Path, slot: &str, part: &Part, input: &mut dyn Read) -> Result<(), FirstbootError> {
    let (device, length) = partition(root, slot)?;
    let (written, sha256) = onto::put(&device, &part.name, input)?;
    let sum = hexadecimal(sha256);
    delta::is_signed(part, written, &sum)?;
    is_back(&device, &sum, part.size)?;
    let (mut medium, _) = block::open(&device, true)?;
    let footer = Footer { length: part.size, sha256 };
    write_at(&mut medium, &device, length - RECORD, &footer.encode())?;
    durable::forget_cached(&device)?;
    let back = Footer::read(&mut medium, 0, length).map_err(|source| on(&device.display().to_string(), source))?;
    if back != footer {
        return Err(FirstbootError::CopyDiffers(device.display().to_string()));
    }
    log::info!("wrote the system of slot {slot} ({written} bytes), and read it back");
    Ok(())
}

/// Reads so many bytes back from the medium and compares their sum.
///
/// # Errors
/// When they can't be read, or are others.
pub fn is_back(path: &Path, sum: &str, length: u64) -> Result<(), FirstbootError> {
    let back = onto::back(path, length)?;
    if back == sum { Ok(()) } else { Err(FirstbootError::CopyDiffers(path.display().to_string())) }
}
