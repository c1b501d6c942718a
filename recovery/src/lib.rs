//! The medic: runs from a recovery stick, before anything of the machine's own medium is mounted, and looks at all of it.
//!
//! First everything is only read, then a page says what is wrong, then what has one safe answer is done, one action at a
//! time with a new look after each (law 2). A healthy machine stays as it is, bit for bit. What is decided is decided in
//! `bakelite_plan::recovery`; datastores are left to the machine, which heals them as it starts. Init has proved the stick's
//! manifest and the system that this runs from; what else is taken from the stick is compared with its sum first.

mod act;
mod boot;
mod database;
mod initramfs;
mod probe;
mod report;
mod volume;

use bakelite_disk::DiskError;
use bakelite_plan::recovery::{Action, Finding, Remedy, decide, next};
use bakelite_spec::event::Outcome;
use bakelite_sys::{SysError, words};
use bakelite_trust::recovery::{MANIFEST, Manifest, PLACE, RecoveryError, StickFile};
use probe::Probe;
use std::path::{Path, PathBuf};

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
    /// The stick's manifest can't be read.
    #[error("the stick's manifest: {0}")]
    Manifest(#[from] RecoveryError),
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
pub fn run(stick: &str, own: &str) -> Result<Outcome, MedicError> {
    let stick = Stick::open(stick)?;
    let mut probe = Probe::new(&stick, own);
    let facts = probe.look()?;
    let first = decide(&facts);
    let image = &stick.manifest.image;
    say(&format!("stick of image {} for {}, Bakelite {}", image.image, image.board_name, image.version));
    report::page(&first).iter().for_each(|line| say(line));
    let mut done: Vec<Action> = Vec::new();
    let mut failed = Vec::new();
    let (mut facts, mut findings) = (facts, first.clone());
    while let Some(action) = next(&findings).cloned() {
        let action = match action {
            // What fsck.fat can't put in order is made anew.
            Action::MendBoot if done.contains(&Action::MendBoot) => Action::MakeBoot,
            action => action,
        };
        if done.contains(&action) {
            failed.push(format!("{}: it didn't hold; the medium may be worn out", report::words(&action)));
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
    let verdict = verdict(&findings, done.len(), needs_person);
    say(&verdict);
    let told =
        report::Told { facts: &facts, first: &first, done: &done, failed: &failed, last: &findings, verdict: &verdict };
    match report::write(&stick, &told) {
        Ok(path) => say(&format!("the report is on the stick: {path}")),
        Err(error) => say(&format!("the report can't be written to the stick: {}", words(&error))),
    }
    Ok(match (needs_person, done.is_empty()) {
        (true, _) => Outcome::Refused,
        (false, true) => Outcome::GoOn,
        (false, false) => Outcome::Reboot,
    })
}

fn verdict(findings: &[Finding], done: usize, needs_person: bool) -> String {
    let itself = findings.iter().any(|finding| finding.remedy == Remedy::Machine);
    match (needs_person, done, itself) {
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
