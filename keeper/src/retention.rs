//! Which backups go: pure, by number and time. The newest never does; it is the last one that was verified.

use bakelite_spec::backup::Keep;
use std::collections::BTreeSet;

/// One set on a shelf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shelved {
    /// Its number: newer ones have higher ones, whatever the clock did.
    pub number: u64,
    /// When it was made, in seconds since 1970.
    pub made: i64,
}

/// The numbers of the sets that are to go.
pub fn expired(sets: &[Shelved], keep: &Keep, now: i64) -> Vec<u64> {
    let mut newest_first = sets.to_vec();
    newest_first.sort_unstable_by(|one, other| other.cmp(one));
    let mut kept: BTreeSet<u64> = newest_first.iter().take(1).map(|set| set.number).collect();
    match keep {
        Keep::Newest(count) => {
            let count = usize::try_from(*count).unwrap_or(usize::MAX);
            kept.extend(newest_first.iter().take(count).map(|set| set.number));
        }
        Keep::Younger(age) => {
            let age = i64::try_from(age.0).unwrap_or(i64::MAX);
            kept.extend(newest_first.iter().filter(|set| now.saturating_sub(set.made) <= age).map(|set| set.number));
        }
        Keep::Tiers(tiers) => {
            for tier in tiers {
                let period = i64::try_from(tier.period.max(1)).unwrap_or(i64::MAX);
                let mut seen = BTreeSet::new();
                for set in &newest_first {
                    // Periods without a backup don't count: a machine that was switched off for a month keeps its last.
                    if seen.insert(set.made.div_euclid(period)) && seen.len() as u64 <= tier.count {
                        kept.insert(set.number);
                    }
                }
            }
        }
    }
    newest_first.into_iter().map(|set| set.number).filter(|number| !kept.contains(number)).collect()
}

/// The numbers of the sets that go so that so many bytes more are free: those that are kept no longer, then the oldest
/// ones before their time, as a newer backup is worth more than an older one. `None` where all but the newest isn't enough.
pub fn for_room(sets: &[(Shelved, u64)], keep: &Keep, now: i64, missing: u64) -> Option<Vec<u64>> {
    if missing == 0 {
        return Some(Vec::new());
    }
    let shelved: Vec<Shelved> = sets.iter().map(|(set, _)| *set).collect();
    let expired = expired(&shelved, keep, now);
    let mut oldest_first = sets.to_vec();
    oldest_first.sort_unstable_by_key(|(set, _)| (!expired.contains(&set.number), *set));
    let newest = shelved.iter().max();
    let (mut gone, mut freed) = (Vec::new(), 0u64);
    for (set, bytes) in oldest_first.iter().filter(|(set, _)| Some(set) != newest) {
        // What is kept no longer goes in any case.
        if freed >= missing && !expired.contains(&set.number) {
            break;
        }
        gone.push(set.number);
        freed = freed.saturating_add(*bytes);
    }
    (freed >= missing).then_some(gone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: i64 = 3600;

    fn hourly(count: u64) -> Vec<Shelved> {
        (1..=count).map(|number| Shelved { number, made: number as i64 * HOUR }).collect()
    }

    fn left(sets: &[Shelved], keep: &str, now: i64) -> Vec<u64> {
        let gone = expired(sets, &keep.parse().unwrap(), now);
        sets.iter().map(|set| set.number).filter(|number| !gone.contains(number)).collect()
    }

    #[test]
    fn a_month_of_hours_is_thinned_to_hours_days_and_weeks() {
        let sets = hourly(24 * 30);
        let left = left(&sets, "24 hourly, 7 daily, 4 weekly", 24 * 30 * HOUR);
        assert!(left.ends_with(&(24 * 30 - 23..=24 * 30).collect::<Vec<_>>()), "the last day is whole");
        // Five days beyond it, and two weeks beyond those.
        assert_eq!(left[..7], [335, 503, 599, 623, 647, 671, 695]);
        assert_eq!(left.len(), 24 + 7);
    }

    #[test]
    fn a_count_and_an_age() {
        let sets = hourly(1000);
        assert_eq!(left(&sets, "720", 1000 * HOUR).len(), 720);
        assert_eq!(left(&sets, "7 days", 1000 * HOUR), (832..=1000).collect::<Vec<_>>());
        assert_eq!(left(&sets, "7 days", 90_000 * HOUR), [1000], "the newest stays, however old it is");
        assert_eq!(left(&[], "7 days", 0), [0u64; 0]);
    }

    #[test]
    fn room_is_made_by_what_is_kept_no_longer_then_by_the_oldest_and_never_by_the_newest() {
        let sets: Vec<(Shelved, u64)> = hourly(6).into_iter().map(|set| (set, 10)).collect();
        let gone = |keep: &str, missing| for_room(&sets, &keep.parse().unwrap(), 6 * HOUR, missing);
        assert_eq!(gone("4", 0), Some(vec![]));
        assert_eq!(gone("4", 5), Some(vec![1, 2]), "both are kept no longer");
        assert_eq!(gone("4", 21), Some(vec![1, 2, 3]));
        assert_eq!(gone("6", 50), Some(vec![1, 2, 3, 4, 5]));
        assert_eq!(gone("6", 51), None, "the newest stays");
        assert_eq!(for_room(&[], &"6".parse().unwrap(), 0, 1), None);
    }

    proptest! {
        #[test]
        fn the_newest_always_stays_and_what_stays_stays_again(
            made in proptest::collection::vec(0i64..40_000_000, 1..200), now in 0i64..80_000_000, rule in 0usize..3
        ) {
            let keep = ["24 hourly, 7 daily, 4 weekly", "5", "2 days"][rule];
            let sets: Vec<Shelved> =
                made.iter().enumerate().map(|(number, made)| Shelved { number: number as u64, made: *made }).collect();
            let once = left(&sets, keep, now);
            prop_assert_eq!(once.last(), Some(&(made.len() as u64 - 1)));
            let rest: Vec<Shelved> = sets.into_iter().filter(|set| once.contains(&set.number)).collect();
            prop_assert_eq!(left(&rest, keep, now), once);
        }
    }
}
