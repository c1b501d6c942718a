//! The replay of what was recorded, and the boots of some of the media that come out of it.

use super::{Hardware, Player};
use crate::replay::{self, Outcome};
use crate::steps::{Replay, Watch};
use anyhow::{Context, Result, ensure};
use bakelite_vm::media;
use serde_json::Value;

/// So often a machine may start until what a pulled plug has left of an update has come to its end.
const STARTS: usize = 3;

impl Player<'_> {
    /// Replays what was recorded of this boot, and boots some of the media that come out.
    pub(super) fn replay(&mut self, wanted: &Replay) -> Result<()> {
        let record = self.record();
        self.running.take().context("the machine is off")?.end()?;
        std::fs::remove_file(&record.whole)?;
        let outcome = replay::replay(&self.media, &wanted.disk, &record.log, wanted, self.random.u64(..))?;
        println!(
            "     {}: {} writes and flushes, {} moments good, {} of {} broken ones found, {} to be booted",
            self.scenario.name,
            outcome.entries,
            outcome.moments,
            outcome.control.1,
            outcome.control.0,
            outcome.samples.len()
        );
        self.boot_samples(&outcome, wanted)
    }

    fn boot_samples(&mut self, outcome: &Outcome, wanted: &Replay) -> Result<()> {
        let hardware = Hardware { record: Some(false), ..self.scenario.machine.clone() };
        for [boot, disk] in &outcome.samples {
            self.media.boot.clone_from(boot);
            let path = self.media.disk(&wanted.disk);
            media::copy_sparse(disk, &path, 0)?;
            std::fs::remove_file(disk)?;
            if wanted.update.is_some() {
                // Else it would be taken anew from the stick it came on.
                let alone = hardware.disks.iter().flatten().filter(|disk| disk.name.as_ref() == Some(&wanted.disk));
                self.boot(&Hardware { disks: Some(alone.cloned().collect()), ..hardware.clone() })?;
                self.update_ends().with_context(|| format!("booting {}", boot.display()))?;
                self.switch_off()?;
                outcome.is_over(&[boot.clone(), path]).with_context(|| format!("after {}", boot.display()))?;
            } else {
                self.boot(&hardware)?;
                self.expect(&Watch {
                    event: "ready".into(),
                    with: Default::default(),
                    containing: Default::default(),
                    within: 300.0,
                })?;
                self.switch_off()?;
            }
            std::fs::remove_file(boot)?;
        }
        Ok(())
    }

    /// Waits until whatever was to become of an update has, in at most three starts: k3s is ready, and it is what ran before, or
    /// what has proved itself.
    fn update_ends(&mut self) -> Result<()> {
        self.until(1200.0, "end of the update", |player| {
            let (starts, last) = starts(&player.events);
            starts > STARTS || is_settled(last)
        })?;
        let (starts, last) = starts(&self.events);
        ensure!(starts <= STARTS && is_settled(last), "the machine was started {starts} times, and isn't ready");
        Ok(())
    }
}

/// How often the machine was started, and the events of the last start.
fn starts(events: &[Value]) -> (usize, &[Value]) {
    let mut starts = (0..events.len()).filter(|number| events[*number]["event"] == "slot");
    (starts.clone().count(), starts.next_back().map_or(&[], |last| &events[last..]))
}

/// Whether in a start k3s is ready, and no update is tried that hasn't proved itself.
fn is_settled(start: &[Value]) -> bool {
    let says =
        |key: &str, words: &str| start.iter().any(|event| event[key].as_str().is_some_and(|text| text.contains(words)));
    let is_tried = says("text", "an update is tried");
    let is_proved = says("text", "the update has proved itself") || says("why", "took the place of");
    says("event", "ready") && (is_proved || !is_tried)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_update_has_ended_when_what_was_tried_is_proved_or_something_else_runs() {
        let [slot, ready] = ["slot", "ready"].map(|event| json!({"event": event}));
        let tried = json!({"event": "effect", "text": "an update is tried: slot b"});
        let proved =
            json!({"event": "effect", "text": "the update has proved itself: slot b took the place of slot a"});
        let noted = json!({"event": "step", "step": "update", "why": "slot b took the place of slot a"});
        let all = |events: &[&Value]| events.iter().map(|event| (*event).clone()).collect::<Vec<_>>();
        for (events, expected) in [
            (all(&[&slot, &ready]), (1, true)),
            (all(&[&slot, &tried, &ready]), (1, false)),
            (all(&[&slot, &tried, &ready, &proved]), (1, true)),
            (all(&[&slot, &tried, &noted, &ready]), (1, true)),
            (all(&[&slot, &ready, &slot, &tried]), (2, false)),
            (all(&[&slot, &tried, &ready, &proved, &slot]), (2, false)),
            (all(&[]), (0, false)),
        ] {
            let (count, last) = starts(&events);
            assert_eq!((count, is_settled(last)), expected, "{events:?}");
        }
    }
}
