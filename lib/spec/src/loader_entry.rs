//! A boot loader entry of ours (UAPI boot loader specification, type 1): its file's name, its lines, its kernel arguments.
//!
//! A generation is never changed: other arguments make a new one, `bakelite-a-2+3.conf`, whose version sorts before that
//! of the one it comes from. What it sets stands in it as a comment (`#set`), with what had to go for that (`#was`), so
//! that the next one begins with what was flashed and with what a person wrote into it.

use crate::cmdline::{Cmdline, SLOT};

/// The folder of the entries on the boot partition.
pub const FOLDER: &str = "loader/entries";
/// The file name of a recovery stick's own entry: nobody counts its tries, which would rename it.
pub const STICK: &str = "bakelite-recovery.conf";
/// Tries of an entry that hasn't proved itself yet.
pub const TRIES: u32 = 3;
/// What the version of a flashed entry begins with; each update counts on.
pub const FIRST: u32 = 1;
const PREFIX: &str = "bakelite-";
const SET: &str = "#set";
const WAS: &str = "#was";
const OPTIONS: &str = "options";
const VERSION: &str = "version";

/// What the name of an entry's file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryName {
    /// The slot's letter.
    pub slot: String,
    /// The generation, from 1; the first one isn't written.
    pub generation: u32,
    /// Tries left and tries done, while they are counted.
    pub tries: Option<(u32, u32)>,
}

impl EntryName {
    /// Reads a name in whatever case; `None` where it is none of ours.
    pub fn parse(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let stem = name.strip_suffix(".conf").unwrap_or(&name).strip_prefix(PREFIX)?;
        let (plain, tries) = match stem.split_once('+') {
            Some((plain, counter)) => {
                let (left, done) = counter.split_once('-').unwrap_or((counter, "0"));
                (plain, Some((left.parse().ok()?, done.parse().ok()?)))
            }
            None => (stem, None),
        };
        let (slot, generation) = match plain.split_once('-') {
            Some((slot, generation)) => (slot, generation.parse().ok().filter(|generation| *generation > 1)?),
            None => (plain, 1),
        };
        crate::layout::Role::of_slot(slot)?;
        Some(Self { slot: slot.into(), generation, tries })
    }

    /// The file's name.
    pub fn text(&self) -> String {
        let generation = if self.generation > 1 { format!("-{}", self.generation) } else { String::new() };
        let counter = match self.tries {
            None => String::new(),
            Some((left, 0)) => format!("+{left}"),
            Some((left, done)) => format!("+{left}-{done}"),
        };
        format!("{PREFIX}{}{generation}{counter}.conf", self.slot)
    }

    /// Whether it was tried as often as it may be, and never proved itself.
    pub fn is_exhausted(&self) -> bool {
        self.tries.is_some_and(|(left, _)| left == 0)
    }

    /// Whether it is the same generation of the same slot, whatever its counter.
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.slot, self.generation) == (&other.slot, other.generation)
    }
}

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoaderEntry {
    /// All lines but those of the arguments, as key and value, in order.
    lines: Vec<(String, String)>,
    /// The kernel's arguments.
    pub options: Cmdline,
    set: Cmdline,
    was: Cmdline,
}

impl LoaderEntry {
    /// Reads an entry; what it doesn't know, it keeps.
    pub fn parse(text: &str) -> Self {
        let mut entry =
            Self { lines: Vec::new(), options: Cmdline::default(), set: Cmdline::default(), was: Cmdline::default() };
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (key, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            let arguments = Cmdline::parse(value);
            match key {
                OPTIONS => entry.options.append(arguments),
                SET => entry.set.append(arguments),
                WAS => entry.was.append(arguments),
                _ => entry.lines.push((key.into(), value.trim().into())),
            }
        }
        entry
    }

    /// As it is written.
    pub fn render(&self) -> String {
        let arguments = [(OPTIONS, &self.options), (SET, &self.set), (WAS, &self.was)];
        let arguments = arguments.into_iter().filter(|(key, line)| *key == OPTIONS || **line != Cmdline::default());
        let mut text: String = self.lines.iter().map(|(key, value)| format!("{key} {value}\n")).collect();
        arguments.for_each(|(key, line)| text.push_str(&format!("{key} {}\n", line.render())));
        text
    }

    /// The arguments without those that were set at the machine or by its appliance: what was flashed, and what a person
    /// wrote into the entry.
    pub fn base(&self) -> Cmdline {
        let mut base = self.options.clone();
        base.remove(&self.set);
        base.append(self.was.clone());
        base
    }

    /// The same with these arguments set, and nothing else.
    #[must_use]
    pub fn setting(&self, wanted: &Cmdline) -> Self {
        let mut options = self.base();
        let before = options.clone();
        let was = options.merge(wanted);
        // What was there already isn't set by us, and stays when it is no longer wanted.
        let mut set = wanted.clone();
        set.remove(&before);
        Self { lines: self.lines.clone(), options, set, was }
    }

