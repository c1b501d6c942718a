//! Doing what was decided. Each action ends durable, and can be done again wherever it was cut; what was written to a system
//! partition is read back past all caches.

use crate::probe::Probe;
use crate::{MedicError, volume};
use bakelite_disk::footer::Footer;
use bakelite_disk::table::Table;
use bakelite_disk::{Guid, Medium as _};
use bakelite_plan::recovery::{Action, Facts};
use bakelite_spec::hexadecimal;
use bakelite_spec::layout::{RECORD, Role, SECTOR};
use bakelite_spec::loader_entry::FOLDER;
use bakelite_spec::pi::COMMIT;
use bakelite_sys::fat::Writable;
use bakelite_sys::sum::{fill, pour};
use bakelite_sys::{SysError, block, durable, ext4, fat, machine, raw, tool};
use bakelite_trust::recovery::{SYSTEM, StickFile};
use bakelite_trust::stick::LABEL;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write, sink};
use std::path::{Path, PathBuf};
use std::time::Duration;

const MKFS_FAT: &str = "/usr/sbin/mkfs.fat";
const LIMIT: Duration = Duration::from_secs(600);
/// Bytes that are compared and written at once.
const PIECE: usize = 1 << 20;
/// The ending of a loader entry that isn't whole yet.
const HALF: &str = "half";

impl Probe<'_> {
    /// Does one thing to the machine that the facts are about.
    pub(crate) fn apply(&mut self, action: &Action, facts: &Facts) -> Result<(), MedicError> {
        let name = facts.media.first().map(|medium| medium.disk.clone()).unwrap_or_default();
        let disk = || {
            let disk = block::disks(Path::new("/")).into_iter().find(|disk| disk.name == name);
            disk.ok_or_else(|| MedicError::Gone(name.clone()))
        };
        match action {
            Action::CopyTable => copy_table(&disk()?),
            Action::MakeTable => self.make_table(&disk()?),
            Action::MendBoot => Ok(fat::repair(&boot_device(&disk()?)?)?),
            Action::MakeBoot => self.make_boot(&boot_device(&disk()?)?),
            Action::WriteFiles(names) => self.write_files(&boot_device(&disk()?)?, names),
            Action::WriteEntry => self.write_first(&boot_device(&disk()?)?),
            Action::RemoveEntries(names) => fat::change(&boot_device(&disk()?)?, |boot| {
                names.iter().try_for_each(|name| durable::remove_file(boot.root.join(FOLDER).join(name)))
            })
            .map_err(MedicError::System),
            Action::WriteSlot(letter) => self.write_slot(&disk()?, letter),
            Action::MendVolume(name) => Ok(ext4::repair(&volume_of(&disk()?, name)?.device)?),
            // There is no medium yet.
            Action::Install(key) => self.install(key),
        }
    }

    fn make_table(&self, disk: &block::Disk) -> Result<(), MedicError> {
        let on = |source| MedicError::Disk { disk: disk.name.clone(), source };
        let (mut medium, length) = block::open(&disk.device(), true)?;
        let mut table = Table { sectors: length / SECTOR, ..Table::of_layout(&self.layout()) };
        // A medium that nobody has booted yet would be made fresh; this one is in use.
        table.restamp(&mut fresh_guids()?);
        table.write(&mut medium).map_err(on)?;
        tell(disk, &medium, &table)
    }

    pub(crate) fn make_boot(&self, device: &Path) -> Result<(), MedicError> {
        let device_name = device.to_string_lossy();
        // Clusters of 4 KiB, as the workshop makes them.
        tool::must(MKFS_FAT, &["-F", "32", "-s", "8", "-n", LABEL, &device_name], LIMIT)?;
        let names: Vec<String> = self.of_machine(false).filter_map(|file| file.boot.clone()).collect();
        self.write_files(device, &names)?;
        self.write_first(device)
    }

    /// The stick's files for a boot partition.
    fn of_machine(&self, first: bool) -> impl Iterator<Item = &StickFile> {
        self.stick.manifest.files.iter().filter(move |file| file.boot.is_some() && file.first == first)
    }

    fn write_files(&self, device: &Path, names: &[String]) -> Result<(), MedicError> {
        let files = self.of_machine(false).filter(|file| file.boot.as_ref().is_some_and(|path| names.contains(path)));
        let files = files.map(|file| Ok((file.boot.clone().unwrap_or_default(), self.stick.read(file)?)));
        let files = files.collect::<Result<Vec<_>, MedicError>>()?;
        fat::change(device, |boot| files.iter().try_for_each(|(path, bytes)| put(&boot, path, bytes)))
            .map_err(MedicError::System)
    }

    fn write_first(&self, device: &Path) -> Result<(), MedicError> {
        let files =
            self.of_machine(true).map(|file| Ok((file.boot.clone().unwrap_or_default(), self.stick.read(file)?)));
        let mut files = files.collect::<Result<Vec<_>, MedicError>>()?;
        // What names the others comes last.
        files.sort_by_key(|(path, _)| path == COMMIT);
        fat::change(device, |boot| files.iter().try_for_each(|(path, bytes)| put(&boot, path, bytes)))
            .map_err(MedicError::System)
    }

    fn write_slot(&mut self, disk: &block::Disk, letter: &str) -> Result<(), MedicError> {
        let on = |source| MedicError::Disk { disk: disk.name.clone(), source };
        let system = &self.stick.manifest.image.system;
        let gone = || MedicError::Gone(format!("the system partition {letter}"));
        let role = Role::of_slot(letter).ok_or_else(gone)?;
        self.slots.remove(&(disk.name.clone(), letter.to_string()));
        let (mut medium, length) = block::open(&disk.device(), true)?;
        let table = Table::read(&mut medium, length / SECTOR).map_err(on)?;
        let (start, length) = table.role(role).map(|(_, entry)| (entry.start(), entry.length())).ok_or_else(gone)?;
        if system.length + RECORD > length {
            return Err(MedicError::Forgets(format!("a system partition of {length} bytes")));
        }
        let source = self.stick.root.join(SYSTEM);
        let failed = |source| SysError::Device { act: "writing", path: disk.device(), source };
        let from = File::open(&source).map_err(|error| SysError::Read { path: source.clone(), source: error })?;
        write_where_it_differs(from, &mut medium, start).map_err(failed)?;
        medium.make_durable().map_err(failed)?;
        raw::flush_cached_blocks(&medium).map_err(failed)?;
        medium.seek(SeekFrom::Start(start)).map_err(failed)?;
        let (_, sum) = pour((&medium).take(system.length), sink()).map_err(failed)?;
        if sum != system.sha256 {
            return Err(MedicError::Forgets(disk.name.clone()));
        }
        let sha256 = hexadecimal::bytes(&sum).and_then(|sum| sum.try_into().ok()).ok_or_else(gone)?;
        let footer = Footer { length: system.length, sha256 };
        medium.seek(SeekFrom::Start(start + length - RECORD)).map_err(failed)?;
        medium.write_all(&footer.encode()).map_err(failed)?;
        medium.make_durable().map_err(failed)?;
        Ok(())
    }
}

