//! A Raspberry Pi's generations of kernel arguments: two files each in the slot's folder, and one file that says which
//! one counts. Another one says what is started for one try: that is the other slot, while it hasn't proved itself.
//!
//! A new generation is written and made durable while nothing names it; what a cut has left of it nobody reads. Then
//! the file that config.txt or tryboot.txt includes is overwritten in place: one sector, the old one or the new one. The old
//! generation stays.

use bakelite_plan::facts::Loader;
use bakelite_spec::loader_entry::{EntryName, LoaderEntry};
use bakelite_spec::pi::{self, COMMIT, Commit, TRY_COMMIT};
use bakelite_sys::commits::Commits;
use bakelite_sys::{SysError, durable, names_in, read_text};
use std::path::{Path, PathBuf};

/// What the name of a slot's generation says that is only tried: one try, each time that a restart asks for it.
const TRIED: Option<(u32, u32)> = Some((1, 0));

/// The committed generations and those before them; `None` where this is no Pi's boot partition. `slot` is what runs, and
/// `started` the generation that was committed when this boot began: what is committed meanwhile counts from the next start on.
pub fn look(boot: &Path, slot: &str, started: Option<String>) -> Option<Loader> {
    let Commits { started: commit, tried } = Commits::read(boot)?;
    let tried = tried.map(|tried| (tried, TRIED));
    let all: Vec<_> = [(commit, None)].into_iter().chain(tried).collect();
    let named = |(commit, tries): &(Commit, _)| EntryName { tries: *tries, ..commit.name() };
    let selected = all.iter().find(|(commit, _)| commit.slot == slot).or(all.first()).map(named)?;
    let entries = all.iter().flat_map(|(commit, tries)| entries(boot, commit, *tries)).collect();
    Some(Loader { selected: started.unwrap_or_else(|| selected.text()), entries })
}

/// A slot's generations up to the committed one: one behind it is what a cut has left.
fn entries(boot: &Path, commit: &Commit, tries: Option<(u32, u32)>) -> Vec<(String, String)> {
    let folder = boot.join(pi::folder(&commit.slot));
    let generations = names_in(&folder).into_iter().filter_map(|name| pi::generation_of(&name));
    let entry = |generation| {
        let (arguments, set) = files(boot, &commit.slot, generation);
        let set = if set.exists() { read_text(set).ok()? } else { String::new() };
        let name = EntryName { generation, tries, ..commit.name() };
        Some((name.text(), pi::entry(&read_text(arguments).ok()?, &set).render()))
    };
    generations.filter(|generation| *generation <= commit.generation).filter_map(entry).collect()
}

fn files(boot: &Path, slot: &str, generation: u32) -> (PathBuf, PathBuf) {
    let folder = boot.join(pi::folder(slot));
    (folder.join(pi::arguments(generation)), folder.join(pi::set(generation)))
}

/// Adds a generation and commits it; one of the slot that isn't started otherwise, for a try.
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
    let is_started = Commits::read(boot).is_none_or(|commits| commits.started.slot == name.slot);
    durable::overwrite(&boot.join(if is_started { COMMIT } else { TRY_COMMIT }), &commit.render())?;
    sync()
}

/// Removes a generation that isn't the committed one; what would be tried with it is what is started anyway.
pub fn remove(boot: &Path, name: &EntryName, sync: &dyn Fn() -> Result<(), SysError>) -> Result<(), SysError> {
    let own = Commit { slot: name.slot.clone(), generation: name.generation };
    let tried = read_text(boot.join(TRY_COMMIT)).ok().and_then(|text| Commit::parse(&text));
    if let Some(commits) = Commits::read(boot).filter(|_| tried == Some(own)) {
        durable::overwrite(&boot.join(TRY_COMMIT), &commits.started.render())?;
        sync()?;
    }
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
        put(TRY_COMMIT, &Commit { slot: "a".into(), generation: 1 }.render());
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
            let seen = look(boot.path(), "a", None).unwrap();
            let committed = if cut < 2 { "bakelite-a.conf" } else { "bakelite-a-2.conf" };
            assert_eq!(seen.selected, committed, "cut {cut}");
            assert_eq!(seen.entries["bakelite-a.conf"], "options bakelite.slot=a quiet\n");
            assert!(seen.entries.get("bakelite-a-2.conf").is_none_or(|text| text == SECOND), "{seen:?}");
            put(boot.path(), &second(), SECOND, &|| Ok(())).unwrap();
            let seen = look(boot.path(), "a", Some("bakelite-a.conf".into())).unwrap();
            assert_eq!((seen.selected.as_str(), seen.entries.len()), ("bakelite-a.conf", 2));
        }
    }

    #[test]
    fn a_generation_goes_with_both_its_files() {
        let boot = card();
        put(boot.path(), &second(), SECOND, &|| Ok(())).unwrap();
        remove(boot.path(), &EntryName { generation: 1, ..second() }, &|| Ok(())).unwrap();
        let tried = read_text(boot.path().join(TRY_COMMIT)).unwrap();
        assert_eq!(Commit::parse(&tried).unwrap().generation, 2, "what would be tried is there");
        assert_eq!(names_in(boot.path().join("bakelite/a")), ["cmdline-2.set", "cmdline-2.txt", "vmlinuz"]);
        remove(boot.path(), &second(), &|| Ok(())).unwrap();
        assert_eq!(names_in(boot.path().join("bakelite/a")), ["vmlinuz"]);
        assert!(look(tempfile::tempdir().unwrap().path(), "a", None).is_none());
    }

    #[test]
    fn the_other_slot_is_tried_and_nothing_else_is_started() {
        let boot = card();
        durable::make_folder(boot.path().join(pi::folder("b"))).unwrap();
        let other = EntryName::parse("bakelite-b+1.conf").unwrap();
        put(boot.path(), &other, "options bakelite.slot=b\n", &|| Ok(())).unwrap();
        let seen = look(boot.path(), "a", None).unwrap();
        assert_eq!(seen.selected, "bakelite-a.conf");
        assert_eq!(seen.entries.keys().collect::<Vec<_>>(), ["bakelite-a.conf", "bakelite-b+1.conf"]);
        let tried = look(boot.path(), "b", None).unwrap();
        assert_eq!((tried.selected.as_str(), &tried.entries), ("bakelite-b+1.conf", &seen.entries));
        // Other arguments of what is tried are tried as well.
        put(boot.path(), &EntryName { generation: 2, tries: None, ..other.clone() }, "options x\n", &|| Ok(()))
            .unwrap();
        assert_eq!(look(boot.path(), "b", None).unwrap().selected, "bakelite-b-2+1.conf");
        assert_eq!(look(boot.path(), "a", None).unwrap().selected, "bakelite-a.conf");
        for generation in [1, 2] {
            remove(boot.path(), &EntryName { generation, ..other.clone() }, &|| Ok(())).unwrap();
        }
        assert_eq!(look(boot.path(), "a", None).unwrap().entries.len(), 1);
    }
}
