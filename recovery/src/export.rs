//! What can be read of a machine that nothing here repairs, copied onto the stick. What is copied is decided in
//! `bakelite_plan::recovery::export`; the machine is only read.
//!
//! A file gets its name on the stick when all of it is there; what is there already and the same isn't written again, so that a
//! stick that is left in isn't worn. What can't be read is named and goes no further: the rest is worth as much.

use crate::probe::Probe;
use crate::volume;
use crate::{MedicError, Stick, database, report};
use bakelite_disk::table::Table;
use bakelite_plan::recovery::export::{Choice, Kind, Source, choose};
use bakelite_plan::recovery::{Facts, Volume};
use bakelite_spec::account::NAME;
use bakelite_spec::layout::{Role, SECTOR};
use bakelite_spec::quantity::Size;
use bakelite_spec::set;
use bakelite_sys::sum::pour;
use bakelite_sys::{SysError, block, durable, fat, mount, names_in, words};
use serde::Serialize;
use std::fs::File;
use std::io::{ErrorKind, Seek, sink};
use std::path::{Path, PathBuf};

/// The folder of what was taken along, by machine.
const EXPORTS: &str = "exports";
/// The list of it, written last.
const LIST: &str = "export.json";
/// The ending of a file that isn't whole yet.
const HALF: &str = ".half";
/// The boot partition, as a volume.
const BOOT: &str = "boot";
/// Of the machine's own folder: where backups are, and what stays behind.
const OWN: &str = "bakelite";
const SETS: &str = "bakelite/sets";
const LEFT_OUT: [&str; 3] = ["bakelite/sets", "bakelite/secrets", "bakelite/aside"];
/// Evidence is short.
const SHORT: u64 = 1 << 20;

/// What was copied.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Copied {
    volume: String,
    path: String,
    bytes: u64,
    sha256: String,
}

/// What wasn't.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Left {
    volume: String,
    path: String,
    why: String,
}

/// All of it, as the list on the stick says it.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
struct List {
    copied: Vec<Copied>,
    left: Vec<Left>,
}

/// A volume that can be looked into.
struct Place {
    name: String,
    device: PathBuf,
}

impl Place {
    /// Looks into it; nothing of it is changed.
    fn on<T>(&self, act: impl FnOnce(&Path) -> T) -> Result<T, SysError> {
        if self.name == BOOT { fat::look(&self.device, |root| Ok(act(root))) } else { database::on(&self.device, act) }
    }

    /// Its folder on the stick.
    fn folder(&self) -> String {
        self.name.replace(' ', "-")
    }
}

impl Probe<'_> {
    /// Copies what can be read of the machine that the facts are about; lines that tell of it.
    ///
    /// # Errors
    /// When the stick can't be written.
    pub(crate) fn export(&self, facts: &Facts) -> Result<Vec<String>, MedicError> {
        let Some(medium) = facts.media.first() else { return Ok(Vec::new()) };
        let Some(disk) = block::disks(Path::new("/")).into_iter().find(|disk| disk.name == medium.disk) else {
            return Err(MedicError::Gone(medium.disk.clone()));
        };
        let (mut list, mut found) = (List::default(), Vec::new());
        let places = places(&disk);
        for place in &places {
            match place.on(|root| look(root, &place.name)) {
                Ok(sources) => found.extend(sources),
                Err(error) => {
                    list.left.push(Left { volume: place.name.clone(), path: String::new(), why: words(&error) })
                }
            }
        }
        let folder = format!("{EXPORTS}/{}", report::machine());
        let there = self.stick.root.join(&folder);
        let room = mount::free(&self.stick.root) + held(&there);
        let Choice { take, leave } = choose(found, room);
        let left = |(source, why): (Source, String)| Left { volume: source.volume, path: source.path, why };
        list.left.extend(leave.into_iter().map(left));
        for place in &places {
            let of_place: Vec<&Source> = take.iter().filter(|source| source.volume == place.name).collect();
            if of_place.is_empty() {
                continue;
            }
            let target = there.join(place.folder());
            let copied = place
                .on(|root| of_place.iter().map(|source| copy(self.stick, root, &target, source)).collect::<Vec<_>>());
            for (source, copied) in of_place.iter().zip(copied?) {
                match copied {
                    Ok(copied) => list.copied.push(copied),
                    // Without a stick that takes it there is nowhere to go.
                    Err(CopyError::Stick(error)) => return Err(error),
                    Err(CopyError::Machine(why)) => {
                        list.left.push(Left { volume: source.volume.clone(), path: source.path.clone(), why });
                    }
                }
            }
        }
        let text = serde_json::to_vec_pretty(&list).unwrap_or_default();
        let path = there.join(LIST);
        if std::fs::read(&path).ok().as_ref() != Some(&text) {
            self.stick.change(|| {
                durable::make_folder(&there)?;
                durable::remove_file(&path)?;
                durable::write_whole(&path, &text, 0o600)
            })?;
        }
        Ok(told(&list, &folder))
    }
}

