//! What is taken along from a machine that nothing here can repair: what can be read of it, onto the stick, as far as that has
//! room.
//!
//! The small things that say who the machine was come first, then the newest backup, then the database, then older backups.
//! What has no room is named, and what is smaller may still go. Nothing of the machine is written.

use super::{Facts, Finding, Remedy};
use bakelite_spec::quantity::Size;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;

/// So much stays free on the stick: for reports, and what its FAT itself needs.
const RESERVE: u64 = 16 << 20;
/// A file of this length or more doesn't go onto a FAT.
const FAT_LIMIT: u64 = 1 << 32;
/// What a file takes at most besides its bytes: the rest of its last cluster, its name, its folder.
const OVERHEAD: u64 = 64 << 10;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Who the machine is, what it did and what was wrong with it: records, token, keys, its last words, its report.
    Evidence,
    /// A backup, by its number.
    Set(u64),
    /// k3s's database, or what lies beside it.
    Database,
}

/// A file that can be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Source {
    /// The volume that it is on.
    pub volume: String,
    /// Its path there.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// What it is.
    pub kind: Kind,
}

/// What is taken along, and what isn't.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// In this order.
    pub take: Vec<Source>,
    /// With the reason.
    pub leave: Vec<(Source, String)>,
}

/// Whether anything is taken along: a person has to act, or something has `failed`, and it is clear whose machine this is.
pub fn is_due(facts: &Facts, findings: &[Finding], failed: bool) -> bool {
    let needs_person = findings.iter().any(|finding| finding.remedy == Remedy::Person);
    facts.media.len() == 1 && (failed || needs_person)
}

/// Chooses among what can be read, for a stick with so much room.
pub fn choose(mut found: Vec<Source>, room: u64) -> Choice {
    let newest = found.iter().filter_map(|source| number(source.kind)).max();
    let rank = |source: &Source| match source.kind {
        Kind::Evidence => 0,
        Kind::Set(number) if Some(number) == newest => 1,
        Kind::Database => 2,
        Kind::Set(_) => 3,
    };
    found
        .sort_by_key(|source| (rank(source), Reverse(number(source.kind)), source.volume.clone(), source.path.clone()));
    let (mut left, mut choice) = (room.saturating_sub(RESERVE), Choice::default());
    // A database without its log isn't one.
    let of_one = |one: &Source, next: &Source| {
        (one.kind, next.kind) == (Kind::Database, Kind::Database) && one.volume == next.volume
    };
    for sources in found.chunk_by(of_one) {
        let needed: u64 = sources.iter().map(|source| source.bytes + OVERHEAD).sum();
        let why = match sources.iter().find(|source| source.bytes >= FAT_LIMIT) {
            Some(long) => format!("{} is more than a FAT takes of one file", Size(long.bytes).human()),
            None if needed > left => format!("{}, and the stick has no room for it", Size(needed).human()),
            None => {
                left -= needed;
                choice.take.extend_from_slice(sources);
                continue;
            }
        };
        choice.leave.extend(sources.iter().map(|source| (source.clone(), why.clone())));
    }
    choice
}

fn number(kind: Kind) -> Option<u64> {
    match kind {
        Kind::Set(number) => Some(number),
        Kind::Evidence | Kind::Database => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::{Medium, finding};

    const MIB: u64 = 1 << 20;

    fn source(volume: &str, path: &str, bytes: u64, kind: Kind) -> Source {
        Source { volume: volume.into(), path: path.into(), bytes, kind }
    }

    fn found() -> Vec<Source> {
        vec![
            source("state", "rancher/k3s/server/db/state.db", 30 * MIB, Kind::Database),
            source("state", "rancher/k3s/server/db/state.db-wal", 20 * MIB, Kind::Database),
            source("state", "bakelite/sets/shop/00000001", 10 * MIB, Kind::Set(1)),
            source("data disk vdb", "bakelite/sets/shop/00000003", 12 * MIB, Kind::Set(3)),
            source("data disk vdb", "bakelite/sets/shop/00000002", 11 * MIB, Kind::Set(2)),
            source("state", "bakelite/token", 100, Kind::Evidence),
        ]
    }

    fn names(sources: &[Source]) -> Vec<&str> {
        sources.iter().map(|source| source.path.rsplit('/').next().unwrap()).collect()
    }

    #[test]
    fn who_it_was_comes_first_then_the_newest_backup_then_the_database() {
        let choice = choose(found(), 1 << 30);
        let expected = ["token", "00000003", "state.db", "state.db-wal", "00000002", "00000001"];
        assert_eq!((names(&choice.take), choice.leave.len()), (expected.to_vec(), 0));
    }

    #[test]
    fn what_has_no_room_is_named_and_no_half_of_a_database_is_taken() {
        // Room for the first of the database's files, and not for both.
        let choice = choose(found(), (16 + 12 + 35) * MIB);
        assert_eq!(names(&choice.take), ["token", "00000003", "00000002", "00000001"]);
        let left: Vec<&str> = choice.leave.iter().map(|(source, _)| source.path.as_str()).collect();
        assert_eq!(left, ["rancher/k3s/server/db/state.db", "rancher/k3s/server/db/state.db-wal"]);
        assert!(choice.leave.iter().all(|(_, why)| why.contains("50.1 MiB")), "{:?}", choice.leave);
        for room in 0..120 {
            let choice = choose(found(), room * MIB);
            let taken: u64 = choice.take.iter().map(|source| source.bytes).sum();
            assert!(taken <= (room * MIB).saturating_sub(RESERVE), "{room}");
            assert_eq!(choice.take.len() + choice.leave.len(), 6);
        }
        let long = choose(vec![source("state", "x", 5 << 30, Kind::Set(1))], 1 << 40);
        assert!(long.take.is_empty() && long.leave[0].1.contains("FAT"));
        let database = [("state.db", 5 << 30), ("state.db-wal", MIB)];
        let database = database.map(|(path, bytes)| source("state", path, bytes, Kind::Database)).to_vec();
        assert_eq!(choose(database, 1 << 40).leave.len(), 2, "nor its log alone");
    }

    #[test]
    fn it_is_due_where_a_person_has_to_act_and_it_is_clear_whose_machine_it_is() {
        let facts = |count| Facts { media: vec![Medium::default(); count], ..Facts::default() };
        let person = [finding("state", Remedy::Person, "lost")];
        let well = [finding("state", Remedy::None, "good"), finding("cluster", Remedy::Machine, "heals it")];
        assert!(is_due(&facts(1), &person, false) && is_due(&facts(1), &well, true));
        assert!(!is_due(&facts(1), &well, false));
        assert!(!is_due(&facts(0), &person, false) && !is_due(&facts(2), &person, true));
    }
}
