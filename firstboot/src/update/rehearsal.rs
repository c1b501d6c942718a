//! The rehearsal of an update: the new k3s opens a copy of the database, apart from all that runs, before anything counts.
//!
//! It runs from the slot that was written, in a control group, a network and mounts of its own ([`super::stage`]), and is killed with
//! all that it started, whatever comes. It has to say that it is ready, to stay so for a moment, and to have kept every object.
//! What can't be rehearsed, for want of memory or room, is told and left to the trial. The running k3s notices only the load.

use super::{Tell, slot, stage};
use crate::disks::Looked;
use crate::error::FirstbootError;
use crate::probe;
use bakelite_datastore::names;
use bakelite_plan::address::DUMMY;
use bakelite_plan::update::rehearsal::{self, FOLDER, HELD, MEMORY, Means};
use bakelite_plan::{Settings, cluster, identity};
use bakelite_spec::bundle::Bundle;
use bakelite_spec::k3s;
use bakelite_spec::records::ClusterBorn;
use bakelite_spec::status::paths;
use bakelite_spec::update::some_of;
use bakelite_sys::{durable, group, machine, mount, notify, read_text, tool, words};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// So long it may take to become ready: it unpacks itself first, and k3s on a slow card needs minutes (k3s.md 2.6).
const LIMIT: Duration = Duration::from_secs(600);
/// So long it has to stay ready: some ways to die come right after the word (k3s.md 11.1).
const STAYS: Duration = Duration::from_secs(5);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);
/// For the kernel to end what was killed.
const GONE: Duration = Duration::from_secs(20);
/// The control group, beside those of init's units.
const GROUP: &str = "/sys/fs/cgroup/bakelite.slice/update-rehearsal";
/// The end of its log that is looked at, in bytes.
const END: usize = 16 << 10;

/// How it went.
enum Went {
    /// It was ready, and everything is there.
    Well,
    /// It says nothing of the update, for this reason.
    Unknown(String),
    /// Why the update isn't taken.
    Badly(String),
}

/// Rehearses an update whose system was written into a slot.
///
/// # Errors
/// When the new k3s doesn't live with the copy; nothing of the running cluster was touched then.
pub fn hold(
    root: &Path,
    bundle: &Bundle,
    slot: &str,
    settings: &Settings,
    tell: Tell<'_>,
) -> Result<(), FirstbootError> {
    let facts = probe::facts(root, &Looked::by_early(root), 0);
    let born = match rehearsal::due(bundle, &facts, settings, means()) {
        Ok(born) => born,
        Err(why) => {
            if !why.is_empty() {
                tell(&format!("Its k3s isn't rehearsed on a copy of the database: {why}."));
            }
            return Ok(());
        }
    };
    tell("Its k3s is rehearsed on a copy of the database; what runs, runs on.");
    let scratch = Scratch::make()?;
    let went = scratch.prepare(&born).and_then(|before| {
        let device = slot::partition(root, slot)?.0;
        scratch.play(&device, &settings.manifest.payload.program, &before)
    });
    drop(scratch);
    match went.unwrap_or_else(|error| Went::Unknown(words(&error))) {
        Went::Well => tell("It was ready, and each object is there."),
        Went::Unknown(why) => tell(&format!("The rehearsal says nothing: {why}. The update goes on without it.")),
        Went::Badly(why) => {
            let why =
                format!("its k3s was tried on a copy of this cluster's database, and {why}; what runs was not touched");
            return Err(FirstbootError::NotRehearsed { bundle: bundle.words(), why });
        }
    }
    Ok(())
}

fn means() -> Means {
    let database = Path::new(cluster::DATABASE);
    let size = |path: &Path| path.metadata().map_or(0, |found| found.len());
    Means {
        memory: machine::available_memory(),
        room: mount::free(Path::new(FOLDER).parent().unwrap_or(database)),
        database: size(database) + size(&database.with_extension("db-wal")),
    }
}

/// The folder and the control group; both go with it, and all that runs in them before.
struct Scratch {
    folder: PathBuf,
    group: PathBuf,
}

impl Scratch {
    fn make() -> Result<Self, FirstbootError> {
        let scratch = Self { folder: FOLDER.into(), group: GROUP.into() };
        // An earlier one may have been killed with what it runs in.
        scratch.end();
        durable::replace(HELD, b"held\n", 0o600)?;
        for folder in stage::PLACES.map(|(own, _)| own).into_iter().chain(["root", "run/bakelite", "etc/k3s"]) {
            durable::make_folder(scratch.folder.join(folder))?;
        }
        Ok(scratch)
    }

