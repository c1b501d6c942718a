//! Putting the stick's system onto a disk of a machine that has none.
//!
//! The order is the point. The mark comes first, so that whatever a cut leaves is known as ours to go on with; then nothing of
//! the disk boots any more; then the files of the boot partition, the system and its footer, all read back past all caches;
//! then the mark goes, and the first MiB with the partition table comes last. Cut before that, the disk doesn't boot, and the
//! next start from the stick begins again; cut in it, the medic finds all partitions in their places and writes the table.

use crate::act::fresh_guids;
use crate::probe::Probe;
use crate::{MedicError, boot, installer, say};
use bakelite_disk::footer::Footer;
use bakelite_disk::press::{Buffer, OpenMedium, PIECE, Piece, Press, Target, lay, wipe};
use bakelite_disk::table::Table;
use bakelite_disk::{DiskError, Guid, begun};
use bakelite_plan::disk::Disk;
use bakelite_plan::recovery::Boot;
use bakelite_spec::hexadecimal::hexadecimal;
use bakelite_spec::installer::{Attempt, State};
use bakelite_spec::layout::{Layout, RECORD, Role, SECTOR};
use bakelite_spec::seed::NAME;
use bakelite_sys::sum::fill;
use bakelite_sys::{SysError, block, durable, fat, machine, raw, words};
use bakelite_trust::recovery::SYSTEM;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// How often progress is told while the system is written, and while it is read back.
const STEPS: u64 = 4;

