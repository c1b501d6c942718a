//! What the end of a unit's process means: a one-shot's outcome, a service's failure.

use super::{
    ADDRESS, BACK_OFF, Effect, FAILING, JUST_NOW, LONG_FAILING, LONG_PAUSE, Live, Moment, PAYLOAD_CHANGED, REFUSED,
    STEADY, State, said, seconds,
};
use bakelite_spec::event::{Outcome, UnitState, What};
use bakelite_spec::fault::{Code, Fault, Who};
use bakelite_spec::status::{LastStart, paths};
use bakelite_spec::unit::{Kind, Role};

/// After so many failures of the payload by a fault its starts become rare.
fn patience(fault: &Fault) -> usize {
    if fault.code == Code::K3sFailing { LONG_FAILING } else { FAILING }
}

impl State {
    pub(super) fn ended(
        &mut self,
        now: Moment,
        number: usize,
        (status, signal, words): (Option<i32>, Option<i32>, Option<Fault>),
        is_there: &dyn Fn(&str) -> bool,
        effects: &mut Vec<Effect>,
    ) {
        let live = &mut self.units[number];
        if live.pid.is_none() && live.state != UnitState::Starting {
            return;
        }
        let was_steady = live.state == UnitState::Running && now - live.since >= STEADY;
        let ran = live.pid.take().is_some();
        let (asked, hung) = (std::mem::take(&mut live.asked), std::mem::take(&mut live.hangs));
        let words = words.or(live.deaf.take());
        live.kill_at = None;
        live.since = now;
        if ran {
            live.detail = match (status, signal) {
                (Some(status), _) => format!("exit status {status}"),
                (_, Some(signal)) => format!("signal {signal}"),
                _ => String::new(),
            };
            if live.unit.role != Role::Payload {
                effects.push(Effect::KillGroup(number));
            }
        }
        if asked {
            live.state = UnitState::Waiting;
            live.detail = "stopped".into();
            live.failures = 0;
            live.not_before = now;
            effects.push(said(live));
            self.settle_anew(now, number);
            return;
        }
        match live.unit.kind {
            Kind::Oneshot => self.one_shot_ended(now, number, status, is_there, effects),
            Kind::Service => {
                if was_steady {
                    live.failures = 0;
                }
                self.service_failed(now, number, (status, signal, words, hung), is_there, effects);
            }
        }
    }

    fn one_shot_ended(
        &mut self,
        now: Moment,
        number: usize,
        status: Option<i32>,
        is_there: &dyn Fn(&str) -> bool,
        effects: &mut Vec<Effect>,
    ) {
        let live = &mut self.units[number];
        let role = live.unit.role;
        // The other outcomes are words between init and its own passes; a user's program can only end well or not.
        let outcome = match Outcome::read(status) {
            other if role == Role::User && other != Outcome::GoOn => Outcome::Died,
            outcome => outcome,
        };
        live.passed = true;
        live.outcome = Some(outcome);
        live.fault = None;
        match outcome {
            Outcome::GoOn => {
                live.state = UnitState::Done;
                live.failures = 0;
            }
            Outcome::TryAgain => {
                live.pause(now);
                live.state = UnitState::Waiting;
                live.detail = format!("tries again in {} s", (live.not_before - now) / 1000);
            }
            Outcome::Refused => {
                live.state = UnitState::GivenUp;
                live.detail = "refused: a human is needed".into();
                if matches!(role, Role::Early | Role::Settle) {
                    let why = format!("{}{REFUSED}", live.unit.name);
                    self.go_back(why, effects);
                }
            }
            Outcome::Reboot => {
                live.state = UnitState::GivenUp;
                live.detail = "asked for a restart".into();
                effects.push(Effect::Reboot(live.unit.name.clone()));
            }
            // Only the medic asks for it, whom no unit runs.
            Outcome::Died | Outcome::PowerOff => {
                let code = if role == Role::Early { Code::EarlyFailed } else { failing(role) };
                live.fault = Some(Fault::new(code, format!("{} ended with {}", live.unit.name, live.detail)));
                live.pause(now);
                if role == Role::Early && live.failures == 1 {
                    effects.push(Effect::FallBack);
                }
            }
        }
        let live = &mut self.units[number];
        if let Some(seconds) = live.unit.every_seconds
            && matches!(live.state, UnitState::Done | UnitState::GivenUp)
        {
            live.state = UnitState::Waiting;
            live.not_before = now + seconds * 1000;
        }
        if std::mem::take(&mut live.again) && !matches!(outcome, Outcome::TryAgain | Outcome::Died) {
            live.state = UnitState::Waiting;
            live.not_before = now;
        }
        effects.push(said(live));
        if role == Role::Settle && outcome == Outcome::GoOn {
            live.unspent = true;
            self.settled_address = self.address.clone();
            if self.address.is_some() && now - self.address_since < JUST_NOW {
                self.refit_at = Some(now + ADDRESS);
            }
            if std::mem::take(&mut self.refitting)
                && is_there(PAYLOAD_CHANGED)
                && let Some(payload) = self.of_role(Role::Payload)
            {
                self.stop(now, payload, true, effects);
            }
        }
    }

