//! The medic: runs from a recovery stick, before anything of the machine's own medium is mounted, and looks at all of it.
//!
//! First everything is only read, then a page says what is wrong, then what has one safe answer is done, one action at a
//! time with a new look after each (law 2). A healthy machine stays as it is, bit for bit. What is decided is decided in
//! `bakelite_plan::recovery`; datastores are left to the machine, which heals them as it starts. Init has proved the stick's
//! manifest and the system that this runs from; what else is taken from the stick is compared with its sum first.

mod act;
mod boot;
mod database;
mod export;
mod initramfs;
mod install;
mod installer;
mod probe;
mod report;
mod volume;

use bakelite_disk::DiskError;
use bakelite_plan::disk::Disk;
use bakelite_plan::recovery::{Action, Finding, Next, Remedy, decide, export::is_due, next};
use bakelite_spec::event::Outcome;
use bakelite_sys::mount::{MountFlags, remount};
use bakelite_sys::{SysError, durable, words};
use bakelite_trust::document::DocumentError;
use bakelite_trust::recovery::{MANIFEST, Manifest, PLACE, StickFile};
use probe::Probe;
use std::path::{Path, PathBuf};

const FLAGS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// What the medic can't do.
#[derive(Debug, thiserror::Error)]
pub enum MedicError {
    /// The system refused something.
    #[error(transparent)]
    System(#[from] SysError),
    /// A disk refused something.
    #[error("on {disk}")]
    Disk {
        /// Its name.
        disk: String,
        /// Why.
        source: DiskError,
    },
    /// The settings that the stick's own start has brought can't be read.
    #[error("the settings in the stick's initramfs: {0}")]
    Baked(serde_json::Error),
    /// The stick's table of machines can't be read.
    #[error("the stick's table of machines: {0}")]
    Rows(serde_json::Error),
    /// The stick's manifest can't be read.
    #[error("the stick's manifest: {0}")]
    Manifest(#[from] DocumentError),
    /// A file of the stick isn't what was signed.
    #[error("{0} on the stick isn't what was signed: the stick is damaged")]
    Changed(String),
    /// Something isn't there that was there a moment ago.
    #[error("{0} isn't there any more")]
    Gone(String),
    /// What was read back isn't what was written.
    #[error("{0} doesn't keep what is written to it")]
    Forgets(String),
}

/// The one who knows disks, as firstboot does: the same words choose one for data and one for a system.
pub trait Disks {
    /// All disks, with what was found out about them so far.
    fn all(&mut self) -> Vec<Disk>;

    /// Finds out what the disk with a key holds, while the kernel refuses every write to it; `look_into`: also whether a file
    /// system is an empty one.
    fn prove(&mut self, key: &str, look_into: bool);
}

/// The stick that this runs from.
pub(crate) struct Stick {
    /// Where it is mounted.
    root: PathBuf,
    /// What is on it.
    manifest: Manifest,
    /// Its partition's name.
    name: String,
}

impl Stick {
    fn open(name: &str) -> Result<Self, MedicError> {
        let root = Path::new(PLACE);
        let path = root.join(MANIFEST);
        let bytes = std::fs::read(&path).map_err(|source| SysError::Read { path, source })?;
        Ok(Self { root: root.into(), manifest: Manifest::parse(&bytes)?, name: name.into() })
    }

    /// Has something written onto it, durably.
    fn change(&self, act: impl FnOnce() -> Result<(), SysError>) -> Result<(), MedicError> {
        remount(&self.root, FLAGS)?;
        let written = act().and_then(|()| durable::sync_file_system(&self.root));
        remount(&self.root, FLAGS | MountFlags::RDONLY)?;
        Ok(written?)
    }

    /// A file's bytes, which are those that were signed.
    fn read(&self, file: &StickFile) -> Result<Vec<u8>, MedicError> {
        let path = self.root.join(&file.path);
        let mut bytes = Vec::new();
        let opened = std::fs::File::open(&path).map_err(|source| SysError::Read { path: path.clone(), source })?;
        let summed = bakelite_sys::sum::pour(opened, &mut bytes).map_err(|source| SysError::Read { path, source })?;
        if summed == (file.size, file.sha256.clone()) { Ok(bytes) } else { Err(MedicError::Changed(file.path.clone())) }
    }
}

/// Runs the medic from the partition of a stick. `own` is the disk that the machine was started from, if that is known. What it
/// says goes to the output, a line each.
///
/// # Errors
/// When the stick itself can't be read, or a disk can't be looked at.
pub fn run(stick: &str, own: &str, disks: &mut dyn Disks) -> Result<Outcome, MedicError> {
    let stick = Stick::open(stick)?;
    let mut probe = Probe::new(&stick, own, disks)?;
    let facts = probe.look()?;
    let first = decide(&facts);
    let image = &stick.manifest.image;
    say(&format!("stick of image {} for {}, Bakelite {}", image.image, image.board_name, image.version));
    report::page(&first).iter().for_each(|line| say(line));
    let mut done: Vec<Action> = Vec::new();
    let mut failed = Vec::new();
    let (mut facts, mut findings) = (facts, first.clone());
    loop {
        let action = match next(&findings, &done) {
            Next::Nothing => break,
            Next::Do(action) => action,
            Next::DoesntHold(action) => {
                failed.push(format!("{}: it didn't hold; the medium may be worn out", report::words(&action)));
                break;
            }
        };
        if let Action::Install(_) = action
            && !probe.may_install()
        {
            failed.push("nobody said yes, and nothing was written".into());
            break;
        }
        match probe.apply(&action, &facts) {
            Ok(()) => say(&format!("did: {}", report::words(&action))),
            Err(error) => {
                failed.push(format!("{}: {}", report::words(&action), words(&error)));
                break;
            }
        }
        done.push(action);
        facts = probe.look()?;
        findings = decide(&facts);
    }
    failed.iter().for_each(|line| say(&format!("FAILED: {line}")));
    if !done.is_empty() {
        report::page(&findings).iter().for_each(|line| say(line));
    }
    let needs_person = !failed.is_empty() || findings.iter().any(|finding| finding.remedy == Remedy::Person);
    if let (false, [medium]) = (needs_person, &facts.media[..]) {
        probe.settle_record(&medium.disk, done.contains(&Action::MakeTable))?;
    }
    let verdict = verdict(&findings, &done, needs_person, stick.manifest.installs);
    let mut notes = Vec::new();
    if is_due(&facts, &findings, !failed.is_empty()) {
        let exported = probe.export(&facts);
        let lines = exported.unwrap_or_else(|error| vec![format!("EXPORT: it can't be copied: {}", words(&error))]);
        lines.iter().for_each(|line| say(line));
        notes.extend(lines);
    }
    say(&verdict);
    let told = report::Told {
        facts: &facts,
        first: &first,
        done: &done,
        failed: &failed,
        last: &findings,
        verdict: &verdict,
        exported: &notes,
    };
    match report::write(&stick, &told) {
        Ok(path) => say(&format!("the report is on the stick: {path}")),
        Err(error) => say(&format!("the report can't be written to the stick: {}", words(&error))),
    }
    Ok(match (needs_person, done.is_empty()) {
        (true, _) => Outcome::Refused,
        (false, true) => Outcome::GoOn,
        (false, false) if stick.manifest.installs && is_new(&done) => Outcome::PowerOff,
        (false, false) => Outcome::Reboot,
    })
}

/// Whether the machine has got its system just now.
fn is_new(done: &[Action]) -> bool {
    done.iter().any(|action| matches!(action, Action::Install(_)))
}

fn verdict(findings: &[Finding], done: &[Action], needs_person: bool, installs: bool) -> String {
    let itself = findings.iter().any(|finding| finding.remedy == Remedy::Machine);
    match (needs_person, done.len(), itself) {
        (false, ..) if is_new(done) && installs => {
            "RESULT: the machine has its system, and is switched off now. Pull the stick out, and switch it on".into()
        }
        (false, ..) if is_new(done) => {
            "RESULT: the machine has its system; it starts again now. Leave the stick in: it takes its backup from there"
                .into()
        }
        (true, _, _) => "RESULT: a person is needed; read out the lines with CALL".into(),
        (false, 0, false) => "RESULT: nothing is wrong, and nothing was written".into(),
        (false, 0, true) => "RESULT: nothing was written; the machine does the rest as it starts".into(),
        (false, done, _) => format!("RESULT: {done} repairs; the machine starts again now"),
    }
}

/// One line; init tells it on all consoles.
fn say(line: &str) {
    println!("{line}");
    log::info!("{line}");
}
