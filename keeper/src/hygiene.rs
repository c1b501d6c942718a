//! Hygiene: whether k3s's database grows, is slow, or can't be written any more. Thresholds are here; pure.
//!
//! k3s itself says little: its health checks stay well while each write fails on a full disk (k3s.md 11.1), and a
//! compaction that never catches up on a slow card shows only in sizes (k3s.md 4.3).

use bakelite_datastore::sizes::Sizes;
use bakelite_spec::fault::{Code, Fault};
use bakelite_spec::quantity::Size;

/// More is worth a word (k3s.md 4.3).
const DATABASE: u64 = 500 << 20;
const LOG: u64 = 64 << 20;
const UNCOMPACTED: u64 = 20_000;
/// Slow statements in an hour; one or two come with each start.
const SLOW: usize = 20;
/// The kubelet throws pods out where less than this part is free (k3s pkg/daemons/agent, `eviction-hard`).
const FREE_PART: u64 = 20;

/// What was seen of k3s's database and of the disk that it lies on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The database's sizes.
    pub sizes: Option<Sizes>,
    /// Slow statements that k3s complained of in the last hour.
    pub slow: usize,
    /// Writes that failed for want of room in the last quarter of an hour.
    pub full: usize,
    /// Complaints of damage since the start.
    pub damaged: usize,
    /// Free bytes and all bytes of the file system.
    pub room: (u64, u64),
}

/// What is wrong with it.
pub fn faults(seen: &Seen) -> Vec<Fault> {
    let mut faults = Vec::new();
    let (free, all) = seen.room;
    if seen.full > 0 {
        let text = format!("{} writes of k3s's failed, as the disk is full; its health checks don't say so", seen.full);
        faults.push(Fault::new(Code::K3sDiskFull, text));
    } else if all > 0 && free < all / FREE_PART {
        let text = format!("the disk with k3s's data has {} of {} free", Size(free).human(), Size(all).human());
        faults.push(Fault::new(Code::K3sDiskFull, text));
    }
    if seen.damaged > 0 {
        let text = "k3s met damage in its database, and goes on as if it were whole";
        faults.push(Fault::new(Code::K3sDatabaseDamaged, text));
    }
    let sizes = seen.sizes.unwrap_or_default();
    let too_large = [
        (sizes.uncompacted > UNCOMPACTED, format!("{} revisions that were never compacted", sizes.uncompacted)),
        (sizes.log > LOG, format!("a log of {}", Size(sizes.log).human())),
        (
            sizes.database > DATABASE,
            format!("{}, {} of it empty", Size(sizes.database).human(), Size(sizes.free).human()),
        ),
    ];
    let large: Vec<String> = too_large.into_iter().filter_map(|(is_large, text)| is_large.then_some(text)).collect();
    if !large.is_empty() {
        faults.push(Fault::new(Code::DatabaseLarge, format!("k3s's database has {}", large.join(", "))));
    }
    if seen.slow > SLOW {
        let text = format!("k3s's database answered {} times in an hour only after a second or more", seen.slow);
        faults.push(Fault::new(Code::DatabaseSlow, text));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(seen: &Seen) -> Vec<Code> {
        faults(seen).into_iter().map(|fault| fault.code).collect()
    }

    #[test]
    fn each_threshold_has_its_word_and_a_small_node_none() {
        let usual = Sizes { database: 30 << 20, log: 4 << 20, free: 0, revision: 90_000, uncompacted: 1_400 };
        let well = Seen { sizes: Some(usual), slow: 2, room: (10 << 30, 20 << 30), ..Seen::default() };
        assert_eq!(faults(&well), []);
        assert_eq!(faults(&Seen::default()), [], "nothing was seen yet");
        for sizes in [
            Sizes { uncompacted: 20_001, ..usual },
            Sizes { log: (64 << 20) + 1, ..usual },
            Sizes { database: (500 << 20) + 1, ..usual },
        ] {
            assert_eq!(codes(&Seen { sizes: Some(sizes), ..well.clone() }), [Code::DatabaseLarge]);
        }
        assert_eq!(codes(&Seen { slow: 21, ..well.clone() }), [Code::DatabaseSlow]);
        assert_eq!(codes(&Seen { full: 1, ..well.clone() }), [Code::K3sDiskFull]);
        assert_eq!(codes(&Seen { room: ((1 << 30) - 1, 20 << 30), ..well.clone() }), [Code::K3sDiskFull]);
        assert_eq!(codes(&Seen { damaged: 1, ..well }), [Code::K3sDatabaseDamaged]);
    }
}
