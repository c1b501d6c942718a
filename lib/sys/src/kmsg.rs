//! The log of the device side's early programs: lines in the kernel's ring, where they survive until anything else runs.

use log::{Level, LevelFilter, Log, Metadata, Record};
use std::fs::{File, OpenOptions};
use std::io::Write;
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
