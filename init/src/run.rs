//! The running system: the loop that feeds `supervise` and does what it says.
//!
//! What comes before is in `begin`. What it knows and tells beside the units (addresses, free room, status, page) is in
//! `watch`, what it has to do with firstboot's passes in `passes`.

mod begin;
mod hardware;
mod passes;
mod watch;

pub use begin::run;

use crate::ailing::Ailing;
use crate::backlog::Backlog;
use crate::baked::Baked;
use crate::beside::child;
use crate::control::{self, Wish};
use crate::error::InitError;
use crate::events::Journal;
use crate::light::Light;
use crate::medium::{self, Found};
use crate::pump::{Input, NOTIFY, Pump};
use crate::shutdown::{self, Action, Parts, shutdown};
use crate::supervise::{Ask, Effect, Event, Moment, State};
use crate::watchdog::Watchdog;
use crate::{attempts, boot_good, cgroups, fallback, machine, places, trial};
use crate::{is_there, now};
use bakelite_spec::event::What;
use bakelite_spec::fault::{Code, Fault};
use bakelite_spec::k3s;
use bakelite_spec::status::{Status, Watch, paths};
use bakelite_spec::unit::{Kind, Readiness, Role};
use bakelite_sys::notify::Message;
use bakelite_sys::{SysError, durable, group, link, tool, words};
use nix::sys::signal::Signal;
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::time::{Duration, SystemTime};

/// Modules that k3s wants whether or not a device asks for them (k3s.md 2.4), and those of this program.
const K3S_MODULES: &[&str] = &[
    "overlay",
    "br_netfilter",
    "nf_conntrack",
    "vxlan",
    "veth",
    "xt_comment",
    "xt_mark",
    "xt_conntrack",
    "xt_statistic",
    "xt_MASQUERADE",
    "xt_addrtype",
    "xt_multiport",
    "xt_nat",
    "ip_set",
    "iptable_nat",
    "iptable_filter",
    "nft_compat",
];
/// Between two saves of the clock.
const CLOCK_EACH: Moment = 600_000;

struct Running {
    baked: Baked,
    found: Found,
    state: State,
    pump: Pump,
    /// What came in while workloads were being stopped.
    backlog: Backlog,
    journal: Journal,
    watchdog: Watchdog,
    light: Light,
    ailing: Ailing,
    /// Faults of this program's own: state, clock, media.
    own: BTreeMap<&'static str, Fault>,
    /// Faults that firstboot's passes reported.
    reported: BTreeMap<String, Vec<Fault>>,
    /// What the keeper has found, and when it wrote that.
    watch: Option<Watch>,
    watch_written: Option<SystemTime>,
    /// Why the last pass asked for a restart.
    reboot_reason: Option<String>,
    address: Option<(String, String)>,
    addresses: BTreeMap<String, Vec<String>>,
    status: Status,
    page: String,
    clock_at: Moment,
    network_changed: bool,
    /// When the payload's words are looked at next.
    listen_at: Moment,
    /// When firstboot is to write its account of this boot.
    report_at: Option<Moment>,
    /// What units found in the files that they read at their start, by the unit's number.
    read: BTreeMap<usize, Vec<Vec<u8>>>,
}

/// What is in some files; an absent one is empty.
fn contents(paths: &[String]) -> Vec<Vec<u8>> {
    paths.iter().map(|path| std::fs::read(path).unwrap_or_default()).collect()
}

impl Running {
    fn run_for_ever(&mut self) -> Result<Infallible, InitError> {
        self.look_at_room();
        self.feed(Event::Tick);
        loop {
            self.look_at_network();
            self.listen();
            self.look_at_watch();
            self.look_at_heat();
            self.publish();
            self.shine();
            let limit = self.limit();
            let mut inputs = VecDeque::from(self.pump.wait(limit));
            while let Some(input) = inputs.pop_front() {
                self.take(input);
                inputs.extend(self.backlog.take());
            }
            self.feed(Event::Tick);
            if now() >= self.clock_at {
                self.housekeeping();
            }
            if self.report_at.is_some_and(|at| at <= now()) {
                self.report_at = None;
                self.start_report();
            }
            self.watchdog.pet();
        }
    }

