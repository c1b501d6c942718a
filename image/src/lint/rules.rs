//! Rules about partition table, boot partition and initramfs.

use super::{Found, raspberry_pi};
use crate::decide::boot::SPARE;
use crate::opened::Opened;
use crate::source::digest::Sha256;
use bakelite_disk::footer::Footer;
use bakelite_disk::table::Table;
use bakelite_spec::board::Flow;
use bakelite_spec::cmdline::Cmdline;
use bakelite_spec::layers::Effective;
use bakelite_spec::layout::{ALIGNMENT, Role, SECTOR, Scheme};
use bakelite_spec::loader_entry::LoaderEntry;
use bakelite_spec::unit::Unit;
use std::collections::BTreeSet;

/// The folder of loader entries on the boot partition.
const ENTRIES: &str = "loader/entries/";

pub(super) fn table(image: &Opened) -> Result<&Table, String> {
    image.table.as_ref().map_err(Clone::clone)
}

pub fn partition_table(image: &Opened) -> Found {
    let table = table(image)?;
    let flow = image.manifest.as_ref().map_err(Clone::clone)?.board.boot.flow;
    let mut found = Vec::new();
    if table.scheme != flow.scheme() {
        found.push(format!("it is {}, and the board's firmware reads {}", table.scheme.name(), flow.scheme().name()));
    }
    Ok(found)
}

pub fn gpt_whole(image: &Opened) -> Found {
    Ok(match &image.table {
        Err(problem) => vec![problem.clone()],
        Ok(table) if table.needs_repair => {
            vec!["one copy is damaged, they differ, or the backup isn't at the medium's end".into()]
        }
        Ok(_) => Vec::new(),
    })
}

pub fn partition_types(image: &Opened) -> Found {
    let table = table(image)?;
    let mut found = Vec::new();
    for role in table.scheme.roles() {
        let guid = role.type_guid().parse().map_err(|_| "a type GUID of Bakelite's can't be read")?;
        let these: Vec<_> = table.entries.values().filter(|entry| entry.type_guid == guid).collect();
        match these[..] {
            // The device makes it.
            [] if *role == Role::State => {}
            [one] if one.name == role.label() => {}
            [one] => found.push(format!("the partition {} should be called {}", one.name, role.label())),
            [] => found.push(format!("there is no partition {} (type {})", role.label(), role.type_guid())),
            _ => found.push(format!("there are {} partitions of the type of {}", these.len(), role.label())),
        }
    }
    Ok(found)
}

pub fn partition_places(image: &Opened) -> Found {
    let table = table(image)?;
    let mut entries: Vec<_> = table.entries.values().collect();
    entries.sort_by_key(|entry| entry.first);
    let mut found = Vec::new();
    let mut end = ALIGNMENT;
    for entry in entries {
        if entry.start() % ALIGNMENT != 0 {
            found.push(format!("{} begins at byte {}, not at a multiple of 1 MiB", entry.name, entry.start()));
        }
        if entry.start() < end {
            found.push(format!("{} begins before what is in front of it ends", entry.name));
        }
        end = entry.start() + entry.length();
    }
    let behind = if table.scheme == Scheme::Gpt { 33 * SECTOR } else { 0 };
    if end + behind > image.length {
        found.push("the last partition leaves no room for the backup table, or isn't whole".into());
    }
    Ok(found)
}

pub fn guids(image: &Opened) -> Found {
    let table = table(image)?;
    let mut seen = BTreeSet::from([table.disk]);
    let mut found = Vec::new();
    for (number, entry) in &table.entries {
        if entry.guid.is_nil() || !seen.insert(entry.guid) {
            found.push(format!("partition {number} has the GUID {}, which isn't its own", entry.guid));
        }
        let is_ours = Role::ALL.iter().any(|role| role.unstamped_guid().parse() == Ok(entry.guid));
        if is_ours != table.is_unstamped() {
            let what =
                if is_ours { "still has the GUID of an image" } else { "has a GUID of its own, the disk hasn't" };
            found.push(format!("partition {number} {what}"));
        }
    }
    Ok(found)
}

pub fn fat_clean(image: &Opened) -> Found {
    Ok(image.boot.as_ref().map_err(Clone::clone)?.problems.clone())
}

pub fn fat_dates(image: &Opened) -> Found {
    let bad = &image.boot.as_ref().map_err(Clone::clone)?.bad_dates;
    Ok(bad.iter().map(|path| format!("/{path} has a date without day or month")).collect())
}

/// The loader entries of slot A: file name, and lines as key and value.
type Entries = Vec<(String, Vec<(String, String)>)>;

fn entries(image: &Opened) -> Result<Entries, String> {
    let words = |line: &str| {
        let (key, value) = line.trim().split_once(char::is_whitespace)?;
        Some((key.to_string(), value.trim().to_string()))
    };
    let lines = |(name, text): (String, String)| (name, text.lines().filter_map(words).collect());
    Ok(entry_texts(image)?.into_iter().map(lines).collect())
}

