//! Whether a bundle that was tried and not taken is tried again unasked.
//!
//! Each try writes a whole slot, and a stick may stay in for years. So one that failed waits for the next day; one whose machine
//! went down, or which somebody has plugged in anew, may be tried at once, but three times in a row at most. Where nobody can say how
//! long ago it was, as the clock was set back, it is three times in all: it may be set back again. A rehearsal's answer is
//! the same as long as the same system runs with that database, so it isn't asked for again. A person's own command isn't
//! held up by any of it.

use crate::Settings;
use crate::facts::Facts;
use bakelite_spec::tried::{End, Moment, PATH, Tried, TriedBundles};

/// After so many seconds it is tried again: the same window of the next day is behind that.
pub const AGAIN: u64 = 20 * 3600;
/// So many tries may come without a day between them.
pub const AT_ONCE: u32 = 3;

/// What is remembered, and what is now.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// What was tried.
    pub tried: TriedBundles,
    /// Now.
    pub now: Moment,
    /// The id of the image that runs.
    pub runs: String,
    /// Whether what brings the bundle was plugged in just now, and isn't only still there.
    pub is_plugged: bool,
}

impl Memory {
    /// What a machine remembers.
    pub fn of(facts: &Facts, settings: &Settings, is_plugged: bool) -> Self {
        let tried = facts.file(PATH).map_or_else(TriedBundles::default, TriedBundles::read);
        let now = Moment { at: facts.clock, boot: facts.boot.clone(), uptime: facts.uptime };
        Self { tried, now, runs: settings.manifest.image.clone(), is_plugged }
    }

    fn known(&self, image: &str, manifest: &str) -> Option<&Tried> {
        self.tried.bundles.iter().rev().find(|tried| tried.is(image, manifest))
    }

    /// Whether there was a day since a try.
    fn is_old(&self, tried: &Tried) -> bool {
        self.now.since(&tried.begun).is_some_and(|seconds| seconds >= AGAIN)
    }

    /// Why a bundle isn't tried now, and what to type; `None` where it may be.
    pub fn withholds(&self, image: &str, manifest: &str) -> Option<String> {
        // Whole or as a delta, it is the same k3s.
        let rehearsed = |tried: &&Tried| tried.end == End::Rehearsal && tried.image == image && tried.runs == self.runs;
        if let Some(tried) = self.tried.bundles.iter().find(rehearsed) {
            let why = tried.words();
            return Some(format!("{why}; it isn't tried again unasked, `bakelite update` tries it once more"));
        }
        let tried = self.known(image, manifest)?;
        let since = self.now.since(&tried.begun);
        let is_at_once = self.is_plugged || tried.end == End::Open || since.is_none();
        if self.is_old(tried) || (is_at_once && tried.times < AT_ONCE) {
            return None;
        }
        let when = match since {
            Some(_) => "it is tried again after a day",
            None => "how long ago isn't known, so it isn't tried again unasked",
        };
        Some(format!("{}; {when}, `bakelite update` tries it at once", tried.words()))
    }

