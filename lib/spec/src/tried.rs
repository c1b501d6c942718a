//! Bundles that were tried and not taken: what a machine remembers of them, so that a stick that stays in or an address
//! doesn't have the same one written again and again.
//!
//! One small record on state. A try is noted before the first byte of it is written and once more when it has ended, so one that
//! went down with the machine is known as well. A record that can't be read counts as none: it spares media, and nothing else
//! depends on it. What follows from it is decided in `plan`.

use serde::{Deserialize, Serialize};

/// The record.
pub const PATH: &str = "/var/lib/bakelite/tried-bundles.json";
/// So many bundles are remembered, those that were tried last.
pub const MOST: usize = 16;

/// How a try ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// Not at all: it was begun, and the machine or the program went down, or it is still written.
    #[default]
    Open,
    /// By an error that may be of the medium, the network or the moment.
    Failed,
    /// The rehearsal: its k3s doesn't live with this cluster's database.
    Rehearsal,
}

/// When something is, by all that this machine has to measure time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Moment {
    /// The wall clock, in seconds since 1970.
    pub at: i64,
    /// The kernel's id of the boot.
    pub boot: String,
    /// Seconds since the kernel started.
    pub uptime: u64,
}

impl Moment {
    /// How many seconds it is past another one; `None` where the clock was set back meanwhile. A clock that isn't known yet begins at
    /// what was saved, and leaps ahead once it is set: all its leaps together are no more than the time that has passed.
    pub fn since(&self, before: &Self) -> Option<u64> {
        if self.boot == before.boot {
            return Some(self.uptime.saturating_sub(before.uptime));
        }
        u64::try_from(self.at - before.at).ok()
    }
}

/// A bundle that was tried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Tried {
    /// Its image's id.
    pub image: String,
    /// The SHA-256 of its manifest in hexadecimal digits: one that was made anew is another one.
    pub manifest: String,
    /// What names it for a person.
    pub bundle: String,
    /// The id of the image that ran.
    pub runs: String,
    /// When the last try began.
    pub begun: Moment,
    /// How many tries there were without a day between two of them.
    pub times: u32,
    /// How the last one ended.
    pub end: End,
    /// Why, as a sentence; empty while it is [`End::Open`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

impl Tried {
    /// Whether it is this very bundle.
    pub fn is(&self, image: &str, manifest: &str) -> bool {
        (self.image.as_str(), self.manifest.as_str()) == (image, manifest)
    }

    /// Why it wasn't taken, and how often it was tried.
    pub fn words(&self) -> String {
        let why = match self.end {
            End::Open => "the machine went down while it was written",
            End::Failed | End::Rehearsal => &self.why,
        };
        if self.times > 1 { format!("{why} (tried {} times)", self.times) } else { why.into() }
    }
}

/// The record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct TriedBundles {
    /// What was tried, the last one at the end.
    pub bundles: Vec<Tried>,
}

impl TriedBundles {
    /// Reads the record; what can't be read is empty.
    pub fn read(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    /// As it is written.
    pub fn text(&self) -> String {
        serde_json::to_string(self).map_or_else(|_| String::new(), |text| text + "\n")
    }

    /// Notes a bundle as it is now, in place of what was known of it; the oldest go, and what runs by now.
    pub fn note(&mut self, tried: Tried) {
        self.forget(&tried.image, &tried.manifest);
        self.bundles.retain(|known| known.image != tried.runs);
        self.bundles.push(tried);
        let surplus = self.bundles.len().saturating_sub(MOST);
        self.bundles.drain(..surplus);
    }

    /// Forgets a bundle.
    pub fn forget(&mut self, image: &str, manifest: &str) {
        self.bundles.retain(|known| !known.is(image, manifest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(image: &str, manifest: &str) -> Tried {
        Tried { image: image.into(), manifest: manifest.into(), runs: "runs".into(), times: 1, ..Tried::default() }
    }

    #[test]
    fn the_last_ones_are_remembered_each_once() {
        let mut record = TriedBundles::default();
        for number in 0..MOST + 4 {
            record.note(tried(&number.to_string(), "m"));
        }
        record.note(Tried { times: 2, ..tried("7", "m") });
        record.note(tried("7", "made anew"));
        let images: Vec<&str> = record.bundles.iter().map(|known| known.image.as_str()).collect();
        assert_eq!((images.len(), images[0], &images[MOST - 3..]), (MOST, "5", &["19", "7", "7"][..]));
        assert_eq!(record.bundles[MOST - 2].times, 2);
        record.note(Tried { runs: "19".into(), ..tried("20", "m") });
        assert!(!record.bundles.iter().any(|known| known.image == "19"), "what runs is no failure");
        record.forget("7", "m");
        assert!(record.bundles.iter().any(|known| known.is("7", "made anew")));
        assert!(!record.bundles.iter().any(|known| known.is("7", "m")));
        assert_eq!(TriedBundles::read(&record.text()), record);
        assert_eq!(TriedBundles::read("\0\0"), TriedBundles::default());
    }

    #[test]
    fn time_is_measured_within_a_boot_without_the_clock() {
        let moment = |boot: &str, uptime, at| Moment { at, boot: boot.into(), uptime };
        let before = moment("one", 100, 5000);
        assert_eq!(moment("one", 160, 1).since(&before), Some(60));
        assert_eq!(moment("two", 1, 5060).since(&before), Some(60));
        assert_eq!(moment("two", 1, 4999).since(&before), None, "it was set back");
    }
}
