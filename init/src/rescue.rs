//! Where everything ends that PID 1 can't get over: what is wrong on all consoles, the watchdog petted, nothing lost.
//!
//! A PID 1 that ends or panics takes the kernel with it; so every such path comes here and never returns.

use crate::console::Consoles;
use crate::shutdown;
use crate::trial;
use crate::watchdog::Watchdog;
use bakelite_spec::fault::{Code, Fault};
use bakelite_sys::kmsg;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::process::{WaitOptions, wait};
use std::time::{Duration, Instant};

/// How long the page of a system stands that is still to be tried again.
const COUNTED: Duration = Duration::from_secs(30);

/// A page for the screen: what is wrong, who must act, what to do.
pub fn page(fault: &Fault, more: &str) -> String {
    let rule = "=".repeat(72);
    format!(
        "{rule}\n  Bakelite can't start this machine.\n\n  WHAT    {}\n          ({})\n  WHO     {}\n  DO      {}\n\n  {more}\n{rule}",
        fault.text,
        fault.code.name(),
        fault.who.words(),
        fault.hint,
    )
}

/// Shows a fault for ever: reaps orphans, pets the watchdog, restarts on Ctrl-Alt-Del.
pub fn stay(fault: &Fault, consoles: &mut Consoles) -> ! {
    consoles.give_screen(false);
    consoles.page(&page(fault, "Ctrl-Alt-Del, or switching it off and on, tries again."));
    for line in last_log_lines() {
        consoles.line(&line);
    }
    let mut watchdog = Watchdog::open(60);
    // A system that the boot loader still counts isn't a place to stay: after its last try another one is started.
    let leaves = trial::tries_left().filter(|left| *left > 0).map(|_| Instant::now() + COUNTED);
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    let _ = signals.thread_block();
    let source = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).ok();
    loop {
        watchdog.pet();
        while matches!(wait(WaitOptions::NOHANG), Ok(Some(_))) {}
        if leaves.is_some_and(|at| at <= Instant::now()) {
            shutdown::at_once();
        }
        if let Some(Ok(Some(_))) = source.as_ref().map(SignalFd::read_signal) {
            shutdown::at_once();
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// The newest lines of the kernel's ring, which hold our own log as well.
fn last_log_lines() -> Vec<String> {
    const SHOWN: usize = 12;
    let all = kmsg::read();
    let lines: Vec<&str> = all.lines().collect();
    lines[lines.len().saturating_sub(SHOWN)..].iter().map(ToString::to_string).collect()
}

/// Has a panic end here as well, with its words and place.
pub fn catch_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let fault = Fault::new(Code::UnitFailing, format!("init itself has a defect: {panic}"));
        stay(&fault, &mut Consoles::open());
    }));
}
