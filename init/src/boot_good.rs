//! A good boot: takes the tries counter off the loader entry's name, so that systemd-boot counts it no more.
//!
//! The one rename on FAT of something live (law 3): after a cut both names are legal, and the one without a counter
//! wins. The partition is mounted only for that moment.

use crate::medium::candidates;
use bakelite_spec::layout::Role;
use bakelite_sys::mount::{MountFlags, mount, unmount};
use bakelite_sys::{SysError, durable, efivar, names_in};
use std::fs::File;
use std::path::{Path, PathBuf};

const BOOT: &str = "/boot";

/// Marks this boot; what was done. Nothing where the entry isn't counted.
///
/// # Errors
/// When the partition can't be mounted or the name can't be changed.
pub fn mark(disk: &str) -> Result<Option<String>, SysError> {
    let Some(counted) = efivar::loader("LoaderBootCountPath") else { return Ok(None) };
    let Some(device) = boot_partition(disk) else { return Ok(None) };
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount(&device.to_string_lossy(), BOOT, "vfat", flags, "umask=0077,shortname=winnt")?;
    let marked = take_off(&Path::new(BOOT).join(counted.replace('\\', "/").trim_start_matches('/')));
    let synced = durable::sync_file_system(Path::new(BOOT));
    let unmounted = unmount(Path::new(BOOT), false);
    let written = File::open(&device)
        .and_then(|device| device.sync_all())
        .map_err(|source| SysError::Change { path: device, source });
    let marked = marked?;
    synced.and(unmounted).and(written)?;
    Ok(marked)
}

fn boot_partition(disk: &str) -> Option<PathBuf> {
    let own = candidates().into_iter().find(|candidate| candidate.disk.name == disk)?;
    Some(own.disk.partition_device(own.entry(Role::Boot)?.0))
}

/// `bakelite-a+2-1.conf` becomes `bakelite-a.conf`; done already is as good.
fn take_off(counted: &Path) -> Result<Option<String>, SysError> {
    let Some((name, plain)) =
        counted.file_name().and_then(|name| name.to_str()).and_then(|name| Some((name, uncounted(name)?)))
    else {
        return Ok(None);
    };
    let Some(folder) = counted.parent() else { return Ok(None) };
    // Firmware and boot loader may write names in another case than Linux shows them.
    let Some(found) = names_in(folder).into_iter().find(|found| found.eq_ignore_ascii_case(name)) else {
        return Ok(None);
    };
    durable::publish(&folder.join(found), &folder.join(&plain))?;
    Ok(Some(format!("took the counter off the boot entry {plain}")))
}

/// The name without its counter; `None` for a name without one.
fn uncounted(name: &str) -> Option<String> {
    let (stem, ending) = name.rsplit_once('.')?;
    let (plain, counter) = stem.rsplit_once('+')?;
    let is_counter = !counter.is_empty()
        && counter.split('-').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    is_counter.then(|| format!("{plain}.{ending}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_counters_are_taken_off() {
        assert_eq!(uncounted("bakelite-a+2-1.conf").as_deref(), Some("bakelite-a.conf"));
        assert_eq!(uncounted("bakelite-a+3.conf").as_deref(), Some("bakelite-a.conf"));
        for name in ["bakelite-a.conf", "bakelite+x.conf", "bakelite-a+.conf", "bakelite-a+1-.conf", "conf"] {
            assert_eq!(uncounted(name), None, "{name}");
        }
    }

    #[test]
    fn taking_it_off_twice_is_as_once() {
        let folder = tempfile::tempdir().unwrap();
        let counted = folder.path().join("bakelite-a+2-1.conf");
        durable::replace(&counted, b"linux /a", 0o644).unwrap();
        assert!(take_off(&counted).unwrap().is_some());
        assert!(take_off(&counted).unwrap().is_none());
        assert_eq!(names_in(folder.path()), ["bakelite-a.conf"]);
    }
}
