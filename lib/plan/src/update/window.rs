//! When a machine may take an update by itself: in the window of the day that its appliance names, and each machine of many at a
//! time of its own in the first half of it.
//!
//! A person's own command isn't held up by it. A machine that can't know the time waits for a person.

use crate::Settings;
use crate::facts::Facts;
use crate::identity;
use bakelite_spec::status::paths;
use bakelite_spec::window::Window;
use std::hash::{DefaultHasher, Hasher};

/// Between two questions at an address, in seconds.
const EACH: u64 = 3600;
/// The longest that fetching may take, in seconds.
pub const LONGEST: u64 = 6 * 3600;

/// A node's own number of seconds, below a limit.
fn own(node: &str, below: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(node.as_bytes());
    hasher.finish() % below.max(1)
}

/// By how many seconds a node's window opens later than the appliance says.
fn later(window: &Window, node: &str) -> u64 {
    own(node, window.length() / 2)
}

/// When a node's present turn to ask at an address began, in seconds since 1970: each hour from the window's opening on, and
/// without a window each hour at a minute of its own. `None` while the window is closed.
pub fn turn(window: Option<&Window>, node: &str, now: i64) -> Option<i64> {
    let since = match window {
        Some(window) => window.open(now, later(window, node))?.0,
        None => now.rem_euclid(EACH as i64).cast_unsigned() + EACH - own(node, EACH),
    };
    Some(now - (since % EACH).cast_signed())
}

/// For how many seconds a machine may fetch from now on, such that it restarts within its window.
pub fn left(facts: &Facts, settings: &Settings) -> u64 {
    let node = identity::of(facts).map(|identity| identity.node).unwrap_or_default();
    let window = settings.appliance.update.window.as_ref();
    let open = window.and_then(|window| window.open(facts.clock, later(window, &node)));
    open.map_or(LONGEST, |(_, left)| left.min(LONGEST))
}

/// Whether a node's window is open at a time in seconds since 1970; without a window always.
pub fn is_open(window: Option<&Window>, node: &str, now: i64) -> bool {
    window.is_none_or(|window| window.is_open(now, later(window, node)))
}

/// What an update that comes by itself waits for; `None` where it may be taken now.
pub fn waits(facts: &Facts, settings: &Settings) -> Option<String> {
    let window = settings.appliance.update.window.as_ref()?;
    let node = identity::of(facts).map(|identity| identity.node).unwrap_or_default();
    if facts.has(paths::CLOCK_LIFTED) && !facts.clock_is_set {
        return Some(format!(
            "it waits for `update.window` ({window} UTC), and this machine doesn't know the time; `bakelite update FILE` takes it now"
        ));
    }
    let opening = window.opening(later(window, &node));
    (!is_open(Some(window), &node, facts.clock))
        .then(|| format!("it waits for `update.window` ({window} UTC, on this machine from {opening})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::RECORD;
    use crate::testing::settings;
    use serde_json::json;
    use std::collections::BTreeSet;

    #[test]
    fn an_update_waits_for_its_window_and_a_known_time() {
        let night = settings(&json!({ "update": { "window": "02:00-04:00" } }));
        let at = |clock| Facts {
            clock,
            files: [(RECORD.to_string(), r#"{"format":1,"node":"shop-1"}"#.to_string())].into(),
            ..Facts::default()
        };
        let waits_at = |clock| waits(&at(clock), &night);
        assert_eq!(waits_at(3 * 3600 + 1800), None, "in the second half it is open for all");
        for clock in [0, 3600, 4 * 3600, 43_200] {
            let said = waits_at(clock).unwrap();
            assert!(said.contains("02:00-04:00 UTC, on this machine from 02:"), "{said}");
        }
        assert_eq!(waits(&at(43_200), &settings(&json!({}))), None);
        let lost = Facts { present: vec![paths::CLOCK_LIFTED.into()], ..at(3 * 3600 + 1800) };
        assert!(waits(&lost, &night).unwrap().contains("doesn't know the time"));
        assert_eq!(waits(&Facts { clock_is_set: true, ..lost }, &night), None);
    }

    #[test]
    fn an_address_is_asked_once_an_hour_while_the_window_is_open() {
        let window: Window = "23:00-02:00".parse().unwrap();
        let midnight = 20_000 * 86_400;
        for (window, hours) in [(Some(&window), 2..=3), (None, 24..=25)] {
            for node in ["shop-1", "shop-2", "shop-3"] {
                let minutes = (0..24 * 60).map(|minute| midnight + 12 * 3600 + minute * 60);
                let turns: Vec<(i64, i64)> = minutes.filter_map(|now| Some((turn(window, node, now)?, now))).collect();
                assert!(turns.iter().all(|(turn, now)| (0..3600).contains(&(now - turn))), "{node}");
                let all: BTreeSet<i64> = turns.iter().map(|(turn, _)| *turn).collect();
                assert!(hours.contains(&all.len()), "{node}: {}", all.len());
                assert!(all.iter().zip(all.iter().skip(1)).all(|(one, next)| next - one == 3600), "{node}");
            }
        }
        let apart: BTreeSet<i64> = (0..100).filter_map(|n| turn(None, &format!("shop-{n}"), midnight)).collect();
        assert!(apart.len() > 90);
    }

    #[test]
    fn what_is_fetched_ends_with_the_window() {
        let night = settings(&json!({ "update": { "window": "23:00-02:00" } }));
        let facts = Facts { clock: 20_000 * 86_400 + 3600, ..Facts::default() };
        assert_eq!(left(&facts, &night), 3600);
        assert_eq!(left(&facts, &settings(&json!({}))), LONGEST);
    }

    #[test]
    fn machines_are_spread_over_the_first_half() {
        let window: Window = "23:00-01:00".parse().unwrap();
        let all: BTreeSet<u64> = (0..100).map(|number| later(&window, &format!("shop-{number}"))).collect();
        assert!(all.len() > 90 && all.iter().all(|later| *later < 3600));
    }
}
