//! The way to the loop: the machine is arranged, and what has to run ahead of its programs is begun.

use super::{CLOCK_EACH, Running};
use crate::ailing::Ailing;
use crate::backlog::Backlog;
use crate::baked::Baked;
use crate::beside::{child, wait_for};
use crate::error::InitError;
use crate::events::Journal;
use crate::light::{self, Light};
use crate::pump::Pump;
use crate::shutdown::{self, Action};
use crate::supervise::State;
use crate::watchdog::Watchdog;
use crate::{attach, cgroups, machine, mounts, places, trial};
use crate::{now, read_found};
use bakelite_spec::event::What;
use bakelite_spec::status::{Status, paths};
use bakelite_sys::{durable, link, machine as facts, socket, words};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
/// What early has the kernel load one by one if nobody has done it before: for the boot partition and for the firewall.
const EARLY_MODULES: &[&str] = &["nft_ct", "vfat", "nls_cp437", "nls_ascii"];
/// Runs the machine.
///
/// # Errors
/// What keeps it from coming as far as its loop.
pub fn run() -> Result<Infallible, InitError> {
    bakelite_sys::kmsg::start();
    let baked = Baked::read()?;
    let found = read_found()?;
    let mut journal = Journal::open(baked.manifest.board.console.events.as_deref());
    mounts::share_all()?;
    mounts::early(mounts::Stage::Root)?;
    machine::sysctls();
    // Listened for before devices are looked through: one that comes behind that look would never get its driver.
    let devices = socket::uevents()?;
    // Devices are looked through beside the state partition's check; early needs both.
    let cold_plug = child(&["cold-plug"]);
    let attached = attach::attach(&found.disk);
    let mut own = BTreeMap::new();
    attached.effects.into_iter().for_each(|text| journal.say(What::Effect { text }));
    if let Some(fault) = &attached.fault {
        journal.say(What::Fault(fault.clone()));
        own.insert("state", fault.clone());
    }
    places::arrange(attached.fault.is_none())?;
    arrange(&baked, &mut journal)?;
    child(&[&["ahead"], EARLY_MODULES].concat());
    wait_for(cold_plug);
    if !baked.manifest.board.console.lights.is_empty() {
        child(&["ahead", light::MODULE]);
    }
    let swap = baked.appliance.memory.zram.bytes(facts::memory());
    if swap > 0 {
        child(&["swap", &swap.to_string()]);
    }

    let has_state = attached.fault.is_none();
    let mut state = State::new(baked.units.clone(), attached.fault);
    if let Some(update) = trial::of(&found.slot, &baked.manifest.image).filter(|update| update.failed.is_empty()) {
        journal.say(What::Effect { text: format!("an update is tried: {}", update.to.words()) });
        state.tries_an_update(update.patience, !update.workloads.is_empty());
    }
    let mut running = Running {
        pump: Pump::new(&state, devices)?,
        backlog: Backlog::default(),
        watchdog: Watchdog::open(baked.manifest.board.watchdog.0),
        light: Light::new(Path::new("/"), &baked.manifest.board.console.lights),
        ailing: Ailing::default(),
        state,
        journal,
        own,
        reported: BTreeMap::new(),
        watch: None,
        watch_written: None,
        reboot_reason: None,
        address: None,
        addresses: BTreeMap::new(),
        status: Status::default(),
        page: String::new(),
        clock_at: now() + CLOCK_EACH,
        network_changed: true,
        listen_at: 0,
        report_at: None,
        read: BTreeMap::new(),
        baked,
        found,
    };
    let flow = running.baked.manifest.board.boot.flow;
    if !has_state && trial::leave_blindly(&running.found.disk, &running.found.slot, flow) {
        running.go_down(Action::Reboot, "a slot that hasn't proved itself has no state partition");
    }
    running.run_for_ever()
}

/// What the machine needs before its programs.
fn arrange(baked: &Baked, journal: &mut Journal) -> Result<(), InitError> {
    if Path::new(shutdown::DIRTY).exists() {
        journal.say(What::Effect { text: "the last boot was not ended in order".into() });
        durable::replace(paths::UNCLEAN, b"", 0o644)?;
    } else {
        durable::write_durable(shutdown::DIRTY, b"", 0o644)?;
    }
    match machine::lift_clock(baked.manifest.time) {
        Ok(Some(text)) => {
            journal.say(What::Effect { text });
            durable::replace(paths::CLOCK_LIFTED, b"", 0o644)?;
        }
        Ok(None) => {}
        Err(error) => log::warn!("{}", words(&error)),
    }
    machine::machine_id()?;
    cgroups::prepare()?;
    if let Err(error) = link::loopback_up() {
        log::warn!("{}", words(&error));
    }
    Ok(())
}
