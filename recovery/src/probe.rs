//! Facts: which disk is the machine's, and how each part of it is. Nothing is written.
//!
//! A system partition is read to its end once and again only after something was done to it: it is most of the work.

use crate::{MedicError, Stick, boot, database, volume};
use bakelite_disk::footer::Footer;
use bakelite_disk::table::Table;
use bakelite_disk::{DiskError, ext4, signature};
use bakelite_plan::recovery::{self, Facts, Image, Medium, Slot};
use bakelite_spec::hexadecimal::hexadecimal;
use bakelite_spec::layout::{self, Layout, RECORD, Role, SECTOR};
use bakelite_spec::quantity::Size;
use bakelite_sys::sum::pour;
use bakelite_sys::{block, names_in, words};
use bakelite_trust::stick::{FOLDER, LABEL, SETS};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, sink};
use std::path::Path;

/// The one who looks.
pub(crate) struct Probe<'a> {
    pub(crate) stick: &'a Stick,
    own: &'a str,
    /// Slots that were read, by disk and letter.
    pub(crate) slots: BTreeMap<(String, String), Slot>,
}

impl<'a> Probe<'a> {
    pub(crate) fn new(stick: &'a Stick, own: &'a str) -> Self {
        Self { stick, own, slots: BTreeMap::new() }
    }

    /// All facts.
    pub(crate) fn look(&mut self) -> Result<Facts, MedicError> {
        let image = &self.stick.manifest.image;
        let stick = Image { id: image.image.clone(), system: image.system.sha256.clone() };
        let mut media = Vec::new();
        for disk in self.candidates() {
            media.extend(self.medium(&disk)?);
        }
        Ok(Facts { stick, media, sets: self.sets() })
    }

    /// The disk that the machine was started from, else all but the stick's.
    fn candidates(&self) -> Vec<block::Disk> {
        let is_stick = |disk: &block::Disk| {
            disk.name == self.stick.name || disk.partitions.values().any(|part| part.name == self.stick.name)
        };
        let all = block::disks(Path::new("/")).into_iter();
        all.filter(|disk| if self.own.is_empty() { !is_stick(disk) } else { disk.name == self.own }).collect()
    }

    /// A disk, if it is or was a boot medium.
    fn medium(&mut self, disk: &block::Disk) -> Result<Option<Medium>, MedicError> {
        let on = |source| MedicError::Disk { disk: disk.name.clone(), source };
        let (mut file, length) = block::open(&disk.device(), false)?;
        let mut medium = Medium { disk: disk.name.clone(), ..Medium::default() };
        let table = match Table::read(&mut file, length / SECTOR) {
            Ok(table) => table,
            Err(DiskError::NoTable { .. }) => {
                medium.table = recovery::Table::Places;
                return Ok(self.are_in_places(&mut file, length).then_some(medium));
            }
            Err(error) => return Err(on(error)),
        };
        if table.role(Role::SystemA).is_none() {
            return Ok(None);
        }
        if table.needs_repair {
            medium.table = recovery::Table::OneCopy;
            return Ok(Some(medium));
        }
        let partitions = table.entries.iter().map(|(number, entry)| (*number, entry.start(), entry.length()));
        disk.tell_kernel(&file, partitions)?;
        if let Some((number, _)) = table.role(Role::Boot) {
            medium.boot = boot::look(&disk.partition_device(number), self.stick)?;
        }
        for (letter, role) in [("a", Role::SystemA), ("b", Role::SystemB)] {
            let Some((_, entry)) = table.role(role) else { continue };
            let key = (disk.name.clone(), letter.to_string());
            let known = self.slots.get(&key).cloned();
            let slot = match known {
                Some(slot) => slot,
                None => look_at_slot(&mut file, entry.start(), entry.length()),
            };
            self.slots.insert(key, slot.clone());
            medium.slots.insert(letter.into(), slot);
        }
        medium.volumes = volume::look(disk, &table)?.into_iter().map(|found| (found.name, found.is)).collect();
        medium.database = database::look(disk, &table, &medium.volumes);
        Ok(Some(medium))
    }