impl Probe<'_> {
    /// Puts the system onto the disk with a key.
    pub(crate) fn install(&mut self, key: &str) -> Result<(), MedicError> {
        let gone = || MedicError::Gone(format!("the disk {key}"));
        let found = self.disks.all().into_iter().find(|disk| disk.key() == key).ok_or_else(gone)?;
        let disk = block::disks(Path::new("/")).into_iter().find(|disk| disk.name == found.name).ok_or_else(gone)?;
        let mut attempt = self.stick.manifest.installs.then(|| self.attempt(&found)).transpose()?;
        let installed = self.put_system(&disk, attempt.as_mut());
        let Some(mut attempt) = attempt else { return installed };
        attempt.ended = machine::clock();
        attempt.state = match &installed {
            Ok(()) => State::Written,
            Err(error) => {
                attempt.why = words(error);
                // What may boot stays so in the record, whatever came of it.
                attempt.state.max(State::Failed)
            }
        };
        installer::note(self.stick, &attempt)?;
        installed
    }

    fn attempt(&mut self, disk: &Disk) -> Result<Attempt, MedicError> {
        let image = self.stick.manifest.image.image.clone();
        let board = self.board();
        let attempt = installer::begin(self.row.as_ref(), board, disk.words(), image)?;
        installer::note(self.stick, &attempt)?;
        Ok(attempt)
    }

    /// Ends the record of an attempt that was cut when nearly all was done: the machine's medium is the one that it speaks of, or
    /// has got its table just now.
    pub(crate) fn settle_record(&mut self, medium: &str, has_new_table: bool) -> Result<(), MedicError> {
        if !self.stick.manifest.installs {
            return Ok(());
        }
        let (mut file, length) = block::open(&Path::new("/dev").join(medium), false)?;
        let on = |source| MedicError::Disk { disk: medium.into(), source };
        let disk = Table::read(&mut file, length / SECTOR).map_err(on)?.disk.to_string();
        let cut = installer::done(self.stick).into_iter().filter(|attempt| attempt.state == State::Finishing);
        for attempt in cut.collect::<Vec<_>>() {
            if attempt.board.is(&self.board()) && (attempt.disk == disk || has_new_table) {
                let (disk, ended) = (disk.clone(), machine::clock());
                installer::note(self.stick, &Attempt { state: State::Written, disk, ended, ..attempt })?;
            }
        }
        Ok(())
    }

    fn put_system(&mut self, disk: &block::Disk, mut attempt: Option<&mut Attempt>) -> Result<(), MedicError> {
        let on = |source| MedicError::Disk { disk: disk.name.clone(), source };
        let device = disk.device();
        let failed = |act| {
            let path = device.clone();
            move |source| SysError::Device { act, path, source }
        };
        let layout = self.layout();
        let part = *layout.partition(Role::Boot).ok_or_else(|| MedicError::Gone("the boot partition".into()))?;
        let number = part.role.number(layout.scheme);

        let since = machine::uptime();
        begun::set(&mut block::open(&device, true)?.0).map_err(on)?;
        let mut target = OpenMedium::device(&device).map_err(failed("opening"))?;
        wipe(&mut target).map_err(on)?;
        // While the disk is held no partition of it can be mounted.
        drop(target);
        let (medium, length) = block::open(&device, true)?;
        raw::read_table_again(&medium).map_err(failed("forgetting the old partitions"))?;
        disk.tell_kernel(&medium, std::iter::once((number, part.start, part.length)))?;
        drop(medium);
        let partition = disk.partition_device(number);
        self.make_boot(&partition)?;
        self.put_seed(&partition)?;
        self.is_boot_whole(&partition)?;

        let source = self.stick.root.join(SYSTEM);
        let from = File::open(&source).map_err(|error| SysError::Read { path: source, source: error })?;
        let mut target = OpenMedium::device(&device).map_err(failed("opening"))?;
        let mut fresh = fresh_guids()?;
        let system = &self.stick.manifest.image.system;
        let wanted = Wanted { layout: &layout, length, system: system.length, sha256: &system.sha256 };
        let mut before_last = |guid: Guid| {
            let Some(attempt) = attempt.as_deref_mut() else { return Ok(()) };
            attempt.state = State::Finishing;
            attempt.disk = guid.to_string();
            attempt.written = system.length;
            attempt.seconds = (machine::uptime() - since).as_secs_f64();
            installer::note(self.stick, attempt).map_err(Box::new)
        };
        let acts = Acts { fresh: &mut fresh, told: &mut say, before_last: &mut before_last };
        press(&mut target, &wanted, from, acts).map_err(|error| match error {
            PressError::Disk(source) => on(source),
            PressError::Source(source) => SysError::Read { path: self.stick.root.join(SYSTEM), source }.into(),
            PressError::Changed => MedicError::Changed(SYSTEM.into()),
            PressError::Record(error) => *error,
        })
    }

    /// Puts the seed of the machine's row onto its boot partition.
    fn put_seed(&self, partition: &Path) -> Result<(), MedicError> {
        let Some(row) = &self.row else { return Ok(()) };
        let seed = row.seed.as_bytes();
        fat::change(partition, |boot| durable::write_whole(&boot.root.join(NAME), seed, 0o600))?;
        forget_cached(partition)?;
        let read = fat::look(partition, |root| {
            let path = root.join(NAME);
            std::fs::read(&path).map_err(|source| SysError::Read { path, source })
        })?;
        if read == seed { Ok(()) } else { Err(MedicError::Forgets(partition.display().to_string())) }
    }

    /// That the files of a boot partition are what was written, by what the medium itself has.
    fn is_boot_whole(&self, partition: &Path) -> Result<(), MedicError> {
        forget_cached(partition)?;
        match boot::look(partition, self.stick)? {
            Boot::Seen { disorder, wrong, sound: 1.., .. } if disorder.is_empty() && wrong.is_empty() => Ok(()),
            other => {
                log::warn!("the boot partition as it was read back: {other:?}");
                Err(MedicError::Forgets(partition.display().to_string()))
            }
        }
    }
}

/// Has what is read of a partition come from the medium itself.
fn forget_cached(partition: &Path) -> Result<(), SysError> {
    let failed = |source| SysError::Device { act: "forgetting what is cached of", path: partition.into(), source };
    raw::flush_cached_blocks(&block::open(partition, false)?.0).map_err(failed)
}

/// What is put onto a medium.
struct Wanted<'a> {
    layout: &'a Layout,
    /// The medium's length in bytes.
    length: u64,
    /// The system's length in bytes.
    system: u64,
    /// Its SHA-256 in hexadecimal digits.
    sha256: &'a str,
}

/// What others do meanwhile.
struct Acts<'a> {
    /// Gives GUIDs that nobody else has.
    fresh: &'a mut dyn FnMut() -> Guid,
    /// Hears how far it is.
    told: &'a mut dyn FnMut(&str),
    /// Is called with the disk's GUID before the medium becomes one that boots; an error leaves it as one that doesn't.
    before_last: &'a mut dyn FnMut(Guid) -> Result<(), Box<MedicError>>,
}

