//! What the passing of time brings: deadlines that come, units that may start, a boot that proves good.

use super::{Effect, GOOD, Moment, PAYLOAD_CHANGED, PORT_EACH, State, WORKLOADS, live_name};
use bakelite_spec::event::{Outcome, UnitState, What};
use bakelite_spec::status::paths;
use bakelite_spec::unit::{Kind, Role};
use bakelite_spec::update::WORKLOADS_BACK;

impl State {
    pub(super) fn time_passes(&mut self, now: Moment, is_there: &dyn Fn(&str) -> bool, effects: &mut Vec<Effect>) {
        for number in 0..self.units.len() {
            let live = &mut self.units[number];
            if live.kill_at.is_some_and(|at| at <= now) {
                live.kill_at = None;
                effects.push(Effect::Kill(number));
            }
            let limit = live.unit.start_seconds.map(|limit| live.since + limit * 1000);
            if live.state == UnitState::Starting && live.pid.is_some() && limit.is_some_and(|at| at <= now) {
                live.hangs = true;
                live.detail = "did not become ready in time".into();
                self.stop(now, number, false, effects);
            }
            let live = &mut self.units[number];
            if let Some(port) = live.unit.alive_port
                && live.state == UnitState::Running
                && live.port_at <= now
            {
                live.port_at = now + PORT_EACH;
                effects.push(Effect::LookAtPort(number, port));
            }
        }
        if self.devices_at.is_some_and(|at| at <= now) {
            self.devices_at = None;
            let waits = |role| {
                self.of_role(role).is_some_and(|number| {
                    matches!(self.units[number].outcome, Some(Outcome::TryAgain | Outcome::Refused))
                })
            };
            if waits(Role::Early) || waits(Role::Settle) {
                self.run_again(now, Role::Early);
                self.run_again(now, Role::Settle);
            }
        }
        if self.trial_until.is_some_and(|at| at <= now) {
            self.trial_until = None;
            if is_there(paths::TRIAL) {
                let text = "the settings that were tried were not confirmed, and are undone".into();
                effects.extend([Effect::Remove(paths::TRIAL), Effect::Say(What::Effect { text })]);
                self.refit_at = Some(now);
            }
        }
        if self.update_until.is_some_and(|at| at <= now) {
            let missing = self.needs_workloads && self.well_since.is_some_and(|since| now - since >= GOOD);
            let what = if missing { format!("; {WORKLOADS}") } else { String::new() };
            self.go_back(format!("it was no good boot within {} s of its start{what}", now / 1000), effects);
        }
        if self.refit_at.is_some_and(|at| at <= now) {
            self.refit_at = None;
            self.refitting = true;
            effects.push(Effect::Remove(PAYLOAD_CHANGED));
            self.run_again(now, Role::Early);
            self.run_again(now, Role::Settle);
        }
    }

    pub(super) fn start_what_may(&mut self, now: Moment, is_there: &dyn Fn(&str) -> bool, effects: &mut Vec<Effect>) {
        for number in 0..self.units.len() {
            if !self.may_start(now, number, is_there) {
                continue;
            }
            if self.units[number].unit.role == Role::Payload
                && let Some(settle) = self.of_role(Role::Settle)
            {
                self.units[settle].unspent = false;
            }
            let live = &mut self.units[number];
            live.state = UnitState::Starting;
            live.since = now;
            live.started = now;
            live.starts += 1;
            live.detail = String::new();
            live.asked = false;
            effects.push(Effect::Start(number));
        }
    }

    fn may_start(&self, now: Moment, number: usize, is_there: &dyn Fn(&str) -> bool) -> bool {
        let live = &self.units[number];
        let rests = matches!(live.state, UnitState::Waiting | UnitState::Failed) && live.pid.is_none();
        if !rests || !live.wanted || now < live.not_before {
            return false;
        }
        let file = live.unit.needs_file.as_deref().is_none_or(is_there);
        let settled = live.unit.role != Role::Payload
            || self
                .of_role(Role::Settle)
                .is_none_or(|settle| self.units[settle].state == UnitState::Done && self.units[settle].unspent);
        file && settled && live.unit.after.iter().all(|name| self.stands(name, live.unit.role))
    }

    /// Whether what a unit comes after is there. What gives access never waits for a good end of early.
    fn stands(&self, name: &str, for_role: Role) -> bool {
        let Some(number) = self.named(name) else { return true };
        let before = &self.units[number];
        match (before.unit.kind, before.unit.role) {
            (Kind::Oneshot, Role::Early) if for_role == Role::Access => before.passed,
            (Kind::Oneshot, _) => before.state == UnitState::Done,
            (Kind::Service, _) => before.state == UnitState::Running,
        }
    }

    /// Whether all is well, and for how long: a good boot is told once.
    pub(super) fn judge(&mut self, now: Moment, is_there: &dyn Fn(&str) -> bool, effects: &mut Vec<Effect>) {
        let well = match self.of_role(Role::Payload) {
            Some(payload) => self.units[payload].state == UnitState::Running,
            None => self.units.iter().all(|live| match (live.unit.role, live.unit.kind) {
                (Role::Early, _) => live.state == UnitState::Done,
                (Role::Access, Kind::Service) => {
                    live.state == UnitState::Running || !live.unit.needs_file.as_deref().is_none_or(is_there)
                }
                _ => true,
            }),
        };
        if !well {
            self.well_since = None;
            return;
        }
        let since = *self.well_since.get_or_insert(now);
        if self.ready_at.is_none() && self.withheld.is_none() {
            let payload = self.of_role(Role::Payload).map_or("none".into(), |number| live_name(&self.units[number]));
            self.first_ready(now, payload, effects);
        }
        let lacks = self.needs_workloads && !is_there(WORKLOADS_BACK);
        if !self.good && self.withheld.is_none() && now - since >= GOOD && !lacks {
            self.good = true;
            self.update_until = None;
            effects.push(Effect::Good);
        }
    }
}
