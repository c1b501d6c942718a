//! Telling what happens: JSON lines for programs, short lines for people, all of it in /run for whoever comes later.
//!
//! Nothing here waits or fails: an event that can't be told to one is still told to the others.

use crate::console::Consoles;
use bakelite_spec::event::{Event, What};
use bakelite_sys::{durable, machine};
use rustix::fs::{Mode, OFlags};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

/// Where all events of this boot stand.
pub const FILE: &str = "/run/log/bakelite/events.jsonl";
/// Where it is noted how much of the file the serial device has got, over the change of root.
const TOLD: &str = "/run/bakelite/events-told";
/// Bytes that may wait for a slow serial device before the newest are dropped.
const WAITING: usize = 64 << 10;
/// Bytes of the file before it stops growing: months of a healthy machine, and a cap for a sick one.
const CAP: u64 = 1 << 20;

/// The teller of events.
pub struct Journal {
    device: Option<String>,
    serial: Option<File>,
    waiting: Vec<u8>,
    told: u64,
    file: Option<File>,
    /// The consoles, for lines and pages.
    pub consoles: Consoles,
}

impl Journal {
    /// Opens what there is; the serial device is the board's, and may come later.
    pub fn open(device: Option<&str>) -> Self {
        let _ = durable::make_folder("/run/log/bakelite");
        let file = OpenOptions::new().create(true).append(true).open(FILE).ok();
        let told = bakelite_sys::read_text(TOLD).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut journal = Self {
            device: device.map(String::from),
            serial: None,
            waiting: Vec::new(),
            told,
            file,
            consoles: Consoles::open(),
        };
        journal.reach_serial();
        journal
    }

    /// Opens the serial device if it is there by now, and has it catch up with what it missed.
    fn reach_serial(&mut self) {
        let Some(device) = self.device.as_ref().filter(|_| self.serial.is_none()) else { return };
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let Ok(serial) = rustix::fs::open(Path::new("/dev").join(device), flags, Mode::empty()) else { return };
        bakelite_sys::terminal::make_raw(&serial);
        self.serial = Some(File::from(serial));
        let all = std::fs::read(FILE).unwrap_or_default();
        self.waiting = usize::try_from(self.told).ok().and_then(|told| all.get(told..)).unwrap_or_default().to_vec();
    }

    /// Tells of one event.
    pub fn say(&mut self, what: What) {
        let event = Event { at: (machine::uptime().as_secs_f64() * 1000.0).round() / 1000.0, what };
        self.reach_serial();
        if let Ok(mut text) = serde_json::to_string(&event) {
            text.push('\n');
            if let Some(file) = self.file.as_mut().filter(|file| file.metadata().is_ok_and(|file| file.len() < CAP)) {
                let _ = file.write_all(text.as_bytes());
            }
            if self.serial.is_some() && self.waiting.len() + text.len() <= WAITING {
                self.waiting.extend_from_slice(text.as_bytes());
            }
        }
        self.flush();
        let words = event.what.words();
        if !words.is_empty() {
            log::info!("{words}");
            self.consoles.line(&format!("[{:>8.3}] {words}", event.at));
        }
    }

    /// Writes what the serial device takes now; whether something is left.
    pub fn flush(&mut self) -> bool {
        if let Some(serial) = &mut self.serial {
            while !self.waiting.is_empty() {
                match serial.write(&self.waiting) {
                    Ok(length @ 1..) => {
                        self.waiting.drain(..length);
                        self.told += length as u64;
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                    // No such hardware behind the device: nobody listens.
                    Ok(_) | Err(_) => {
                        self.waiting.clear();
                        self.serial = None;
                        self.device = None;
                        break;
                    }
                }
            }
        }
        !self.waiting.is_empty()
    }

    /// Notes how far the serial device has come, before the program is replaced by the one in the root.
    pub fn hand_over(&mut self) {
        self.flush();
        let _ = durable::replace(TOLD, self.told.to_string().as_bytes(), 0o600);
    }
}
