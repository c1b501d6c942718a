//! The root shell of a debug image: on the board's serial console, started again when it ends.
//!
//! Only with `debug: true`, which can't be overlaid, and which the status page shows loudly.

use crate::supervise::Moment;
use bakelite_sys::{terminal, tool};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Between its end and its next start.
const PAUSE: Moment = 2_000;

/// The shell, if this image has one.
pub struct Shell {
    device: Option<PathBuf>,
    pid: Option<u32>,
    at: Moment,
}

impl Shell {
    /// A shell on a serial device, or none.
    pub fn new(device: Option<&str>) -> Self {
        Self { device: device.map(|name| Path::new("/dev").join(name)), pid: None, at: 0 }
    }

    /// Starts it if it is time to; when to look again.
    pub fn keep(&mut self, now: Moment) -> Option<Moment> {
        let device = self.device.as_ref().filter(|_| self.pid.is_none())?;
        if now < self.at {
            return Some(self.at);
        }
        self.at = now + PAUSE;
        let terminal = terminal::open(device).ok();
        if terminal.is_some() {
            let environment = BTreeMap::from([("TERM".to_string(), "linux".to_string())]);
            self.pid = tool::spawn(tool::Start {
                command: &["/usr/bin/busybox".into(), "sh".into(), "-l".into()],
                environment: &environment,
                output: None,
                terminal,
                cgroup: crate::cgroups::open("shell"),
                open_files: None,
                oom_score: 0,
            })
            .ok();
        }
        self.pid.is_none().then_some(self.at)
    }

    /// Notes that a process ended.
    pub fn ended(&mut self, pid: u32, now: Moment) {
        if self.pid == Some(pid) {
            self.pid = None;
            self.at = now + PAUSE;
        }
    }
}