    /// How often the machine was updated when it was added, from [`FIRST`]: an entry sorts before all with a lower rank.
    pub fn rank(&self) -> u32 {
        let version = self.lines.iter().find(|(key, _)| key == VERSION);
        version.and_then(|(_, value)| value.split_once('.')?.0.parse().ok()).unwrap_or(0)
    }

    /// The id of the image that it starts.
    pub fn image(&self) -> &str {
        let version = self.lines.iter().find(|(key, _)| key == VERSION).map_or("", |(_, value)| value.as_str());
        let plain = version.split_once('.').map_or(version, |(_, image)| image);
        plain.split_once('+').map_or(plain, |(image, _)| image)
    }

    /// An image's first entry as that of a slot, with a rank of its own.
    #[must_use]
    pub fn for_slot(mut self, slot: &str, rank: u32) -> Self {
        let before = self.options.slot().unwrap_or_default().to_string();
        for (key, value) in &mut self.lines {
            *value = match key.as_str() {
                VERSION => format!("{rank}.{}", value.split_once('.').map_or(value.as_str(), |(_, image)| image)),
                "title" => value.replace(&format!("(slot {before})"), &format!("(slot {slot})")),
                _ => value.replacen(&format!("/bakelite/{before}/"), &format!("/bakelite/{slot}/"), 1),
            };
        }
        self.options.merge(&Cmdline::parse(&format!("{SLOT}={slot}")));
        self
    }

    /// The same as a generation of its own, which sorts before those with a lower number.
    #[must_use]
    pub fn generation(mut self, generation: u32) -> Self {
        for (key, value) in &mut self.lines {
            if key == VERSION {
                let plain = value.rsplit_once('+').map_or(value.as_str(), |(plain, _)| plain);
                *value = format!("{plain}+{generation}");
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLASHED: &str = "title Bakelite 0.1 (slot a)\nsort-key bakelite\nversion 0123\nlinux /bakelite/a/vmlinuz\ninitrd /bakelite/a/initrd\noptions bakelite.slot=a console=ttyS0 console=tty0 quiet loglevel=4\n";

    #[test]
    fn names_say_slot_generation_and_tries() {
        for text in ["bakelite-a.conf", "bakelite-a+3.conf", "bakelite-b-2+2-1.conf", "bakelite-a-12.conf"] {
            assert_eq!(EntryName::parse(text).unwrap().text(), text);
        }
        let name = EntryName::parse("BAKELITE-A-2+0-3.CONF").unwrap();
        assert!(name.is_exhausted() && name.is_same(&EntryName::parse("bakelite-a-2").unwrap()));
        for text in ["debian.conf", "bakelite-c.conf", "bakelite-a-1.conf", "bakelite-a-x.conf", "bakelite-a+x.conf"] {
            assert_eq!(EntryName::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_entry_of_another_slot_starts_that_one_and_sorts_before_all_with_a_lower_rank() {
        let flashed =
            LoaderEntry::parse(&FLASHED.replace("version 0123", "version 1.0123")).setting(&Cmdline::parse("nosmt"));
        let other = flashed.clone().for_slot("b", 7);
        assert_eq!((flashed.image(), other.clone().generation(2).image()), ("0123", "0123"));
        assert_eq!((flashed.rank(), other.rank(), other.clone().generation(2).rank()), (1, 7, 7));
        let text = other.render();
        for line in [
            "title Bakelite 0.1 (slot b)\n",
            "version 7.0123\n",
            "linux /bakelite/b/vmlinuz\ninitrd /bakelite/b/initrd\n",
            "\n#set nosmt\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert_eq!((other.options.slot(), other.options.value("quiet")), (Some("b"), Some("")));
        assert!(!text.contains("slot=a") && LoaderEntry::parse(FLASHED).rank() == 0);
    }

    #[test]
    fn a_new_generation_keeps_everything_else_and_can_be_taken_back() {
        let flashed = LoaderEntry::parse(FLASHED);
        assert_eq!(flashed.render(), FLASHED);
        let second = flashed.setting(&Cmdline::parse("loglevel=7 nomodeset quiet")).generation(2);
        let text = second.render();
        assert!(text.contains("\nversion 0123+2\n"), "{text}");
        assert!(text.ends_with(
            "options bakelite.slot=a console=ttyS0 console=tty0 quiet loglevel=7 nomodeset\n#set loglevel=7 nomodeset\n#was loglevel=4\n"
        ), "{text}");
        let second = LoaderEntry::parse(&text);
        assert!(second.base().is_like(&flashed.options));
        let third = second.setting(&Cmdline::parse("panic=5")).generation(3);
        assert!(third.render().contains("\nversion 0123+3\n"));
        assert!(
            third
                .options
                .is_like(&Cmdline::parse("bakelite.slot=a console=ttyS0 console=tty0 quiet loglevel=4 panic=5"))
        );
        // What a person wrote into the second one by hand stays.
        let edited = LoaderEntry::parse(&text.replace("nomodeset\n#set", "nomodeset acpi=off\n#set"));
        assert_eq!(edited.setting(&Cmdline::default()).options.value("acpi"), Some("off"));
        assert_eq!(edited.setting(&Cmdline::default()).options.value("nomodeset"), None);
    }
}
