//! config.txt, read as firmware reads it: lines of 98 letters, filters, included files.
//!
//! What depends on things that a file can't tell (a monitor, a serial number, a pin) is left out and told. Nothing is
//! refused: firmware doesn't refuse either.

use super::LINE;
use super::models::Model;

/// Includes within includes; firmware's own limit isn't told.
const DEPTH: usize = 8;

/// What firmware reads before it can include anything: in an included file these do nothing (makers' documentation).
const TOO_LATE: &[&str] = &[
    "bootcode_delay",
    "fixup_file",
    "gpu_mem",
    "gpu_mem_1024",
    "gpu_mem_256",
    "gpu_mem_512",
    "sdram_freq",
    "start_debug",
    "start_file",
    "start_x",
    "total_mem",
    "uart_2ndstage",
];

/// A boot partition's files. Names are compared without case, as FAT does; no slash is in front.
pub trait Files {
    /// Whether there is such a file.
    fn has(&self, path: &str) -> bool;
    /// The text of a file; `None` where it isn't there or can't be read.
    fn text(&self, path: &str) -> Option<String>;
}

/// One setting that holds for a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// The file it is in, and the line's number from 1.
    pub place: (String, usize),
}

/// What a model reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// Settings, in order: of one key the last one counts.
    pub settings: Vec<Setting>,
    /// What firmware passes over without a word, and a person should know.
    pub problems: Vec<String>,
}

impl Read {
    /// The value of a key.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.settings.iter().rev().find(|setting| setting.key == key).map(|setting| setting.value.as_str())
    }

    /// Whether a key is set to something that isn't 0.
    pub fn is_on(&self, key: &str) -> Option<bool> {
        self.value(key).map(|value| number(value) != Some(0))
    }
}

/// A number as firmware takes it.
pub(super) fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Filters in force: one of each kind, as one replaces another of its kind and different kinds are combined.
#[derive(Clone, Default)]
struct Filters {
    model: Option<bool>,
    board_type: Option<bool>,
    tryboot: Option<bool>,
    /// A filter whose answer no file has.
    unknown: Option<String>,
}

impl Filters {
    fn hold(&self) -> bool {
        ![self.model, self.board_type, self.tryboot].contains(&Some(false)) && self.unknown.is_none()
    }

    fn take(&mut self, filter: &str, model: &Model, tryboot: bool) {
        let filter = filter.to_ascii_lowercase();
        let is_of_a_model = |name: &str| name.starts_with("pi") || name.starts_with("cm");
        match filter.as_str() {
            "all" => *self = Self::default(),
            "none" => self.model = Some(false),
            "tryboot" => self.tryboot = Some(tryboot),
            name if is_of_a_model(name) => self.model = Some(model.filters.contains(&name)),
            other => match other.strip_prefix("board-type=") {
                Some(kind) => self.board_type = Some(number(kind) == Some(model.board_type)),
                None => self.unknown = Some(filter),
            },
        }
    }
}

/// Reads a file and what it includes, for a model.
pub fn read(name: &str, files: &dyn Files, model: &Model, tryboot: bool) -> Read {
    let mut reader = Reader { files, model, tryboot, filters: Filters::default(), read: Read::default() };
    reader.file(name, 0);
    reader.read
}

struct Reader<'a> {
    files: &'a dyn Files,
    model: &'a Model,
    tryboot: bool,
    filters: Filters,
    read: Read,
}