    /// Kills all that runs, and removes all that was written.
    fn end(&self) {
        group::end(&self.group, GONE);
        if let Err(error) = durable::remove_tree(&self.folder).and_then(|()| durable::remove_file(HELD)) {
            log::warn!("{}", words(&error));
        }
    }

    /// Lays out what k3s needs: the copy, the token, its settings. The names of what lasts in the copy.
    fn prepare(&self, born: &ClusterBorn) -> Result<Vec<String>, FirstbootError> {
        let server = self.folder.join("var/lib/rancher/k3s/server");
        let database = server.join("db/state.db");
        durable::make_folder(database.parent().unwrap_or(&server))?;
        bakelite_datastore::copy(Path::new(cluster::DATABASE), &database)?;
        durable::replace(server.join("token"), read_text(identity::TOKEN)?.as_bytes(), 0o600)?;
        let config = rehearsal::config(born, &DUMMY.to_string());
        durable::replace(self.folder.join("etc/k3s/config.yaml"), config.as_bytes(), 0o600)?;
        for name in ["hosts", "resolv.conf"] {
            let text = read_text(Path::new("/run/bakelite").join(name)).unwrap_or_default();
            durable::replace(self.folder.join("run/bakelite").join(name), text.as_bytes(), 0o644)?;
        }
        Ok(names::lasting(&database)?.into_iter().collect())
    }

    /// The group's door, once its limits are set; a kernel may lack some of them.
    fn door(&self) -> Result<Option<OwnedFd>, FirstbootError> {
        let door = group::open(&self.group)?;
        let limits = [("memory.max", MEMORY.to_string()), ("cpu.weight", "10".into()), ("io.weight", "10".into())];
        for (name, value) in limits {
            let _ = durable::write_plain(self.group.join(name), &value);
        }
        Ok(door)
    }

    /// Starts it, and looks on until it is known how it went.
    fn play(&self, device: &Path, program: &str, before: &[String]) -> Result<Went, FirstbootError> {
        let Some(door) = self.door()? else {
            return Ok(Went::Unknown("there is no control group to hold it in".into()));
        };
        let socket = notify::listen(&self.folder.join(stage::NOTIFY))?;
        let log = self.folder.join("log");
        let firstboot = format!("{}/firstboot", paths::LIBRARY);
        let device = device.display().to_string();
        let command = [firstboot.as_str(), stage::WORD, &device, program].map(String::from);
        let process = tool::spawn(tool::Start {
            command: &command,
            environment: &BTreeMap::new(),
            output: Some(durable::create_private(&log)?.into()),
            cgroup: Some(door),
            open_files: Some(1 << 16),
            oom_score: 1000,
        })?;
        let (until, mut ready) = (Instant::now() + LIMIT, None);
        loop {
            if let Some(ended) = tool::reap(process)? {
                return Ok(self.ended(&ended, &log));
            }
            while let Some((_, said)) = notify::receive(&socket) {
                ready = ready.or_else(|| said.contains(&notify::Message::Ready).then(Instant::now));
            }
            match ready {
                Some(since) if since.elapsed() >= STAYS => break,
                None if Instant::now() >= until => {
                    let minutes = LIMIT.as_secs() / 60;
                    return Ok(Went::Badly(format!("wasn't ready within {minutes} min: {}", last_words(&log))));
                }
                _ => std::thread::sleep(PAUSE),
            }
        }
        let database = self.folder.join("var/lib/rancher/k3s/server/db/state.db");
        let after = names::lasting(&database)?;
        let lost: Vec<String> = before.iter().filter(|name| !after.contains(*name)).cloned().collect();
        let missing: Vec<String> = rehearsal::missing(&lost).into_iter().map(String::from).collect();
        if missing.is_empty() {
            return Ok(Went::Well);
        }
        Ok(Went::Badly(format!("had lost {} object(s) when it was ready: {}", missing.len(), some_of(&missing))))
    }

    fn ended(&self, ended: &str, log: &Path) -> Went {
        let said = last_words(log);
        if !self.folder.join(stage::READY).exists() {
            return Went::Unknown(format!("it couldn't be staged ({ended}): {said}"));
        }
        let events = read_text(self.group.join("memory.events")).unwrap_or_default();
        if events.lines().any(|line| line.strip_prefix("oom_kill ").is_some_and(|count| count.trim() != "0")) {
            return Went::Unknown("the memory that it was given didn't suffice".into());
        }
        Went::Badly(format!("ended with {ended}: {said}"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.end();
    }
}

/// What k3s said last: the newest line that is known to say why, else the newest of all.
fn last_words(log: &Path) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    let end = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(END)..]).into_owned();
    let known = k3s::classify(&end).map(|fault| fault.text);
    let newest = || end.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no word").trim().to_string();
    known.unwrap_or_else(newest)
}
