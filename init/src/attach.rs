//! Making, checking, growing and mounting the state partition with Debian's own tools.
//!
//! What is to be done is decided in `state`. A file system that can't be repaired by e2fsck -p is left as it is: the
//! machine then runs with its state in memory, reachable, and k3s is withheld.

use crate::error::InitError;
use crate::medium::open;
use crate::state::{self, BLOCK, Place, Step};
use bakelite_disk::Guid;
use bakelite_disk::born::Born;
use bakelite_disk::gpt::Table;
use bakelite_spec::fault::{Code, Fault};
use bakelite_spec::layout::{RECORD, Role, SECTOR};
use bakelite_spec::status::paths;
use bakelite_sys::mount::{MountFlags, mount};
use bakelite_sys::raw::{self, Tell};
use bakelite_sys::{SysError, block, durable, machine, tool};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A whole card may have to be checked: an hour, and the watchdog is not armed yet.
const CHECK: Duration = Duration::from_secs(3600);
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
    let (mut medium, length) = open(&disk.device(), true)?;
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
                make(&disk.partition_device(place.number), place)?;
                mount_state(&disk.partition_device(place.number))?;
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
                    let size = format!("{}K", (place.length - RECORD) / 1024);
                    tool::must("/usr/sbin/resize2fs", &[&device.to_string_lossy(), &size], CHECK)?;
                    effects.push(format!("grew the state partition to {} MiB", place.length >> 20));
                }
                return Ok(());
            }
            Step::Unavailable(why) => return Err(InitError::fault(Code::StateUnavailable, why)),
        }
    }
    Err(InitError::fault(Code::StateUnavailable, format!("{disk_name} doesn't keep what is written to it")))
}

/// Tells the kernel of what differs from what it knows.
fn tell_kernel(disk: &block::Disk, medium: &File, table: &Table) -> Result<(), SysError> {
    let known = block::disks(Path::new("/")).into_iter().find(|known| known.name == disk.name).unwrap_or_default();
    for (number, entry) in &table.entries {
        let tell = match known.partitions.get(number) {
            None => Tell::Add,
            Some(known) if known.length != entry.length() => Tell::Resize,
            Some(_) => continue,
        };
        raw::tell_partition(medium, tell, *number, entry.start(), entry.length()).map_err(|source| {
            SysError::Device { act: "telling the kernel of a partition", path: disk.partition_device(*number), source }
        })?;
    }
    Ok(())
}

/// Makes the file system, without its label: a half-made one must not look like one that holds something.
fn make(device: &Path, place: Place) -> Result<(), SysError> {
    let blocks = ((place.length - RECORD) / BLOCK).to_string();
    let block = BLOCK.to_string();
    let device = device.to_string_lossy();
    let options = "nodiscard,lazy_itable_init=1,lazy_journal_init=1";
    tool::must("/usr/sbin/mkfs.ext4", &["-q", "-F", "-b", &block, "-E", options, &device, &blocks], CHECK).map(drop)
}

fn mount_state(device: &Path) -> Result<(), InitError> {
    let source = device.to_string_lossy();
    mount(&source, paths::STATE_MOUNT, "ext4", MountFlags::NOATIME, "errors=remount-ro")
        .map_err(|error| InitError::fault(Code::StateDamaged, bakelite_sys::words(&error)))
}

/// The end of its birth: the label, everything durable, then the record.
fn bear(medium: &mut File, place: Place, disk: &str) -> Result<(), InitError> {
    let root = PathBuf::from(paths::STATE_MOUNT);
    let folder = File::open(&root).map_err(|source| SysError::Read { path: root.clone(), source })?;
    raw::set_label(&folder, Role::State.label()).map_err(|source| SysError::Device {
        act: "setting the label",
        path: root.clone(),
        source,
    })?;
    durable::sync_file_system(&root)?;
    let id = Guid::from_random(machine::random()?);
    Born { id }.write(medium, place.start, place.length).map_err(|error| state::medium_error(disk, error))
}

/// e2fsck's exit status is a sum: 1 repaired, 2 reboot if mounted (it isn't), 4 and more not repaired.
fn check(device: &Path) -> Result<Option<String>, InitError> {
    let ended = tool::run("/usr/sbin/e2fsck", &["-p", &device.to_string_lossy()], CHECK)?;
    match ended.status {
        Some(0) => Ok(None),
        Some(1..=3) => Ok(Some("repaired the file system of the state partition".into())),
        _ => Err(InitError::fault(Code::StateDamaged, bakelite_sys::words(&ended.into_error()))),
    }
}