    fn service_failed(
        &mut self,
        now: Moment,
        number: usize,
        (status, signal, words, hung): (Option<i32>, Option<i32>, Option<Fault>, bool),
        is_there: &dyn Fn(&str) -> bool,
        effects: &mut Vec<Effect>,
    ) {
        let live = &mut self.units[number];
        live.pause(now);
        if live.unit.role != Role::Payload {
            if live.failures >= FAILING {
                let text = format!("{} ended {} times in a row ({})", live.unit.name, live.failures, live.detail);
                live.fault = Some(Fault::new(failing(live.unit.role), text));
            }
            effects.push(said(live));
            return;
        }
        let hang = hung.then(|| Fault::new(Code::K3sHangs, format!("{} did not become ready in time", live.unit.name)));
        // Words that aren't known say nothing of what to do, and count once they come again and again.
        let (unknown, known) = match words {
            Some(fault) if fault.code == Code::K3sFailing => (format!(": {}", fault.text), None),
            words => (String::new(), words),
        };
        let fault = known.or(hang).or_else(|| {
            let (name, failures, detail) = (&live.unit.name, live.failures, &live.detail);
            let text = format!("{name} ended {failures} times in a row ({detail}){unknown}");
            (failures >= FAILING).then(|| Fault::new(Code::K3sFailing, text))
        });
        if let Some(fault) = &fault {
            live.detail = format!("{}, {}", live.detail, fault.code.name());
            if is_there(paths::RESTORE_TRIAL) {
                // Settle takes back a restored backup that k3s can't live with.
            } else if fault.code.is_final_for_k3s() {
                live.state = UnitState::GivenUp;
            } else if fault.who != Who::Wait && live.failures >= patience(fault) {
                // It may come right by itself, as a disk that gets room; but nobody is helped by a start each minute.
                live.not_before = now + LONG_PAUSE;
            }
        }
        live.fault.clone_from(&fault);
        effects.push(Effect::LastStart(LastStart {
            started: seconds(live.started),
            ready_at: None,
            ended: Some(seconds(now)),
            status,
            signal,
            fault: fault.clone(),
        }));
        effects.push(said(live));
        effects.extend(fault.clone().map(|fault| Effect::Say(What::Fault(fault))));
        let (not_before, again) = (live.not_before, live.state != UnitState::GivenUp);
        if let Some(fault) = fault.filter(|fault| fault.who != Who::Wait && (!again || live.failures >= FAILING)) {
            self.go_back(fault.text, effects);
        }
        if let Some(settle) = self.of_role(Role::Settle) {
            let settle = &mut self.units[settle];
            settle.unspent = false;
            if settle.state == UnitState::Done && again {
                settle.state = UnitState::Waiting;
                settle.detail.clear();
                // A little before the payload's own time, so that it isn't late.
                settle.not_before = not_before.saturating_sub(1_000);
            }
        }
    }
}

/// Whose fault it is when a unit fails again and again.
fn failing(role: Role) -> Code {
    if role == Role::User { Code::UserUnitFailing } else { Code::UnitFailing }
}

impl Live {
    fn pause(&mut self, now: Moment) {
        self.state = UnitState::Failed;
        self.not_before = now + BACK_OFF[self.failures.min(BACK_OFF.len() - 1)];
        self.failures += 1;
    }
}
