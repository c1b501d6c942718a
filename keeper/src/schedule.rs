//! When a backup is due: pure, by the clock alone.
//!
//! Time is cut into slots of the wanted length, shifted by the node's name so that a hundred machines of one image don't
//! all write to their network disk in the same minute. One backup belongs to each slot; a missed slot is made up by the
//! first look after it.

use bakelite_sys::sum::pour;

/// By how many seconds a node's slots are shifted.
pub fn shift(node: &str, every: u64) -> u64 {
    let sum = pour(node.as_bytes(), std::io::sink()).map(|(_, sum)| sum).unwrap_or_default();
    let number = sum.get(..15).and_then(|digits| u64::from_str_radix(digits, 16).ok());
    number.unwrap_or(0) % every.max(1)
}

/// Whether a backup is due. Times are seconds since 1970, `every` and `shift` seconds.
pub fn is_due(last: Option<i64>, now: i64, every: u64, shift: u64) -> bool {
    let (every, shift) = (i64::try_from(every.max(1)).unwrap_or(i64::MAX), i64::try_from(shift).unwrap_or(0));
    let slot = |time: i64| time.saturating_sub(shift).div_euclid(every);
    match last {
        None => true,
        // Made while the clock was ahead: it says nothing of now.
        Some(last) if last > now.saturating_add(every) => true,
        Some(last) => slot(now) > slot(last),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slot_gets_one_and_a_missed_one_is_made_up() {
        let due = |last, now| is_due(last, now, 3600, 600);
        assert!(due(None, 0));
        assert!(!due(Some(7300), 7700) && !due(Some(4200), 7799));
        assert!(due(Some(4200), 7800), "the next slot");
        assert!(due(Some(4200), 1_000_000), "it was switched off for days");
        assert!(due(Some(900_000), 7800), "the clock was ahead");
        assert!(!due(Some(8000), 7900), "the clock was set back a little");
    }

    #[test]
    fn machines_are_spread_over_the_hour() {
        let shifts: std::collections::BTreeSet<u64> =
            (0..100).map(|number| shift(&format!("shop-{number}"), 3600)).collect();
        assert!(shifts.len() > 90 && shifts.iter().all(|shift| *shift < 3600));
        assert_eq!(shift("shop-1", 3600), shift("shop-1", 3600));
        assert_eq!(shift("shop-1", 0), 0);
    }
}
