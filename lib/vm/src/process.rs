//! A running machine: its events, its console, its buttons and its plug.
//!
//! A machine never outlives its [`Running`]: dropping it kills QEMU, and so does the kernel when the thread that
//! started it ends. Pulling the plug is a SIGKILL: what the machine had not written is gone, as with a real plug.
//! QEMU has no firmware of a Raspberry Pi: at each restart of one QEMU ends, and another one begins with what the model of the
//! firmware finds on the medium. Whether it was told to try says the kernel's own last line.

use crate::accel::Accelerator;
use crate::begin::{Again, Begun, Listener, asks_to_try, begin};
use crate::door;
use crate::error::{VmError, at_file};
use crate::lines::words_in;
use crate::machine::Machine;
use crate::qmp::Qmp;
use crate::setup::{Lines, Setup};
use bakelite_spec::event::Event;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Something that was seen of a machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// This host's time since the machine was switched on. The machine's own clock isn't to be trusted under TCG.
    pub at: Duration,
    /// What was seen.
    pub report: Report,
}

/// What can be seen of a machine.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// An event by the machine, from its second serial port.
    Event(Event),
    /// A line on that port that is no event.
    Foreign(String),
    /// Something by QEMU, such as `RESET` or `SHUTDOWN`, and the reason it gives.
    Machine {
        /// QMP's name of the event.
        event: String,
        /// QMP's reason; empty where there is none.
        reason: String,
    },
    /// QEMU has ended.
    Ended,
}

/// Gets the console's bytes as they come.
pub type ConsoleListener = Box<dyn FnMut(&[u8]) + Send>;

/// How long QEMU may take to end once its machine has gone down.
const ENDING: Duration = Duration::from_secs(30);

/// A running machine.
#[derive(Debug)]
pub struct Running {
    child: Child,
    qmp: Qmp,
    seen: Receiver<Seen>,
    /// For a machine that begins anew at each restart; no other keeps its own end open.
    again: Option<Again>,
    started: Instant,
    setup: Setup,
    console: PathBuf,
    words: PathBuf,
}

impl Running {
    /// Switches a machine on. The console goes to the file `console` and to `listen`.
    ///
    /// The machine dies with the calling thread: call it from one that lives as long as the machine should.
    ///
    /// # Errors
    /// When the machine can't be set up, or QEMU doesn't come up.
    pub fn start(machine: &Machine, console: &Path, listen: Option<ConsoleListener>) -> Result<Self, VmError> {
        let setup = machine.set_up()?;
        let words = setup.folder.path().join("qemu.err");
        let (sender, seen) = channel();
        let listener = Listener::new(listen);
        File::create(console).map_err(at_file("making", console))?;
        let started = Instant::now();
        let begun = begin(&setup, console, &words, &listener, (&sender, started))?;
        let again = setup.fixed.then(|| Again {
            machine: machine.clone(),
            listener,
            sender,
            reason: String::new(),
            console: begun.console,
            before: 0,
        });
        let Begun { child, qmp, .. } = begun;
        let mut running = Self { child, qmp, seen, again, started, setup, console: console.into(), words };
        running.execute("cont", json!({}))?;
        Ok(running)
    }

    /// Begins anew what has gone down for a restart; whether it was that. What can't be started is told by QEMU's end.
    fn begin_again(&mut self) -> Result<bool, VmError> {
        let Some(mut again) = self.again.take().filter(|again| again.reason.ends_with("reset")) else {
            return Ok(false);
        };
        if self.wait(ENDING)?.is_none() {
            self.kill().map_err(VmError::Wait)?;
        }
        // All that it has said is in the file then.
        let _ = again.console.join();
        let said = std::fs::read(&self.console).unwrap_or_default();
        let own = &said[said.len().min(again.before)..];
        self.setup.start = again.machine.start_again(&self.setup, asks_to_try(own))?;
        let begun = begin(&self.setup, &self.console, &self.words, &again.listener, (&again.sender, self.started))?;
        (again.console, again.before) = (begun.console, said.len());
        (self.child, self.qmp) = (begun.child, begun.qmp);
        let reason = std::mem::take(&mut again.reason);
        let report = Report::Machine { event: "RESET".into(), reason };
        let _ = again.sender.send(Seen { at: self.started.elapsed(), report });
        self.again = Some(again);
        self.execute("cont", json!({}))?;
        Ok(true)
    }

    /// What is seen, with a restart in place of QEMU's own end. `None` for what isn't to be told.
    fn taken(&mut self, seen: Seen) -> Option<Seen> {
        match (&seen.report, &mut self.again) {
            (Report::Machine { event, reason }, Some(again)) if event == "SHUTDOWN" => {
                again.reason.clone_from(reason);
                (!reason.ends_with("reset")).then_some(seen)
            }
            (Report::Ended, Some(_)) => match self.begin_again() {
                Ok(true) => None,
                Ok(false) => Some(seen),
                Err(error) => {
                    let _ = File::create(&self.words).and_then(|mut file| file.write_all(error.to_string().as_bytes()));
                    Some(seen)
                }
            },
            _ => Some(seen),
        }
    }

