//! Making, checking, growing and mounting the state partition with Debian's own tools.
//!
//! What is to be done is decided in `state`. A file system that can't be repaired by e2fsck -p is left as it is: the
//! machine then runs with its state in memory, reachable, and k3s is withheld.

use crate::error::InitError;
use crate::state::{self, Place, Step};
use bakelite_disk::Guid;
use bakelite_disk::born::Born;
use bakelite_disk::ext4::BLOCK;
use bakelite_disk::table::Table;
use bakelite_spec::fault::{Code, Fault};
use bakelite_spec::layout::{RECORD, Role, SECTOR};
use bakelite_spec::status::paths;
use bakelite_sys::{SysError, block, ext4, machine};
use std::fs::File;
use std::path::Path;

/// Steps from a fresh image to a mounted state: erase, carry, table, format, use; more is a defect.
const STEPS: usize = 8;

/// What became of it.
pub struct Attached {
    /// What was done, for people.
    pub effects: Vec<String>,
    /// Why there is no state partition, if there is none.
    pub fault: Option<Fault>,
}

/// Brings the state partition of a disk to /state.
pub fn attach(disk_name: &str) -> Attached {
    let mut effects = Vec::new();
    let fault = match try_attach(disk_name, &mut effects) {
        Ok(()) => None,
        Err(error) => Some(error.into_fault(Code::StateUnavailable)),
    };
    Attached { effects, fault }
}

fn try_attach(disk_name: &str, effects: &mut Vec<String>) -> Result<(), InitError> {
    let disk = block::Disk { name: disk_name.into(), ..block::Disk::default() };
    let (mut medium, length) = block::open(&disk.device(), true)?;
    let mut random = Vec::new();
    for _ in 0..8 {
        random.push(Guid::from_random(machine::random()?));
    }
    for _ in 0..STEPS {
        let seen = state::look(&mut medium, length / SECTOR).map_err(|error| state::medium_error(disk_name, error))?;
        let mut fresh = random.iter().copied();
        let step = state::decide(&seen, &mut || fresh.next().unwrap_or_default());
        state::apply(&step, &mut medium).map_err(|error| state::medium_error(disk_name, error))?;
        match step {
            Step::Erase(_) => effects.push("erased what an earlier image left of its state".into()),
            Step::CarryBorn(..) => {}
            Step::WriteTable(table) => {
                tell_kernel(&disk, &medium, &table)?;
                effects.push(format!("wrote the partition table of {disk_name} (disk {})", table.disk));
            }
            Step::Format(place) => {
                let device = disk.partition_device(place.number);
                ext4::make(&device, BLOCK, place.length - RECORD)?;
                mount_state(&device)?;
                bear(&mut medium, place, disk_name)?;
                effects.push(format!("made the state partition with {} MiB", place.length >> 20));
                return Ok(());
            }
            Step::Use { place, born, grows } => {
                let device = disk.partition_device(place.number);
                effects.extend(check(&device)?);
                mount_state(&device)?;
                if !born {
                    bear(&mut medium, place, disk_name)?;
                }
                if grows {
                    ext4::grow(&device, place.length - RECORD)?;
                    effects.push(format!("grew the state partition to {} MiB", place.length >> 20));
                }
                return Ok(());
            }
            Step::Unavailable(why) => return Err(InitError::fault(Code::StateUnavailable, why)),
        }
    }
    Err(InitError::fault(Code::StateUnavailable, format!("{disk_name} doesn't keep what is written to it")))
}

fn tell_kernel(disk: &block::Disk, medium: &File, table: &Table) -> Result<(), SysError> {
    let partitions = table.entries.iter().map(|(number, entry)| (*number, entry.start(), entry.length()));
    disk.tell_kernel(medium, partitions)
}

fn mount_state(device: &Path) -> Result<(), InitError> {
    ext4::attach(device, paths::STATE_MOUNT)
        .map_err(|error| InitError::fault(Code::StateDamaged, bakelite_sys::words(&error)))
}

/// The end of its birth: the label, everything durable, then the record.
fn bear(medium: &mut File, place: Place, disk: &str) -> Result<(), InitError> {
    ext4::finish(Path::new(paths::STATE_MOUNT), Role::State.label())?;
    let id = Guid::from_random(machine::random()?);
    Born { id }.write(medium, place.start, place.length).map_err(|error| state::medium_error(disk, error))
}

fn check(device: &Path) -> Result<Option<String>, InitError> {
    let repaired =
        ext4::check(device).map_err(|error| InitError::fault(Code::StateDamaged, bakelite_sys::words(&error)))?;
    Ok(repaired.then(|| "repaired the file system of the state partition".into()))
}
