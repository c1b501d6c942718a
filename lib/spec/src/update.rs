//! An update on its way from one slot to the other: the record that makes boots trials, and what became of the last
//! one.
//!
//! firstboot writes the record before the new slot can be started at all, counts tries in it and ends it; init reads
//! it, as a trial that isn't good by its time is no place to stay. What follows from it is decided in `plan`. It holds
//! no secret.

use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// The record of the update that is on.
pub const PATH: &str = "/var/lib/bakelite/update.json";
/// What became of the last one.
pub const LAST: &str = "/var/lib/bakelite/last-update.json";
/// The format of both.
pub const FORMAT: u32 = 1;
/// So often a new slot is started before it is given up; a start that ended with a word of its own isn't tried again.
pub const TRIES: u32 = 3;
/// That the way into the new slot was opened in this boot; where firmware tries once only, the restart asks for that try.
pub const ARMED: &str = "/run/bakelite/update-armed";
/// What such a restart says to a Raspberry Pi's firmware (makers' documentation, tryboot); it stands in [`ARMED`].
pub const TRYBOOT: &str = "0 tryboot";
/// That in this boot the workloads that were available before the update have been so again for a while; not empty then.
pub const WORKLOADS_BACK: &str = "/run/bakelite/workloads-back";
/// Which of them aren't, in words; not empty while some aren't.
pub const WORKLOADS_MISSING: &str = "/run/bakelite/workloads-missing";
/// So many names are said one by one.
const NAMED: usize = 3;
/// The namespace of k3s's own parts: which of them there are is the new system's affair.
const OF_K3S: &str = "kube-system";

/// One of the two systems that an update is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Side {
    /// The slot's letter.
    pub slot: String,
    /// The image's id.
    pub image: String,
    /// The appliance's own version, `image.version`; empty where it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// The payload's version; empty without one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub k3s: String,
}

impl Side {
    /// What names it for a person.
    pub fn words(&self) -> String {
        let version = if self.version.is_empty() { String::new() } else { format!("{}, ", self.version) };
        let k3s = if self.k3s.is_empty() { String::new() } else { format!(", k3s {}", self.k3s) };
        format!("slot {} ({version}image {}{k3s})", self.slot, self.image)
    }
}

/// The boot loader's entry that starts the new slot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Armed {
    /// The file's name, with its tries.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// An update that is on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Update {
    /// [`FORMAT`].
    pub format: u32,
    /// What ran.
    pub from: Side,
    /// What is tried.
    pub to: Side,
    /// The line of the database before; a higher one says that the set was put back.
    pub epoch: u64,
    /// The set that was taken before, by its key; empty where there was no cluster.
    pub set: String,
    /// The workloads that were available before, such as `deployments/default/till`: without them no boot is a good one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workloads: Vec<String>,
    /// What starts the new slot.
    pub entry: Armed,
    /// Whether firmware starts the new slot once each time that a restart asks for it, and else what ran before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub once: bool,
    /// How many tries are left.
    pub tries: u32,
    /// How long a try may take until the boot is a good one, in seconds since the kernel started.
    pub patience: u64,
    /// The boot of the last try; empty before the first.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub boot: String,
    /// Whether the new k3s may have written anything.
    #[serde(default)]
    pub started: bool,
    /// Why it goes back; empty while it is tried.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub failed: String,
}

impl Update {
    /// Reads the record; what can't be read is none.
    pub fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Whether what runs is what is tried.
    pub fn is_trial_of(&self, slot: &str, image: &str) -> bool {
        (self.to.slot.as_str(), self.to.image.as_str()) == (slot, image)
    }

    /// The same with why it goes back; the first reason stays.
    #[must_use]
    pub fn failing(mut self, why: &str) -> Self {
        if self.failed.is_empty() {
            self.failed = why.into();
        }
        self
    }

    /// Why it isn't proved yet, by what is known of workloads now: whether each is available. One of k3s's own that isn't there
    /// any more isn't waited for. Empty where nothing is missing.
    pub fn missing(&self, now: &BTreeMap<String, bool>) -> String {
        let is_of_k3s = |name: &str| name.split('/').nth(1) == Some(OF_K3S);
        let missing = self.workloads.iter().filter_map(|name| match now.get(name) {
            Some(true) => None,
            Some(false) => Some(name.clone()),
            None => (!is_of_k3s(name)).then(|| format!("{name} (gone)")),
        });
        some_of(&missing.collect::<Vec<_>>())
    }

    /// What became of it, at a time in seconds since 1970; `lost` are the objects that went with the new system's database.
    pub fn ended(&self, at: i64, set_put_back: bool, lost: &[String]) -> Ended {
        let (from, to, why) = (self.from.clone(), self.to.clone(), self.failed.clone());
        Ended { format: FORMAT, at, from, to, why, set_put_back, lost: lost.to_vec() }
    }
}

