//! Going down: the only place that restarts the machine or switches it off. The order is k3s.md 2.7's.
//!
//! The payload first, then its pods, then what holds the network; the clock, the dirty flag and the disks last. Each
//! step has its limit: a shutdown always ends.

use crate::backlog::Backlog;
use crate::cgroups;
use crate::events::Journal;
use crate::machine;
use crate::output;
use crate::pump::Pump;
use crate::supervise::{Live, State};
use crate::watchdog::Watchdog;
use bakelite_spec::event::What;
use bakelite_spec::unit::Role;
use bakelite_spec::update::{ARMED, TRYBOOT};
use bakelite_sys::mount::{self, MountFlags};
use bakelite_sys::{durable, group, machine as facts, raw, read_text, words};
use rustix::process::{Pid, Signal, kill_process};
use rustix::system::{RebootCommand, reboot};
use std::ffi::CString;
use std::path::Path;
use std::time::{Duration, Instant};

/// That this boot has not been ended in order.
pub const DIRTY: &str = "/var/lib/bakelite/dirty";
/// From SIGTERM to SIGKILL for the payload's pods.
const GRACE: Duration = Duration::from_secs(30);
/// How long the disks may take to write what they hold.
const SYNC: Duration = Duration::from_secs(30);

/// How the machine goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// And comes up again.
    Reboot,
    /// And is switched off.
    PowerOff,
    /// And stands still.
    Halt,
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::Reboot => "reboot",
            Self::PowerOff => "poweroff",
            Self::Halt => "halt",
        }
    }
}

/// What a shutdown needs of the running system.
pub struct Parts<'a> {
    /// The units.
    pub state: &'a State,
    /// What is waited for.
    pub pump: &'a mut Pump,
    /// What comes in meanwhile.
    pub backlog: &'a mut Backlog,
    /// Whom it is told to.
    pub journal: &'a mut Journal,
    /// The watchdog.
    pub watchdog: &'a mut Watchdog,
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

impl Parts<'_> {
    /// Waits until none of these processes lives, at most a time. Zombies of ours are reaped here, so `kill 0` tells.
    fn wait_for(&mut self, pids: &[u32], limit: Duration) -> bool {
        let end = Instant::now() + limit;
        loop {
            let lives = |pid: &u32| Path::new("/proc").join(pid.to_string()).exists();
            if !pids.iter().any(lives) {
                return true;
            }
            if Instant::now() >= end {
                return false;
            }
            self.watchdog.pet();
            self.journal.flush();
            let inputs = self.pump.wait(Duration::from_millis(50));
            self.backlog.keep(inputs);
        }
    }

    /// Ends main processes: SIGTERM to those that had none, SIGKILL after the longest of their limits. Whether all ended.
    fn end(&mut self, units: &[&Live]) -> bool {
        let pids: Vec<u32> = units.iter().filter_map(|live| live.pid).collect();
        units
            .iter()
            .filter(|live| !live.is_stopping())
            .filter_map(|live| live.pid)
            .for_each(|pid| signal(pid, Signal::TERM));
        let limit = units.iter().map(|live| live.unit.stop_seconds).max().unwrap_or(0);
        if self.wait_for(&pids, Duration::from_secs(limit)) {
            return true;
        }
        log::warn!("killed what did not end in {limit} s");
        pids.iter().for_each(|pid| signal(*pid, Signal::KILL));
        self.wait_for(&pids, Duration::from_secs(5))
    }
}

