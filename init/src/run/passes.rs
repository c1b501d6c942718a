//! Between PID 1 and firstboot's passes: what a pass reports, what it reads of k3s's last start, and the restart that it asks
//! for, at most once a day for one reason (law 10).

use super::{Running, contents};
use crate::shutdown::Action;
use crate::supervise::{Ask, Event, REFUSED, WORKLOADS};
use crate::{attempts, machine, trial};
use bakelite_spec::event::What;
use bakelite_spec::fault::{Code, Fault, Who};
use bakelite_spec::status::{LastStart, Report, paths};
use bakelite_spec::update::WORKLOADS_MISSING;
use bakelite_sys::{durable, read_text, words};
use std::path::Path;

impl Running {
    /// Starts units again that read a file at their start which is another one by now.
    pub(super) fn restart_readers(&mut self) {
        let stale = |(number, read): (&usize, &Vec<Vec<u8>>)| {
            let live = &self.state.units[*number];
            (live.pid.is_some() && *read != contents(&live.unit.reads)).then(|| live.unit.name.clone())
        };
        let names: Vec<String> = self.read.iter().filter_map(stale).collect();
        for name in names {
            self.feed(Event::Ask(Ask::Restart(name)));
        }
    }

    /// Tells what a pass of firstboot has decided.
    pub(super) fn take_report(&mut self, unit: &str) {
        let Ok(bytes) = std::fs::read(paths::REPORT) else { return };
        let Ok(report) = serde_json::from_slice::<Report>(&bytes) else { return };
        for step in report.steps {
            self.journal.say(What::Step { step: step.step, decision: step.decision, why: step.why });
        }
        for text in report.warnings {
            self.journal.say(What::Effect { text });
        }
        self.reboot_reason = report.reboot;
        let before = self.reported.insert(unit.into(), report.faults.clone()).unwrap_or_default();
        for fault in report.faults.into_iter().filter(|fault| !before.contains(fault)) {
            self.journal.say(What::Fault(fault));
        }
    }

    /// In /run for settle, and on state for whoever comes after a power cut.
    pub(super) fn keep_last_start(&self, start: &LastStart) {
        let Ok(bytes) = serde_json::to_vec(start) else { return };
        let state = Path::new(paths::STATE).join("last-start.json");
        let kept = durable::replace(paths::LAST_START, &bytes, 0o644)
            .and_then(|()| durable::write_durable(state, &bytes, 0o600));
        if let Err(error) = kept {
            log::warn!("{}", words(&error));
        }
    }

    /// Restarts because a unit asks for it, unless it was in vain already. Then nothing may go on as if it weren't needed.
    pub(super) fn reboot_for(&mut self, unit: &str) {
        let reason = self.reboot_reason.take().unwrap_or_else(|| unit.into());
        // An update has its own tries.
        if trial::update().is_some() {
            self.go_down(Action::Reboot, &format!("{unit} asked for it: {reason}"));
        }
        match attempts::may_reboot(&reason, machine::running_time()) {
            Ok(true) => self.go_down(Action::Reboot, &format!("{unit} asked for it: {reason}")),
            Ok(false) => {
                let text = format!("the machine was restarted for this less than a day ago, and isn't again: {reason}");
                self.withhold_restart(text);
            }
            // Without a note it could restart for ever.
            Err(error) => self.withhold_restart(format!("{reason}; a restart can't be noted: {}", words(&error))),
        }
    }

    /// Leaves what is tried in this boot. What a pass that refused has said is a better reason than that it did.
    pub(super) fn go_back(&mut self, why: &str) {
        let mut faults = why.strip_suffix(REFUSED).and_then(|unit| self.reported.get(unit)).into_iter().flatten();
        let said = faults.find(|fault| fault.who != Who::Wait).map(|fault| fault.text.clone());
        let missing = || read_text(WORKLOADS_MISSING).ok().filter(|names| why.contains(WORKLOADS) && !names.is_empty());
        let why = match said.or_else(missing) {
            Some(said) => format!("{why}: {said}"),
            None => why.to_string(),
        };
        if let Some(update) = trial::of(&self.found.slot, &self.baked.manifest.image)
            && let Err(error) = trial::leave(update, &why, &self.found.disk)
        {
            // The tries run out all the same.
            log::error!("{}", words(&error));
        }
        self.go_down(Action::Reboot, &format!("the update goes back: {why}"));
    }

    pub(super) fn withhold_restart(&mut self, text: String) {
        let fault = Fault::new(Code::RestartWithheld, text);
        self.journal.say(What::Fault(fault.clone()));
        self.own.insert("restart", fault);
        if !self.stop_workloads() {
            self.journal.say(What::Effect { text: "the workloads don't end".into() });
        }
    }
}