impl Reader<'_> {
    fn file(&mut self, name: &str, depth: usize) {
        let Some(text) = self.files.text(name) else {
            self.read.problems.push(format!("/{name} is not there"));
            return;
        };
        for (number, line) in (1..).zip(text.lines()) {
            let whole = line.trim();
            if whole.is_empty() || whole.starts_with('#') {
                continue;
            }
            let line: String = whole.chars().take(LINE).collect();
            if line != whole {
                self.told(name, number, &format!("firmware reads only the first {LINE} letters of it"));
            }
            self.line(&line, (name, number), depth);
        }
    }

    fn told(&mut self, name: &str, number: usize, what: &str) {
        self.read.problems.push(format!("/{name}, line {number}: {what}"));
    }

    fn line(&mut self, line: &str, (name, number): (&str, usize), depth: usize) {
        if let Some(filter) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            self.filters.take(filter, self.model, self.tryboot);
            return;
        }
        if !self.filters.hold() {
            if let Some(filter) = self.filters.unknown.clone() {
                self.told(name, number, &format!("whether [{filter}] holds can't be told here; it is left out"));
            }
            return;
        }
        if let Some(included) = line.strip_prefix("include ") {
            match depth < DEPTH {
                true => self.file(included.trim().trim_start_matches('/'), depth + 1),
                false => self.told(name, number, "files include one another without an end"),
            }
            return;
        }
        // The one setting without an equals sign.
        let (key, value) = match line.strip_prefix("initramfs ") {
            Some(value) => ("initramfs", value),
            None => match line.split_once('=') {
                Some(("initramfs", _)) => {
                    self.told(name, number, "firmware wants `initramfs FILE followkernel`, without an equals sign");
                    return;
                }
                Some((key, value)) => (key.trim(), value),
                None => {
                    self.told(name, number, &format!("`{line}` is no setting"));
                    return;
                }
            },
        };
        if depth > 0 && TOO_LATE.contains(&key) {
            self.told(
                name,
                number,
                &format!("firmware has no use for {key} in an included file; it belongs into config.txt"),
            );
            return;
        }
        let place = (name.to_string(), number);
        self.read.settings.push(Setting { key: key.into(), value: value.trim().into(), place });
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use std::collections::BTreeMap;

    /// Files by their names in lower case.
    #[derive(Clone, Default)]
    pub struct Card(pub BTreeMap<String, String>);

    impl Card {
        pub fn of(files: &[(&str, &str)]) -> Self {
            Self(files.iter().map(|(name, text)| (name.to_lowercase(), text.to_string())).collect())
        }

        pub fn put(&mut self, name: &str, text: &str) {
            self.0.insert(name.to_lowercase(), text.into());
        }
    }

    impl Files for Card {
        fn has(&self, path: &str) -> bool {
            self.0.contains_key(&path.to_lowercase())
        }

        fn text(&self, path: &str) -> Option<String> {
            self.0.get(&path.to_lowercase()).cloned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::Card;
    use super::*;
    use crate::pi::models::{NAMES, find};

    fn read_as(text: &str, model: &str) -> Read {
        read("config.txt", &Card::of(&[("config.txt", text)]), find(model).unwrap(), false)
    }

    #[test]
    fn filters_are_combined_by_kind_and_all_takes_them_back() {
        let text = "a=0\n[pi4]\na=4\n[pi3]\na=3\n[pi3+]\na=3+\n[cm4]\nb=cm\n[none]\na=none\n[all]\nc=1\n[board-type=0x11]\n[pi4]\nd=4b\n";
        let value = |model, key| read_as(text, model).value(key).map(String::from);
        assert_eq!(value("3b", "a").as_deref(), Some("3"));
        assert_eq!(value("3b+", "a").as_deref(), Some("3+"));
        assert_eq!(value("400", "a").as_deref(), Some("4"));
        assert_eq!(value("zero-2-w", "a").as_deref(), Some("0"));
        assert_eq!((value("cm4", "b").as_deref(), value("4b", "b")), (Some("cm"), None));
        assert_eq!((value("4b", "d").as_deref(), value("400", "d")), (Some("4b"), None));
        assert!(NAMES.iter().all(|model| value(model, "c").as_deref() == Some("1")));
    }

    #[test]
    fn what_firmware_passes_over_is_told() {
        let long = format!("# {}\ndtparam={}\n", "x".repeat(200), "y".repeat(200));
        let read = read_as(&long, "3b");
        assert_eq!(read.value("dtparam").unwrap().len(), LINE - "dtparam=".len());
        assert_eq!(read.problems.len(), 1, "{:?}", read.problems);
        for (text, what) in [
            ("initramfs=initrd", "without an equals sign"),
            ("kernel vmlinuz", "is no setting"),
            ("[EDID=VSC-TD2220]\nkernel=x", "can't be told here"),
            ("include absent.txt", "/absent.txt is not there"),
            ("include config.txt", "without an end"),
        ] {
            let read = read_as(text, "4b");
            assert!(read.settings.is_empty() && read.problems[0].contains(what), "{text}: {:?}", read.problems);
        }
    }

    #[test]
    fn an_included_file_stands_in_its_place_but_for_what_comes_too_late() {
        let card = Card::of(&[
            ("config.txt", "kernel=a\ninclude Commit.TXT\nc=3\r\n"),
            ("commit.txt", "kernel=b\nstart_x=1\n[none]\n"),
        ]);
        let read = read("config.txt", &card, find("4b").unwrap(), false);
        assert_eq!((read.value("kernel"), read.value("start_x"), read.value("c")), (Some("b"), None, None));
        assert!(read.problems[0].contains("start_x in an included file"), "{:?}", read.problems);
        assert_eq!(read.settings[1].place, ("Commit.TXT".into(), 1));
    }
}