/// Stops all workloads while the machine stays up: pods, their shims, their mounts (k3s.md 2.7, steps 2 to 6). Whether
/// nothing of them lives any more.
pub fn stop_workloads(parts: &mut Parts<'_>) -> bool {
    let state = parts.state;
    let payload: Vec<&Live> = state.units.iter().filter(|live| live.unit.role == Role::Payload).collect();
    let mut ended = parts.end(&payload);
    let pods = facts::processes_below(Path::new(cgroups::PODS));
    pods.iter().for_each(|pid| signal(*pid, Signal::TERM));
    if !pods.is_empty() {
        parts.wait_for(&pods, GRACE);
    }
    group::kill(Path::new(cgroups::PODS));
    for live in payload {
        group::kill(&cgroups::of_unit(&live.unit.name));
    }
    let rest = facts::processes_below(Path::new(cgroups::PODS));
    ended &= parts.wait_for(&rest, Duration::from_secs(5));
    let below = ["/run/k3s", "/var/lib/kubelet/pods", "/var/lib/kubelet/plugins", "/run/netns"];
    for point in mount::points().iter().rev().filter(|point| below.iter().any(|folder| point.starts_with(folder))) {
        let point = Path::new(point);
        if mount::unmount(point, false).is_err() {
            let _ = mount::unmount(point, true);
        }
    }
    ended
}

/// Takes the machine down in order.
pub fn shutdown(mut parts: Parts<'_>, action: Action, why: &str) -> ! {
    parts.journal.say(What::Shutdown { action: action.name().into(), why: why.into() });
    parts.backlog.close();
    stop_workloads(&mut parts);
    let state = parts.state;
    let others: Vec<&Live> = state.units.iter().filter(|live| live.unit.role != Role::Payload).collect();
    parts.end(&others);
    for live in &others {
        group::kill(&cgroups::of_unit(&live.unit.name));
    }
    for step in [output::keep_boot(), machine::save_clock(), durable::remove_file(DIRTY)] {
        if let Err(error) = step {
            log::warn!("{}", words(&error));
        }
    }
    sync(&mut parts);
    unmount_all();
    parts.journal.consoles.line(&format!("{}: done", action.name()));
    if action == Action::PowerOff {
        parts.watchdog.disarm();
    }
    parts.watchdog.pet();
    down(match action {
        Action::Reboot => {
            ask_for_a_try();
            RebootCommand::Restart
        }
        Action::PowerOff => RebootCommand::PowerOff,
        Action::Halt => RebootCommand::Halt,
    })
}

/// Writes out what the disks hold, counting down where it takes long. A disk that hangs doesn't keep the machine.
fn sync(parts: &mut Parts<'_>) {
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        rustix::fs::sync();
        let _ = done.send(());
    });
    for second in 0..SYNC.as_secs() {
        parts.watchdog.pet();
        if is_done.recv_timeout(Duration::from_secs(1)).is_ok() {
            return;
        }
        let left = SYNC.as_secs() - second;
        parts.journal.consoles.line(&format!("the disks are still writing; going down in {left} s at the latest"));
    }
}

/// Takes away all mounts of media, deepest first; what stays busy is made read-only.
fn unmount_all() {
    let keep = ["/", "/proc", "/sys", "/dev", "/run"];
    for point in mount::points().iter().rev() {
        let kernels = ["/proc/", "/sys/", "/dev/"].iter().any(|folder| point.starts_with(folder));
        if keep.contains(&point.as_str()) || kernels {
            continue;
        }
        let point = Path::new(point);
        if mount::unmount(point, false).is_err() && mount::remount(point, MountFlags::RDONLY).is_err() {
            let _ = mount::unmount(point, true);
        }
    }
}

/// Restarts with nothing to bring in order: from the rescue, where no unit runs.
pub fn at_once() -> ! {
    rustix::fs::sync();
    down(RebootCommand::Restart)
}

/// Where firmware tries another system once, the restart itself asks for it.
fn ask_for_a_try() {
    let is_armed = read_text(ARMED).is_ok_and(|text| text == TRYBOOT);
    if let Some(argument) = CString::new(TRYBOOT).ok().filter(|_| is_armed) {
        raw::restart_with(&argument);
    }
}

/// Switches the machine off where nothing of it is mounted.
pub fn off_at_once() -> ! {
    rustix::fs::sync();
    down(RebootCommand::PowerOff)
}

fn down(command: RebootCommand) -> ! {
    loop {
        let _ = reboot(command);
        // Refused: without another way the watchdog decides.
        std::thread::sleep(Duration::from_secs(1));
    }
}
