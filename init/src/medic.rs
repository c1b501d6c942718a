//! The recovery stick, as the initramfs meets it: found, believed or not, and the medic run from it before anything of the
//! machine's own medium is mounted.
//!
//! PID 1 only asks which partition looks like one, and waits for a child. The child mounts for itself alone, proves the
//! stick's signature against the `owner.keys` that are baked here and the system's sum, and becomes the medic; whatever it
//! leaves mounted goes with it. What it says on its output is told like everything else. A stick that nobody here has
//! signed is said to be one, and left alone.

use crate::baked::Baked;
use crate::events::Journal;
use crate::light::{self, Light, Shows};
use crate::modules::{self, Modules};
use crate::switch::{NEW_ROOT, enter};
use crate::{INITRAMFS_SELF, cmdline, shutdown};
use bakelite_disk::signature;
use bakelite_spec::cmdline::{Cmdline, FROM_STICK};
use bakelite_spec::event::{Outcome, What};
use bakelite_sys::mount::{MountFlags, apart, mount, mount_file};
use bakelite_sys::sum::pour;
use bakelite_sys::{SysError, block, durable, machine, names_in, read_text, tool, words};
use bakelite_trust::document::DocumentError;
use bakelite_trust::recovery::{LIMIT, MANIFEST, Manifest, PLACE, SYSTEM};
use bakelite_trust::{signature as signed, stick};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// The part of this program's work that becomes the medic.
pub const PART: &str = "medic";
/// How long a USB storage device may take to become a disk, once the machine's own medium is there.
const ENUMERATION: Duration = Duration::from_secs(3);
/// How long a stick is waited for that the machine was started from.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a stick's FAT and the squashfs in it need, and the light, and no device asks for.
const DRIVERS: [&str; 5] = ["vfat", "nls_cp437", "nls_ascii", "loop", light::MODULE];
/// The medic in the stick's system.
const PROGRAM: &str = "/usr/lib/bakelite/firstboot";
/// USB's class of mass storage.
const STORAGE: &str = "08";
/// Ends with nothing to tell: it was no recovery stick.
const NONE: u8 = 3;
/// How long what was done stands on the screen before the machine is switched off.
const SHOWN: Duration = Duration::from_secs(10);
/// Lines that a screen has room for.
const LINES: usize = 23;

/// What is known of sticks in this boot.
pub struct Medic {
    started_from_stick: bool,
    /// Without a key nobody's stick is believed, and none is looked for.
    has_no_owner: bool,
    seen: BTreeSet<String>,
    asked: Option<Duration>,
    /// The device of the stick from which the medic ran.
    ran_from: Option<PathBuf>,
    /// What it has said.
    page: Vec<String>,
    /// What somebody sees who has no screen.
    light: Light,
}

impl Medic {
    /// Nothing is known yet.
    pub fn new(cmdline: &Cmdline, has_no_owner: bool, light: Light) -> Self {
        let started_from_stick = cmdline.values(FROM_STICK).next().is_some();
        let (seen, page) = (BTreeSet::new(), Vec::new());
        Self { started_from_stick, has_no_owner, seen, asked: None, ran_from: None, page, light }
    }

    /// Whether firmware has read this kernel from the stick itself.
    pub fn is_started_from_stick(&self) -> bool {
        self.started_from_stick
    }

    /// What the medic has said; nothing where it hasn't run.
    pub fn page(&self) -> &[String] {
        &self.page
    }

    /// Whether the medic has run in this boot.
    pub fn has_ended(&self) -> bool {
        self.ran_from.is_some()
    }

