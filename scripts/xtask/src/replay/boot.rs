//! The boot partition and the slots at a moment: whatever the boot loader could take is whole, to the system that it starts.

use super::partition;
use crate::door;
use anyhow::{Context, Result, ensure};
use bakelite_disk::footer::Footer;
use bakelite_spec::hexadecimal::hexadecimal;
use bakelite_spec::layout::Role;
use bakelite_spec::loader_entry::{EntryName, LoaderEntry};
use bakelite_vm::image;
use bakelite_vm::media::copy_part;
use sha2::{Digest, Sha256};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// A system as it was built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct System {
    /// The image's id.
    pub image: String,
    /// The SHA-256 in hexadecimal digits of kernel and initramfs.
    boot_files: [String; 2],
    /// The length of its squashfs in bytes, and its SHA-256 in hexadecimal digits.
    root: (u64, String),
}

impl System {
    /// That of an image, or of slot A of a medium.
    pub fn of(path: &Path) -> Result<Self> {
        let contents = image::read(path)?;
        let boot_files = [&contents.kernel, &contents.initramfs].map(|file| hexadecimal(Sha256::digest(file)));
        let system = contents.manifest.system;
        Ok(Self { image: contents.manifest.image, boot_files, root: (system.length, system.sha256) })
    }
}

/// An entry that the boot loader could take, be it as the last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Startable {
    /// What its name says.
    pub name: EntryName,
    /// The image that it starts.
    pub image: String,
}

/// The systems that are whole in their slots. Where a footer is whole, what is under it has to be so.
fn in_slots(medium: &Path) -> Result<BTreeMap<&'static str, (u64, String)>> {
    let mut found = BTreeMap::new();
    for (slot, role) in [("a", Role::SystemA), ("b", Role::SystemB)] {
        let place = partition(medium, role)?;
        let mut file = File::open(medium)?;
        let Ok(footer) = Footer::read(&mut file, place.start, place.end - place.start) else { continue };
        file.seek(SeekFrom::Start(place.start))?;
        let mut system = Vec::new();
        file.take(footer.length).read_to_end(&mut system)?;
        let (is, says) = (hexadecimal(Sha256::digest(&system)), hexadecimal(footer.sha256));
        ensure!(is == says, "slot {slot} has a whole footer, and its system isn't the one that it speaks of");
        found.insert(slot, (footer.length, says));
    }
    Ok(found)
}

/// What the boot loader could take of a boot partition: all of it whole, among `systems`, and one of it not given up.
fn startable(
    file: &Path,
    (start, length): (u64, u64),
    systems: &[System],
    slots: &BTreeMap<&'static str, (u64, String)>,
) -> Result<Vec<Startable>> {
    let entries = image::loader_entries(file, start, length)?;
    let mut found = Vec::new();
    // systemd-boot passes over what names no kernel.
    for entry in entries.iter().filter(|entry| entry.text.lines().any(|line| line.starts_with("linux "))) {
        let Some(name) = EntryName::parse(&entry.name) else { continue };
        let read = LoaderEntry::parse(&entry.text);
        // The options come last but for remarks, and with them the slot, without which init starts nothing.
        let whole = entry.text.ends_with('\n') && read.options.slot() == Some(&name.slot);
        ensure!(whole, "the entry {} isn't whole: {:?}", entry.name, entry.text);
        let system = systems.iter().find(|system| system.image == read.image());
        let system = system.with_context(|| format!("the entry {} starts no system that was built", entry.name))?;
        ensure!(
            entry.files.as_ref() == Some(&system.boot_files),
            "the entry {} can be started, and its kernel and initramfs aren't whole",
            entry.name
        );
        ensure!(
            slots.get(name.slot.as_str()) == Some(&system.root),
            "the entry {} can be started, and slot {} isn't whole",
            entry.name,
            name.slot
        );
        // By tries left, then version, which begins with the rank (its config_entry_compare).
        let order = (name.is_exhausted(), Reverse((read.rank(), name.generation)));
        found.push((order, Startable { name, image: system.image.clone() }));
    }
    found.sort_by_key(|(order, _)| *order);
    ensure!(found.first().is_some_and(|((given_up, _), _)| !given_up), "no entry to start in {entries:?}");
    Ok(found.into_iter().map(|(_, entry)| entry).collect())
}

/// What the boot loader could take, the one that it takes first, as the medium is, and when it was put in order before the
/// next write. Each time `holds` of it has to be so.
pub fn boots(medium: &Path, systems: &[System], holds: &dyn Fn(&[Startable]) -> Result<()>) -> Result<()> {
    let slots = in_slots(medium)?;
    let place = partition(medium, Role::Boot)?;
    let length = place.end - place.start;
    holds(&startable(medium, (place.start, length), systems, &slots)?)?;
    let copy = medium.with_extension("fat");
    copy_part(medium, place.start, length, &copy)?;
    let target = copy.display().to_string();
    // 1: something was repaired, if only the mark that it wasn't unmounted. Then it is asked again, as the machine does.
    for _ in 0..3 {
        let (status, said) = door::end_of("fsck.fat", &["-a", "-w", &target])?;
        ensure!(matches!(status, 0 | 1), "fsck.fat can't repair it: {said}");
        if status == 0 {
            break;
        }
    }
    let (status, said) = door::end_of("fsck.fat", &["-n", &target])?;
    ensure!(status == 0, "fsck.fat still finds something after its repair: {said}");
    startable(&copy, (0, length), systems, &slots).and_then(|entries| holds(&entries)).context("after its repair")
}
