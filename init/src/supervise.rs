//! Keeping the units running, as a pure function: an event and the time in, effects out. No clock, no I/O.
//!
//! The laws: no unit runs twice at once; none gets SIGTERM twice in one life (the second ends k3s at once, k3s.md 2.7);
//! each end that wasn't asked for is a failure, exit status 0 included; restarts are paused for 5, 10, 20, 40, 60 s;
//! k3s never starts without a settle of its own before it; network and ssh start whatever early says.

mod asks;
mod endings;
mod message;
mod progress;
#[cfg(test)]
mod tests;

pub use message::{Ask, Effect, Event};

use bakelite_spec::event::{Outcome, UnitState, What};
use bakelite_spec::fault::Fault;
use bakelite_spec::status::LastStart;
use bakelite_spec::unit::{Kind, Readiness, Role, Unit};

/// Milliseconds since the kernel started.
pub type Moment = u64;

const BACK_OFF: [Moment; 5] = [5_000, 10_000, 20_000, 40_000, 60_000];
/// A run as long as this forgets earlier failures.
const STEADY: Moment = 600_000;
/// How long READY has to hold for a good boot.
const GOOD: Moment = 120_000;
/// Quiet after a device came or went.
const DEVICES: Moment = 3_000;
/// Quiet after the default address changed.
const ADDRESS: Moment = 30_000;
/// A settle that ended this shortly after a change of address may not have seen it.
const JUST_NOW: Moment = 1_000;
/// Between two looks at a port, and what makes a closed one a failure (k3s.md 2.6).
const PORT_EACH: Moment = 40_000;
const PORT_FAILS: u32 = 5;
const PORT_FOR: Moment = 180_000;
/// How long a payload that isn't ready may repeat one complaint before it is ended.
const DEAF_FOR: Moment = 60_000;
/// Between two starts of a payload that ends again and again for something that a person has to mend.
const LONG_PAUSE: Moment = 600_000;
/// How long settings are tried before they are undone.
const TRIAL: Moment = 300_000;
/// So many failures in a row with words that nobody knows come before that pause: what time alone mends, such as a clock that a
/// pulled plug has set back, is mended sooner.
const LONG_FAILING: usize = 10;
/// Failures in a row before they become a fault.
const FAILING: usize = 3;
/// What settle leaves when it changed a file that the payload reads.
pub const PAYLOAD_CHANGED: &str = "/run/bakelite/payload-changed";

/// Between two looks whether workloads are available again.
const WORKLOADS_EACH: Moment = 5_000;
/// Why a trial ends in which k3s is ready, and what ran before isn't available again.
pub const WORKLOADS: &str = "workloads that were available before aren't again";
/// Behind a unit's name: why a trial ends that a pass has refused to go on with.
pub const REFUSED: &str = " refused to go on";

/// One unit's life.
#[derive(Clone, Debug)]
pub struct Live {
    /// The entry of the table.
    pub unit: Unit,
    /// Its state.
    pub state: UnitState,
    /// Its main process.
    pub pid: Option<u32>,
    /// How often it was started.
    pub starts: u32,
    /// A few words on it.
    pub detail: String,
    /// What is wrong with it.
    pub fault: Option<Fault>,
    since: Moment,
    started: Moment,
    not_before: Moment,
    failures: usize,
    wanted: bool,
    /// The end that is coming was asked for.
    asked: bool,
    hangs: bool,
    kill_at: Option<Moment>,
    /// A one-shot: ended at least once, in whatever way.
    passed: bool,
    outcome: Option<Outcome>,
    /// A one-shot is to run again when its present run has ended.
    again: bool,
    /// Settle: done, and no payload has been started upon it.
    unspent: bool,
    port_at: Moment,
    port_closed: Option<(Moment, u32)>,
    deaf_since: Option<Moment>,
    /// What it repeated when it was ended for that; its last words are then none of its own choice.
    deaf: Option<Fault>,
}

/// All units, and what is waited for.
#[derive(Clone, Debug)]
pub struct State {
    /// The units in the order of the table.
    pub units: Vec<Live>,
    /// Why settle and the payload are not run at all.
    withheld: Option<Fault>,
    devices_at: Option<Moment>,
    address: Option<String>,
    address_since: Moment,
    settled_address: Option<String>,
    refit_at: Option<Moment>,
    refitting: bool,
    trial_until: Option<Moment>,
    /// In a boot that tries an update: when it has to be a good one.
    update_until: Option<Moment>,
    /// Whether that takes that the workloads of before are available again.
    needs_workloads: bool,
    well_since: Option<Moment>,
    /// Whether this boot counts as good.
    pub good: bool,
    /// When the payload, or the machine without one, was first ready.
    pub ready_at: Option<Moment>,
}

