//! Programs beside the units: parts of this program's own work, and what nothing depends on.
//!
//! Each is a child of PID 1 that the loop reaps like any other; none is kept running or told of.

use bakelite_sys::{tool, words};
use std::collections::BTreeMap;
use std::time::Duration;

/// This program in the root.
const SELF: &str = "/usr/lib/bakelite/init";

/// Starts this program once more for a part of the work; its number, to wait for it.
pub fn child(arguments: &[&str]) -> Option<u32> {
    beside(&[&[SELF], arguments].concat())
}

/// Starts a program that is no unit, and that nothing depends on.
pub fn beside(command: &[&str]) -> Option<u32> {
    let command: Vec<String> = command.iter().map(ToString::to_string).collect();
    let start = tool::Start {
        command: &command,
        environment: &BTreeMap::new(),
        output: None,
        cgroup: None,
        open_files: None,
        oom_score: 0,
    };
    tool::spawn(start).inspect_err(|error| log::warn!("{}", words(error))).ok()
}

/// Waits for a child; one that hangs must not keep the machine from starting.
pub fn wait_for(child: Option<u32>) {
    let Some(pid) = child.and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed())) else { return };
    for _ in 0..1000 {
        match rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::NOHANG) {
            Ok(None) => std::thread::sleep(Duration::from_millis(10)),
            _ => return,
        }
    }
    log::warn!("went on without waiting longer for devices");
}