/// What a person is told.
fn told(list: &List, folder: &str) -> Vec<String> {
    let left = list.left.iter().map(|left| format!("EXPORT: left behind {} {}: {}", left.volume, left.path, left.why));
    if list.copied.is_empty() {
        return std::iter::once("EXPORT: nothing of this machine can be read".into()).chain(left).collect();
    }
    let bytes: u64 = list.copied.iter().map(|copied| copied.bytes).sum();
    let taken = format!(
        "EXPORT: {} files ({}) of this machine are on the stick in {folder}; they are as secret as the machine",
        list.copied.len(),
        Size(bytes).human()
    );
    std::iter::once(taken).chain(left).collect()
}

/// What an earlier run has left in a folder, in bytes: it takes no room again.
fn held(folder: &Path) -> u64 {
    bakelite_sys::tree::amount(folder, &|_| false).bytes
}

/// The volumes of a machine that may be looked into.
fn places(disk: &block::Disk) -> Vec<Place> {
    let table = block::open(&disk.device(), false)
        .ok()
        .and_then(|(mut medium, length)| Table::read(&mut medium, length / SECTOR).ok());
    let Some(table) = table else { return Vec::new() };
    let boot = table.role(Role::Boot).map(|(number, _)| disk.partition_device(number));
    let boot = boot.map(|device| Place { name: BOOT.into(), device });
    let volumes = volume::look(disk, &table).unwrap_or_default();
    let readable = volumes.into_iter().filter(|found| !matches!(found.is, Volume::Lost | Volume::Unmade));
    boot.into_iter().chain(readable.map(|found| Place { name: found.name, device: found.device })).collect()
}

/// What is worth being taken from a volume.
fn look(root: &Path, volume: &str) -> Vec<Source> {
    let length = |path: &str| {
        let found = std::fs::symlink_metadata(root.join(path)).ok().filter(std::fs::Metadata::is_file)?;
        Some(found.len())
    };
    let source = |path: String, kind: Kind| {
        let bytes = length(&path)?;
        Some(Source { volume: volume.into(), path, bytes, kind })
    };
    if volume == BOOT {
        return ["report.new", NAME].into_iter().filter_map(|name| source(name.into(), Kind::Evidence)).collect();
    }
    let mut found = Vec::new();
    for node in names_in(root.join(SETS)) {
        for name in names_in(root.join(SETS).join(&node)) {
            let number = set::number(&name);
            found.extend(number.and_then(|number| source(format!("{SETS}/{node}/{name}"), Kind::Set(number))));
        }
    }
    let folder = Path::new(database::DATABASE).parent().unwrap_or(Path::new("")).display().to_string();
    found.extend(
        names_in(root.join(&folder)).into_iter().filter_map(|name| source(format!("{folder}/{name}"), Kind::Database)),
    );
    let mut folders = vec![OWN.to_string()];
    while let Some(folder) = folders.pop() {
        for name in names_in(root.join(&folder)) {
            let path = format!("{folder}/{name}");
            let is_folder = std::fs::symlink_metadata(root.join(&path)).is_ok_and(|found| found.is_dir());
            match is_folder {
                true if !LEFT_OUT.contains(&path.as_str()) => folders.push(path),
                true => {}
                false => found.extend(source(path, Kind::Evidence).filter(|source| source.bytes <= SHORT)),
            }
        }
    }
    found
}

/// Why a file isn't copied.
enum CopyError {
    /// The stick doesn't take it.
    Stick(MedicError),
    /// The machine doesn't give it.
    Machine(String),
}

/// Copies one file; it is read twice where something is there already.
fn copy(stick: &Stick, root: &Path, target: &Path, source: &Source) -> Result<Copied, CopyError> {
    let from = root.join(&source.path);
    let unread = |error: std::io::Error| CopyError::Machine(format!("can't be read: {error}"));
    let copied = |(bytes, sha256)| Copied { volume: source.volume.clone(), path: source.path.clone(), bytes, sha256 };
    let to = target.join(&source.path);
    if std::fs::metadata(&to).is_ok_and(|there| there.len() == source.bytes) {
        let (there, here) = (File::open(&to).and_then(|file| pour(file, sink())), File::open(&from));
        let here = here.and_then(|file| pour(file, sink())).map_err(unread)?;
        if there.is_ok_and(|there| there == here) {
            return Ok(copied(here));
        }
    }
    let mut from = File::open(&from).map_err(unread)?;
    let mut read = Ok((0, String::new()));
    let written = stick.change(|| put(&mut from, &to, &mut read));
    // What stopped it was the machine's medium: the stick is well.
    let read = read.map_err(unread)?;
    written.map_err(CopyError::Stick)?;
    Ok(copied(read))
}

