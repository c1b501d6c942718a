//! Latency: how long the medium of k3s's data takes to make 4 KiB durable, measured once for each medium of our own.
//!
//! SQLite under k3s syncs only at checkpoints and bears a slow card; embedded etcd syncs each write and loses its leader
//! where the slow ones take longer than 10 ms or so (k3s.md, 9.1; etcd's own hardware guide). Nothing fails by this step:
//! it tells a person, and whoever tunes k3s.

use crate::Settings;
use crate::action::Action;
use crate::facts::Facts;
use crate::home;
use crate::step::Decision;
use bakelite_spec::appliance::Payload as Kind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What was measured, by the disk's key.
pub const RECORD: &str = "/var/lib/bakelite/latency.json";
/// Microseconds that the slow ones may take: for etcd, and for SQLite.
const ETCD: u64 = 10_000;
const SQLITE: u64 = 100_000;

/// How long an fsync of 4 KiB takes on a medium, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Half of them take longer.
    pub median: u64,
    /// One in a hundred takes longer; 0 where it couldn't be measured.
    pub slow: u64,
}

impl Latency {
    /// Of single measurements, in microseconds.
    pub fn of(mut each: Vec<u64>) -> Self {
        each.sort_unstable();
        let at = |hundredth: usize| each.get((each.len() * hundredth / 100).min(each.len().saturating_sub(1))).copied();
        Self { median: at(50).unwrap_or(0), slow: at(99).unwrap_or(0) }
    }

    /// For a person.
    pub fn words(self) -> String {
        if self.slow == 0 {
            return "how long it takes to make something durable couldn't be measured".into();
        }
        let verdict = match self.slow {
            slow if slow <= ETCD => "quick enough for SQLite and etcd",
            slow if slow <= SQLITE => "quick enough for SQLite, too slow for etcd",
            _ => "too slow for etcd, and k3s will be slow with SQLite",
        };
        let milliseconds = |micros: u64| format!("{}.{} ms", micros / 1000, micros % 1000 / 100);
        format!(
            "4 KiB are durable after {}, the slow ones {}: {verdict}",
            milliseconds(self.median),
            milliseconds(self.slow)
        )
    }
}

/// All that was measured.
pub fn all(facts: &Facts) -> BTreeMap<String, Latency> {
    facts.file(RECORD).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// Decides about a measurement of the medium that k3s's data lives on.
pub fn decide(facts: &Facts, settings: &Settings) -> Decision {
    if settings.manifest.payload.kind == Kind::None {
        return Decision::Skip("this image has no payload".into());
    }
    let boot = facts.disks.iter().find(|disk| disk.boot);
    let stays = home::of(facts).is_some_and(|home| home.needs().is_none());
    let Some(disk) = facts.attached().filter(|_| !stays).map(|(disk, _)| disk).or(boot) else {
        return Decision::Skip("it isn't known which disk k3s's data is on".into());
    };
    match all(facts).get(&disk.key()) {
        Some(latency) => Decision::Done(format!("{}: {}", disk.name, latency.words())),
        None => {
            let why = format!("measuring how long {} takes to make something durable", disk.name);
            Decision::Run(why, vec![Action::MeasureLatency { disk: disk.key(), data_disk: !disk.boot }])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_goes_by_the_slow_ones() {
        let of = |slow: u64| Latency::of((0..100).map(|number| if number >= 98 { slow } else { 400 }).collect());
        assert_eq!(of(9_000), Latency { median: 400, slow: 9_000 });
        assert!(of(9_000).words().ends_with("0.4 ms, the slow ones 9.0 ms: quick enough for SQLite and etcd"));
        assert!(of(40_000).words().contains("too slow for etcd"));
        assert!(of(400_000).words().contains("slow with SQLite"));
        assert!(Latency::of(Vec::new()).words().contains("couldn't"));
    }
}
