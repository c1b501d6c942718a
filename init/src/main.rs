//! The doorkeeper: /init of the initramfs, and PID 1 of the running system.
//!
//! Twice the same program: in the initramfs it finds the boot medium and moves to its system partition; there it brings
//! the state partition, arranges the machine and keeps its units running. Nothing leads out of PID 1: errors and
//! panics end in `rescue`, and only `shutdown` restarts the machine.

mod ailing;
mod attach;
mod attempts;
mod backlog;
mod baked;
mod beside;
mod boot_good;
mod cgroups;
mod console;
mod control;
mod error;
mod events;
mod fallback;
mod light;
mod machine;
mod medic;
mod medium;
mod modules;
mod mounts;
mod output;
mod places;
mod pump;
mod rescue;
mod run;
mod screen;
mod shutdown;
mod state;
mod supervise;
mod switch;
mod trial;
mod watchdog;

use crate::baked::Baked;
use crate::console::Consoles;
use crate::error::InitError;
use crate::events::Journal;
use crate::light::Light;
use crate::medic::Medic;
use crate::medium::Found;
use crate::modules::Modules;
use bakelite_spec::cmdline::Cmdline;
use bakelite_spec::event::What;
use bakelite_spec::fault::Code;
use bakelite_spec::status::paths;
use bakelite_sys::{SysError, durable, kmsg, machine as facts, read_text};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

/// This program in the initramfs.
const INITRAMFS_SELF: &str = "/init";

fn main() -> ExitCode {
    // As PID 1 the arguments are words of the kernel command line that the kernel didn't know: none of them is for us.
    if std::process::id() != 1 {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let Some((part, words)) = arguments.split_first() else {
            eprintln!("this is init: it runs as the first program of a machine");
            return ExitCode::FAILURE;
        };
        kmsg::start();
        if part == medic::PART {
            return medic::become_medic(words);
        }
        work(part, words);
        return ExitCode::SUCCESS;
    }
    rescue::catch_panics();
    let error = if Path::new(paths::MEDIUM).exists() {
        match run::run() {
            Ok(never) => match never {},
            Err(error) => error,
        }
    } else {
        initramfs()
    };
    rescue::stay(&error.into_fault(Code::UnitFailing), &mut Consoles::open())
}

fn cmdline() -> Cmdline {
    Cmdline::parse(&read_text("/proc/cmdline").unwrap_or_default())
}

/// Does a part of the work as a child of its own, so that PID 1 neither waits nor keeps what it read: `cold-plug` for the
/// modules that the devices ask for, `plug ALIAS…` for devices that came, `ahead NAME…` for what is asked for soon,
/// `load NAME…` for what may take its time, `swap BYTES`.
fn work(part: &str, words: &[String]) {
    let mut modules = Modules::read(&modules::folder(), &cmdline());
    let loaded = match part {
        // The state partition's file system is wanted before any device, should the initramfs not have come to it.
        "cold-plug" => modules.load(&["ext4".into()]) + modules::cold_plug(&mut modules, &mut BTreeSet::new()),
        "plug" => {
            let wanted = modules.wanted_by(&words.iter().cloned().collect());
            modules.load(&wanted)
        }
        "ahead" => modules.one_by_one().load(words),
        "swap" => {
            step_back();
            let loaded = modules.one_by_one().load(&["zram".into()]);
            match machine::compressed_swap(words.first().and_then(|bytes| bytes.parse().ok()).unwrap_or(0)) {
                Ok(done) => log::info!("{done}"),
                Err(error) => log::warn!("{}", bakelite_sys::words(&error)),
            }
            loaded
        }
        // Whoever needs one of these sooner asks for it.
        _ => {
            step_back();
            let loaded = modules.one_by_one().load(words);
            if let Err(error) = mounts::early(mounts::Stage::Beside) {
                log::warn!("{}", bakelite_sys::words(&error));
            }
            loaded
        }
    };
    log::info!("loaded {loaded} kernel modules ({part})");
}

/// What the machine waits for goes first.
fn step_back() {
    let _ = rustix::process::nice(10);
}

/// The initramfs's part; returns only with what went wrong.
fn initramfs() -> InitError {
    match find_system() {
        Ok(()) => switch::switch(),
        Err(error) => error,
    }
}

fn find_system() -> Result<(), InitError> {
    mounts::early(mounts::Stage::Initramfs)?;
    kmsg::start();
    baked::keep()?;
    let baked = Baked::read()?;
    let mut journal = Journal::open(baked.manifest.board.console.events.as_deref());
    journal.say(What::Init { version: baked.manifest.version.clone(), image: baked.manifest.image.clone() });
    let cmdline = cmdline();
    // The state partition's file system is of use only in the root; a processor that waits for a disk can load it now.
    beside::beside(&[INITRAMFS_SELF, "ahead", "ext4"]);
    let mut modules = Modules::read(&modules::folder(), &cmdline);
    modules.load(&["squashfs".into(), "efivarfs".into()]);
    let slot = cmdline.slot().unwrap_or("a").to_string();
    let light = Light::new(Path::new("/"), &baked.manifest.board.console.lights);
    let mut medic = Medic::new(&cmdline, baked.appliance.owner.keys.is_empty(), light);
    let found = medium::find(&slot, &baked.manifest.system, &mut modules, &mut medic, &mut journal)
        .and_then(|found| switch::mount_system(&found).map(|()| found));
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            let fault = error.into_fault(Code::SlotUnreadable);
            medium::refuse(fault, &mut modules, &mut medic, &mut journal)
        }
    };
    keep_found(&found)?;
    journal.say(What::Slot { slot: found.slot, disk: found.disk });
    journal.hand_over();
    Ok(())
}

fn keep_found(found: &Found) -> Result<(), InitError> {
    let bytes = serde_json::to_vec(found).map_err(|source| InitError::Baked { file: "medium.json", source })?;
    Ok(durable::replace(paths::MEDIUM, &bytes, 0o600)?)
}

fn read_found() -> Result<Found, InitError> {
    let bytes = std::fs::read(paths::MEDIUM).map_err(|source| SysError::Read { path: paths::MEDIUM.into(), source })?;
    serde_json::from_slice(&bytes).map_err(|source| InitError::Baked { file: "medium.json", source })
}

/// Milliseconds since the kernel started.
fn now() -> supervise::Moment {
    u64::try_from(facts::uptime().as_millis()).unwrap_or(u64::MAX)
}

/// Whether a file is there and not empty.
fn is_there(path: &str) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.len() > 0)
}