/// Puts a file in its place, in which it is whole or not at all; what came of reading is in `read`.
fn put(from: &mut File, to: &Path, read: &mut std::io::Result<(u64, String)>) -> Result<(), SysError> {
    if let Some(folder) = to.parent() {
        durable::make_folder(folder)?;
    }
    let mut half = to.as_os_str().to_owned();
    half.push(HALF);
    let half = PathBuf::from(half);
    let failed = |source| SysError::Write { path: half.clone(), source };
    loop {
        durable::remove_file(&half)?;
        let mut target = Target { file: durable::create_private(&half)?, failed: None };
        let poured = from.rewind().and_then(|()| pour(&mut *from, &mut target));
        match target.failed {
            // The older copy has to make room for it; until then it is the only one.
            Some(error) if error.kind() == ErrorKind::StorageFull && to.exists() => durable::remove_file(to)?,
            Some(error) => {
                durable::remove_file(&half)?;
                return Err(failed(error));
            }
            None => {
                let is_whole = poured.is_ok();
                *read = poured;
                if !is_whole {
                    return durable::remove_file(&half);
                }
                target.file.sync_all().map_err(failed)?;
                return durable::rename(&half, to);
            }
        }
    }
}

/// A file that remembers that it wasn't the reader that failed.
struct Target {
    file: File,
    failed: Option<std::io::Error>,
}

impl std::io::Write for Target {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes).map_err(|error| {
            let kind = error.kind();
            self.failed = Some(error);
            kind.into()
        })
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::STATE;

    fn write(root: &Path, path: &str, bytes: &[u8]) {
        let path = root.join(path);
        durable::make_folder(path.parent().unwrap()).unwrap();
        durable::replace(path, bytes, 0o600).unwrap();
    }

    #[test]
    fn backups_database_and_evidence_are_seen_and_other_peoples_secrets_stay() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str| write(root.path(), path, b"x");
        let set = "bakelite/sets/shop/00000007-20261121T165500Z.tar.zst";
        for path in [
            set,
            "bakelite/sets/shop/.00000008.half",
            "bakelite/token",
            "bakelite/last-words/k3s.log",
            "bakelite/secrets/wifi",
            "bakelite/aside/1/state.db",
            "rancher/k3s/server/db/state.db",
            "rancher/k3s/server/db/state.db-wal",
            "rancher/k3s/agent/images/big.tar",
        ] {
            put(path);
        }
        write(root.path(), "bakelite/ledger", &vec![0; SHORT as usize + 1]);
        let mut found: Vec<(String, Kind)> =
            look(root.path(), STATE).into_iter().map(|source| (source.path, source.kind)).collect();
        found.sort();
        let expected = [
            ("bakelite/last-words/k3s.log", Kind::Evidence),
            (set, Kind::Set(7)),
            ("bakelite/token", Kind::Evidence),
            ("rancher/k3s/server/db/state.db", Kind::Database),
            ("rancher/k3s/server/db/state.db-wal", Kind::Database),
        ];
        assert_eq!(found, expected.map(|(path, kind)| (path.to_string(), kind)));
        write(root.path(), NAME, b"{}");
        assert_eq!(look(root.path(), BOOT).len(), 1);
    }

    #[test]
    fn a_file_is_there_whole_or_not_at_all() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write(from.path(), "a", b"bytes");
        let target = to.path().join("state/a");
        let mut read = Ok((0, String::new()));
        // What a pulled stick has left.
        write(to.path(), "state/a.half", b"by");
        put(&mut File::open(from.path().join("a")).unwrap(), &target, &mut read).unwrap();
        assert_eq!((std::fs::read(&target).unwrap(), read.unwrap().0), (b"bytes".to_vec(), 5));
        assert_eq!(names_in(to.path().join("state")), ["a"]);
        // A folder opens and can't be read: as a bad medium does.
        let mut read = Ok((0, String::new()));
        put(&mut File::open(from.path()).unwrap(), &to.path().join("state/b"), &mut read).unwrap();
        assert!(read.is_err());
        assert_eq!(names_in(to.path().join("state")), ["a"]);
        // An older copy stays where there can be no newer one, and goes where there is.
        put(&mut File::open(from.path()).unwrap(), &target, &mut read).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"bytes");
        write(from.path(), "a", b"newer");
        put(&mut File::open(from.path().join("a")).unwrap(), &target, &mut read).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"newer");
    }

    #[test]
    fn what_was_left_behind_is_told_with_its_reason() {
        let copied = |bytes| Copied { volume: "state".into(), path: "x".into(), bytes, sha256: String::new() };
        let left = Left { volume: "data disk vdb".into(), path: "y".into(), why: "no room".into() };
        let lines = told(&List { copied: vec![copied(1 << 20), copied(3 << 20)], left: vec![left] }, "exports/pf1");
        assert!(lines[0].contains("2 files (4 MiB)") && lines[0].contains("exports/pf1"), "{lines:?}");
        assert_eq!(told(&List::default(), "x"), ["EXPORT: nothing of this machine can be read"]);
        assert_eq!(lines[1], "EXPORT: left behind data disk vdb y: no room");
    }
}