    /// Time since the machine was switched on.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// How the machine's instructions are run.
    pub fn accelerator(&self) -> Accelerator {
        self.setup.accelerator
    }

    /// The boot medium's file.
    pub fn medium(&self) -> Option<&Path> {
        self.setup.medium.as_deref()
    }

    /// QEMU's process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// The next thing that is seen, or `None` when the time is over; after [`Report::Ended`] at once.
    pub fn next(&mut self, time: Duration) -> Option<Seen> {
        let deadline = Instant::now() + time;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let seen = self.seen.recv_timeout(left).ok()?;
            if let Some(seen) = self.taken(seen) {
                return Some(seen);
            }
        }
    }

    /// What the console has shown so far.
    pub fn console_text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.console).unwrap_or_default()).into_owned()
    }

    /// Gives a command to QEMU.
    ///
    /// # Errors
    /// When QEMU refuses it or is gone.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, VmError> {
        self.qmp.execute(command, arguments)
    }

    /// Presses the power button.
    ///
    /// # Errors
    /// When QEMU is gone.
    pub fn press_power(&mut self) -> Result<(), VmError> {
        self.execute("system_powerdown", json!({})).map(drop)
    }

    /// Presses the reset button.
    ///
    /// # Errors
    /// When QEMU is gone.
    pub fn press_reset(&mut self) -> Result<(), VmError> {
        self.execute("system_reset", json!({})).map(drop)
    }

    /// Presses Ctrl-Alt-Del.
    ///
    /// # Errors
    /// When QEMU is gone.
    pub fn press_keys_for_reboot(&mut self) -> Result<(), VmError> {
        let key = |name: &str| json!({"type": "qcode", "data": name});
        self.execute("send-key", json!({"keys": [key("ctrl"), key("alt"), key("delete")]})).map(drop)
    }

    /// Types a word of lower-case letters and Enter on the machine's keyboard.
    ///
    /// # Errors
    /// When QEMU doesn't take it.
    pub fn type_line(&mut self, word: &str) -> Result<(), VmError> {
        let keys = word.chars().map(String::from).chain(["ret".to_string()]);
        for key in keys {
            self.execute("send-key", json!({"keys": [{"type": "qcode", "data": key}]}))?;
            // It is held for a tenth of a second, and the next one mustn't come before it is let go.
            std::thread::sleep(Duration::from_millis(250));
        }
        Ok(())
    }

    /// What the screen shows now, in QEMU's own format (PPM), into a file.
    ///
    /// # Errors
    /// When there is no screen.
    pub fn dump_screen(&mut self, path: &Path) -> Result<(), VmError> {
        self.execute("screendump", json!({"filename": path})).map(drop)
    }

    /// Plugs a link's cable in, or pulls it.
    ///
    /// # Errors
    /// When there is no such link.
    pub fn set_link(&mut self, link: u8, up: bool) -> Result<(), VmError> {
        self.execute("set_link", json!({"name": format!("link{link}"), "up": up})).map(drop)
    }

    /// Plugs a stick in: a USB disk of a file.
    ///
    /// # Errors
    /// When QEMU refuses it.
    pub fn plug(&mut self, id: &str, path: &Path) -> Result<(), VmError> {
        let backend = json!({"driver": "raw", "node-name": id,
            "file": {"driver": "file", "filename": path.display().to_string()}});
        // Of a disk that was pulled out QEMU keeps the backend; where there is none, or it is in use, the next call says so.
        let _ = self.execute("blockdev-del", json!({"node-name": id}));
        self.execute("blockdev-add", backend)?;
        let device =
            json!({"driver": "usb-storage", "id": format!("{id}-device"), "drive": id, "bus": "xhci.0", "serial": id});
        self.execute("device_add", device).map(drop)
    }

    /// Pulls a disk out, without a warning.
    ///
    /// # Errors
    /// When there is no such disk, or its bus doesn't allow it.
    pub fn unplug(&mut self, id: &str) -> Result<(), VmError> {
        self.execute("device_del", json!({"id": format!("{id}-device")})).map(drop)
    }

    /// Bytes written since the machine was switched on, to the boot medium (`boot`) and each disk (`disk0` and so on).
    ///
    /// # Errors
    /// When QEMU is gone.
    pub fn bytes_written(&mut self) -> Result<BTreeMap<String, u64>, VmError> {
        let all = self.execute("query-blockstats", json!({}))?;
        let of = |entry: &Value| {
            let name = entry["device"].as_str().filter(|name| *name == "boot" || name.starts_with("disk"))?;
            Some((name.to_string(), entry["stats"]["wr_bytes"].as_u64()?))
        };
        Ok(all.as_array().into_iter().flatten().filter_map(of).collect())
    }

    /// Waits until QEMU has ended by itself; `None` when the time is over.
    ///
    /// # Errors
    /// When its process can't be waited for.
    pub fn wait(&mut self, time: Duration) -> Result<Option<ExitStatus>, VmError> {
        let deadline = Instant::now() + time;
        loop {
            if let Some(status) = self.child.try_wait().map_err(VmError::Wait)? {
                return Ok(Some(status));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Has QEMU end at once but in order, so that what it writes itself is whole; for the machine it is a pulled plug.
    ///
    /// # Errors
    /// When QEMU doesn't end.
    pub fn end(mut self) -> Result<(), VmError> {
        self.execute("quit", json!({}))?;
        let ended = self.wait(Duration::from_secs(60))?;
        ended.map(drop).ok_or_else(|| VmError::Refused { act: "quit".into(), problem: "it goes on".into() })
    }

    /// Pulls the plug.
    ///
    /// # Errors
    /// When QEMU's process can't be waited for.
    pub fn cut_power(mut self) -> Result<(), VmError> {
        self.kill().map_err(VmError::Wait)
    }

    /// The last words of QEMU itself.
    pub fn last_words(&self) -> String {
        words_in(&self.words)
    }

    fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A process that is gone already can't be killed; nothing else goes wrong here.
        let _ = self.kill();
    }
}

/// Runs a machine on this terminal until it is switched off; QEMU's own keys are behind Ctrl-A (Ctrl-A x ends it).
///
/// # Errors
/// When the machine can't be set up or QEMU can't be started.
pub fn run_interactive(machine: &Machine) -> Result<ExitStatus, VmError> {
    let setup = machine.set_up()?;
    door::command(&setup.program)
        .args(setup.arguments(Lines::Terminal))
        .status()
        .map_err(|source| VmError::Start { program: setup.program.display().to_string(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::tests::kernel;
    use crate::image::tests::made_up;
    use crate::machine::{Firmware, Network};
    use crate::media::Disk;

    #[test]
    fn a_kernel_is_booted_heard_and_cut() {
        let (Some(kernel), Some(_)) = (kernel(), door::find("qemu-system-x86_64")) else {
            eprintln!("SKIPPED: needs qemu-system-x86_64 and a kernel in /boot or BAKELITE_TEST_KERNEL");
            return;
        };
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("made-up,with-a-comma.img");
        made_up(&image, &kernel, "bakelite-a+3.conf");
        let network = Network::User { forward: Vec::new(), restricted: true, links: 2 };
        let disks =
            vec![Disk::parse("nvme:1G").unwrap(), Disk::parse("usb:1G").unwrap(), Disk::parse("sd:1G").unwrap()];
        let arguments = "console=ttyS0 panic=0 loglevel=7 hello=there";
        let machine = Machine {
            memory: 512,
            firmware: Firmware::Direct,
            size: 3 << 30,
            disks,
            network,
            accelerator: Some(Accelerator::Tcg),
            kernel_arguments: arguments.into(),
            ..Machine::new(&image)
        };
        let (heard, hear) = channel();
        let listen: ConsoleListener = Box::new(move |bytes| heard.send(bytes.len()).unwrap_or_default());
        let mut running = Running::start(&machine, &folder.path().join("console.log"), Some(listen)).unwrap();
        let medium = running.medium().unwrap().to_path_buf();
        assert_eq!(std::fs::metadata(&medium).unwrap().len(), 3 << 30);
        running.set_link(1, false).unwrap();
        assert!(running.set_link(7, false).is_err());
        let stick = folder.path().join("stick");
        crate::media::blank(&stick, 1 << 20).unwrap();
        running.plug("stick", &stick).unwrap();
        running.unplug("stick").unwrap();
        assert_eq!(running.bytes_written().unwrap()["boot"], 0);
        let deadline = Instant::now() + Duration::from_secs(60);
        while !running.console_text().contains("hello=there") && Instant::now() < deadline {
            assert_ne!(
                running.next(Duration::from_millis(200)).map(|seen| seen.report),
                Some(Report::Ended),
                "{}",
                running.last_words()
            );
        }
        assert!(running.console_text().contains("bakelite.slot=a quiet console=ttyS0"), "{}", running.console_text());
        assert!(hear.try_iter().sum::<usize>() > 0);
        running.press_reset().unwrap();
        let reset = std::iter::from_fn(|| running.next(Duration::from_secs(5))).map(|seen| seen.report);
        let is_reset = |report: &Report| matches!(report, Report::Machine { event, .. } if event == "RESET");
        assert!(reset.take(20).any(|report| is_reset(&report)));
        assert!(running.wait(Duration::ZERO).unwrap().is_none());
        let process = running.process();
        running.cut_power().unwrap();
        assert!(!Path::new(&format!("/proc/{process}")).exists());
        assert!(!medium.exists(), "the copy outlives its machine");
    }

    #[test]
    fn qemu_that_refuses_its_arguments_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("made-up.img");
        made_up(&image, b"no kernel", "bakelite-a.conf");
        if door::find("qemu-system-x86_64").is_none() {
            eprintln!("SKIPPED: needs qemu-system-x86_64");
            return;
        }
        let machine =
            Machine { firmware: Firmware::Direct, accelerator: Some(Accelerator::Tcg), ..Machine::new(&image) };
        let error = Running::start(&machine, &folder.path().join("console.log"), None).unwrap_err().to_string();
        assert!(error.contains("ended at its start") && error.contains("kernel"), "{error}");
    }
}