    /// Whether partitions lie on a disk without a table where the stick's image has them: two of them have to show it.
    fn are_in_places(&self, file: &mut File, length: u64) -> bool {
        let layout = self.layout();
        if layout.length > length {
            return false;
        }
        let at = |role| layout.partition(role).map(|part| (part.start, part.length));
        let fat = at(Role::Boot)
            .is_some_and(|(start, _)| signature::label(file, start, "FAT").is_ok_and(|label| label == LABEL));
        let footer = at(Role::SystemA).is_some_and(|(start, length)| Footer::read(file, start, length).is_ok());
        let behind = Table { sectors: length / SECTOR, ..Table::of_layout(&layout) };
        let start = behind.first_free() * SECTOR;
        let room = (behind.last_usable() + 1) * SECTOR;
        let state = room > start
            && ext4::find(file, start, room - start, Role::State.label()).is_ok_and(|found| found.is_some());
        [fat, footer, state].into_iter().filter(|seen| *seen).count() >= 2
    }

    /// Where the stick's image has its partitions.
    pub(crate) fn layout(&self) -> Layout {
        let scheme = self.stick.manifest.image.board.boot.flow.scheme();
        layout::layout(scheme, Size(self.stick.manifest.slot))
    }

    /// How many backups are on the stick.
    fn sets(&self) -> usize {
        let folders = [self.stick.root.join(SETS), self.stick.root.join(FOLDER).join(SETS)];
        let nodes = folders.iter().flat_map(|folder| names_in(folder).into_iter().map(move |node| folder.join(node)));
        nodes.map(|node| bakelite_trust::stick::newest_first(names_in(node)).len()).sum()
    }
}

/// Reads a system partition to its end.
fn look_at_slot(file: &mut File, start: u64, length: u64) -> Slot {
    let footer = match Footer::read(file, start, length) {
        Ok(footer) => footer,
        Err(error) => {
            let is_zero = |at| {
                let mut bytes = [0; RECORD as usize];
                file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(&mut bytes)).is_ok() && bytes == [0; 4096]
            };
            let is_empty = [start, start + length - RECORD].into_iter().all({
                let mut is_zero = is_zero;
                move |at| is_zero(at)
            });
            return if is_empty { Slot::Empty } else { Slot::NoFooter(words(&error)) };
        }
    };
    let said = hexadecimal(footer.sha256);
    let summed = file.seek(SeekFrom::Start(start)).and_then(|_| pour(file.take(footer.length), sink()));
    match summed {
        Ok((_, sum)) if sum == said => Slot::Whole(said),
        Ok(_) | Err(_) => Slot::Damaged(said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_slot_is_what_its_bytes_say() {
        let mut file = tempfile::tempfile().unwrap();
        let (start, length) = (1 << 20, 1 << 20);
        file.set_len(start + length).unwrap();
        assert_eq!(look_at_slot(&mut file, start, length), Slot::Empty);
        let mut put = |at: u64, bytes: &[u8]| {
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(bytes).unwrap();
        };
        let mut sum = [0; 32];
        let (_, text) = pour(&[7u8; 9000][..], sink()).unwrap();
        for (at, byte) in sum.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).unwrap();
        }
        put(start, &[7; 9000]);
        put(start + length - RECORD, &Footer { length: 9000, sha256: sum }.encode());
        assert_eq!(look_at_slot(&mut file, start, length), Slot::Whole(text.clone()));
        file.seek(SeekFrom::Start(start + 5000)).unwrap();
        file.write_all(&[8]).unwrap();
        assert_eq!(look_at_slot(&mut file, start, length), Slot::Damaged(text));
        file.seek(SeekFrom::Start(start + length - 10)).unwrap();
        file.write_all(&[8]).unwrap();
        assert!(matches!(look_at_slot(&mut file, start, length), Slot::NoFooter(_)));
    }
}