    /// How long may be waited: to the next deadline, and never so long that the watchdog bites.
    fn limit(&mut self) -> Duration {
        let now = now();
        let next =
            [self.state.deadline(now), Some(self.clock_at), self.report_at].into_iter().flatten().min().unwrap_or(now);
        let longest = self.watchdog.patience().map_or(60_000, |patience| patience.as_millis() as u64);
        let slow = if self.journal.flush() { 20 } else { longest };
        Duration::from_millis(next.saturating_sub(now).clamp(1, longest.min(slow)))
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Ended(pid, status, signal) => {
                if let Some(number) = self.number_of(pid) {
                    self.ended(number, status, signal);
                }
            }
            Input::Said(pid, message) => {
                let Some(number) = self.number_of(pid) else { return };
                match message {
                    Message::Ready => {
                        let is_payload = self.state.units[number].unit.role == Role::Payload;
                        self.pump.outputs[number].take();
                        let off = is_payload.then(|| k3s::shrugged_off(&self.pump.outputs[number].said())).flatten();
                        self.feed(Event::Ready(number, off));
                    }
                    Message::Status(text) => self.feed(Event::Says(number, text)),
                    Message::Alive => {}
                }
            }
            Input::Caller(caller) => match control::read(&caller) {
                Ok(Wish::Down(action)) => {
                    control::answer(&caller, control::GRANTED);
                    drop(caller);
                    self.go_down(action, "asked for over the control socket")
                }
                Ok(Wish::Units(ask)) => {
                    self.feed(Event::Ask(ask));
                    control::answer(&caller, control::GRANTED);
                }
                Ok(Wish::StopWorkloads) => {
                    let ended = self.stop_workloads();
                    control::answer(&caller, if ended { control::GRANTED } else { "the workloads don't end" });
                }
                Err(why) => control::answer(&caller, &why),
            },
            Input::BlockDevice => {
                if let Some(other) = medium::twin(&self.found.disk) {
                    let text = format!("{other} is a copy of {}; the next boot can't tell them apart", self.found.disk);
                    self.own.insert("twin", Fault::new(Code::TwoBootMedia, text));
                } else {
                    self.own.remove("twin");
                }
                self.feed(Event::Devices);
                if places::data_disk_has_vanished() {
                    self.feed(Event::Ask(Ask::Refit));
                }
            }
            Input::Device(alias) => {
                child(&["plug", &alias]);
            }
            Input::DevicesLost => {
                child(&["cold-plug"]);
            }
            Input::Kernel(lines) => self.hear(&lines),
            Input::Network => self.network_changed = true,
            Input::Signal(Signal::SIGUSR2) => self.go_down(Action::PowerOff, "SIGUSR2"),
            Input::Signal(Signal::SIGUSR1) => self.go_down(Action::Halt, "SIGUSR1"),
            Input::Signal(signal) => self.go_down(Action::Reboot, signal.as_str()),
        }
    }

    /// Ends the payload and its pods; what comes in meanwhile, its end included, is taken after that. Whether all ended.
    fn stop_workloads(&mut self) -> bool {
        let Some(number) = self.state.of_role(Role::Payload) else { return true };
        let name = self.state.units[number].unit.name.clone();
        self.feed(Event::Ask(Ask::Stop(name)));
        self.publish();
        shutdown::stop_workloads(&mut self.parts())
    }

    fn parts(&mut self) -> Parts<'_> {
        Parts {
            state: &self.state,
            pump: &mut self.pump,
            backlog: &mut self.backlog,
            journal: &mut self.journal,
            watchdog: &mut self.watchdog,
        }
    }

    fn go_down(&mut self, action: Action, why: &str) -> ! {
        shutdown(self.parts(), action, why)
    }

    fn number_of(&self, pid: u32) -> Option<usize> {
        self.state.units.iter().position(|live| live.pid == Some(pid))
    }

    fn ended(&mut self, number: usize, status: Option<i32>, signal: Option<i32>) {
        let unit = self.state.units[number].unit.clone();
        self.pump.outputs[number].take();
        let asked = self.state.units[number].is_stopping();
        let words = (unit.role == Role::Payload && !asked)
            .then(|| self.pump.outputs[number].last_words())
            .and_then(|said| k3s::classify(&said).or_else(|| k3s::last_line(&said)));
        let well = unit.kind == Kind::Oneshot && matches!(status, Some(0 | 75 | 77 | 79));
        if !well && !asked {
            self.pump.outputs[number].keep();
        }
        if matches!(unit.role, Role::Early | Role::Settle | Role::Born | Role::Upkeep) {
            self.take_report(&unit.name);
        }
        if unit.role == Role::Early {
            // What is only tried must not be what a later boot falls back to.
            if status == Some(0) && !is_there(paths::TRIAL) {
                self.tell(fallback::accept().map(|()| None));
            }
            self.status.hostname = machine::take_hostname().unwrap_or_default();
        }
        self.feed(Event::Ended(number, status, signal, words));
        if unit.role == Role::Upkeep {
            // Start-up is over: none of what it needed is needed again soon.
            bakelite_sys::raw::return_memory();
        }
        if unit.role == Role::Early {
            self.restart_readers();
        }
    }

    /// Gives one event to `supervise` and does what it answers, the answers to that included.
    fn feed(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for effect in self.state.handle(now(), event, &is_there) {
                events.extend(self.apply(effect));
            }
        }
    }

    fn apply(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Start(number) => Some(
                self.start(number)
                    .map_or_else(|error| Event::NotStarted(number, words(&error)), |pid| Event::Started(number, pid)),
            ),
            Effect::Terminate(number) => {
                self.signal(number, rustix::process::Signal::TERM);
                None
            }
            Effect::Kill(number) => {
                self.signal(number, rustix::process::Signal::KILL);
                None
            }
            Effect::KillGroup(number) => {
                group::kill(&cgroups::of_unit(&self.state.units[number].unit.name));
                None
            }
            Effect::LookAtPort(number, port) => Some(Event::Port(number, link::is_port_open(port))),
            Effect::Say(What::Ready { payload }) => {
                let payload = if payload == "none" { payload } else { self.payload_kind() };
                self.journal.say(What::Ready { payload });
                None
            }
            Effect::Say(what) => {
                self.journal.say(what);
                None
            }
            Effect::LastStart(start) => {
                self.keep_last_start(&start);
                None
            }
            Effect::FallBack => {
                self.tell(fallback::settle_for(&self.baked).map(Some));
                self.status.hostname = machine::take_hostname().unwrap_or_default();
                None
            }
            Effect::Good => {
                self.journal.say(What::Good);
                let (disk, slot) = (&self.found.disk, &self.found.slot);
                let marked = boot_good::mark(disk, self.baked.manifest.board.boot.flow, slot);
                let is_marked = marked.is_ok();
                self.tell(marked);
                let update = trial::of(&self.found.slot, &self.baked.manifest.image);
                if let Some(update) = update.filter(|_| is_marked) {
                    self.tell(trial::prove(&update));
                }
                self.tell(durable::replace(paths::GOOD, b"good\n", 0o644).map(|()| None));
                self.tell(attempts::forget_faults().map(|()| None));
                let slot = self.found.slot.clone();
                self.tell(boot_good::note(&self.baked.manifest.image, &slot).map(|()| None));
                self.report_at = Some(now());
                None
            }
            Effect::GoBack(why) => {
                self.go_back(&why);
                None
            }
            Effect::Reboot(unit) => {
                self.reboot_for(&unit);
                None
            }
            Effect::Remove(path) => {
                self.tell(durable::remove_file(path).map(|()| None));
                None
            }
        }
    }

    fn tell(&mut self, done: Result<Option<String>, SysError>) {
        match done {
            Ok(text) => text.into_iter().for_each(|text| self.journal.say(What::Effect { text })),
            Err(error) => self.journal.say(What::Effect { text: format!("failed: {}", words(&error)) }),
        }
    }

    fn payload_kind(&self) -> String {
        let title = self.baked.manifest.payload.title();
        title.split(' ').next().unwrap_or_default().to_string()
    }

    fn start(&mut self, number: usize) -> Result<u32, SysError> {
        let output = self.pump.begin_output(number)?;
        if !self.state.units[number].unit.reads.is_empty() {
            self.read.insert(number, contents(&self.state.units[number].unit.reads));
        }
        let unit = &self.state.units[number].unit;
        let mut environment = unit.environment.clone();
        environment.extend(bakelite_sys::environment::read(&unit.environment_files));
        // One-shots say what they are doing, too.
        if unit.readiness == Readiness::Notify || unit.kind == Kind::Oneshot {
            environment.insert("NOTIFY_SOCKET".into(), NOTIFY.into());
        }
        let is_first_payload = unit.role == Role::Payload && self.state.units[number].starts == 0;
        let pid = tool::spawn(tool::Start {
            command: &unit.command,
            environment: &environment,
            output: Some(output),
            cgroup: cgroups::open(&unit.name),
            open_files: unit.open_files,
            oom_score: unit.oom_score,
        })?;
        if is_first_payload {
            // Not sooner: until here the machine's processors have what k3s waits for to do.
            child(&[&["load"], K3S_MODULES].concat());
        }
        Ok(pid)
    }

    fn signal(&self, number: usize, signal: rustix::process::Signal) {
        let pid = self.state.units[number].pid.and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()));
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }
}
