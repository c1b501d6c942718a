//! The laws of `supervise`, by cases and by random histories.

use super::*;
use bakelite_spec::fault::Code;
use proptest::prelude::*;
use std::collections::BTreeMap;

mod payload;
mod trial;

fn unit(name: &str, role: Role, kind: Kind, after: &[&str]) -> Unit {
    Unit {
        name: name.into(),
        role,
        command: vec!["/x".into()],
        environment: BTreeMap::new(),
        environment_files: Vec::new(),
        reads: Vec::new(),
        after: after.iter().map(ToString::to_string).collect(),
        needs_file: None,
        kind,
        readiness: if role == Role::Payload { Readiness::Notify } else { Readiness::Started },
        stop_seconds: 10,
        start_seconds: (role != Role::Access).then_some(300),
        every_seconds: None,
        alive_port: (role == Role::Payload).then_some(6443),
        open_files: None,
        oom_score: 0,
    }
}

const EARLY: usize = 0;
const SSH: usize = 1;
const SETTLE: usize = 2;
const K3S: usize = 3;

fn table() -> Vec<Unit> {
    vec![
        unit("early", Role::Early, Kind::Oneshot, &[]),
        unit("ssh", Role::Access, Kind::Service, &["early"]),
        unit("settle", Role::Settle, Kind::Oneshot, &["early"]),
        unit("k3s", Role::Payload, Kind::Service, &["settle"]),
    ]
}

/// A machine whose processes do what the test says.
struct Rig {
    state: State,
    now: Moment,
    pid: u32,
    files: bool,
    starts: Vec<(Moment, usize)>,
    terms: Vec<(u32, usize)>,
    kills: Vec<usize>,
    others: Vec<Effect>,
}

impl Rig {
    fn new(units: Vec<Unit>, withheld: Option<Fault>) -> Self {
        let state = State::new(units, withheld);
        Self { state, now: 0, pid: 100, files: false, starts: vec![], terms: vec![], kills: vec![], others: vec![] }
    }

    fn feed(&mut self, event: Event) {
        let files = self.files;
        for effect in self.state.handle(self.now, event, &|_| files) {
            match effect {
                Effect::Start(number) => {
                    assert!(self.state.units[number].pid.is_none(), "unit {number} started twice at once");
                    self.starts.push((self.now, number));
                    self.pid += 1;
                    let pid = self.pid;
                    self.feed(Event::Started(number, pid));
                }
                Effect::Terminate(number) => {
                    let pid = self.state.units[number].pid.unwrap();
                    assert!(!self.terms.contains(&(pid, number)), "a second SIGTERM to unit {number}");
                    self.terms.push((pid, number));
                }
                Effect::Kill(number) => self.kills.push(number),
                other => self.others.push(other),
            }
        }
    }

    fn end(&mut self, number: usize, status: i32) {
        self.feed(Event::Ended(number, Some(status), None, None));
    }

    fn advance(&mut self, by: Moment) {
        let end = self.now + by;
        while let Some(next) = self.state.deadline(self.now).filter(|next| *next <= end) {
            self.now = next;
            self.feed(Event::Tick);
        }
        self.now = end;
        self.feed(Event::Tick);
    }

    fn started(&self, number: usize) -> usize {
        self.starts.iter().filter(|(_, started)| *started == number).count()
    }

    fn up(&mut self) {
        self.feed(Event::Tick);
        self.end(EARLY, 0);
        self.end(SETTLE, 0);
        self.feed(Event::Ready(K3S, None));
    }
}

