//! `bakelite backup now | list | verify | drill` and `bakelite wear`: what the operator types on the machine. Tables for
//! people, `--json` for programs.

use crate::backup::{self, Record};
use crate::shelf::Shelf;
use crate::wear::Medium;
use crate::{KeeperError, drill, look};
use bakelite_plan::Settings;
use bakelite_spec::answer::{Answer, ago, columns};
use bakelite_spec::quantity::Size;
use bakelite_spec::set::instant;
use bakelite_sys::{lock, terminal};
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
        ["drill"] => drill(answer, settings),
        _ => Err(KeeperError::Words(words.join(" "))),
    }
}

fn now(answer: Answer, settings: &Settings) -> Result<(), KeeperError> {
    let _held = lock::take(Path::new(backup::LOCK))?;
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
        let record = Record::read();
        if let Some(target) = record.target.filter(|target| made.path.ends_with(&target.set)) {
            text += &format!("{} has got it, too\n", target.label);
        }
        if let Some(why) = record.target_failed {
            text += &format!("the target hasn't got it: {why}\n");
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
    let _held = lock::take(Path::new(backup::LOCK))?;
    let Some(born) = backup::cluster_here(settings) else { return Ok(None) };
    backup::make(settings, &born).map(|made| Some(made.path))
}

/// Whether [`make_one`] would find room; no older set goes for it.
///
/// # Errors
/// When it wouldn't.
pub fn has_room_for_one(settings: &Settings) -> Result<(), KeeperError> {
    backup::cluster_here(settings).map_or(Ok(()), |born| backup::has_room(settings, &born))
}

/// Puts a copy of a set into a folder on somebody's medium, and opens it again there.
///
/// # Errors
/// When it can't be written, or doesn't open.
pub fn put(settings: &Settings, folder: &Path, set: &Path) -> Result<(), KeeperError> {
    let name = set.file_name().unwrap_or_default().to_string_lossy();
    let shelf = Shelf { place: "stick".into(), folder: folder.into() };
    shelf.take(set, &name, |half| backup::open(settings, half).map(drop)).map(drop)
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
        let record = Record::read();
        let mut text = columns(&["SET", "PLACE", "SIZE>"], &rows.iter().map(cells).collect::<Vec<_>>());
        if let Some(target) = &record.target {
            text += &format!("{} got {} at {}\n", target.label, target.set, instant(target.at));
        }
        for why in record.failed.iter().map(|(_, why)| why).chain(&record.target_failed) {
            text += &format!("the last attempt failed: {why}\n");
        }
        text
    }));
    Ok(())
}

/// Opens a set again: decrypted, each member compared, the database checked, the token proved.
fn verify(answer: Answer, settings: &Settings, wanted: Option<&str>) -> Result<(), KeeperError> {
    let _held = lock::take(Path::new(backup::LOCK))?;
    let sets = shelved(settings)?;
    let found = sets.iter().find(|(_, name, _)| wanted.is_none_or(|wanted| wanted == name));
    let (shelf, name, _) = found.ok_or_else(|| KeeperError::NoSuchSet(wanted.unwrap_or("at all").into()))?;
    let opened = backup::open(settings, &shelf.folder.join(name))?;
    let (manifest, contents) = (&opened.manifest, &opened.contents);
    let live = contents.live.values().sum::<u64>();
    let value = json!({
        "set": name, "place": shelf.place, "whole": true, "node": manifest.node, "revision": contents.revision,
        "k3s": manifest.k3s, "live": live, "authority-until": opened.authority_until
    });
    terminal::print(&answer.one(&value, || {
        let until = opened
            .authority_until
            .map_or(String::new(), |until| format!("; its cluster's own authority is good until {}", instant(until)));
        format!(
            "{name} on the {}: whole; {} at revision {}, k3s {}, {live} live keys; its token opens it{until}",
            shelf.place, manifest.node, contents.revision, manifest.k3s
        )
    }));
    Ok(())
}

/// Holds a drill now. One that went wrong is an error, so that a script hears of it.
fn drill(answer: Answer, settings: &Settings) -> Result<(), KeeperError> {
    let _held = lock::take(Path::new(backup::LOCK))?;
    let born = backup::cluster_here(settings).ok_or(KeeperError::NoCluster)?;
    let drill = drill::hold(settings, &born.node)?;
    if !drill.good {
        return Err(KeeperError::Drill { set: drill.set, why: drill.said });
    }
    terminal::print(&answer.one(&drill, || format!("{} comes back: {}", drill.set, drill.said)));
    Ok(())
}

/// `bakelite wear`: what is written to each medium, and how long it may last.
///
/// # Errors
/// When the history can't be read.
pub fn wear(answer: Answer) -> Result<(), KeeperError> {
    let media = look::media()?;
    terminal::print(&answer.many(&media, || {
        let size = |bytes: Option<u64>| bytes.map_or("?".into(), |bytes| Size(bytes).human());
        let cells = |medium: &Medium| {
            vec![
                medium.name.clone(),
                medium.model.clone(),
                size(Some(medium.written)),
                size(medium.per_day),
                medium.used.map_or("?".into(), |used| format!("{used} %")),
                medium.days_left.map_or("?".into(), |days| format!("~{days}")),
            ]
        };
        let head = ["MEDIUM", "MODEL", "SINCE BOOT>", "A DAY>", "USED>", "DAYS LEFT>"];
        let mut text = columns(&head, &media.iter().map(cells).collect::<Vec<_>>());
        text += "days left are an estimate from what was written in the last week and what such media are made for\n";
        for medium in media.iter().filter(|medium| !medium.ails.is_empty()) {
            text += &format!("{}: {}\n", medium.name, medium.ails);
        }
        text
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
    Backups { sets: shelves.iter().map(|shelf| shelf.sets().len()).sum(), newest, record: Record::read() }
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
