//! Attempts: how often each step of firstboot failed, and when the machine was last restarted for which reason (law 10).
//!
//! One small record on state, written before the act that it is about: firstboot counts, init asks it before a restart.
//! A record that can't be read counts as none: it keeps a machine from endless tries, and nothing else depends on it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The record.
pub const PATH: &str = "/var/lib/bakelite/attempts.json";
/// So many faults at one step lead to safe mode.
pub const LIMIT: u32 = 3;
/// The same reason restarts the machine at most once in so many seconds of running time: a clock may jump.
pub const REBOOT_EACH: i64 = 24 * 3600;

/// What was tried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Attempts {
    /// Faults that were returned, by step.
    pub steps: BTreeMap<String, Tries>,
    /// What was begun and hasn't ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub begun: Option<Begun>,
    /// When the machine was last restarted, in seconds of running time, by reason.
    pub reboots: BTreeMap<String, i64>,
}

/// Faults of one step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Tries {
    /// How many there were with the same facts.
    pub faults: u32,
    /// The boot of the last one.
    pub boot: String,
    /// What tells the facts from others.
    pub facts: String,
    /// The last one in words.
    pub text: String,
}

/// An act that may end the boot instead of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Begun {
    /// The step.
    pub step: String,
    /// The boot in which it was begun.
    pub boot: String,
    /// How far things were.
    pub mark: String,
}

impl Attempts {
    /// Reads the record; what can't be read is empty.
    pub fn read(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    /// As it is written.
    pub fn text(&self) -> String {
        serde_json::to_string(self).map_or_else(|_| String::new(), |text| text + "\n")
    }

    /// Whether nothing is counted.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Counts one more fault of a step.
    pub fn fail(&mut self, step: &str, boot: &str, facts: &str, text: &str) {
        let before = self.steps.get(step).filter(|tries| tries.facts == facts).map_or(0, |tries| tries.faults);
        let tries =
            Tries { faults: before.saturating_add(1), boot: boot.into(), facts: facts.into(), text: text.into() };
        self.steps.insert(step.into(), tries);
        self.begun = None;
    }

    /// The last fault of a step that isn't tried any more in this boot. Each boot gives it one fresh try, and so do other facts.
    pub fn withheld(&self, step: &str, boot: &str, facts: &str) -> Option<&Tries> {
        self.steps.get(step).filter(|tries| tries.faults >= LIMIT && tries.boot == boot && tries.facts == facts)
    }

    /// Forgets all faults; restarts are remembered for their day.
    pub fn forget_faults(&mut self) {
        self.steps.clear();
        self.begun = None;
    }

    /// Whether the machine may be restarted for a reason after so many seconds of running time; if so, that is noted.
    pub fn may_reboot(&mut self, reason: &str, running: i64) -> bool {
        // A running time that was lost begins anew: what lies ahead of it says nothing.
        self.reboots.retain(|_, last| (0..REBOOT_EACH).contains(&(running - *last)));
        let may = !self.reboots.contains_key(reason);
        if may {
            self.reboots.insert(reason.into(), running);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_faults_withhold_a_step_until_the_next_boot_or_other_facts() {
        let mut attempts = Attempts::default();
        for _ in 0..LIMIT {
            assert_eq!(attempts.withheld("home", "boot1", "f"), None);
            attempts.fail("home", "boot1", "f", "no");
        }
        assert_eq!(attempts.withheld("home", "boot1", "f").map(|tries| tries.text.as_str()), Some("no"));
        assert_eq!(attempts.withheld("identity", "boot1", "f"), None);
        assert_eq!(attempts.withheld("home", "boot1", "other"), None);
        assert_eq!(attempts.withheld("home", "boot2", "f"), None, "a fresh try");
        attempts.fail("home", "boot2", "f", "no");
        assert!(attempts.withheld("home", "boot2", "f").is_some(), "one, not three more");
        attempts.fail("home", "boot2", "other", "no");
        assert_eq!(attempts.steps["home"].faults, 1);
        attempts.forget_faults();
        assert!(attempts.is_empty());
        assert_eq!(Attempts::read(&attempts.text()), attempts);
        assert!(Attempts::read("\0\0").is_empty());
    }

    #[test]
    fn a_reason_restarts_once_a_day_of_running_time() {
        let mut attempts = Attempts::default();
        assert!(attempts.may_reboot("disk", 100));
        assert!(!attempts.may_reboot("disk", 100 + REBOOT_EACH - 1));
        assert!(attempts.may_reboot("arguments", 200));
        attempts.forget_faults();
        assert!(!attempts.may_reboot("disk", 300), "a good boot doesn't forget it");
        assert!(attempts.may_reboot("disk", 100 + REBOOT_EACH));
        assert!(attempts.may_reboot("disk", 5), "the running time was lost");
    }
}