#[test]
fn the_order_of_a_good_boot() {
    let mut rig = Rig::new(table(), None);
    rig.feed(Event::Tick);
    assert_eq!((rig.started(EARLY), rig.started(SSH)), (1, 0));
    rig.end(EARLY, 0);
    assert_eq!((rig.started(SSH), rig.started(SETTLE), rig.started(K3S)), (1, 1, 0));
    rig.end(SETTLE, 0);
    assert_eq!(rig.started(K3S), 1);
    rig.feed(Event::Ready(K3S, None));
    assert!(rig.others.contains(&Effect::Say(What::Ready { payload: "k3s".into() })));
    rig.advance(GOOD - 1);
    assert!(!rig.state.good);
    rig.advance(1);
    assert!(rig.state.good);
    assert_eq!(rig.others.iter().filter(|effect| **effect == Effect::Good).count(), 1);
}

#[test]
fn network_and_ssh_come_up_whatever_early_says() {
    for status in [0, 75, 77, 79, 1] {
        let mut rig = Rig::new(table(), None);
        rig.feed(Event::Tick);
        rig.end(EARLY, status);
        assert_eq!(rig.started(SSH), 1, "early ended with {status}");
        assert_eq!(rig.started(SETTLE), usize::from(status == 0), "early ended with {status}");
        assert_eq!(rig.others.contains(&Effect::FallBack), status == 1);
        rig.advance(100_000);
        assert_eq!(rig.started(EARLY) > 1, matches!(status, 75 | 1), "early ended with {status}");
    }
}

#[test]
fn what_has_to_wait_is_told_as_waiting_and_can_be_asked_to_look_at_once() {
    let mut rig = Rig::new(table(), None);
    rig.feed(Event::Tick);
    rig.end(EARLY, 75);
    let early = &rig.state.units[EARLY];
    assert_eq!((early.state, early.detail.as_str(), early.waits()), (UnitState::Waiting, "tries again in 5 s", true));
    rig.advance(4_999);
    assert_eq!(rig.started(EARLY), 1);
    rig.advance(1);
    assert_eq!(rig.started(EARLY), 2);
    rig.end(EARLY, 75);
    assert_eq!(rig.state.units[EARLY].detail, "tries again in 10 s");
    rig.feed(Event::Ask(Ask::Start("early".into())));
    assert_eq!(rig.started(EARLY), 3);
    rig.end(EARLY, 1);
    assert_eq!((rig.state.units[EARLY].state, rig.state.units[EARLY].waits()), (UnitState::Failed, false));
}

#[test]
fn without_state_the_payload_is_withheld_and_ssh_is_not() {
    let mut rig = Rig::new(table(), Some(Fault::new(Code::StateDamaged, "x")));
    rig.feed(Event::Tick);
    rig.end(EARLY, 0);
    rig.feed(Event::Ask(Ask::Start("k3s".into())));
    rig.advance(1_000_000);
    assert_eq!((rig.started(SSH), rig.started(SETTLE), rig.started(K3S)), (1, 0, 0));
    assert!(!rig.state.good);
}

#[test]
fn a_disk_that_comes_wakes_whoever_waits_for_one() {
    let mut rig = Rig::new(table(), None);
    rig.feed(Event::Tick);
    rig.end(EARLY, 0);
    rig.end(SETTLE, 77);
    rig.advance(1_000_000);
    assert_eq!(rig.started(SETTLE), 1);
    rig.feed(Event::Devices);
    rig.advance(DEVICES);
    rig.end(EARLY, 0);
    assert_eq!((rig.started(EARLY), rig.started(SETTLE)), (2, 2));
    rig.end(SETTLE, 0);
    rig.feed(Event::Devices);
    rig.advance(DEVICES);
    assert_eq!(rig.started(EARLY), 2, "nobody waits any more");
}

