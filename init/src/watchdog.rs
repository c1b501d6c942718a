//! The hardware watchdog: when this loop hangs, the machine restarts by itself.
//!
//! It stays armed over a restart, so that a shutdown that hangs ends, too; a power-off disarms it.

use bakelite_sys::{raw, read_text};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::time::Duration;

/// The longest time-out that the hardware takes, in seconds.
const LIMIT: &str = "/sys/class/watchdog/watchdog0/max_timeout";
/// Taken for the time-out of hardware that tells none, in seconds: less than boards have.
const UNTOLD: u64 = 10;

/// The watchdog, if there is one.
pub struct Watchdog {
    device: Option<File>,
    /// The time-out that the hardware has, in seconds, whatever was asked for.
    seconds: u64,
}

impl Watchdog {
    /// Arms it with a time-out in seconds; 0 leaves it alone.
    pub fn open(seconds: u64) -> Self {
        if seconds == 0 {
            return Self { device: None, seconds };
        }
        let device = OpenOptions::new().write(true).open("/dev/watchdog").ok();
        let set = device.as_ref().map(|device| set(device, seconds, &read_text(LIMIT).unwrap_or_default()));
        let seconds = match set {
            None => seconds,
            Some(Ok(seconds)) => {
                log::info!("armed the watchdog with {seconds} s");
                seconds
            }
            Some(Err(error)) => {
                log::warn!("armed the watchdog with a time-out that it doesn't tell: {error}");
                UNTOLD
            }
        };
        Self { device, seconds }
    }

    /// How long may pass between two words to it; `None` where there is none.
    pub fn patience(&self) -> Option<Duration> {
        self.device.as_ref().map(|_| Duration::from_millis(self.seconds.max(3) * 333))
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

/// Sets the time-out, or what the hardware has instead: its longest, else its own.
fn set(device: &File, seconds: u64, limit: &str) -> io::Result<u64> {
    let set = |seconds: u64| raw::set_watchdog(device, u32::try_from(seconds).unwrap_or(u32::MAX));
    let set = set(seconds).or_else(|error| match limit.trim().parse::<u64>() {
        Ok(limit @ 1..) if limit < seconds => set(limit),
        _ => Err(error),
    });
    set.or_else(|_| raw::watchdog(device)).map(u64::from)
}