impl State {
    /// All units waiting. `withheld` keeps settle and the payload from running.
    pub fn new(units: Vec<Unit>, withheld: Option<Fault>) -> Self {
        let units = units
            .into_iter()
            .map(|unit| Live {
                state: UnitState::Waiting,
                pid: None,
                starts: 0,
                detail: String::new(),
                fault: None,
                since: 0,
                started: 0,
                not_before: 0,
                failures: 0,
                wanted: !(withheld.is_some() && matches!(unit.role, Role::Settle | Role::Payload)),
                asked: false,
                hangs: false,
                kill_at: None,
                passed: false,
                outcome: None,
                again: false,
                unspent: false,
                port_at: 0,
                port_closed: None,
                deaf_since: None,
                deaf: None,
                unit,
            })
            .collect();
        Self {
            units,
            withheld,
            devices_at: None,
            address: None,
            address_since: 0,
            settled_address: None,
            refit_at: None,
            refitting: false,
            trial_until: None,
            update_until: None,
            needs_workloads: false,
            well_since: None,
            good: false,
            ready_at: None,
        }
    }

    /// In this boot an update is tried, which has to be good so many seconds after the kernel's start; with workloads that were
    /// available before, they have to be so again.
    pub fn tries_an_update(&mut self, patience: u64, with_workloads: bool) {
        self.update_until = Some(patience * 1000);
        self.needs_workloads = with_workloads;
    }

    /// The number of the unit with a role.
    pub fn of_role(&self, role: Role) -> Option<usize> {
        self.units.iter().position(|live| live.unit.role == role)
    }

    fn named(&self, name: &str) -> Option<usize> {
        self.units.iter().position(|live| live.unit.name == name)
    }

    /// What is wrong with the units.
    pub fn faults(&self) -> Vec<Fault> {
        self.units.iter().filter_map(|live| live.fault.clone()).collect()
    }

