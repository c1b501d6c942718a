//! What PID 1 sees and tells beside its units: addresses, room on the state partition, status.json, the status page.

use super::{CLOCK_EACH, Running};
use crate::beside::beside;
use crate::supervise::{Event, Moment};
use crate::{machine, now, screen};
use bakelite_spec::event::{UnitState, What};
use bakelite_spec::fault::{Code, Fault, Who};
use bakelite_spec::k3s;
use bakelite_spec::status::{Status, UnitStatus, Watch, paths};
use bakelite_spec::unit::Role;
use bakelite_sys::{durable, link, words};
use std::path::Path;

/// Between two looks at what the payload says before it is ready.
const LISTEN_EACH: Moment = 15_000;
/// What is wrong has to stay so for this long before it is worth a write to the boot partition.
const FAULTS_LAST: Moment = 30_000;
/// Less free space than this on the state partition is a fault.
const STATE_ROOM: u64 = 16 << 20;

impl Running {
    pub(super) fn look_at_network(&mut self) {
        if !std::mem::take(&mut self.network_changed) {
            return;
        }
        let root = Path::new("/");
        let wired = link::wired(root).into_iter().map(|link| link.name);
        let own: Vec<String> = wired.chain(link::wireless(root)).collect();
        self.addresses = link::addresses()
            .into_iter()
            .filter(|(name, _)| own.contains(name))
            .map(|(name, addresses)| (name, addresses.iter().map(ToString::to_string).collect()))
            .collect();
        let address = link::default_address().map(|(link, address)| (link, address.to_string()));
        if address != self.address {
            let (link, text) = address
                .clone()
                .unwrap_or_else(|| (self.address.clone().map(|(link, _)| link).unwrap_or_default(), String::new()));
            self.journal.say(What::Address { link, address: text });
            self.address.clone_from(&address);
            self.feed(Event::Address(address.map(|(_, address)| address)));
        }
    }

    /// Reads what the payload says while it isn't ready: some of its complaints it repeats for ever.
    pub(super) fn listen(&mut self) {
        let Some(number) = self.state.of_role(Role::Payload).filter(|_| now() >= self.listen_at) else { return };
        self.listen_at = now() + LISTEN_EACH;
        if self.state.units[number].state == UnitState::Starting {
            let fault = k3s::deaf(&self.pump.outputs[number].last_words());
            self.feed(Event::Deaf(number, fault));
        }
    }

    pub(super) fn housekeeping(&mut self) {
        self.clock_at = now() + CLOCK_EACH;
        bakelite_sys::raw::return_memory();
        self.tell(machine::save_clock().map(|()| None));
        self.look_at_room();
    }

    /// Told from the start of a boot on: with a full state partition k3s fails with words that don't say so.
    pub(super) fn look_at_room(&mut self) {
        let free = rustix::fs::statvfs(paths::STATE_MOUNT).map_or(u64::MAX, |room| room.f_bavail * room.f_frsize);
        if free < STATE_ROOM {
            let text = format!("the state partition has {} KiB left", free >> 10);
            self.own.insert("full", Fault::new(Code::StateFull, text));
        } else {
            self.own.remove("full");
        }
    }

    /// Takes what the keeper has found, where that has changed.
    pub(super) fn look_at_watch(&mut self) {
        let written = std::fs::metadata(paths::WATCH).and_then(|meta| meta.modified()).ok();
        if written == self.watch_written {
            return;
        }
        self.watch_written = written;
        let watch = std::fs::read(paths::WATCH).ok().and_then(|bytes| serde_json::from_slice::<Watch>(&bytes).ok());
        let before = self.watch.take().unwrap_or_default().faults;
        let faults = watch.iter().flat_map(|watch| &watch.faults);
        for fault in faults.filter(|fault| !before.contains(fault)) {
            self.journal.say(What::Fault(fault.clone()));
        }
        self.watch = watch;
    }