/// The loader entries by their files' names.
fn entry_texts(image: &Opened) -> Result<Vec<(String, String)>, String> {
    let volume = image.boot.as_ref().map_err(Clone::clone)?;
    let paths = volume.files.keys().filter(|path| path.starts_with(ENTRIES) && path.ends_with(".conf"));
    paths
        .map(|path| {
            let text = String::from_utf8_lossy(&image.on_boot(path)?).into_owned();
            Ok((path[ENTRIES.len()..].to_string(), text))
        })
        .collect()
}

pub fn loader(image: &Opened) -> Found {
    if table(image)?.scheme == Scheme::Mbr {
        return Ok(Vec::new());
    }
    let volume = image.boot.as_ref().map_err(Clone::clone)?;
    let mut found = Vec::new();
    let by_firmware = image.manifest.as_ref().map_err(Clone::clone)?.board.boot.flow == Flow::Uefi;
    if by_firmware && !volume.files.keys().any(|path| path.to_uppercase().starts_with("EFI/BOOT/BOOT")) {
        found.push("there is no EFI/BOOT/BOOT*.EFI".into());
    }
    let entries = entries(image)?;
    if entries.is_empty() {
        found.push("there is no loader entry".into());
    }
    for (name, lines) in entries {
        for wanted in ["linux", "initrd"] {
            match lines.iter().find(|(key, _)| key == wanted) {
                None => found.push(format!("{name} has no {wanted}")),
                Some((_, path)) if !volume.files.contains_key(path.trim_start_matches('/')) => {
                    found.push(format!("{name} wants {path}, which is not there"));
                }
                Some(_) => {}
            }
        }
    }
    Ok(found)
}

pub fn boot_hashes(image: &Opened) -> Found {
    let files = &image.manifest.as_ref().map_err(Clone::clone)?.boot;
    let volume = image.boot.as_ref().map_err(Clone::clone)?;
    let mut found = Vec::new();
    for named in ["vmlinuz", "initrd"] {
        if !files.iter().any(|file| file.path.ends_with(named)) {
            found.push(format!("the manifest names no {named}"));
        }
    }
    for file in files {
        if !volume.files.contains_key(&file.path) {
            found.push(format!("/{} is not there", file.path));
            continue;
        }
        let bytes = image.on_boot(&file.path)?;
        let part = usize::try_from(file.size).ok().and_then(|size| bytes.get(..size));
        let is_whole = file.continues || bytes.len() as u64 == file.size;
        if !is_whole || part.is_none_or(|part| Sha256::of(part).to_string() != file.sha256) {
            found.push(format!("/{} isn't the file of the manifest", file.path));
        }
    }
    Ok(found)
}

pub fn boot_counter(image: &Opened) -> Found {
    if !table(image)?.is_unstamped() {
        return Ok(Vec::new());
    }
    let counts = |name: &str| {
        let tries = name.trim_end_matches(".conf").rsplit_once('+').map(|(_, tries)| tries.to_string());
        tries.and_then(|tries| tries.parse::<u32>().ok()).is_some_and(|tries| tries > 0)
    };
    let without = entries(image)?.into_iter().filter(|(name, _)| !counts(name));
    Ok(without.map(|(name, _)| format!("{name} has no counter such as +3")).collect())
}

/// The kernel's arguments that there are, with what they replace, by the files they are in.
fn generations(image: &Opened) -> Result<Vec<(String, LoaderEntry)>, String> {
    match table(image)?.scheme {
        Scheme::Gpt => {
            Ok(entry_texts(image)?.into_iter().map(|(name, text)| (name, LoaderEntry::parse(&text))).collect())
        }
        Scheme::Mbr => raspberry_pi::generations(image),
    }
}

pub fn cmdline(image: &Opened) -> Found {
    let board = &image.manifest.as_ref().map_err(Clone::clone)?.board;
    let mut found = Vec::new();
    for (name, entry) in generations(image)? {
        let (line, replaced) = (&entry.options, &entry.base());
        if line.slot().is_none_or(|slot| Role::of_slot(slot).is_none()) {
            found.push(format!("{name} doesn't say bakelite.slot=a or b"));
        }
        // The appliance may give an argument of the board's another value; the entry says so.
        for wanted in board.cmdline.iter().filter(|text| !board.cgroup_arguments().any(|other| other == *text)) {
            if lacks(line, wanted) && lacks(replaced, wanted) {
                found.push(format!("{name} lacks {wanted}"));
            }
        }
    }
    Ok(found)
}

fn lacks(line: &Cmdline, wanted: &str) -> bool {
    !line.lacks(&Cmdline::parse(wanted)).is_empty()
}