fn events() -> impl Strategy<Value = (u64, Event)> {
    let number = 0..4usize;
    let event = prop_oneof![
        4 => Just(Event::Tick),
        4 => (number.clone(), prop_oneof![Just(0), Just(75), Just(77), Just(1)]).prop_map(|(n, s)| Event::Ended(n, Some(s), None, None)),
        2 => number.clone().prop_map(|number| Event::Ready(number, None)),
        1 => (number, any::<bool>()).prop_map(|(n, open)| Event::Port(n, open)),
        1 => Just(Event::Devices),
        1 => "[a-c]".prop_map(|address| Event::Address(Some(address))),
        1 => Just(Event::Address(None)),
        1 => prop_oneof![Just("k3s"), Just("ssh"), Just("settle"), Just("early"), Just("none")].prop_map(|name| Event::Ask(Ask::Restart(name.into()))),
        1 => prop_oneof![Just("k3s"), Just("ssh")].prop_map(|name| Event::Ask(Ask::Stop(name.into()))),
        1 => prop_oneof![Just("k3s"), Just("ssh")].prop_map(|name| Event::Ask(Ask::Start(name.into()))),
        1 => Just(Event::Ask(Ask::Refit)),
    ];
    (prop_oneof![Just(1u64), 0..200u64, 0..90_000u64, 0..900_000u64], event)
}

/// While workloads end the loop stands still: what came in then is fed afterwards, all at one moment.
#[test]
fn what_was_asked_while_workloads_ended_counts_afterwards_whatever_its_order() {
    let (refit, start) = (|| Event::Ask(Ask::Refit), || Event::Ask(Ask::Start("k3s".into())));
    for asks in [vec![refit(), start()], vec![start(), refit()], vec![start()]] {
        let mut rig = Rig::new(table(), None);
        rig.up();
        rig.feed(Event::Ask(Ask::Stop("k3s".into())));
        // Longer than k3s may take, with nobody looking at the clock.
        rig.now += 90_000;
        // ssh ended meanwhile; that is no less true than the end of k3s.
        rig.end(SSH, 1);
        rig.end(K3S, 0);
        let again = asks.len() > 1;
        asks.into_iter().for_each(|ask| rig.feed(ask));
        rig.advance(10_000);
        assert_eq!((rig.started(EARLY), rig.started(SSH), rig.started(K3S)), (1 + usize::from(again), 2, 1));
        if again {
            rig.end(EARLY, 0);
        }
        rig.end(SETTLE, 0);
        rig.advance(1_000);
        if rig.state.units[SETTLE].pid.is_some() {
            rig.end(SETTLE, 0);
        }
        rig.advance(1_000);
        assert_eq!((rig.started(K3S), rig.terms.len()), (2, 1));
    }
}

#[test]
fn upkeep_begins_when_its_file_is_there_and_comes_again_after_its_time_whatever_became_of_it() {
    let mut units = table();
    units.push(Unit {
        needs_file: Some("/good".into()),
        every_seconds: Some(3_600),
        ..unit("upkeep", Role::Upkeep, Kind::Oneshot, &["settle"])
    });
    let upkeep = units.len() - 1;
    let mut rig = Rig::new(units, None);
    rig.up();
    rig.advance(10_000);
    assert_eq!(rig.started(upkeep), 0);
    rig.files = true;
    rig.advance(1);
    assert_eq!(rig.started(upkeep), 1);
    rig.end(upkeep, 0);
    rig.advance(3_599_000);
    assert_eq!(rig.started(upkeep), 1);
    rig.advance(1_000);
    assert_eq!(rig.started(upkeep), 2);
    rig.end(upkeep, 77);
    rig.advance(3_600_000);
    assert_eq!(rig.started(upkeep), 3, "a refusal is for this time only");
    rig.end(upkeep, 1);
    rig.advance(5_000);
    assert_eq!((rig.started(upkeep), rig.started(K3S), rig.terms.len()), (4, 1, 0));
}

