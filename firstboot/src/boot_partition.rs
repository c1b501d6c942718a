//! Where the boot partition is: on the disk that this machine was booted from, by its type.

use crate::disks;
use bakelite_disk::table::Table;
use bakelite_spec::layout::{Role, SECTOR};
use bakelite_sys::{SysError, block};
use std::path::{Path, PathBuf};

/// Its device file; `None` where the machine was booted from something else.
///
/// # Errors
/// When the disk can't be opened.
pub fn device(root: &Path) -> Result<Option<PathBuf>, SysError> {
    let boot_disk = disks::boot_disk(root);
    let Some(disk) = block::disks(root).into_iter().find(|disk| disk.name == boot_disk) else {
        return Ok(None);
    };
    let (mut medium, length) = block::open(&disk.device(), false)?;
    let table = Table::read(&mut medium, length / SECTOR).ok();
    let number = table.and_then(|table| table.role(Role::Boot).map(|(number, _)| number));
    Ok(number.map(|number| disk.partition_device(number)))
}
