//! Beginning: QEMU is started and its lines are connected, for a machine's first start and, where QEMU has no firmware for it, for
//! each one that follows.

use crate::door;
use crate::error::{VmError, at_file};
use crate::lines::{connect, copy_console, machine_report, read_events, words_in};
use crate::machine::Machine;
use crate::process::{ConsoleListener, Report, Seen};
use crate::qmp::Qmp;
use crate::setup::{Lines, Setup};
use bakelite_spec::update::TRYBOOT;
use std::fmt;
use std::fs::File;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What the kernel says when it is restarted with words for the firmware (kernel/reboot.c).
const RESTARTING: &str = "Restarting system with command '";

/// What a machine needs to begin anew.
#[derive(Debug)]
pub struct Again {
    pub machine: Machine,
    pub listener: Listener,
    pub sender: Sender<Seen>,
    /// Why QEMU's machine went down, once it has.
    pub reason: String,
    pub console: JoinHandle<()>,
    /// Bytes of the console before this start.
    pub before: usize,
}

/// Who listens to the console, start after start.
#[derive(Clone)]
pub struct Listener(Arc<Mutex<Option<ConsoleListener>>>);

impl Listener {
    pub fn new(listen: Option<ConsoleListener>) -> Self {
        Self(Arc::new(Mutex::new(listen)))
    }

    pub fn hear(&self, bytes: &[u8]) {
        let mut listener = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(listen) = listener.as_mut() {
            listen(bytes);
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a listener")
    }
}

/// QEMU, begun and connected, and its console's reader.
pub struct Begun {
    pub child: Child,
    pub qmp: Qmp,
    pub console: JoinHandle<()>,
}

/// Whether a kernel has told the firmware of a Raspberry Pi to try, by what it said on the console.
pub fn asks_to_try(console: &[u8]) -> bool {
    String::from_utf8_lossy(console).contains(&format!("{RESTARTING}{TRYBOOT}'"))
}

/// Starts QEMU and connects its lines; its machine waits for `cont`.
pub fn begin(
    setup: &Setup,
    console: &Path,
    words: &Path,
    listener: &Listener,
    (sender, started): (&Sender<Seen>, Instant),
) -> Result<Begun, VmError> {
    // Socket names must be short; the folder of the media may not be.
    let sockets = tempfile::Builder::new().prefix("bakelite-").tempdir().map_err(VmError::Prepare)?;
    let bind = |name: &str| {
        let listener = UnixListener::bind(sockets.path().join(name)).map_err(VmError::Prepare)?;
        listener.set_nonblocking(true).map_err(VmError::Prepare)?;
        Ok::<_, VmError>(listener)
    };
    let listeners = [bind("console")?, bind("events")?, bind("qmp")?];
    let log = File::create(words).map_err(at_file("making", words))?;
    let mut child = door::command(&setup.program)
        .args(setup.arguments(Lines::Sockets(sockets.path())))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(|source| VmError::Start { program: setup.program.display().to_string(), source })?;
    let connected = connect(&mut child, &listeners, words);
    let prepared = connected.and_then(|[console_line, event_line, control]| {
        let file = File::options().append(true).open(console).map_err(at_file("opening", console))?;
        let (listener, events, seen) = (listener.clone(), sender.clone(), sender.clone());
        let console = std::thread::spawn(move || copy_console(console_line, file, &listener));
        std::thread::spawn(move || read_events(event_line, &events, started));
        let qmp = Qmp::start(control, move |event| {
            let report = event.map_or(Report::Ended, |event| machine_report(&event));
            // Whoever listened is gone: then nobody needs to know.
            let _ = seen.send(Seen { at: started.elapsed(), report });
        })?;
        Ok((qmp, console))
    });
    match prepared {
        Ok((qmp, console)) => Ok(Begun { child, qmp, console }),
        Err(error) => {
            // QEMU connects its lines first and looks at its devices and files afterwards.
            std::thread::sleep(Duration::from_millis(200));
            let ended = child.try_wait().map_err(VmError::Wait)?;
            if let Some(status) = ended {
                return Err(VmError::Ended { status: status.to_string(), words: words_in(words) });
            }
            let _ = child.kill();
            let _ = child.wait();
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_try_is_asked_for_by_the_kernels_own_words_alone() {
        assert!(asks_to_try(b"[  61.2] reboot: Restarting system with command '0 tryboot'\r\n"));
        for other in ["reboot: Restarting system", "reboot: Restarting system with command 'x'", "0 tryboot"] {
            assert!(!asks_to_try(other.as_bytes()), "{other}");
        }
    }
}
