//! The boot loader's entries on the boot partition: looked at once a boot, added whole, removed.
//!
//! Nothing live is replaced there (law 3). On UEFI a new entry is written under a name that the loader doesn't read, made
//! durable, and gets its name: from then on it counts. A cut before leaves an entry that nobody reads; a cut between the two
//! writes of a rename leaves both names, of which the loader reads one. A Raspberry Pi's entries are [`raspberry_pi`]'s.

mod raspberry_pi;

use crate::boot_partition;
use crate::error::FirstbootError;
use crate::world::Changed;
use bakelite_plan::facts::Loader;
use bakelite_spec::cmdline::Cmdline;
use bakelite_spec::loader_entry::{EntryName, FOLDER};
use bakelite_spec::pi::COMMIT;
use bakelite_sys::{SysError, durable, efivar, fat, names_in, read_text};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What was seen, for the passes of this boot.
const SEEN: &str = "run/bakelite/loader.json";
/// The ending of an entry that isn't whole yet.
const HALF: &str = "half";

/// The loader as it was seen in this boot.
pub fn seen(root: &Path) -> Option<Loader> {
    serde_json::from_str(&read_text(root.join(SEEN)).ok()?).ok()
}

/// Looks at the entries on the mounted boot partition, and keeps what it sees. Without a loader of ours there is nothing.
///
/// # Errors
/// When that can't be kept.
pub fn look(root: &Path, boot: &Path) -> Result<(), FirstbootError> {
    let loader = match efivar::loader("LoaderEntrySelected") {
        Some(selected) => Some(Loader { selected, entries: entries(boot) }),
        None => {
            let line = Cmdline::parse(&read_text(root.join("proc/cmdline")).unwrap_or_default());
            let slot = line.slot().unwrap_or_default();
            raspberry_pi::look(boot, slot, seen(root).map(|before| before.selected))
        }
    };
    let Some(loader) = loader else { return Ok(()) };
    let text = serde_json::to_vec(&loader).map_err(FirstbootError::WriteReport)?;
    Ok(durable::replace(root.join(SEEN), &text, 0o644)?)
}

fn entries(boot: &Path) -> BTreeMap<String, String> {
    let folder = boot.join(FOLDER);
    let ours = names_in(&folder).into_iter().filter(|name| name.ends_with(".conf") && EntryName::parse(name).is_some());
    ours.filter_map(|name| Some((name.clone(), std::fs::read_to_string(folder.join(name)).ok()?))).collect()
}

fn device(root: &Path) -> Result<PathBuf, FirstbootError> {
    boot_partition::device(root)?.ok_or_else(|| FirstbootError::NoDisk("with a boot partition".into()))
}

/// What a name means on a Raspberry Pi's boot partition; `None` on another's.
fn generation(boot: &Path, name: &str) -> Option<EntryName> {
    boot.join(COMMIT).exists().then(|| EntryName::parse(name))?
}

/// Adds an entry.
///
/// # Errors
/// When the boot partition can't be written; it has the same entries as before then.
pub fn add(root: &Path, name: &str, text: &str) -> Result<Changed, FirstbootError> {
    fat::change(&device(root)?, |boot| {
        match generation(boot.root, name) {
            Some(name) => raspberry_pi::put(boot.root, &name, text, &|| boot.sync())?,
            None => put(&boot.root.join(FOLDER), name, text, &|| boot.sync())?,
        }
        look(root, boot.root)
    })?;
    log::info!("added the boot entry {name}");
    Ok(Changed::Yes)
}

fn put(folder: &Path, name: &str, text: &str, sync: &dyn Fn() -> Result<(), SysError>) -> Result<(), SysError> {
    // Whatever a cut has left, under this or another name.
    let halves = names_in(folder).into_iter().filter(|name| name.ends_with(HALF));
    let same = EntryName::parse(name);
    let empty = names_in(folder).into_iter().filter(|other| {
        let length = std::fs::metadata(folder.join(other)).map_or(1, |there| there.len());
        length == 0
            && EntryName::parse(other).is_some_and(|other| same.as_ref().is_some_and(|same| same.is_same(&other)))
    });
    for left in halves.chain(empty) {
        durable::remove_file(folder.join(left))?;
    }
    sync()?;
    let half = folder.join(name).with_extension(HALF);
    durable::write_whole(&half, text.as_bytes(), 0o644)?;
    sync()?;
    durable::rename(&half, &folder.join(name))?;
    sync()
}

/// Removes entries.
///
/// # Errors
/// When the boot partition can't be written.
pub fn remove(root: &Path, names: &[String]) -> Result<Changed, FirstbootError> {
    fat::change(&device(root)?, |boot| {
        for name in names {
            match generation(boot.root, name) {
                Some(name) => raspberry_pi::remove(boot.root, &name, &|| boot.sync())?,
                None => durable::remove_file(boot.root.join(FOLDER).join(name))?,
            }
            boot.sync()?;
        }
        look(root, boot.root)
    })?;
    log::info!("removed the boot entries {}", names.join(", "));
    Ok(Changed::Yes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn an_entry_is_whole_or_not_there_wherever_it_is_cut() {
        for cut in 0..4 {
            let boot = tempfile::tempdir().unwrap();
            let folder = boot.path().join(FOLDER);
            durable::make_folder(&folder).unwrap();
            durable::replace(folder.join("bakelite-a.conf"), b"options a", 0o644).unwrap();
            durable::replace(folder.join("bakelite-a-2+3.conf"), b"", 0o644).unwrap();
            durable::replace(folder.join("debian.conf"), b"options x", 0o644).unwrap();
            let left = Cell::new(cut);
            let sync = || {
                left.set(left.get() - 1);
                let cut = || SysError::Read { path: "cut".into(), source: std::io::ErrorKind::Other.into() };
                if left.get() < 0 { Err(cut()) } else { Ok(()) }
            };
            let _ = put(&folder, "bakelite-a-2+3.conf", "options b", &sync);
            let seen = entries(boot.path());
            assert_eq!(seen["bakelite-a.conf"], "options a");
            assert!(seen.get("bakelite-a-2+3.conf").is_none_or(|text| text == "options b"), "{seen:?}");
            put(&folder, "bakelite-a-2+3.conf", "options b", &|| Ok(())).unwrap();
            assert_eq!(names_in(&folder), ["bakelite-a-2+3.conf", "bakelite-a.conf", "debian.conf"]);
        }
    }
}