/// What became of an update.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Ended {
    /// [`FORMAT`].
    pub format: u32,
    /// When, in seconds since 1970.
    pub at: i64,
    /// What ran before.
    pub from: Side,
    /// What was tried.
    pub to: Side,
    /// Why it went back; empty where it is what runs since.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// Whether the database is that of the set that was taken before it.
    #[serde(default)]
    pub set_put_back: bool,
    /// The objects that were made in between, or changed by people, and are not in that database.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<String>,
}

/// Names in words: the first few, and how many more.
pub fn some_of(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ") + &more
}

impl Ended {
    /// In words.
    pub fn words(&self) -> String {
        let mut set = String::new();
        if self.set_put_back {
            set += "; the database is that of the backup before it";
        }
        if !self.lost.is_empty() {
            set += &format!(", without what was made or changed since: {}", some_of(&self.lost));
        }
        match self.why.as_str() {
            "" => format!("{} took the place of {}", self.to.words(), self.from.words()),
            why => format!("{} went back to {}: {why}{set}", self.to.words(), self.from.words()),
        }
    }
}

/// Compares two versions of an appliance as numbers; one that is left out is the oldest.
pub fn compare(one: &str, other: &str) -> Ordering {
    let numbers = |text: &str| text.split('.').map(|part| part.parse().unwrap_or(0)).collect::<Vec<u64>>();
    let (mut one, mut other) = (numbers(one), numbers(other));
    let length = one.len().max(other.len());
    one.resize(length, 0);
    other.resize(length, 0);
    one.cmp(&other)
}

/// Whether a text is a version of an appliance: one to four numbers with dots.
pub fn is_version(text: &str) -> bool {
    let number = |part: &str| !part.is_empty() && part.len() <= 9 && part.bytes().all(|byte| byte.is_ascii_digit());
    text.split('.').count() <= 4 && text.split('.').all(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_available_before_has_to_be_so_again() {
        let workloads = ["deployments/default/till", "deployments/kube-system/traefik", "statefulsets/shop/db"];
        let update = Update { workloads: workloads.map(String::from).to_vec(), ..Update::default() };
        let now = |seen: &[(&str, bool)]| seen.iter().map(|(name, is)| (name.to_string(), *is)).collect();
        let till = ("deployments/default/till", true);
        assert_eq!(update.missing(&now(&[till, ("statefulsets/shop/db", true)])), "", "a part of k3s's is left out");
        assert_eq!(update.missing(&now(&[till])), "statefulsets/shop/db (gone)");
        let traefik = ("deployments/kube-system/traefik", false);
        let missing = "deployments/default/till (gone), deployments/kube-system/traefik, statefulsets/shop/db";
        assert_eq!(update.missing(&now(&[traefik, ("statefulsets/shop/db", false)])), missing);
        assert_eq!(Update::default().missing(&now(&[("deployments/default/till", false)])), "");
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        for (one, other, order) in [
            ("1.10", "1.9", Ordering::Greater),
            ("1.4", "1.4.0", Ordering::Equal),
            ("", "0.1", Ordering::Less),
            ("", "", Ordering::Equal),
            ("2", "10", Ordering::Less),
        ] {
            assert_eq!(compare(one, other), order, "{one} {other}");
        }
        for good in ["1", "1.4.2", "2026.11.22.1"] {
            assert!(is_version(good), "{good}");
        }
        for bad in ["", "v1", "1.", "1..2", "1.2.3.4.5", "1.x", "12345678901"] {
            assert!(!is_version(bad), "{bad}");
        }
    }

    #[test]
    fn the_first_reason_stays_and_what_became_of_it_is_said() {
        let side = |slot: &str, version: &str| Side {
            slot: slot.into(),
            image: format!("i{slot}"),
            version: version.into(),
            k3s: String::new(),
        };
        let update = Update { from: side("a", "1.0"), to: side("b", ""), ..Update::default() };
        assert!(update.is_trial_of("b", "ib") && !update.is_trial_of("a", "ia") && !update.is_trial_of("b", "other"));
        assert_eq!(update.ended(5, false, &[]).words(), "slot b (image ib) took the place of slot a (1.0, image ia)");
        let failed = update.failing("k3s hangs").failing("later");
        let words = "slot b (image ib) went back to slot a (1.0, image ia): k3s hangs; the database is that of the backup before it";
        assert_eq!(failed.ended(5, true, &[]).words(), words);
        let lost = ["a", "b", "c", "d", "e"].map(String::from);
        let all = format!("{words}, without what was made or changed since: a, b, c and 2 more");
        assert_eq!(failed.ended(5, true, &lost).words(), all);
        let text = serde_json::to_string(&failed).unwrap();
        assert_eq!(Update::read(&text), Some(failed));
        assert_eq!(Update::read("\0"), None);
    }
}