    /// Has the medic run if a stick is there; whether the machine has to be looked at again, or a stick may still come. Restarts
    /// the machine where the medic asks for it, and when its stick is pulled out again.
    pub fn has_turn(&mut self, own: Option<&str>, journal: &mut Journal) -> bool {
        if let Some(stick) = &self.ran_from {
            if !stick.exists() {
                journal.say(What::Effect { text: "the recovery stick was pulled out; starting again".into() });
                shutdown::at_once();
            }
            return false;
        }
        if self.has_no_owner {
            return false;
        }
        let names: Vec<String> = places(own).into_iter().filter(|name| self.seen.insert(name.clone())).collect();
        for name in names.iter().filter(|name| is_labelled(name)) {
            self.page.clear();
            let outcome = run(name, own, &mut self.page, &mut self.light, journal);
            if let Some(shows) = outcome.map(shown) {
                self.light.show(shows);
            }
            match outcome {
                Some(Outcome::Reboot) => {
                    journal.say(What::Shutdown { action: "reboot".into(), why: "the machine was repaired".into() });
                    shutdown::at_once()
                }
                Some(Outcome::PowerOff) => {
                    journal.say(What::Shutdown { action: "poweroff".into(), why: "the machine has its system".into() });
                    std::thread::sleep(SHOWN);
                    shutdown::off_at_once()
                }
                Some(_) => {
                    self.ran_from = Some(Path::new("/dev").join(name));
                    return true;
                }
                None => {}
            }
        }
        let now = machine::uptime();
        let waited = now - *self.asked.get_or_insert(now);
        (self.started_from_stick && waited < PATIENCE) || (waited < ENUMERATION && is_enumerating(Path::new("/")))
    }
}

/// What the light shows of an outcome.
fn shown(outcome: Outcome) -> Shows {
    match outcome {
        // It is switched off in a moment, and may be taken away.
        Outcome::PowerOff => Shows::Working,
        // The machine starts, now or again.
        Outcome::GoOn | Outcome::Reboot => Shows::Starting,
        _ => Shows::NeedsHuman,
    }
}

/// Partitions, and disks without any, that aren't the machine's own.
fn places(own: Option<&str>) -> Vec<String> {
    let others = block::disks(Path::new("/")).into_iter().filter(|disk| Some(disk.name.as_str()) != own);
    others.flat_map(|disk| disk.places()).collect()
}

/// Whether a partition holds a FAT with the label of our sticks.
fn is_labelled(name: &str) -> bool {
    let look = || {
        let (mut medium, length) = block::open(&Path::new("/dev").join(name), false).ok()?;
        let kinds = signature::recognise(&mut medium, 0, length).ok()?;
        let kind = kinds.into_iter().find(|kind| *kind == "FAT")?;
        signature::label(&mut medium, 0, kind).ok()
    };
    look().is_some_and(|label| label == stick::LABEL)
}

/// Whether a USB storage device has no disk yet.
fn is_enumerating(root: &Path) -> bool {
    let place = |path: PathBuf| path.canonicalize().ok();
    let disks: Vec<PathBuf> =
        names_in(root.join("sys/block")).iter().filter_map(|name| place(root.join("sys/block").join(name))).collect();
    let folder = root.join("sys/bus/usb/devices");
    names_in(&folder).iter().map(|name| folder.join(name)).any(|device| {
        let class = read_text(device.join("bInterfaceClass")).unwrap_or_default();
        class.trim() == STORAGE
            && place(device).is_some_and(|device| !disks.iter().any(|disk| disk.starts_with(&device)))
    })
}

/// Runs the medic from a partition to its end; `None` where there is none that is believed.
fn run(
    name: &str,
    own: Option<&str>,
    page: &mut Vec<String>,
    light: &mut Light,
    journal: &mut Journal,
) -> Option<Outcome> {
    let (reader, writer) = std::io::pipe().ok()?;
    let command = [INITRAMFS_SELF, PART, name, own.unwrap_or_default()].map(String::from);
    let started = tool::spawn(tool::Start {
        command: &command,
        environment: &BTreeMap::new(),
        output: Some(writer.into()),
        cgroup: None,
        open_files: None,
        oom_score: 0,
    });
    let child = started.inspect_err(|error| log::warn!("{}", words(error))).ok()?;
    for line in BufReader::new(reader).lines().map_while(Result::ok) {
        // From its first word on: before that it may be nobody's stick.
        light.show(Shows::Mending);
        journal.say(What::Effect { text: format!("recovery: {line}") });
        page.push(line);
        journal.consoles.screen(&page[page.len().saturating_sub(LINES)..].join("\n"));
    }
    let child = rustix::process::Pid::from_raw(child.cast_signed())?;
    let status = rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty()).ok()??.1.exit_status();
    match (Outcome::read(status), status) {
        (Outcome::Died, Some(status)) if status == i32::from(NONE) => None,
        (outcome, _) => Some(outcome),
    }
}