pub fn cgroups(image: &Opened) -> Found {
    let board = &image.manifest.as_ref().map_err(Clone::clone)?.board;
    let mut found = Vec::new();
    for (name, LoaderEntry { options: line, .. }) in generations(image)? {
        let off = line.values("cgroup_disable").find(|what| what.split(',').any(|what| what == "memory"));
        if let Some(what) = off {
            found.push(format!("{name} says cgroup_disable={what}"));
        }
        for wanted in board.cgroup_arguments().filter(|text| lacks(&line, text)) {
            found.push(format!("{name} lacks {wanted}"));
        }
    }
    Ok(found)
}

pub fn slot_footer(image: &Opened) -> Found {
    Ok(image.footer.as_ref().err().cloned().into_iter().collect())
}

pub fn slot_b_empty(image: &Opened) -> Found {
    if !table(image)?.is_unstamped() {
        return Ok(Vec::new());
    }
    let slot = image.partition(Role::SystemB).ok_or("slot B wasn't found")?;
    let footer = Footer::read(&mut &image.file, slot.start(), slot.length());
    Ok(footer.ok().map(|_| "slot B has a footer".to_string()).into_iter().collect())
}

pub fn update_room(image: &Opened) -> Found {
    let slot = |role: Role| image.partition(role).ok_or_else(|| format!("{} wasn't found", role.label()));
    let (a, b) = (slot(Role::SystemA)?, slot(Role::SystemB)?);
    let volume = image.boot.as_ref().map_err(Clone::clone)?;
    let mut found = Vec::new();
    if b.length() < a.length() {
        found.push(format!("slot B has {} bytes, slot A {}", b.length(), a.length()));
    }
    let clusters = |slot: &str| -> u64 {
        let files = volume.files.iter().filter(|(path, _)| path.starts_with(&format!("bakelite/{slot}/")));
        files.map(|(_, file)| file.size.div_ceil(volume.cluster)).sum()
    };
    // Whichever slot is updated next: what it has goes, and as much as the other has must come.
    for (updated, other) in [("b", "a"), ("a", "b")] {
        let (needed, room) = (clusters(other) + SPARE, volume.free + clusters(updated));
        if clusters(other) > 0 && room < needed {
            found.push(format!("the boot partition has {room} clusters for slot {updated}, which needs {needed}"));
        }
    }
    Ok(found)
}

pub fn initramfs_root(image: &Opened) -> Found {
    let members = image.initramfs.as_ref().map_err(Clone::clone)?;
    let mut found = Vec::new();
    if !members.get("init").is_some_and(|init| init.mode & 0o111 != 0 && !init.content.is_empty()) {
        found.push("there is no /init that can be run".into());
    }
    let text = |ending: &str| {
        let found = members.iter().find(|(path, _)| path.starts_with("usr/lib/modules/") && path.ends_with(ending));
        found.map(|(path, member)| (path.as_str(), String::from_utf8_lossy(&member.content).into_owned()))
    };
    let Some((path, list)) = text("/modules.dep") else {
        found.push("it has no modules.dep".into());
        return Ok(found);
    };
    let folder = path.trim_end_matches("modules.dep");
    let missing = list
        .split_whitespace()
        .map(|word| word.trim_end_matches(':'))
        .filter(|module| !members.contains_key(&format!("{folder}{module}")));
    let missing: BTreeSet<&str> = missing.collect();
    found.extend(missing.iter().map(|module| format!("its index names {module}, which is not there")));
    let built_in = text("/modules.builtin").map(|(_, list)| list).unwrap_or_default();
    let names = |list: &str| list.split_whitespace().any(|word| word.contains("/squashfs.ko"));
    if !names(&list) && !names(&built_in) {
        found.push("it has no module squashfs, so it can't mount the system partition".into());
    }
    Ok(found)
}

pub fn settings(image: &Opened) -> Found {
    let members = image.initramfs.as_ref().map_err(Clone::clone)?;
    let mut found = Vec::new();
    let mut check = |name: &str, reads: &dyn Fn(&[u8]) -> Result<(), serde_json::Error>| match members.get(name) {
        None => found.push(format!("{name} is not there")),
        Some(member) => {
            if let Err(error) = reads(&member.content) {
                found.push(format!("{name}: {error}"));
            }
            if member.mode & 0o077 != 0 {
                found.push(format!("{name} can be read by anybody (mode {:o})", member.mode & 0o777));
            }
        }
    };
    check("bakelite/appliance.json", &|bytes| serde_json::from_slice::<Effective>(bytes).map(drop));
    check("bakelite/units.json", &|bytes| serde_json::from_slice::<Vec<Unit>>(bytes).map(drop));
    check("bakelite/manifest.json", &|bytes| serde_json::from_slice::<serde_json::Value>(bytes).map(drop));
    Ok(found)
}
