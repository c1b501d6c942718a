//! Rules about a Raspberry Pi's boot partition: what its firmware would do with it, by the model of it.

use super::{Found, rules};
use crate::firmware;
use crate::opened::Opened;
use bakelite_spec::board::Arch;
use bakelite_spec::cmdline::Cmdline;
use bakelite_spec::layout::{Role, SECTOR, Scheme};
use bakelite_spec::loader_entry::LoaderEntry;
use bakelite_spec::pi::{self, COMMIT, Commit, INITRAMFS, KERNEL, TRY_COMMIT};

/// The generations of the kernel's arguments, by the files they are in.
pub fn generations(image: &Opened) -> Result<Vec<(String, LoaderEntry)>, String> {
    let volume = image.boot.as_ref().map_err(Clone::clone)?;
    let text = |path: &str| Ok::<_, String>(String::from_utf8_lossy(&image.on_boot(path)?).into_owned());
    let generation = |path: &String| {
        let (folder, name) = path.rsplit_once('/')?;
        let slot = folder.strip_prefix("bakelite/").filter(|slot| Role::of_slot(slot).is_some())?;
        Some((path.clone(), format!("{}{}", pi::folder(slot), pi::set(pi::generation_of(name)?))))
    };
    let one = |(path, set): (String, String)| {
        let set = if volume.files.contains_key(&set) { text(&set)? } else { String::new() };
        Ok((path.clone(), pi::entry(&text(&path)?, &set)))
    };
    volume.files.keys().filter_map(generation).map(one).collect()
}

pub fn firmware(image: &Opened) -> Found {
    if rules::table(image)?.scheme != Scheme::Mbr {
        return Ok(Vec::new());
    }
    let board = &image.manifest.as_ref().map_err(Clone::clone)?.board;
    let starts = firmware::starts(image)?;
    let mut found = Vec::new();
    if starts.is_empty() {
        found.push("the board names no model".into());
    }
    for start in starts {
        let who = if start.tries { format!("{} when it tries", start.model) } else { start.model.clone() };
        found.extend(start.problems.iter().map(|problem| format!("{who}: {problem}")));
        let loads = &start.loads;
        let slot = ["a", "b"].into_iter().find(|slot| loads.kernel == format!("{}{KERNEL}", pi::folder(slot)));
        let Some(slot) = slot else {
            found.push(format!("{who}: /{} is the kernel of no slot", loads.kernel));
            continue;
        };
        let folder = pi::folder(slot);
        if loads.initramfs != [format!("{folder}{INITRAMFS}")] {
            found.push(format!("{who}: the initramfs isn't slot {slot}'s, but /{}", loads.initramfs.join(" and /")));
        }
        let others = loads.device_tree.iter().chain(&loads.cmdline).filter(|path| !path.starts_with(&folder));
        found.extend(others.map(|path| format!("{who}: /{path} isn't slot {slot}'s, whose kernel is started")));
        if loads.sixty_four != (board.arch != Arch::Armv7) {
            found.push(format!("{who}: the kernel is for {}, and isn't started so", board.arch.name()));
        }
        let said = Cmdline::parse(&start.cmdline);
        if said.slot() != Some(slot) {
            found.push(format!("{who}: slot {slot}'s kernel is told another one, or none"));
        }
    }
    Ok(found)
}

pub fn commit(image: &Opened) -> Found {
    if rules::table(image)?.scheme != Scheme::Mbr {
        return Ok(Vec::new());
    }
    let volume = image.boot.as_ref().map_err(Clone::clone)?;
    let mut found = Vec::new();
    for name in [COMMIT, TRY_COMMIT] {
        let Some(file) = volume.files.get(name) else {
            found.push(format!("there is no /{name}"));
            continue;
        };
        if file.size != SECTOR {
            found.push(format!("/{name} has {} bytes, not {SECTOR}", file.size));
        }
        match Commit::parse(&String::from_utf8_lossy(&image.on_boot(name)?)) {
            None => found.push(format!("/{name} names no generation of a slot")),
            Some(commit) => {
                let path = format!("{}{}", pi::folder(&commit.slot), pi::arguments(commit.generation));
                if !volume.files.contains_key(&path) {
                    found.push(format!("/{name} names /{path}, which is not there"));
                }
            }
        }
    }
    Ok(found)
}
