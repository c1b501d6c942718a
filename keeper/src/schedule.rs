//! When a backup is due: pure, by the clock alone.
//!
//! Time is cut into slots of the wanted length, or at the wanted hours, shifted by the node's name so that a hundred machines
//! of one image don't all write to their network disk in the same minute. One backup belongs to each slot; a missed slot is
//! made up by the first look after it.

use bakelite_spec::backup::Rhythm;
use bakelite_sys::sum::pour;

/// So many seconds after a wanted hour the last of many machines begins.
const SPREAD: u64 = 1800;

/// By how many seconds a node's slots are shifted.
pub fn shift(node: &str, every: u64) -> u64 {
    let sum = pour(node.as_bytes(), std::io::sink()).map(|(_, sum)| sum).unwrap_or_default();
    let number = sum.get(..15).and_then(|digits| u64::from_str_radix(digits, 16).ok());
    number.unwrap_or(0) % every.max(1)
}

/// Whether something is due on a node. Times are seconds since 1970.
pub fn is_due(last: Option<i64>, now: i64, rhythm: &Rhythm, node: &str) -> bool {
    let Some(last) = last else { return true };
    let (begun, longest) = match rhythm {
        Rhythm::Each(every) => (begun(now, *every, shift(node, *every)), *every),
        Rhythm::At(hours) => (hours.newest(now, shift(node, SPREAD)), hours.period()),
    };
    // One from far ahead was made while the clock was wrong: it says nothing of now.
    last < begun || last > now.saturating_add_unsigned(longest)
}

/// When the slot of so many seconds began that a time is in.
fn begun(now: i64, every: u64, shift: u64) -> i64 {
    let every = i64::try_from(every.max(1)).unwrap_or(i64::MAX);
    now.saturating_sub_unsigned(shift).div_euclid(every).saturating_mul(every).saturating_add_unsigned(shift)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bakelite_spec::backup::Every;

    fn rhythm(text: &str) -> Rhythm {
        text.parse::<Every>().unwrap().rhythm(true).unwrap()
    }

    #[test]
    fn each_slot_gets_one_and_a_missed_one_is_made_up() {
        let (hourly, node) = (rhythm("1h"), "shop-1");
        let shift = shift(node, 3600).cast_signed();
        let due = |last: Option<i64>, now: i64| is_due(last.map(|last| last + shift), now + shift, &hourly, node);
        assert!(due(None, 0));
        assert!(!due(Some(7200), 7700) && !due(Some(3600), 7199));
        assert!(due(Some(3600), 7200), "the next slot");
        assert!(due(Some(3600), 1_000_000), "it was switched off for days");
        assert!(due(Some(900_000), 7800), "the clock was ahead");
        assert!(!due(Some(8000), 7900), "the clock was set back a little");
    }

    #[test]
    fn a_wanted_hour_has_its_backup_once_and_a_missed_one_is_made_up() {
        let node = "shop-1";
        let later = shift(node, SPREAD).cast_signed();
        // Noon of a Sunday, and the seconds of an hour.
        let (noon, hour) = (20_002 * 86_400 + 43_200, 3600);
        let three = noon - 9 * hour;
        let due = |text: &str, last: Option<i64>, now: i64| is_due(last, now, &rhythm(text), node);
        assert!(due("03:00", None, noon), "there is none at all");
        assert!(due("03:00", Some(three - 24 * hour), noon), "it was off at three, or its clock was");
        assert!(!due("03:00", Some(three + later), noon) && !due("03:00", Some(noon - 60), noon));
        assert!(!due("03:00", Some(three - 24 * hour + later), three + later - 1), "its own time isn't there yet");
        assert!(due("03:00", Some(three - 24 * hour + later), three + later));
        assert!(due("03:00, 11:00", Some(three + later), noon) && !due("03:00, 13:00", Some(three + later), noon));
        assert!(due("sunday 03:00", Some(three - 24 * hour), noon));
        assert!(!due("monday 03:00", Some(three - 24 * hour), noon));
        assert!(!due("03:00", Some(noon + 2 * hour), noon), "the clock was set back a little");
        assert!(due("03:00", Some(noon + 25 * hour), noon), "the clock was ahead");
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