proptest! {
    /// Twice at once and a second SIGTERM are checked in the rig itself.
    #[test]
    fn no_history_breaks_a_law(history in proptest::collection::vec(events(), 1..120), files: bool) {
        let mut rig = Rig::new(table(), None);
        rig.files = files;
        rig.feed(Event::Tick);
        for (pause, event) in history {
            rig.advance(pause);
            // Only a living process can end or speak.
            if let Event::Ended(n, ..) | Event::Ready(n, None) = &event && rig.state.units[*n].pid.is_none() {
                continue;
            }
            rig.feed(event);
            for live in &rig.state.units {
                let lives = matches!(live.state, UnitState::Starting | UnitState::Running | UnitState::Stopping);
                prop_assert_eq!(lives, live.pid.is_some(), "a lost child: {:?}", live);
            }
            if rig.starts.iter().any(|(_, number)| *number == K3S) {
                prop_assert!(rig.started(SETTLE) >= rig.started(K3S), "a start without a settle of its own");
            }
        }
    }

    #[test]
    fn whoever_ends_at_once_is_started_less_and_less_often(lives in 0..3_000u64) {
        let mut rig = Rig::new(table(), None);
        rig.feed(Event::Tick);
        rig.end(EARLY, 0);
        while rig.now < 3_600_000 {
            if rig.state.units[SSH].pid.is_some() {
                rig.advance(lives);
                rig.end(SSH, 1);
            }
            rig.advance(1_000);
        }
        prop_assert!((50..66).contains(&rig.started(SSH)), "{} starts in an hour", rig.started(SSH));
        prop_assert_eq!(rig.state.faults()[0].code, Code::UnitFailing);
    }
}

#[test]
fn a_users_program_fails_for_itself_alone() {
    let mut units =
        vec![unit("early", Role::Early, Kind::Oneshot, &[]), unit("ssh", Role::Access, Kind::Service, &["early"])];
    units.push(unit("till", Role::User, Kind::Service, &["early"]));
    units.push(unit("job", Role::User, Kind::Oneshot, &["early"]));
    let mut state = State::new(units, None);
    let there = |_: &str| true;
    let mut now = 0;
    let give = |state: &mut State, now: Moment, event| state.handle(now, event, &there);
    give(&mut state, now, Event::Tick);
    give(&mut state, now, Event::Started(0, 10));
    let effects = give(&mut state, now, Event::Ended(0, Some(0), None, None));
    for number in [1, 2, 3] {
        assert!(effects.contains(&Effect::Start(number)), "{effects:?}");
        give(&mut state, now, Event::Started(number, 20 + number as u32));
    }
    // Status 79 asks for a reboot where it comes from a pass of ours.
    let effects = give(&mut state, now, Event::Ended(3, Some(79), None, None));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Reboot(_))), "{effects:?}");
    assert_eq!(state.units[3].fault.as_ref().map(|fault| fault.code), Some(Code::UserUnitFailing));
    for _ in 0..3 {
        give(&mut state, now, Event::Ended(2, Some(1), None, None));
        now += 61_000;
        give(&mut state, now, Event::Tick);
        give(&mut state, now, Event::Started(2, 30));
    }
    assert_eq!(state.units[2].fault.as_ref().map(|fault| fault.code), Some(Code::UserUnitFailing));
    give(&mut state, now + GOOD, Event::Tick);
    assert!(state.good, "the boot is good all the same");
}

#[test]
fn settings_that_nobody_confirms_are_undone_after_five_minutes() {
    for (confirmed, earlies) in [(false, 3), (true, 2)] {
        let mut rig = Rig::new(table(), None);
        rig.up();
        rig.advance(1_000);
        rig.feed(Event::Ask(Ask::Try));
        rig.end(EARLY, 0);
        rig.end(SETTLE, 0);
        rig.advance(299_000);
        assert_eq!((rig.started(EARLY), rig.started(K3S)), (2, 1), "k3s is restarted only for a file of its own");
        rig.files = !confirmed;
        rig.others.clear();
        rig.advance(2_000);
        let undone = rig.others.contains(&Effect::Remove(bakelite_spec::status::paths::TRIAL));
        assert_eq!((undone, rig.started(EARLY)), (!confirmed, earlies));
    }
}