    /// What is to be noted of a bundle before the first byte of it is written.
    pub fn begin(&self, image: &str, manifest: &str, bundle: String) -> Tried {
        let before = self.known(image, manifest).filter(|tried| !self.is_old(tried));
        Tried {
            image: image.into(),
            manifest: manifest.into(),
            bundle,
            runs: self.runs.clone(),
            begun: self.now.clone(),
            times: before.map_or(0, |tried| tried.times).saturating_add(1),
            end: End::Open,
            why: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3600;

    /// A machine that is handed the same bundle again and again.
    #[derive(Default)]
    struct Shop {
        memory: Memory,
        written: u32,
    }

    impl Shop {
        fn new() -> Self {
            let now = Moment { at: 1_800_000_000, boot: "0".into(), uptime: 200 };
            Self { memory: Memory { now, runs: "old".into(), ..Memory::default() }, written: 0 }
        }

        /// Offers it; a try ends so.
        fn offer(&mut self, end: End) {
            if self.memory.withholds("new", "m").is_none() {
                self.written += 1;
                let begun = self.memory.begin("new", "m", "shop 2.0".into());
                self.memory.tried.note(begun.clone());
                if end != End::Open {
                    self.memory.tried.note(Tried { end, why: "it is bad".into(), ..begun });
                }
            }
        }

        fn later(&mut self, seconds: u64) {
            self.memory.now.uptime += seconds;
            self.memory.now.at += seconds.cast_signed();
        }

        fn reboot(&mut self, off: u64) {
            let now = &mut self.memory.now;
            (now.boot, now.uptime) = (format!("{}+", now.boot), 200);
            now.at += off.cast_signed();
        }

        fn says(&self) -> String {
            self.memory.withholds("new", "m").unwrap_or_default()
        }
    }

    #[test]
    fn what_failed_waits_for_the_next_day_through_all_restarts() {
        let mut shop = Shop::new();
        for _ in 0..5 {
            shop.offer(End::Failed);
            shop.later(3600);
            shop.offer(End::Failed);
            shop.reboot(30);
        }
        assert_eq!(shop.written, 1);
        assert_eq!(shop.says(), "it is bad; it is tried again after a day, `bakelite update` tries it at once");
        assert_eq!(shop.memory.withholds("new", "made anew"), None, "a corrected one is another one");
        for day in 2..5 {
            shop.later(DAY);
            shop.offer(End::Failed);
            shop.reboot(30);
            shop.offer(End::Failed);
            assert_eq!((shop.written, shop.memory.tried.bundles[0].times), (day, 1));
        }
    }

    #[test]
    fn a_rehearsals_answer_is_asked_for_once_as_long_as_the_same_system_runs() {
        let mut shop = Shop::new();
        shop.offer(End::Rehearsal);
        for _ in 0..3 {
            shop.later(DAY);
            shop.reboot(DAY);
            shop.memory.is_plugged = true;
            shop.offer(End::Rehearsal);
        }
        assert_eq!(shop.written, 1);
        assert_eq!(shop.says(), "it is bad; it isn't tried again unasked, `bakelite update` tries it once more");
        assert!(shop.memory.withholds("new", "whole").is_some(), "the same k3s, brought whole");
        assert_eq!(shop.memory.withholds("newer", "m"), None);
        shop.memory.runs = "another".into();
        shop.offer(End::Rehearsal);
        assert_eq!(shop.written, 2);
    }

    #[test]
    fn what_went_down_with_the_machine_or_was_plugged_in_anew_is_tried_three_times_in_a_row() {
        for (end, is_plugged) in [(End::Open, false), (End::Failed, true)] {
            let mut shop = Shop::new();
            for _ in 0..10 {
                shop.offer(end);
                shop.reboot(60);
                shop.memory.is_plugged = is_plugged;
            }
            assert_eq!(shop.written, AT_ONCE);
            assert!(shop.says().contains("(tried 3 times); it is tried again after a day"), "{}", shop.says());
            shop.reboot(DAY);
            shop.offer(end);
            assert_eq!((shop.written, shop.memory.tried.bundles[0].times), (AT_ONCE + 1, 1));
        }
        let mut shop = Shop::new();
        shop.offer(End::Open);
        assert!(shop.memory.tried.bundles[0].words().contains("went down"));
    }

    #[test]
    fn where_the_clock_is_set_back_it_is_three_times_in_all() {
        let mut shop = Shop::new();
        for _ in 0..10 {
            shop.offer(End::Failed);
            shop.reboot(0);
            shop.memory.now.at -= 86_400;
        }
        assert_eq!(shop.written, AT_ONCE);
        assert!(shop.says().contains("how long ago isn't known"), "{}", shop.says());
    }

    #[test]
    fn a_clock_that_is_unknown_at_each_start_counts_what_it_ran() {
        let mut shop = Shop::new();
        for _ in 0..6 {
            shop.offer(End::Failed);
            shop.later(AGAIN / 2);
            shop.offer(End::Failed);
            // It was off for long, and begins where it was.
            shop.reboot(0);
        }
        assert_eq!(shop.written, 4, "at 0, 20, 40 and 60 hours");
    }
}
