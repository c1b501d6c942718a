//! Where everything ends that PID 1 can't get over: what is wrong on all consoles, the watchdog petted, nothing lost.
//!
//! A PID 1 that ends or panics takes the kernel with it; so every such path comes here and never returns.

use crate::console::Consoles;
use crate::shutdown;
use crate::watchdog::Watchdog;
use bakelite_spec::fault::{Code, Fault};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::process::{WaitOptions, wait};
use std::time::Duration;

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
    consoles.page(&page(fault, "Ctrl-Alt-Del, or switching it off and on, tries again."));
    for line in last_log_lines() {
        consoles.line(&line);
    }
    let mut watchdog = Watchdog::open(60);
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    let _ = signals.thread_block();
    let source = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).ok();
    loop {
        watchdog.pet();
        while matches!(wait(WaitOptions::NOHANG), Ok(Some(_))) {}
        if let Some(Ok(Some(_))) = source.as_ref().map(SignalFd::read_signal) {
            shutdown::at_once();
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// The newest lines of the kernel's ring, which hold our own log as well.
fn last_log_lines() -> Vec<String> {
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK;
    let Ok(ring) = rustix::fs::open("/dev/kmsg", flags, rustix::fs::Mode::empty()) else { return Vec::new() };
    let mut lines = std::collections::VecDeque::new();
    let mut record = [0u8; 2048];
    loop {
        match rustix::io::read(&ring, &mut record) {
            Ok(0) => break,
            Ok(length) => {
                let text = String::from_utf8_lossy(&record[..length]).into_owned();
                let text = text.split_once(';').map_or(text.as_str(), |(_, text)| text);
                lines.push_back(text.lines().next().unwrap_or_default().to_string());
                if lines.len() > 12 {
                    lines.pop_front();
                }
            }
            // The record was overwritten while it was read: the next one is there.
            Err(rustix::io::Errno::PIPE) => {}
            Err(_) => break,
        }
    }
    lines.into()
}

/// Has a panic end here as well, with its words and place.
pub fn catch_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let fault = Fault::new(Code::UnitFailing, format!("init itself has a defect: {panic}"));
        stay(&fault, &mut Consoles::open());
    }));
}
