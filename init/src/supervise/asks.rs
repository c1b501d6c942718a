//! What is asked for over the control socket, and what has to run again for it.

use super::{Ask, Effect, Live, Moment, State, TRIAL};
use bakelite_spec::event::UnitState;
use bakelite_spec::unit::Role;

impl State {
    pub(super) fn ask(&mut self, now: Moment, ask: &Ask, effects: &mut Vec<Effect>) {
        let withheld = self.withheld.is_some();
        match ask {
            Ask::Refit => self.refit_at = Some(now),
            Ask::Try => {
                self.refit_at = Some(now);
                self.trial_until = Some(now + TRIAL);
            }
            Ask::Start(name) | Ask::Stop(name) | Ask::Restart(name) => {
                let Some(number) = self.named(name) else { return };
                let live = &mut self.units[number];
                let may = !(withheld && matches!(live.unit.role, Role::Settle | Role::Payload));
                live.wanted = !matches!(ask, Ask::Stop(_)) && may;
                live.fault = None;
                let ended = matches!(live.state, UnitState::Failed | UnitState::GivenUp | UnitState::Done);
                if (ended || live.waits()) && live.wanted {
                    live.state = UnitState::Waiting;
                    live.not_before = now;
                    live.failures = 0;
                    if live.unit.role == Role::Payload {
                        self.run_again(now, Role::Settle);
                    }
                } else if !matches!(ask, Ask::Start(_)) {
                    self.stop(now, number, true, effects);
                }
                self.settle_anew(now, number);
            }
        }
    }

    /// A payload that was stopped and is wanted again needs a settle that none was started upon.
    pub(super) fn settle_anew(&mut self, now: Moment, number: usize) {
        let live = &self.units[number];
        let rests = live.unit.role == Role::Payload && live.wanted && live.pid.is_none();
        let spent = |settle: &Live| settle.state == UnitState::Done && !settle.unspent;
        if rests && self.of_role(Role::Settle).is_some_and(|settle| spent(&self.units[settle])) {
            self.run_again(now, Role::Settle);
        }
    }

    /// Has a one-shot run once more: now, or when its present run has ended.
    pub(super) fn run_again(&mut self, now: Moment, role: Role) {
        let Some(number) = self.of_role(role) else { return };
        let live = &mut self.units[number];
        live.unspent = false;
        if live.pid.is_some() {
            live.again = true;
        } else if live.wanted {
            live.state = UnitState::Waiting;
            live.detail.clear();
            live.not_before = now;
        }
    }
}
