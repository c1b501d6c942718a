//! A good boot: takes the tries counter off the loader entry's name, so that systemd-boot counts it no more; or commits the slot
//! that a Raspberry Pi's firmware was told to try.
//!
//! The counter's is the one rename on FAT of something live (law 3): after a cut both names are legal, and the one without
//! a counter wins. A commit is one sector. The partition is mounted only for that moment.

use crate::medium::candidates;
use bakelite_spec::account::{GOOD, GoodBoot};
use bakelite_spec::board::Flow;
use bakelite_spec::layout::Role;
use bakelite_sys::commits::{self, Commits};
use bakelite_sys::{SysError, durable, efivar, fat, machine, names_in, read_text};
use std::path::{Path, PathBuf};

/// Marks this boot of a slot; what was done. Nothing where what started the kernel counts no tries, or not those of this
/// entry, and where the slot is committed.
///
/// # Errors
/// When the partition can't be mounted or the name can't be changed.
pub fn mark(disk: &str, flow: Flow, slot: &str) -> Result<Option<String>, SysError> {
    match flow {
        Flow::Uefi => mark_counted(disk),
        Flow::RaspberryPi => mark_tried(disk, slot),
        Flow::Direct => Ok(None),
    }
}

fn mark_tried(disk: &str, slot: &str) -> Result<Option<String>, SysError> {
    let Some(device) = boot_partition(disk) else { return Ok(None) };
    let is_tried = |boot: &Path| Commits::read(boot).is_some_and(|commits| commits.is_tried(slot));
    if !fat::look(&device, |boot| Ok::<_, SysError>(is_tried(boot)))? {
        return Ok(None);
    }
    let kept = fat::change(&device, |boot| commits::keep(boot.root, slot))?;
    Ok(kept.then(|| format!("committed slot {slot}: firmware starts it from now on")))
}

fn mark_counted(disk: &str) -> Result<Option<String>, SysError> {
    let Some(counted) = efivar::loader("LoaderBootCountPath") else { return Ok(None) };
    let Some(device) = boot_partition(disk) else { return Ok(None) };
    let counted = counted.replace('\\', "/");
    fat::change(&device, |boot| take_off(&boot.root.join(counted.trim_start_matches('/'))))
}

/// Notes a good boot for whoever asks later; once a day is enough.
///
/// # Errors
/// When it can't be written.
pub fn note(image: &str, slot: &str) -> Result<(), SysError> {
    let boot = GoodBoot { at: machine::clock(), image: image.into(), slot: slot.into() };
    let noted = read_text(GOOD).ok().and_then(|text| serde_json::from_str::<GoodBoot>(&text).ok());
    if noted.is_some_and(|noted| boot.is_as(&noted)) {
        return Ok(());
    }
    durable::write_durable(GOOD, &serde_json::to_vec(&boot).unwrap_or_default(), 0o644)
}

pub(crate) fn boot_partition(disk: &str) -> Option<PathBuf> {
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
    let (found, target) = (folder.join(found), folder.join(&plain));
    // A cut may have left both names, and putting FAT in order then empties one of them.
    if std::fs::metadata(&target).is_ok_and(|there| there.len() > 0) {
        durable::remove_file(&found)?;
        return Ok(Some(format!("removed the second name of the boot entry {plain}")));
    }
    durable::remove_file(&target)?;
    durable::publish(&found, &target)?;
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

    #[test]
    fn of_two_names_after_a_cut_the_one_with_the_bytes_stays() {
        for (with_counter, without) in [(&b""[..], &b"linux /a"[..]), (b"linux /a", b""), (b"linux /a", b"linux /a")] {
            let folder = tempfile::tempdir().unwrap();
            let counted = folder.path().join("bakelite-a+2-1.conf");
            durable::replace(&counted, with_counter, 0o644).unwrap();
            durable::replace(folder.path().join("bakelite-a.conf"), without, 0o644).unwrap();
            assert!(take_off(&counted).unwrap().is_some());
            assert_eq!(names_in(folder.path()), ["bakelite-a.conf"]);
            assert_eq!(std::fs::read(folder.path().join("bakelite-a.conf")).unwrap(), b"linux /a");
        }
    }
}
