//! How long scenarios took: each by itself, and by the clock while at least one of them ran.
//!
//! Several run at a time, so the sum is more than what the clock shows, and neither is what one would take on an idle machine.

use std::time::Duration;

/// From when to when something ran.
pub type Span = (Duration, Duration);

/// What is said of the scenarios on ARM, which are emulated everywhere; nothing where there were none.
pub fn of_arm(spans: &[Span]) -> Option<String> {
    let count = spans.len();
    let scenarios = if count == 1 { "scenario" } else { "scenarios" };
    (count > 0).then(|| {
        format!(
            "ARM: {count} {scenarios}, {} added up, and {} by the clock, with others beside them",
            words(sum(spans)),
            words(clock(spans))
        )
    })
}

fn sum(spans: &[Span]) -> Duration {
    spans.iter().map(|(from, to)| to.saturating_sub(*from)).sum()
}

/// The time in which at least one ran.
fn clock(spans: &[Span]) -> Duration {
    let mut sorted = spans.to_vec();
    sorted.sort();
    let (mut all, mut until) = (Duration::ZERO, Duration::ZERO);
    for (from, to) in sorted {
        all += to.saturating_sub(from.max(until));
        until = until.max(to);
    }
    all
}

fn words(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{} min {} s", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(all: &[(u64, u64)]) -> Vec<Span> {
        all.iter().map(|(from, to)| (Duration::from_secs(*from), Duration::from_secs(*to))).collect()
    }

    #[test]
    fn what_ran_side_by_side_counts_once_by_the_clock() {
        let apart = spans(&[(100, 160), (0, 30)]);
        assert_eq!((sum(&apart).as_secs(), clock(&apart).as_secs()), (90, 90));
        let beside = spans(&[(10, 100), (0, 60), (20, 30), (200, 260)]);
        assert_eq!((sum(&beside).as_secs(), clock(&beside).as_secs()), (220, 160));
        assert_eq!((sum(&[]), clock(&[])), (Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn the_words_have_both_and_nothing_is_said_of_nothing() {
        let said = of_arm(&spans(&[(0, 200), (100, 300)])).unwrap();
        assert!(
            said.starts_with("ARM: 2 scenarios, 6 min 40 s added up") && said.contains("and 5 min 0 s by the clock"),
            "{said}"
        );
        assert!(of_arm(&spans(&[(0, 1)])).unwrap().starts_with("ARM: 1 scenario, 0 min 1 s added up"));
        assert_eq!(of_arm(&[]), None);
    }
}