    /// Takes one event. `is_there` says whether a file is there and not empty.
    pub fn handle(&mut self, now: Moment, event: Event, is_there: &dyn Fn(&str) -> bool) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Tick => {}
            Event::Started(number, pid) => self.started(now, number, pid, &mut effects),
            Event::NotStarted(number, why) => {
                self.units[number].detail = why;
                self.ended(now, number, (None, None, None), is_there, &mut effects);
            }
            Event::Ended(number, status, signal, fault) => {
                self.ended(now, number, (status, signal, fault), is_there, &mut effects);
            }
            Event::Ready(number, off) => self.ready(now, number, off, &mut effects),
            Event::Says(number, text) => {
                let live = &mut self.units[number];
                live.detail = text;
                effects.push(said(live));
            }
            Event::Port(number, open) => self.port(now, number, open, &mut effects),
            Event::Deaf(number, fault) => self.deaf(now, number, fault, &mut effects),
            Event::Devices => self.devices_at = Some(now + DEVICES),
            Event::Address(address) => {
                self.address = address;
                self.address_since = now;
                let differs = self.address.is_some() && self.address != self.settled_address;
                let settled = self.of_role(Role::Settle).is_some_and(|number| self.units[number].passed);
                self.refit_at = (differs && settled).then_some(now + ADDRESS);
            }
            Event::Ask(ask) => self.ask(now, &ask, &mut effects),
        }
        self.time_passes(now, is_there, &mut effects);
        self.start_what_may(now, is_there, &mut effects);
        self.judge(now, is_there, &mut effects);
        effects
    }

    /// When the next `Tick` is needed, at the latest.
    pub fn deadline(&self, now: Moment) -> Option<Moment> {
        let units = self.units.iter().flat_map(|live| {
            let start = matches!(live.state, UnitState::Waiting | UnitState::Failed) && live.wanted;
            let limit = live.unit.start_seconds.filter(|_| live.state == UnitState::Starting);
            [
                start.then_some(live.not_before),
                limit.map(|limit| live.since + limit * 1000),
                live.kill_at,
                (live.state == UnitState::Running && live.unit.alive_port.is_some()).then_some(live.port_at),
            ]
        });
        let well = self.well_since.filter(|_| !self.good).map(|since| since + GOOD);
        let well = well.map(|at| if self.needs_workloads { at.max(now + WORKLOADS_EACH) } else { at });
        units
            .chain([self.devices_at, self.refit_at, self.trial_until, self.update_until, well])
            .flatten()
            .filter(|at| *at > now)
            .min()
    }

    fn started(&mut self, now: Moment, number: usize, pid: u32, effects: &mut Vec<Effect>) {
        let live = &mut self.units[number];
        live.pid = Some(pid);
        let running = live.unit.readiness == Readiness::Started && live.unit.kind == Kind::Service;
        if running {
            live.state = UnitState::Running;
            live.since = now;
        }
        effects.push(said(live));
    }

    fn ready(&mut self, now: Moment, number: usize, off: Option<Fault>, effects: &mut Vec<Effect>) {
        let live = &mut self.units[number];
        if live.state != UnitState::Starting || live.unit.kind == Kind::Oneshot {
            return;
        }
        live.state = UnitState::Running;
        live.since = now;
        live.port_at = now + PORT_EACH;
        live.port_closed = None;
        effects.push(said(live));
        if live.unit.role == Role::Payload {
            live.fault.clone_from(&off);
            effects.extend(off.clone().map(|fault| Effect::Say(What::Fault(fault))));
            let (started, ready_at) = (seconds(live.started), Some(seconds(now)));
            effects.push(Effect::LastStart(LastStart { started, ready_at, fault: off, ..LastStart::default() }));
            self.first_ready(now, live_name(&self.units[number]), effects);
        }
    }

    fn first_ready(&mut self, now: Moment, payload: String, effects: &mut Vec<Effect>) {
        self.ready_at.get_or_insert(now);
        effects.push(Effect::Say(What::Ready { payload }));
    }

    fn port(&mut self, now: Moment, number: usize, open: bool, effects: &mut Vec<Effect>) {
        let live = &mut self.units[number];
        if live.state != UnitState::Running || open {
            live.port_closed = None;
            return;
        }
        let (since, fails) = live.port_closed.map_or((now, 1), |(since, fails)| (since, fails + 1));
        live.port_closed = Some((since, fails));
        if fails >= PORT_FAILS && now - since >= PORT_FOR {
            live.detail = "its port has been closed for minutes".into();
            self.stop(now, number, false, effects);
            self.units[number].hangs = true;
        }
    }

    /// Ends a payload that will never be ready: what it says decides what comes next.
    fn deaf(&mut self, now: Moment, number: usize, fault: Option<Fault>, effects: &mut Vec<Effect>) {
        let live = &mut self.units[number];
        let Some(fault) = fault.filter(|_| live.state == UnitState::Starting && live.pid.is_some()) else {
            live.deaf_since = None;
            return;
        };
        let since = *live.deaf_since.get_or_insert(now);
        if now - since >= DEAF_FOR {
            live.deaf_since = None;
            live.detail = format!("says nothing else but {}", fault.text);
            live.deaf = Some(fault);
            self.stop(now, number, false, effects);
        }
    }

    /// In a boot that tries an update, what a person would be needed for leads back; told once.
    fn go_back(&mut self, why: String, effects: &mut Vec<Effect>) {
        if self.update_until.take().is_some() {
            effects.push(Effect::GoBack(why));
        }
    }

    /// Asks a unit's process to end, once.
    fn stop(&mut self, now: Moment, number: usize, asked: bool, effects: &mut Vec<Effect>) {
        let live = &mut self.units[number];
        live.asked |= asked;
        if live.pid.is_none() || live.state == UnitState::Stopping {
            return;
        }
        live.state = UnitState::Stopping;
        live.since = now;
        live.kill_at = Some(now + live.unit.stop_seconds * 1000);
        effects.push(Effect::Terminate(number));
        effects.push(said(live));
    }
}

impl Live {
    /// Whether it has looked, can't go on yet, and looks again.
    pub fn waits(&self) -> bool {
        self.state == UnitState::Waiting && self.outcome == Some(Outcome::TryAgain)
    }

    /// Whether its end was asked for.
    pub fn is_stopping(&self) -> bool {
        self.state == UnitState::Stopping
    }
}

fn live_name(live: &Live) -> String {
    live.unit.name.clone()
}

fn said(live: &Live) -> Effect {
    Effect::Say(What::Unit { unit: live.unit.name.clone(), state: live.state, detail: live.detail.clone() })
}

fn seconds(moment: Moment) -> f64 {
    moment as f64 / 1000.0
}
