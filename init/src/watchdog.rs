//! The hardware watchdog: when this loop hangs, the machine restarts by itself.
//!
//! It stays armed over a restart, so that a shutdown that hangs ends, too; a power-off disarms it.

use bakelite_sys::raw;
use std::fs::{File, OpenOptions};
use std::io::Write;

/// The watchdog, if there is one.
pub struct Watchdog {
    device: Option<File>,
}

impl Watchdog {
    /// Arms it with a time-out in seconds; 0 leaves it alone. It may come later: see [`Watchdog::is_armed`].
    pub fn open(seconds: u64) -> Self {
        if seconds == 0 {
            return Self { device: None };
        }
        let device = OpenOptions::new().write(true).open("/dev/watchdog").ok();
        if let Some(device) = &device {
            match raw::set_watchdog(device, u32::try_from(seconds).unwrap_or(u32::MAX)) {
                Ok(set) => log::info!("armed the watchdog with {set} s"),
                Err(error) => log::warn!("armed the watchdog with its own time-out: {error}"),
            }
        }
        Self { device }
    }

    /// Whether there is one.
    pub fn is_armed(&self) -> bool {
        self.device.is_some()
    }

    /// Says that all is well.
    pub fn pet(&mut self) {
        if let Some(device) = &mut self.device {
            let _ = device.write_all(b"1");
        }
    }

    /// Disarms it (the "magic close" of Linux's watchdog API).
    pub fn disarm(&mut self) {
        if let Some(mut device) = self.device.take() {
            let _ = device.write_all(b"V");
        }
    }
}
