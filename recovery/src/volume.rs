//! The ext4 volumes as they are: the state partition, and the data disks that are attached. e2fsck looks without writing.
//!
//! A volume that was not unmounted is not looked into: what its journal holds isn't in its places yet, and every check would
//! find damage that is none.

use crate::MedicError;
use bakelite_disk::born::Born;
use bakelite_disk::table::Table;
use bakelite_disk::{data, ext4};
use bakelite_plan::recovery::Volume;
use bakelite_spec::layout::{Role, SECTOR};
use bakelite_sys::{block, tool};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The state partition's name on the page.
pub(crate) const STATE: &str = "state";
const E2FSCK: &str = "/usr/sbin/e2fsck";
const LIMIT: Duration = Duration::from_secs(3600);
/// ext4's superblock (kernel, Documentation/filesystems/ext4/super.rst): where it is, s_feature_incompat in it, and the bit
/// that says that the journal holds something.
const FEATURES_AT: u64 = 1024 + 96;
const NEEDS_JOURNAL: u8 = 4;

/// One of them.
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) device: PathBuf,
    pub(crate) is: Volume,
}

/// All of them.
pub(crate) fn look(disk: &block::Disk, table: &Table) -> Result<Vec<Found>, MedicError> {
    let mut found = Vec::new();
    if let Some((number, entry)) = table.role(Role::State) {
        let is = one(disk, &disk.partition_device(number), (entry.start(), entry.length()), Role::State, true)?;
        found.push(Found { name: STATE.into(), device: disk.partition_device(number), is });
    }
    for other in block::disks(Path::new("/")).iter().filter(|other| other.name != disk.name) {
        let (mut medium, length) = block::open(&other.device(), false)?;
        let Ok(Some(data)) = data::find(&mut medium, length / SECTOR) else { continue };
        let (start, length) = (data.entry.start(), data.entry.length());
        let _ = other.tell_kernel(&medium, std::iter::once((data.number, start, length)));
        let device = other.partition_device(data.number);
        let is = one(other, &device, (start, length), Role::Data, false)?;
        found.push(Found { name: format!("data disk {}", other.name), device, is });
    }
    Ok(found)
}

/// `whole`: also where the file system itself says that it is clean; that takes long on a large disk.
fn one(
    disk: &block::Disk,
    device: &Path,
    (start, length): (u64, u64),
    role: Role,
    whole: bool,
) -> Result<Volume, MedicError> {
    let on = |source| MedicError::Disk { disk: disk.name.clone(), source };
    let (mut file, _) = block::open(&disk.device(), false)?;
    let is_born = Born::read(&mut file, start, length).map_err(on)?.is_some();
    if ext4::find(&mut file, start, length, role.label()).map_err(on)?.is_none() {
        return Ok(if is_born { Volume::Lost } else { Volume::Unmade });
    }
    if needs_journal(&mut file, start) {
        return Ok(Volume::Journal);
    }
    let options = if whole { "-fn" } else { "-n" };
    let ended = tool::run(E2FSCK, &[options, &device.to_string_lossy()], LIMIT)?;
    if ended.status == Some(0) {
        return Ok(Volume::Sound);
    }
    let text = ended.text();
    let said = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with("e2fsck"));
    Ok(Volume::Damaged(said.unwrap_or("e2fsck isn't content with it").into()))
}

fn needs_journal(file: &mut File, start: u64) -> bool {
    let mut byte = [0];
    let read = file.seek(SeekFrom::Start(start + FEATURES_AT)).and_then(|_| file.read_exact(&mut byte));
    // A superblock that can't be read is e2fsck's to judge.
    let mut magic = [0; 2];
    let known = file.seek(SeekFrom::Start(start + 1080)).and_then(|_| file.read_exact(&mut magic));
    read.and(known).is_ok() && magic == [0x53, 0xef] && byte[0] & NEEDS_JOURNAL != 0
}
