//! Lines on stderr in the shape of k3s's own logger: `time="…" level=info msg="…"`.
//! Readers of logs (the classifier of last words, the ring on state) are tested against this shape, so it is kept to the
//! letter; nothing else may print there, but the few plain lines that k3s prints itself.

use std::io::Write;
use std::time::SystemTime;

use log::{Level, LevelFilter, Log, Metadata, Record};
use time::OffsetDateTime;
use time::macros::format_description;

struct Logrus;

impl Log for Logrus {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let level = match record.level() {
            Level::Error => "error",
            Level::Warn => "warning",
            Level::Info => "info",
            Level::Debug | Level::Trace => "debug",
        };
        write_line(level, &record.args().to_string());
    }

    fn flush(&self) {}
}

/// Installs the logger. A second call changes the level only.
pub fn start(debug: bool) {
    if log::set_logger(&Logrus).is_err() {
        log::debug!("the logger was set before");
    }
    log::set_max_level(if debug { LevelFilter::Debug } else { LevelFilter::Info });
}

/// A line of the level that the `log` crate has no name for; the caller exits with 1.
pub fn fatal(message: &str) {
    write_line("fatal", message);
}

fn write_line(level: &str, message: &str) {
    let line = format!("time=\"{}\" level={level} msg={}\n", rfc3339(SystemTime::now()), quoted(message));
    // A closed stderr is no reason to die: k3s goes on as well.
    drop(std::io::stderr().lock().write_all(line.as_bytes()));
}

/// UTC to the second, as logrus prints it.
pub fn rfc3339(time: SystemTime) -> String {
    OffsetDateTime::from(time)
        .format(format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z"))
        .unwrap_or_default()
}

/// Go's `%q`, as far as log text needs it.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            control if control.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(control))),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_as_go_does() {
        assert_eq!(quoted("a \"b\"\n"), r#""a \"b\"\n""#);
        assert_eq!(rfc3339(SystemTime::UNIX_EPOCH), "1970-01-01T00:00:00Z");
    }
}