    /// Writes status.json and the page where they have changed.
    pub(super) fn publish(&mut self) {
        let faults: Vec<Fault> = self
            .own
            .values()
            .cloned()
            .chain(self.reported.values().flatten().cloned())
            .chain(self.state.faults())
            .chain(self.watch.iter().flat_map(|watch| watch.faults.clone()))
            .collect();
        let units = self.state.units.iter().map(|live| {
            let status =
                UnitStatus { state: live.state, pid: live.pid, starts: live.starts, detail: live.detail.clone() };
            (live.unit.name.clone(), status)
        });
        let status = Status {
            version: self.baked.manifest.version.clone(),
            image: self.baked.manifest.image.clone(),
            slot: self.found.slot.clone(),
            hostname: self.status.hostname.clone(),
            addresses: self.addresses.clone(),
            doing: self.doing(&faults),
            ready_at: self.state.ready_at.map(|at| at as f64 / 1000.0),
            good: self.state.good,
            payload: self.baked.manifest.payload.title(),
            debug: self.baked.appliance.debug,
            units: units.collect(),
            faults,
            watch: self.watch.as_ref().map(|watch| Watch { faults: Vec::new(), ..watch.clone() }),
        };
        if status == self.status {
            return;
        }
        let written = serde_json::to_vec(&status).ok().map(|bytes| durable::replace(paths::STATUS, &bytes, 0o644));
        if let Some(Err(error)) = written {
            log::warn!("{}", words(&error));
        }
        let page = screen::page(&status);
        let shows_status =
            self.baked.appliance.console.shows_status(status.ready_at.is_some(), needs_human(&status.faults));
        let comes_back = self.journal.consoles.give_screen(!shows_status) && shows_status;
        if page != self.page || comes_back {
            let wrong = status.faults != self.status.faults;
            if wrong {
                self.report_at = Some(now() + FAULTS_LAST);
            }
            let news = wrong || status.ready_at != self.status.ready_at;
            if news {
                self.journal.consoles.page(&page)
            } else {
                self.journal.consoles.screen(&page)
            }
            self.page = page;
        }
        self.status = status;
    }

    /// Has firstboot write what is to be told of this boot onto the boot partition.
    pub(super) fn start_report(&mut self) {
        let early = self.state.of_role(Role::Early).map(|number| self.state.units[number].unit.command.clone());
        if let Some(program) = early.as_ref().and_then(|command| command.first()) {
            beside(&[program, "report"]);
        }
    }

    fn doing(&self, faults: &[Fault]) -> String {
        use bakelite_spec::event::UnitState::{Failed, GivenUp, Running, Starting, Stopping};
        let of = |role| self.state.of_role(role).map(|number| &self.state.units[number]);
        let (early, settle, payload) = (of(Role::Early), of(Role::Settle), of(Role::Payload));
        let says = |words: &str, detail: &str| {
            if detail.is_empty() { words.to_string() } else { format!("{words}: {detail}") }
        };
        match (early, settle, payload) {
            (Some(early), _, _) if early.state == Starting => says("preparing the settings", &early.detail),
            (Some(early), _, _) if matches!(early.state, Failed | GivenUp) => says("settings", &early.detail),
            (Some(early), _, _) if early.waits() => says("waiting", &early.detail),
            (_, Some(settle), _) if settle.state == Starting => says("preparing the machine", &settle.detail),
            (_, Some(settle), _) if matches!(settle.state, Failed | GivenUp) => says("machine", &settle.detail),
            (_, Some(settle), _) if settle.waits() => says("waiting", &settle.detail),
            (_, _, Some(payload)) => match payload.state {
                Running => "k3s is running".replace("k3s", &self.payload_kind()),
                Starting => says(&format!("starting {}", self.payload_kind()), &payload.detail),
                Stopping => format!("stopping {}", self.payload_kind()),
                Failed => says(&format!("{} ended, and is started again", self.payload_kind()), &payload.detail),
                GivenUp => says(&format!("{} is not started any more", self.payload_kind()), &payload.detail),
                _ if !faults.is_empty() => "up and reachable, with the payload withheld".into(),
                _ => "starting".into(),
            },
            _ if self.state.ready_at.is_some() => "up and reachable".into(),
            _ => "starting".into(),
        }
    }
}

/// Whether something is wrong that doesn't pass by itself.
pub(super) fn needs_human(faults: &[Fault]) -> bool {
    faults.iter().any(|fault| fault.who != Who::Wait)
}