#[derive(Debug)]
enum PressError {
    Disk(DiskError),
    /// The system can't be read from the stick.
    Source(io::Error),
    /// It isn't the one that was signed.
    Changed,
    /// What is done can't be recorded.
    Record(Box<MedicError>),
}

impl From<DiskError> for PressError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

/// Puts all but the boot partition's files onto a medium that is marked; the mark goes, and the first MiB comes last.
fn press(target: &mut impl Target, wanted: &Wanted<'_>, from: impl Read, acts: Acts<'_>) -> Result<(), PressError> {
    let Acts { fresh, told, before_last } = acts;
    let Wanted { layout, length, system, .. } = *wanted;
    let place = |role| layout.partition(role).map_or((0, 0), |part| (part.start, part.length));
    let (head, stamped) = lay(layout, length, fresh)?;
    let mut press = Press::begin(&mut *target, layout.length)?;
    let (start, room) = place(Role::SystemA);
    if system + RECORD > room {
        return Err(DiskError::MediumTooSmall { image: system + RECORD, medium: room }.into());
    }
    let sha256 = write_system(&mut press, from, start, system, told)?;
    if hexadecimal(sha256) != wanted.sha256 {
        return Err(PressError::Changed);
    }
    let mut footer = Buffer::new(RECORD as usize);
    footer.copy_from_slice(&Footer { length: system, sha256 }.encode());
    press.write(&Piece::new(start + room - RECORD, footer))?;
    // What an earlier life of the disk has left where a machine would look.
    let (bios, bios_length) = place(Role::BiosBoot);
    press.clear(bios, bios_length.saturating_sub(RECORD))?;
    let (other, other_length) = place(Role::SystemB);
    let end = other_length.min(PIECE as u64);
    press.clear(other, end)?;
    press.clear(other + other_length - end, end)?;
    if let Some((start, length)) = stamped.state {
        press.forget_file_system(start, length)?;
    }
    press.take_stamped(head, stamped.elsewhere);
    let all = press.to_verify();
    let mut steps = Steps { of: "read back", all, done: 0 };
    press.verify(&mut |bytes| steps.add(bytes, told))?;
    before_last(stamped.disk).map_err(PressError::Record)?;
    begun::remove(press.target())?;
    if let Err(error) = press.publish() {
        // It may be half there: what doesn't boot is better.
        begun::set(target)?;
        wipe(target)?;
        return Err(error.into());
    }
    Ok(())
}

fn write_system(
    press: &mut Press<'_, impl Target>,
    mut from: impl Read,
    start: u64,
    system: u64,
    told: &mut dyn FnMut(&str),
) -> Result<[u8; 32], PressError> {
    let mut hash = Sha256::new();
    let mut steps = Steps { of: "wrote", all: system, done: 0 };
    while steps.done < system {
        let mut buffer = Buffer::new(PIECE);
        let wanted = usize::try_from(system - steps.done).map_or(PIECE, |left| left.min(PIECE));
        let length = fill(&mut from, &mut buffer[..wanted]).map_err(PressError::Source)?;
        if length < wanted {
            return Err(PressError::Changed);
        }
        hash.update(&buffer[..length]);
        // Whole pages go past the cache; what is behind the system's end is nobody's.
        buffer[length..].fill(0);
        buffer.set_length(length.next_multiple_of(RECORD as usize));
        press.write(&Piece::new(start + steps.done, buffer))?;
        steps.add(length as u64, told);
    }
    Ok(hash.finalize().into())
}

/// Tells a few times how far something is.
struct Steps {
    of: &'static str,
    all: u64,
    done: u64,
}

impl Steps {
    fn add(&mut self, bytes: u64, told: &mut dyn FnMut(&str)) {
        let step = |done: u64| done * STEPS / self.all.max(1);
        let before = step(self.done);
        self.done += bytes;
        if step(self.done) > before {
            told(&format!("{} {} of {} MiB", self.of, self.done >> 20, self.all >> 20));
        }
    }
}

#[cfg(test)]
mod tests;
