//! Facts: which disk is the machine's, and how each part of it is. Nothing is written.
//!
//! A system partition is read to its end once and again only after something was done to it: it is most of the work.

use crate::{Disks, MedicError, Stick, boot, database, installer, volume};
use bakelite_disk::footer::Footer;
use bakelite_disk::table::Table;
use bakelite_disk::{DiskError, begun, ext4, signature};
use bakelite_plan::recovery::{self, Bare, Facts, Image, Medium, Slot, row};
use bakelite_spec::appliance::{Appliance, Claim, Storage};
use bakelite_spec::cmdline::{Cmdline, FROM_STICK};
use bakelite_spec::hexadecimal::hexadecimal;
use bakelite_spec::installer::{Board, Row};
use bakelite_spec::layers::Effective;
use bakelite_spec::layout::{self, Layout, RECORD, Role, SECTOR, STATE_MINIMUM, Scheme};
use bakelite_spec::quantity::Size;
use bakelite_spec::status::paths;
use bakelite_sys::sum::pour;
use bakelite_sys::{SysError, block, machine, names_in, read_text, words};
use bakelite_trust::stick::{FOLDER, LABEL, SETS};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, sink};
use std::path::Path;
use std::time::Duration;

/// However often disks come and go, it is decided after so long.
const AT_MOST: Duration = Duration::from_secs(45);

/// The one who looks.
pub(crate) struct Probe<'a> {
    pub(crate) stick: &'a Stick,
    own: &'a str,
    pub(crate) disks: &'a mut dyn Disks,
    /// The settings that the stick's own start has brought; none where the machine's own kernel runs.
    appliance: Option<Appliance>,
    settled: bool,
    /// This machine, once somebody has asked for it.
    board: Option<Board>,
    /// Its row of the stick's table.
    pub(crate) row: Option<Row>,
    /// Slots that were read, by disk and letter.
    pub(crate) slots: BTreeMap<(String, String), Slot>,
}

impl<'a> Probe<'a> {
    pub(crate) fn new(stick: &'a Stick, own: &'a str, disks: &'a mut dyn Disks) -> Result<Self, MedicError> {
        let appliance = baked()?;
        let (settled, board, row) = (false, None, None);
        Ok(Self { stick, own, disks, appliance, settled, board, row, slots: BTreeMap::new() })
    }

    /// This machine.
    pub(crate) fn board(&mut self) -> Board {
        self.board.get_or_insert_with(installer::board).clone()
    }

    /// Whether the stick may put its system onto a disk now: where it installs, a person may have to say so.
    pub(crate) fn may_install(&mut self) -> bool {
        let asks = self.appliance.as_ref().is_some_and(|appliance| appliance.installer.ask);
        let is_free = !self.stick.manifest.installs || !asks;
        is_free || installer::ask("type yes and Enter to have it done; what is on that disk is lost")
    }

    /// All facts.
    pub(crate) fn look(&mut self) -> Result<Facts, MedicError> {
        let image = &self.stick.manifest.image;
        let stick = Image { id: image.image.clone(), system: image.system.sha256.clone() };
        let mut media = Vec::new();
        for disk in self.candidates() {
            media.extend(self.medium(&disk)?);
        }
        let bare = if media.is_empty() { self.bare()? } else { None };
        Ok(Facts { stick, media, sets: self.sets(), bare })
    }

    /// What a machine without a boot medium has, where the stick has started it.
    fn bare(&mut self) -> Result<Option<Bare>, MedicError> {
        let Some(appliance) = self.appliance.clone() else { return Ok(None) };
        self.settle(&appliance.storage);
        let look_into = appliance.storage.claim == Claim::EmptyFilesystem;
        let manifest = &self.stick.manifest;
        let mut unfit = match self.layout().scheme {
            Scheme::Gpt => String::new(),
            Scheme::Mbr => "this board's firmware starts from no stick; flash the image onto its medium".into(),
        };
        let rows = if manifest.installs { installer::rows(self.stick)? } else { Vec::new() };
        if !rows.is_empty() {
            match row::choose(&rows, &installer::done(self.stick), &self.board()) {
                Ok(row) => self.row = Some(row.clone()),
                Err(why) => unfit = why,
            }
        }
        let mut bare = Bare {
            disks: self.disks.all(),
            storage: appliance.storage,
            needs: self.layout().length + STATE_MINIMUM.0,
            installs: manifest.installs,
            unfit,
            row: self.row.as_ref().map_or_else(String::new, |row| row.name.clone()),
        };
        for key in bare.unproved() {
            self.disks.prove(&key, look_into);
        }
        bare.disks = self.disks.all();
        Ok(Some(bare))
    }

    /// Waits until no disk has come or gone for some time: the one that is meant may take longer than the others.
    fn settle(&mut self, storage: &Storage) {
        let look = || block::disks(Path::new("/")).into_iter().map(|disk| disk.name).collect::<Vec<_>>();
        let first = machine::uptime();
        let (mut since, mut seen) = (first, look());
        while !self.settled {
            std::thread::sleep(Duration::from_millis(250));
            let (now, found) = (machine::uptime(), look());
            if found != seen {
                (since, seen) = (now, found);
            }
            self.settled = now - since >= Duration::from_secs(storage.settle.0) || now - first >= AT_MOST;
        }
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
            // What a stick has begun is no medium yet, and is gone on with.
            Err(DiskError::NoTable { .. }) if begun::is_marked(&mut file).map_err(on)? => return Ok(None),
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

/// The settings in the initramfs of the stick, if that has started the machine.
fn baked() -> Result<Option<Appliance>, MedicError> {
    let cmdline = Cmdline::parse(&read_text("/proc/cmdline").unwrap_or_default());
    if cmdline.values(FROM_STICK).next().is_none() {
        return Ok(None);
    }
    let path = Path::new(paths::BAKED).join("appliance.json");
    let bytes = std::fs::read(&path).map_err(|source| SysError::Read { path, source })?;
    let effective: Effective = serde_json::from_slice(&bytes).map_err(MedicError::Baked)?;
    Appliance::from_values(&effective.values).map(Some).map_err(MedicError::Baked)
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
        let (_, text) = pour(&[7u8; 9000][..], sink()).unwrap();
        let sha256 = bakelite_spec::hexadecimal::bytes(&text).unwrap().try_into().unwrap();
        put(start, &[7; 9000]);
        put(start + length - RECORD, &Footer { length: 9000, sha256 }.encode());
        assert_eq!(look_at_slot(&mut file, start, length), Slot::Whole(text.clone()));
        file.seek(SeekFrom::Start(start + 5000)).unwrap();
        file.write_all(&[8]).unwrap();
        assert_eq!(look_at_slot(&mut file, start, length), Slot::Damaged(text));
        file.seek(SeekFrom::Start(start + length - 10)).unwrap();
        file.write_all(&[8]).unwrap();
        assert!(matches!(look_at_slot(&mut file, start, length), Slot::NoFooter(_)));
    }
}