/// Why a stick isn't used.
#[derive(Debug, thiserror::Error)]
enum StickError {
    #[error(transparent)]
    System(#[from] SysError),
    #[error(transparent)]
    Refused(#[from] DocumentError),
    #[error("{path} on it isn't what was signed: the stick is damaged")]
    Changed { path: &'static str },
    #[error("{}", .0)]
    Baked(String),
}

/// The child's part; returns only where the stick isn't used.
pub fn become_medic(words_of: &[String]) -> ExitCode {
    let [name, own] = words_of else { return ExitCode::FAILURE };
    match enter_stick(name) {
        Ok(true) => {
            let error = tool::become_program(PROGRAM, &[PART, name, own], &BTreeMap::new());
            println!("the recovery stick on {name} can't be used: {}", words(&error));
        }
        Ok(false) => {}
        Err(error) => println!("ignored the recovery stick on {name}: {}", words(&error)),
    }
    ExitCode::from(NONE)
}

/// Mounts the stick, proves it and moves to its system; whether it is one.
fn enter_stick(name: &str) -> Result<bool, StickError> {
    Modules::read(&modules::folder(), &cmdline()).load(&DRIVERS.map(String::from));
    apart()?;
    durable::make_folder(PLACE)?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount(&format!("/dev/{name}"), PLACE, "vfat", flags, "umask=0077,shortname=winnt")?;
    let root = Path::new(PLACE);
    if !root.join(MANIFEST).exists() {
        return Ok(false);
    }
    let (bytes, signature) = (read(&root.join(MANIFEST))?, read(&root.join(format!("{MANIFEST}{}", signed::ENDING)))?);
    let owners = Baked::read().map_err(|error| StickError::Baked(words(&error)))?.appliance.owner.keys;
    let manifest = Manifest::read(&owners, &bytes, &String::from_utf8_lossy(&signature))?;
    println!("found the recovery stick on {name}, signed by this machine's owner");
    let system = root.join(SYSTEM);
    let opened = File::open(&system).map_err(|source| SysError::Read { path: system.clone(), source })?;
    let summed = pour(opened, std::io::sink()).map_err(|source| SysError::Read { path: system.clone(), source })?;
    if manifest.system().is_none_or(|said| summed != (said.size, said.sha256.clone())) {
        return Err(StickError::Changed { path: SYSTEM });
    }
    durable::make_folder(NEW_ROOT)?;
    mount_file(&system, Path::new(NEW_ROOT), "squashfs")?;
    enter(false)?;
    Ok(true)
}

fn read(path: &Path) -> Result<Vec<u8>, SysError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LIMIT).read_to_end(&mut bytes));
    read.map(|_| bytes).map_err(|source| SysError::Read { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_light_says_whether_somebody_has_to_come() {
        assert_eq!([Outcome::Refused, Outcome::Died, Outcome::TryAgain].map(shown), [Shows::NeedsHuman; 3]);
        assert_eq!([Outcome::GoOn, Outcome::Reboot].map(shown), [Shows::Starting; 2]);
        assert_eq!(shown(Outcome::PowerOff), Shows::Working);
    }

    #[test]
    fn a_usb_storage_device_without_a_disk_is_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        let interface = "sys/devices/usb1/1-1/1-1:1.0";
        let folders = [interface, "sys/bus/usb/devices", "sys/block", "sys/devices/pci/nvme/nvme0n1"];
        folders.iter().for_each(|folder| durable::make_folder(at(folder)).unwrap());
        symlink(at("sys/devices/pci/nvme/nvme0n1"), at("sys/block/nvme0n1")).unwrap();
        assert!(!is_enumerating(root.path()));
        symlink(at(interface), at("sys/bus/usb/devices/1-1:1.0")).unwrap();
        for (class, waits) in [("03\n", false), ("08\n", true)] {
            durable::replace(at(interface).join("bInterfaceClass"), class.as_bytes(), 0o444).unwrap();
            assert_eq!(is_enumerating(root.path()), waits);
        }
        // A card reader without a card has a disk as well.
        let disk = format!("{interface}/host2/target2:0:0/2:0:0:0/block/sda");
        durable::make_folder(at(&disk)).unwrap();
        symlink(at(&disk), at("sys/block/sda")).unwrap();
        assert!(!is_enumerating(root.path()));
    }
}
