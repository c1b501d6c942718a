//! What a Raspberry Pi is started with: the files of its boot partition, as the workshop writes them, the device adds to
//! them and firmware reads them. Pure.
//!
//! Law 3: nothing live is replaced on FAT. The kernel's arguments are a generation, a file of their own in the slot's
//! folder. config.txt includes one small file that names slot and generation, and that is overwritten in place: it has
//! just the length of a sector, so a power cut leaves the old one or the new one.

pub mod config_txt;
pub mod firmware;
pub mod models;

use crate::cmdline::Cmdline;
use crate::layout::{Role, SECTOR};
use crate::loader_entry::{EntryName, LoaderEntry};

/// What firmware reads at each start.
pub const CONFIG: &str = "config.txt";
/// What it reads instead for one start, when it is told to try.
pub const TRYBOOT: &str = "tryboot.txt";
/// The commit that config.txt includes.
pub const COMMIT: &str = "commit.txt";
/// The commit that tryboot.txt includes.
pub const TRY_COMMIT: &str = "trycommit.txt";
/// A slot's kernel, in the slot's folder.
pub const KERNEL: &str = "vmlinuz";
/// A slot's initramfs, in the slot's folder.
pub const INITRAMFS: &str = "initrd";
/// Firmware reads no more of a line.
pub const LINE: usize = 98;

/// Which slot and which generation of its arguments is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The slot's letter.
    pub slot: String,
    /// The generation, from 1.
    pub generation: u32,
}

impl Commit {
    /// The file, exactly a sector long.
    pub fn render(&self) -> Vec<u8> {
        let mut text = format!(
            "# What is started. Bakelite overwrites these {SECTOR} bytes in place; keep the length.\n\
             os_prefix={}\ncmdline={}\n",
            folder(&self.slot),
            arguments(self.generation)
        );
        while text.len() < SECTOR as usize {
            let left = SECTOR as usize - text.len();
            let line = left.min(64) - 1;
            text.push_str(&"#".repeat(line));
            text.push('\n');
        }
        text.into_bytes()
    }

    /// Reads the file; `None` where it names no slot of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let value = |key: &str| text.lines().rev().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='));
        let slot = value("os_prefix")?.strip_prefix("bakelite/")?.strip_suffix('/')?;
        Role::of_slot(slot)?;
        Some(Self { slot: slot.into(), generation: generation_of(value("cmdline")?)? })
    }

    /// The generation as an entry of a loader is called.
    pub fn name(&self) -> EntryName {
        EntryName { slot: self.slot.clone(), generation: self.generation, tries: None }
    }
}

/// The folder of a slot, with the slash that firmware wants at its end.
pub fn folder(slot: &str) -> String {
    format!("bakelite/{slot}/")
}

/// The file with a generation's arguments, in the slot's folder.
pub fn arguments(generation: u32) -> String {
    format!("cmdline-{generation}.txt")
}

/// The file with what a generation set and replaced, which the kernel must not see.
pub fn set(generation: u32) -> String {
    format!("cmdline-{generation}.set")
}

/// The generation of a file with arguments, by its name in whatever case.
pub fn generation_of(name: &str) -> Option<u32> {
    let name = name.to_ascii_lowercase();
    name.strip_prefix("cmdline-")?.strip_suffix(".txt")?.parse().ok().filter(|generation| *generation > 0)
}

/// A generation as its two files: the kernel's one line, and what it set and replaced, if there is something.
pub fn files(entry: &LoaderEntry) -> (String, Option<String>) {
    let set: String =
        entry.render().lines().filter(|line| line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    (format!("{}\n", entry.options.render()), (!set.is_empty()).then_some(set))
}

/// A generation of its two files, as an entry of a loader.
pub fn entry(arguments: &str, set: &str) -> LoaderEntry {
    LoaderEntry::parse(&format!("options {}\n{set}", Cmdline::parse(arguments).render()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_a_sector_of_lines_that_firmware_reads_whole() {
        for (slot, generation) in [("a", 1), ("b", 12), ("a", u32::MAX)] {
            let commit = Commit { slot: slot.into(), generation };
            let bytes = commit.render();
            assert_eq!(bytes.len() as u64, SECTOR);
            let text = String::from_utf8(bytes).unwrap();
            assert!(text.ends_with('\n') && text.lines().all(|line| line.len() <= LINE), "{text}");
            assert_eq!(Commit::parse(&text), Some(commit));
        }
        for text in ["", "os_prefix=bakelite/c/\ncmdline=cmdline-1.txt", "os_prefix=bakelite/a/\ncmdline=cmdline.txt"] {
            assert_eq!(Commit::parse(text), None, "{text}");
        }
        let windows = "os_prefix=bakelite/a/\r\ncmdline=cmdline-2.txt\r\n";
        assert_eq!(Commit::parse(windows), Some(Commit { slot: "a".into(), generation: 2 }));
    }

    #[test]
    fn a_generation_is_two_files_and_one_entry() {
        let flashed = entry("bakelite.slot=a console=ttyS1 loglevel=4", "");
        assert_eq!(files(&flashed), ("bakelite.slot=a console=ttyS1 loglevel=4\n".into(), None));
        let other = flashed.setting(&Cmdline::parse("loglevel=7 quiet"));
        let (line, set) = files(&other);
        assert_eq!(line, "bakelite.slot=a console=ttyS1 loglevel=7 quiet\n");
        assert_eq!(entry(&line, &set.unwrap()), other);
    }
}
