//! `bakelite backup now | list | verify`: what the operator types on the machine. Tables for people, `--json` for programs.

use crate::backup;
use crate::shelf::Shelf;
use crate::{KeeperError, backup::RECORD};
use age::Identity;
use bakelite_datastore::set;
use bakelite_plan::Settings;
use bakelite_plan::restore::FOLDER;
use bakelite_spec::answer::{Answer, ago, columns};
use bakelite_spec::quantity::Size;
use bakelite_sys::{durable, read_text, terminal};
use serde::Serialize;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Does what the words say.
///
/// # Errors
/// When they mean nothing, or it can't be done.
pub fn operate(answer: Answer, words: &[&str], settings: &Settings) -> Result<(), KeeperError> {
    match words {
        ["now"] => now(answer, settings),
        ["list"] => list(answer, settings),
        ["verify"] => verify(answer, settings, None),
        ["verify", name] => verify(answer, settings, Some(name)),
        _ => Err(KeeperError::Words(words.join(" "))),
    }
}

fn now(answer: Answer, settings: &Settings) -> Result<(), KeeperError> {
    let _held = backup::lock(true)?;
    let born = backup::cluster_here(settings).ok_or(KeeperError::NoCluster)?;
    let made = backup::make(settings, &born)?;
    terminal::print(&answer.one(&made, || {
        let mut text = format!(
            "{}\n{} at revision {}, {}, made and opened again in {:.1} s\n",
            made.path.display(),
            born.node,
            made.revision,
            Size(made.bytes).human(),
            made.milliseconds as f64 / 1000.0
        );
        if !made.lacks.is_empty() {
            text += &format!("without the data of the claims {}\n", made.lacks.join(", "));
        }
        if settings.appliance.backup.recipients.is_empty() {
            text += "nobody but this machine can open it: there is no key in `backup.recipients`\n";
        }
        text
    }));
    Ok(())
}

/// Makes a set if there is a cluster; its file.
///
/// # Errors
/// When it can't be made.
pub fn make_one(settings: &Settings) -> Result<Option<PathBuf>, KeeperError> {
    let _held = backup::lock(true)?;
    let Some(born) = backup::cluster_here(settings) else { return Ok(None) };
    backup::make(settings, &born).map(|made| Some(made.path))
}

/// Puts a copy of a set into a folder on somebody's medium, compared with what was read.
///
/// # Errors
/// When there is no room, or it can't be written.
pub fn put(folder: &Path, set: &Path) -> Result<(), KeeperError> {
    let name = set.file_name().unwrap_or_default().to_string_lossy();
    Shelf { place: "stick", folder: folder.into() }.take(set, &name).map(drop)
}

/// All sets on this machine's own media, the newest first.
fn shelved(settings: &Settings) -> Result<Vec<(Shelf, String, i64)>, KeeperError> {
    let born = backup::cluster_here(settings).ok_or(KeeperError::NoCluster)?;
    let mut found = Vec::new();
    for shelf in Shelf::all(&born.node) {
        found.extend(shelf.sets().into_iter().map(|(name, shelved)| (shelf.clone(), name, shelved.made)));
    }
    found.sort_by(|one, other| other.1.cmp(&one.1));
    Ok(found)
}

/// A set on a shelf.
#[derive(Debug, Serialize)]
struct Row {
    set: String,
    place: String,
    made: i64,
    bytes: u64,
}

fn list(answer: Answer, settings: &Settings) -> Result<(), KeeperError> {
    let row = |(shelf, set, made): (Shelf, String, i64)| {
        let bytes = shelf.folder.join(&set).metadata().map_or(0, |meta| meta.len());
        Row { set, place: shelf.place.to_string(), made, bytes }
    };
    let rows: Vec<Row> = shelved(settings)?.into_iter().map(row).collect();
    terminal::print(&answer.many(&rows, || {
        let cells = |row: &Row| vec![row.set.clone(), row.place.clone(), Size(row.bytes).human()];
        let failed = record().failed.map(|(_, why)| format!("the last attempt failed: {why}\n"));
        columns(&["SET", "PLACE", "SIZE>"], &rows.iter().map(cells).collect::<Vec<_>>()) + &failed.unwrap_or_default()
    }));
    Ok(())
}

/// What is known of the last backups of this boot.
pub fn record() -> backup::Record {
    read_text(RECORD).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

/// Opens a set again: decrypted, each member compared, the database checked, the token proved.
fn verify(answer: Answer, settings: &Settings, wanted: Option<&str>) -> Result<(), KeeperError> {
    let _held = backup::lock(true)?;
    let sets = shelved(settings)?;
    let found = sets.iter().find(|(_, name, _)| wanted.is_none_or(|wanted| wanted == name));
    let (shelf, name, _) = found.ok_or_else(|| KeeperError::NoSuchSet(wanted.unwrap_or("at all").into()))?;
    let identity = backup::device_key(settings)?;
    let keys: Vec<&dyn Identity> = identity.iter().map(|key| key as &dyn Identity).collect();
    let folder = Path::new(FOLDER);
    durable::make_folder(folder)?;
    let opened = set::verify(&shelf.folder.join(name), &keys, folder)?;
    let (manifest, contents) = (&opened.manifest, &opened.contents);
    let live = contents.live.values().sum::<u64>();
    let value = json!({
        "set": name, "place": shelf.place, "whole": true, "node": manifest.node, "revision": contents.revision,
        "k3s": manifest.k3s, "live": live
    });
    terminal::print(&answer.one(&value, || {
        format!(
            "{name} on the {}: whole; {} at revision {}, k3s {}, {live} live keys; its token opens it",
            shelf.place, manifest.node, contents.revision, manifest.k3s
        )
    }));
    Ok(())
}

/// What is known of this machine's backups, for whoever asks how it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Backups {
    /// How many sets there are on its own media.
    pub sets: usize,
    /// The newest of them.
    pub newest: Option<Newest>,
    /// What the last backups of this boot were.
    #[serde(flatten)]
    pub record: backup::Record,
}

/// The newest set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Newest {
    /// When it was made, in seconds since 1970.
    pub made: i64,
    /// Where it lies.
    pub place: String,
}

/// Looks at the backups of a node.
pub fn backups(node: &str) -> Backups {
    let shelves: Vec<Shelf> = if node.is_empty() { Vec::new() } else { Shelf::all(node) };
    let newest = |shelf: &Shelf| Some(Newest { made: shelf.newest()?.1.made, place: shelf.place.to_string() });
    let newest = shelves.iter().filter_map(newest).max();
    Backups { sets: shelves.iter().map(|shelf| shelf.sets().len()).sum(), newest, record: record() }
}

impl Backups {
    /// A line each, for a person; `now` in seconds since 1970.
    pub fn told(&self, now: i64) -> Vec<String> {
        let newest = match &self.newest {
            Some(Newest { made, place }) => {
                format!("the newest of {} was made {}, on the {place}", self.sets, ago(now - made))
            }
            None => "there is none yet".into(),
        };
        let failed = self.record.failed.iter().map(|(at, why)| format!("failed {}: {why}", ago(now - at)));
        std::iter::once(newest).chain(failed).collect()
    }
}
