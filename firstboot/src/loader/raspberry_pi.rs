//! A Raspberry Pi's generations of kernel arguments: two files each in the slot's folder, and one file that says which
//! one counts.
//!
//! A new generation is written and made durable while nothing names it; what a cut has left of it nobody reads. Then
//! the file that config.txt includes is overwritten in place: one sector, the old one or the new one. The old
//! generation stays.

use bakelite_plan::facts::Loader;
use bakelite_spec::loader_entry::{EntryName, LoaderEntry};
use bakelite_spec::pi::{self, COMMIT, Commit};
use bakelite_sys::{SysError, durable, names_in, read_text};
use std::path::{Path, PathBuf};

/// The committed generation and those before it; `None` where this is no Pi's boot partition. `started` is the generation that
/// was committed when this boot began: what is committed meanwhile counts from the next start on.
pub fn look(boot: &Path, started: Option<String>) -> Option<Loader> {
    let commit = Commit::parse(&read_text(boot.join(COMMIT)).ok()?)?;
    let folder = boot.join(pi::folder(&commit.slot));
    let generations = names_in(&folder).into_iter().filter_map(|name| pi::generation_of(&name));
    // One behind the committed one is what a cut has left.
    let entry = |generation| {
        let (arguments, set) = files(boot, &commit.slot, generation);
        let set = if set.exists() { read_text(set).ok()? } else { String::new() };
        let name = EntryName { generation, ..commit.name() };
        Some((name.text(), pi::entry(&read_text(arguments).ok()?, &set).render()))
    };
    let entries = generations.filter(|generation| *generation <= commit.generation).filter_map(entry).collect();
    Some(Loader { selected: started.unwrap_or_else(|| commit.name().text()), entries })
}

fn files(boot: &Path, slot: &str, generation: u32) -> (PathBuf, PathBuf) {
    let folder = boot.join(pi::folder(slot));
    (folder.join(pi::arguments(generation)), folder.join(pi::set(generation)))
}

/// Adds a generation and commits it.
pub fn put(boot: &Path, name: &EntryName, text: &str, sync: &dyn Fn() -> Result<(), SysError>) -> Result<(), SysError> {
    let (arguments, set) = files(boot, &name.slot, name.generation);
    let (line, changes) = pi::files(&LoaderEntry::parse(text));
    for left in [&arguments, &set] {
        durable::remove_file(left)?;
    }
    sync()?;
    if let Some(changes) = changes {
        durable::write_whole(&set, changes.as_bytes(), 0o644)?;
    }
    durable::write_whole(&arguments, line.as_bytes(), 0o644)?;
    sync()?;
    let commit = Commit { slot: name.slot.clone(), generation: name.generation };
    durable::overwrite(&boot.join(COMMIT), &commit.render())?;
    sync()
}

/// Removes a generation that isn't the committed one.
pub fn remove(boot: &Path, name: &EntryName) -> Result<(), SysError> {
    let (arguments, set) = files(boot, &name.slot, name.generation);
    durable::remove_file(arguments)?;
    durable::remove_file(set)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// A boot partition with a first generation, and with what a cut left of a second one.
    fn card() -> tempfile::TempDir {
        let boot = tempfile::tempdir().unwrap();
        durable::make_folder(boot.path().join(pi::folder("a"))).unwrap();
        let put = |name: &str, text: &[u8]| durable::replace(boot.path().join(name), text, 0o644).unwrap();
        put(COMMIT, &Commit { slot: "a".into(), generation: 1 }.render());
        put("bakelite/a/cmdline-1.txt", b"bakelite.slot=a quiet\n");
        put("bakelite/a/cmdline-2.txt", b"hal");
        put("bakelite/a/vmlinuz", b"kernel");
        boot
    }

    const SECOND: &str = "options bakelite.slot=a nosmt\n#set nosmt\n#was quiet\n";

    fn second() -> EntryName {
        EntryName { slot: "a".into(), generation: 2, tries: None }
    }

    #[test]
    fn what_is_committed_is_whole_wherever_it_is_cut() {
        for cut in 0..4 {
            let boot = card();
            let left = Cell::new(cut);
            let sync = || {
                left.set(left.get() - 1);
                let cut = || SysError::Read { path: "cut".into(), source: std::io::ErrorKind::Other.into() };
                if left.get() < 0 { Err(cut()) } else { Ok(()) }
            };
            let _ = put(boot.path(), &second(), SECOND, &sync);
            let seen = look(boot.path(), None).unwrap();
            let committed = if cut < 2 { "bakelite-a.conf" } else { "bakelite-a-2.conf" };
            assert_eq!(seen.selected, committed, "cut {cut}");
            assert_eq!(seen.entries["bakelite-a.conf"], "options bakelite.slot=a quiet\n");
            assert!(seen.entries.get("bakelite-a-2.conf").is_none_or(|text| text == SECOND), "{seen:?}");
            put(boot.path(), &second(), SECOND, &|| Ok(())).unwrap();
            let seen = look(boot.path(), Some("bakelite-a.conf".into())).unwrap();
            assert_eq!((seen.selected.as_str(), seen.entries.len()), ("bakelite-a.conf", 2));
        }
    }

    #[test]
    fn a_generation_goes_with_both_its_files() {
        let boot = card();
        put(boot.path(), &second(), SECOND, &|| Ok(())).unwrap();
        remove(boot.path(), &EntryName { generation: 1, ..second() }).unwrap();
        assert_eq!(names_in(boot.path().join("bakelite/a")), ["cmdline-2.set", "cmdline-2.txt", "vmlinuz"]);
        remove(boot.path(), &second()).unwrap();
        assert_eq!(names_in(boot.path().join("bakelite/a")), ["vmlinuz"]);
        assert!(look(tempfile::tempdir().unwrap().path(), None).is_none());
    }
}
