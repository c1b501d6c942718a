//! The boot partition as it is: its file system by fsck.fat's eyes, its files by their sums, its entries by what they say.

use crate::{MedicError, Stick, initramfs};
use bakelite_plan::recovery::{Boot, Image};
use bakelite_spec::cmdline::Cmdline;
use bakelite_spec::loader_entry::{EntryName, FOLDER};
use bakelite_spec::manifest::BootFile;
use bakelite_spec::pi::{self, COMMIT, Commit};
use bakelite_sys::sum::pour;
use bakelite_sys::{SysError, fat, names_in, read_text, tool, words};
use std::fs::File;
use std::io::{Read, sink};
use std::path::Path;
use std::time::Duration;

const FSCK: &str = "/usr/sbin/fsck.fat";
const LIMIT: Duration = Duration::from_secs(300);
/// An initramfs on the boot partition.
const INITRAMFS: &str = "bakelite/a/initrd";
/// Larger is none.
const MOST: u64 = 256 << 20;

/// Looks at a boot partition.
pub(crate) fn look(device: &Path, stick: &Stick) -> Result<Boot, MedicError> {
    let seen = fat::look(device, |root| Ok::<_, SysError>(in_root(root, stick)));
    Ok(match seen {
        Ok(Boot::Seen { image, wrong, sound, broken, .. }) => {
            Boot::Seen { disorder: disorder(device)?, image, wrong, sound, broken }
        }
        Ok(other) => other,
        Err(error) => Boot::Unreadable(words(&error)),
    })
}

/// What fsck.fat would do; empty if nothing.
fn disorder(device: &Path) -> Result<String, MedicError> {
    let ended = tool::run(FSCK, &["-n", &device.to_string_lossy()], LIMIT)?;
    if ended.status == Some(0) {
        return Ok(String::new());
    }
    // The first line is its name and version.
    let text = ended.text();
    let said = text.lines().skip(1).map(str::trim).find(|line| !line.is_empty());
    Ok(said.unwrap_or("fsck.fat isn't content with it").to_string())
}

fn in_root(root: &Path, stick: &Stick) -> Boot {
    let mut bytes = Vec::new();
    let read = File::open(root.join(INITRAMFS)).and_then(|file| file.take(MOST).read_to_end(&mut bytes));
    let own = read.ok().and_then(|_| initramfs::manifest(&bytes));
    let image = own.as_ref().map(|own| Image { id: own.image.clone(), system: own.system.sha256.clone() });
    let wrong = match &own {
        Some(own) if own.image != stick.manifest.image.image => {
            own.boot.iter().filter(|file| !is_as_said(root, file)).map(|file| file.path.clone()).collect()
        }
        _ => of_stick(root, stick),
    };
    let (sound, broken) =
        if root.join(COMMIT).exists() || stick.manifest.files.iter().any(|file| is_commit(file.boot.as_deref())) {
            (usize::from(is_committed(root)), Vec::new())
        } else {
            entries(root)
        };
    Boot::Seen { disorder: String::new(), image, wrong, sound, broken }
}

fn is_commit(path: Option<&str>) -> bool {
    path == Some(COMMIT)
}

/// Files that aren't those of the stick's image.
fn of_stick(root: &Path, stick: &Stick) -> Vec<String> {
    let of_machine = stick.manifest.files.iter().filter(|file| !file.first);
    let expected = of_machine.filter_map(|file| {
        let path = file.boot.clone()?;
        Some(BootFile { path, size: file.size, sha256: file.sha256.clone(), continues: false })
    });
    expected.filter(|file| !is_as_said(root, file)).map(|file| file.path).collect()
}

fn is_as_said(root: &Path, said: &BootFile) -> bool {
    let path = root.join(&said.path);
    let Ok(file) = File::open(path) else { return false };
    let is_length = file.metadata().is_ok_and(|found| said.continues || found.len() == said.size);
    is_length && pour(file.take(said.size), sink()).is_ok_and(|summed| summed == (said.size, said.sha256.clone()))
}

/// How many loader entries can be started from, and the names of those that can't.
fn entries(root: &Path) -> (usize, Vec<String>) {
    let ours: Vec<String> =
        names_in(root.join(FOLDER)).into_iter().filter(|name| EntryName::parse(name).is_some()).collect();
    let (sound, broken): (Vec<String>, Vec<String>) = ours.into_iter().partition(|name| is_entry(root, name));
    (sound.len(), broken)
}

/// Whether an entry names a kernel and an initramfs that are there, and a slot.
fn is_entry(root: &Path, name: &str) -> bool {
    let text = read_text(root.join(FOLDER).join(name)).unwrap_or_default();
    let value = |key: &str| {
        text.lines().find_map(|line| line.trim().split_once(char::is_whitespace).filter(|(found, _)| *found == key))
    };
    let names_file =
        |key: &str| value(key).is_some_and(|(_, path)| root.join(path.trim().trim_start_matches('/')).is_file());
    names_file("linux") && names_file("initrd") && value("options").is_some_and(|(_, line)| is_line(line))
}

fn is_line(line: &str) -> bool {
    Cmdline::parse(line).slot().is_some()
}

/// Whether a Raspberry Pi's commit names arguments that are there.
fn is_committed(root: &Path) -> bool {
    let commit = read_text(root.join(COMMIT)).ok().and_then(|text| Commit::parse(&text));
    commit.is_some_and(|commit| {
        let path = root.join(pi::folder(&commit.slot)).join(pi::arguments(commit.generation));
        read_text(path).is_ok_and(|line| is_line(&line))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bakelite_sys::durable;

    const WHOLE: &[u8] = b"linux /bakelite/a/vmlinuz\ninitrd /bakelite/a/initrd\noptions bakelite.slot=a quiet\n";

    #[test]
    fn an_entry_counts_when_it_names_files_and_a_slot() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, bytes: &[u8]| {
            let path = root.path().join(path);
            durable::make_folder(path.parent().unwrap()).unwrap();
            durable::replace(path, bytes, 0o644).unwrap();
        };
        put("bakelite/a/vmlinuz", b"kernel");
        put("loader/entries/bakelite-a.conf", WHOLE);
        put("loader/entries/debian.conf", b"");
        assert_eq!(entries(root.path()), (0, vec!["bakelite-a.conf".into()]), "there is no initramfs");
        put("bakelite/a/initrd", b"initramfs");
        assert_eq!(entries(root.path()), (1, vec![]));
        put("loader/entries/bakelite-a-2+3.conf", &[0; 300]);
        assert_eq!(entries(root.path()), (1, vec!["bakelite-a-2+3.conf".into()]));
    }

    #[test]
    fn a_commit_counts_when_its_arguments_are_there() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, bytes: &[u8]| durable::replace(root.path().join(path), bytes, 0o644).unwrap();
        durable::make_folder(root.path().join("bakelite/a")).unwrap();
        put(COMMIT, &Commit { slot: "a".into(), generation: 2 }.render());
        put("bakelite/a/cmdline-1.txt", b"bakelite.slot=a\n");
        assert!(!is_committed(root.path()));
        put("bakelite/a/cmdline-2.txt", b"bakelite.slot=a nosmt\n");
        assert!(is_committed(root.path()));
        put(COMMIT, &[0; 512]);
        assert!(!is_committed(root.path()));
    }
}
