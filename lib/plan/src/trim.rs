//! Trim: once a week the media of our own are told which of their bytes hold nothing, so that they stay quick and last.
//!
//! Only what says that it takes discards, and only in a good boot: nobody waits for k3s meanwhile.

use crate::Settings;
use crate::action::Action;
use crate::disk::Disk;
use crate::facts::Facts;
use crate::step::Decision;
use bakelite_spec::quantity::Size;
use bakelite_spec::status::paths;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// When each was trimmed, by the disk's key.
pub const RECORD: &str = "/var/lib/bakelite/trimmed.json";
/// Seconds between two times.
const EACH: i64 = 7 * 24 * 3600;

/// How a trim went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trimmed {
    /// By the wall clock, in seconds since 1970.
    pub at: i64,
    /// Bytes that were given back; `None` where the medium refused.
    pub bytes: Option<u64>,
}

/// Decides about a trim.
pub fn decide(facts: &Facts, _: &Settings) -> Decision {
    if !facts.has(paths::GOOD) {
        return Decision::Skip("nothing is trimmed before this boot is a good one".into());
    }
    let state = facts.disks.iter().find(|disk| disk.boot).filter(|_| facts.state_is_durable);
    let data = facts.attached().map(|(disk, _)| disk);
    let media = [(paths::STATE_MOUNT, state), (paths::DATA_MOUNT, data)];
    let media: Vec<(&str, &Disk)> = media.into_iter().filter_map(|(mount, disk)| Some((mount, disk?))).collect();
    let able: Vec<_> = media.into_iter().filter(|(_, disk)| disk.discards && !disk.read_only).collect();
    if able.is_empty() {
        return Decision::Skip("no disk of this machine's own takes discards".into());
    }
    let known: BTreeMap<String, Trimmed> =
        facts.file(RECORD).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    // A clock that went back, or was never right, must not put it off for ever.
    let is_due = |disk: &Disk| known.get(&disk.key()).is_none_or(|last| !(0..EACH).contains(&(facts.clock - last.at)));
    let due = able.iter().filter(|(_, disk)| is_due(disk));
    let actions: Vec<Action> =
        due.clone().map(|(mount, disk)| Action::Trim { mount: (*mount).into(), disk: disk.key() }).collect();
    let names: Vec<&str> = due.map(|(_, disk)| disk.name.as_str()).collect();
    let last = able.iter().map(|(_, disk)| match known.get(&disk.key()).and_then(|last| last.bytes) {
        Some(bytes) => format!("{} gave back {}", disk.name, Size(bytes).human()),
        None => format!("{} refused", disk.name),
    });
    let last: Vec<String> = last.collect();
    let done = format!("trimmed less than a week ago: {}", last.join(", "));
    Decision::of(actions, done, format!("{} is told what holds nothing", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Data;

    fn machine(discards: [bool; 2], record: &str) -> Facts {
        let disk = |name: &str, discards| Disk { name: name.into(), serial: name.into(), discards, ..Disk::default() };
        let data = Some(Data { attached: true, ..Data::default() });
        let disks = vec![Disk { boot: true, ..disk("card", discards[0]) }, Disk { data, ..disk("ssd", discards[1]) }];
        let files = [(paths::GOOD, "good"), (RECORD, record)].map(|(path, text)| (path.into(), text.into())).into();
        Facts { disks, files, state_is_durable: true, clock: 10 * EACH, ..Facts::default() }
    }

    fn trims(facts: &Facts) -> Vec<String> {
        let settings = crate::testing::settings(&serde_json::json!({}));
        match decide(facts, &settings) {
            Decision::Run(_, actions) => actions
                .into_iter()
                .map(|action| match action {
                    Action::Trim { mount, disk } => format!("{mount} {disk}"),
                    other => panic!("{other:?}"),
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn each_medium_that_takes_discards_is_trimmed_once_a_week_in_a_good_boot() {
        let at = |seconds: i64| format!(r#"{{"ssd":{{"at":{},"bytes":5}}}}"#, 10 * EACH - seconds);
        assert_eq!(trims(&machine([true, true], "")), ["/state card", "/disk ssd"]);
        assert_eq!(trims(&machine([true, true], &at(EACH - 1))), ["/state card"]);
        assert_eq!(trims(&machine([false, true], &at(EACH))), ["/disk ssd"]);
        assert_eq!(trims(&machine([false, true], &at(-5))), ["/disk ssd"], "the clock went back");
        assert!(trims(&machine([false, false], "")).is_empty());
        let mut young = machine([true, true], "");
        young.files.remove(paths::GOOD);
        assert!(trims(&young).is_empty());
        let said = decide(&machine([false, true], &at(60)), &crate::testing::settings(&serde_json::json!({})));
        assert_eq!(said.why(), "trimmed less than a week ago: ssd gave back 5 B");
    }
}
