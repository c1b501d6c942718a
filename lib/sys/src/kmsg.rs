//! The kernel's ring: the log of the device side's early programs goes there, where it survives until anything else runs;
//! and all of it can be read.

use log::{Level, LevelFilter, Log, Metadata, Record};
use rustix::fs::{Mode, OFlags};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

struct Kmsg(File);

static KMSG: OnceLock<Kmsg> = OnceLock::new();

impl Log for Kmsg {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let priority = match record.level() {
            Level::Error => 3,
            Level::Warn => 4,
            Level::Info => 6,
            Level::Debug | Level::Trace => 7,
        };
        // One write is one record; the kernel cuts at about 1000 bytes.
        let line: String = format!("<{priority}>bakelite: {}\n", record.args()).chars().take(900).collect();
        let _ = (&self.0).write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

/// Sends the log to the kernel's ring from now on; without /dev/kmsg nothing is logged.
pub fn start() {
    if let Ok(file) = OpenOptions::new().write(true).open("/dev/kmsg")
        && log::set_logger(KMSG.get_or_init(|| Kmsg(file))).is_ok()
    {
        log::set_max_level(LevelFilter::Info);
    }
}

/// The ring, read from its oldest message on.
#[derive(Debug)]
pub struct Ring(OwnedFd);

impl Ring {
    /// Opens it; `None` where it can't be read.
    pub fn open() -> Option<Self> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::open("/dev/kmsg", flags, Mode::empty()).ok().map(Self)
    }

    /// What has come since the last look, a line a message with its seconds.
    pub fn more(&mut self) -> String {
        let (mut text, mut record) = (String::new(), [0u8; 8192]);
        loop {
            match rustix::io::read(&self.0, &mut record) {
                Ok(length @ 1..) => text.extend(message(&String::from_utf8_lossy(&record[..length]))),
                // A record was overwritten while it was read: the next one is there.
                Err(rustix::io::Errno::PIPE | rustix::io::Errno::INTR) => {}
                Ok(_) | Err(_) => return text,
            }
        }
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// All that the ring holds now; empty where it can't be read.
pub fn read() -> String {
    Ring::open().map(|mut ring| ring.more()).unwrap_or_default()
}

/// `6,339,5140900,-;text` as `[    5.140900] text` (kernel: Documentation/ABI/testing/dev-kmsg).
fn message(record: &str) -> Option<String> {
    let (prefix, text) = record.split_once(';')?;
    let microseconds: u64 = prefix.split(',').nth(2)?.parse().ok()?;
    let text = text.lines().next().unwrap_or_default();
    Some(format!("[{:>5}.{:06}] {text}\n", microseconds / 1_000_000, microseconds % 1_000_000))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_record_is_its_time_and_its_first_line() {
        let record = "6,339,5140900,-;usb 1-1: new device\n SUBSYSTEM=usb\n";
        assert_eq!(super::message(record).as_deref(), Some("[    5.140900] usb 1-1: new device\n"));
        assert_eq!(super::message("rubbish"), None);
    }
}
