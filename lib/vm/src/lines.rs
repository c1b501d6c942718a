//! A machine's lines: how QEMU connects them, and what is read from them.
//!
//! This side listens and QEMU connects, so that nothing which a machine says at its start is lost.

use crate::begin::Listener;
use crate::error::VmError;
use crate::process::{Report, Seen};
use serde_json::Value;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Child;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

/// How long QEMU may take to connect its lines.
const CONNECT_TIME: Duration = Duration::from_secs(30);
/// The longest line of events that is taken in.
const LINE_LIMIT: u64 = 1 << 20;

/// Waits until QEMU has connected all its lines.
pub fn connect(child: &mut Child, listeners: &[UnixListener; 3], words: &Path) -> Result<[UnixStream; 3], VmError> {
    let deadline = Instant::now() + CONNECT_TIME;
    let [console, events, control] = listeners;
    let mut accept = |listener: &UnixListener| loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).map_err(VmError::Prepare)?;
                return Ok(stream);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(VmError::Prepare(error)),
        }
        let ended = child.try_wait().map_err(VmError::Wait)?;
        if let Some(status) = ended {
            return Err(VmError::Ended { status: status.to_string(), words: words_in(words) });
        }
        if Instant::now() > deadline {
            return Err(VmError::Ended { status: "it didn't answer".into(), words: words_in(words) });
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    Ok([accept(console)?, accept(events)?, accept(control)?])
}

pub fn words_in(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("; ")
}

pub fn copy_console(mut line: UnixStream, mut file: File, listener: &Listener) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = line.read(&mut buffer) {
        listener.hear(&buffer[..count]);
        if file.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
}

pub fn read_events(line: UnixStream, seen: &Sender<Seen>, started: Instant) {
    let mut reader = BufReader::new(line);
    loop {
        let mut bytes = Vec::new();
        // A line that a cut left half is no event.
        match reader.by_ref().take(LINE_LIMIT).read_until(b'\n', &mut bytes) {
            Ok(1..) if bytes.ends_with(b"\n") => {}
            _ => return,
        }
        let report = event_report(&String::from_utf8_lossy(&bytes));
        if report.is_some_and(|report| seen.send(Seen { at: started.elapsed(), report }).is_err()) {
            return;
        }
    }
}

/// What a line on the second serial port says; nothing for an empty one.
fn event_report(line: &str) -> Option<Report> {
    let line = line.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    if line.is_empty() {
        return None;
    }
    Some(serde_json::from_str(line).map_or_else(|_| Report::Foreign(line.into()), Report::Event))
}

pub fn machine_report(event: &Value) -> Report {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    Report::Machine { event: text(&event["event"]), reason: text(&event["data"]["reason"]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bakelite_spec::event::{Event, What};
    use serde_json::json;

    #[test]
    fn lines_of_events_and_lines_that_are_none() {
        let ready = r#"{"at":1.5,"event":"ready","payload":"none"}"#;
        let expected = Event { at: 1.5, what: What::Ready { payload: "none".into() } };
        assert_eq!(event_report(&format!("\0{ready}\r\n")), Some(Report::Event(expected)));
        assert_eq!(event_report("\r\n"), None);
        for foreign in ["{\"at\":1.5,\"event\":\"unheard-of\"}", "[ 0.1] printk", "{\"at\":1"] {
            assert_eq!(event_report(foreign), Some(Report::Foreign(foreign.into())));
        }
    }

    #[test]
    fn reports_of_the_machine_carry_their_reason() {
        let event = json!({"event": "RESET", "data": {"guest": true, "reason": "guest-reset"}});
        assert_eq!(machine_report(&event), Report::Machine { event: "RESET".into(), reason: "guest-reset".into() });
    }
}