/// Writes pieces of a stream that aren't on a medium already: most of a damaged system is whole, and a cut goes on.
fn write_where_it_differs(
    mut from: impl Read,
    medium: &mut (impl Read + Write + Seek),
    start: u64,
) -> std::io::Result<u64> {
    let (mut wanted, mut there) = (vec![0; PIECE], vec![0; PIECE]);
    let (mut at, mut written) = (start, 0);
    loop {
        let length = fill(&mut from, &mut wanted)?;
        if length == 0 {
            return Ok(written);
        }
        medium.seek(SeekFrom::Start(at))?;
        // What can't be read is written.
        let is_same = medium.read_exact(&mut there[..length]).is_ok() && there[..length] == wanted[..length];
        if !is_same {
            medium.seek(SeekFrom::Start(at))?;
            medium.write_all(&wanted[..length])?;
            written += length as u64;
        }
        at += length as u64;
    }
}

/// Puts a file onto the boot partition in place of one that isn't whole; it has its name when all of it is there.
fn put(boot: &Writable<'_>, path: &str, bytes: &[u8]) -> Result<(), SysError> {
    let path = boot.root.join(path);
    if let Some(folder) = path.parent() {
        durable::make_folder(folder)?;
    }
    durable::remove_file(&path)?;
    let half = path.with_extension(HALF);
    durable::remove_file(&half)?;
    boot.sync()?;
    durable::write_whole(&half, bytes, 0o644)?;
    boot.sync()?;
    durable::rename(&half, &path)?;
    boot.sync()
}

/// Writes a partition table of which one copy is whole, and tells the kernel of its partitions.
/// GUIDs for a table, as many as one can want.
pub(crate) fn fresh_guids() -> Result<impl FnMut() -> Guid, SysError> {
    let random = (0..16).map(|_| machine::random()).collect::<Result<Vec<_>, _>>()?;
    let mut fresh = random.into_iter().map(Guid::from_random);
    Ok(move || fresh.next().unwrap_or_default())
}

fn copy_table(disk: &block::Disk) -> Result<(), MedicError> {
    let on = |source| MedicError::Disk { disk: disk.name.clone(), source };
    let (mut medium, length) = block::open(&disk.device(), true)?;
    let table = Table::read(&mut medium, length / SECTOR).map_err(on)?;
    table.write(&mut medium).map_err(on)?;
    tell(disk, &medium, &table)
}

fn tell(disk: &block::Disk, medium: &File, table: &Table) -> Result<(), MedicError> {
    let partitions = table.entries.iter().map(|(number, entry)| (*number, entry.start(), entry.length()));
    Ok(disk.tell_kernel(medium, partitions)?)
}

fn table_of(disk: &block::Disk) -> Result<Table, MedicError> {
    let (mut medium, length) = block::open(&disk.device(), false)?;
    let on = |source| MedicError::Disk { disk: disk.name.clone(), source };
    Table::read(&mut medium, length / SECTOR).map_err(on)
}

fn boot_device(disk: &block::Disk) -> Result<PathBuf, MedicError> {
    let number = table_of(disk)?.role(Role::Boot).map(|(number, _)| number);
    number.map(|number| disk.partition_device(number)).ok_or_else(|| MedicError::Gone("the boot partition".into()))
}

fn volume_of(disk: &block::Disk, name: &str) -> Result<volume::Found, MedicError> {
    let found = volume::look(disk, &table_of(disk)?)?.into_iter().find(|found| found.name == name);
    found.ok_or_else(|| MedicError::Gone(name.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn only_what_differs_is_written_and_a_cut_goes_on() {
        let whole: Vec<u8> = (0..5 * PIECE / 2).map(|at| (at / 4096) as u8).collect();
        let mut there = whole.clone();
        there[PIECE + 7] ^= 1;
        let mut medium = Cursor::new([vec![0; 512], there].concat());
        assert_eq!(write_where_it_differs(&whole[..], &mut medium, 512).unwrap(), PIECE as u64);
        assert_eq!(medium.get_ref()[512..], whole);
        assert_eq!(write_where_it_differs(&whole[..], &mut medium, 512).unwrap(), 0);
    }
}
