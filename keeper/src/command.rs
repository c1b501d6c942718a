//! `bakelite backup now | list | verify | drill`: what the operator types on the machine. Tables for people, `--json` for programs.

use crate::backup::{self, Made, Record};
use crate::shelf::Shelf;
use crate::{KeeperError, drill, look};
use bakelite_plan::Settings;
use bakelite_spec::quantity::Size;
use bakelite_spec::set::instant;
use serde_json::json;

/// Does what the words say.
///
/// # Errors
/// When they mean nothing, or it can't be done.
pub fn operate(words: &[&str], settings: &Settings) -> Result<(), KeeperError> {
    match words {
        ["now"] => now(settings),
        ["list"] => list(settings, false),
        ["list", "--json"] => list(settings, true),
        ["verify"] => verify(settings, None),
        ["verify", name] => verify(settings, Some(name)),
        ["drill"] => drill(settings, false),
        ["drill", "--json"] => drill(settings, true),
        _ => Err(KeeperError::Words(words.join(" "))),
    }
}

fn now(settings: &Settings) -> Result<(), KeeperError> {
    let _held = backup::lock(true)?;
    let born = backup::cluster_here(settings).ok_or(KeeperError::NoCluster)?;
    let Made { path, bytes, revision, milliseconds, lacks, .. } = backup::make(settings, &born)?;
    println!(
        "{}\n{} at revision {revision}, {}, made and opened again in {:.1} s",
        path.display(),
        born.node,
        Size(bytes).human(),
        milliseconds as f64 / 1000.0
    );
    if !lacks.is_empty() {
        println!("without the data of the claims {}", lacks.join(", "));
    }
    let record = Record::read();
    if let Some(target) = record.target.filter(|target| path.ends_with(&target.set)) {
        println!("{} has got it, too", target.label);
    }
    if let Some(why) = record.target_failed {
        println!("the target hasn't got it: {why}");
    }
    if settings.appliance.backup.recipients.is_empty() {
        println!("nobody but this machine can open it: there is no key in `backup.recipients`");
    }
    Ok(())
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

fn list(settings: &Settings, as_json: bool) -> Result<(), KeeperError> {
    let sets = shelved(settings)?;
    let size = |shelf: &Shelf, name: &str| shelf.folder.join(name).metadata().map_or(0, |meta| meta.len());
    if as_json {
        for (shelf, name, made) in &sets {
            let bytes = size(shelf, name);
            println!("{}", json!({"set": name, "place": shelf.place, "made": made, "bytes": bytes}));
        }
        return Ok(());
    }
    println!("{:<42} {:<10} {:>10}", "SET", "PLACE", "SIZE");
    for (shelf, name, _) in &sets {
        println!("{name:<42} {:<10} {:>10}", shelf.place, Size(size(shelf, name)).human());
    }
    let record = Record::read();
    if let Some(target) = &record.target {
        println!("{} got {} at {}", target.label, target.set, instant(target.at));
    }
    for why in record.failed.iter().map(|(_, why)| why).chain(&record.target_failed) {
        println!("the last attempt failed: {why}");
    }
    Ok(())
}

/// Opens a set again: decrypted, each member compared, the database checked, the token proved.
fn verify(settings: &Settings, wanted: Option<&str>) -> Result<(), KeeperError> {
    let _held = backup::lock(true)?;
    let sets = shelved(settings)?;
    let found = sets.iter().find(|(_, name, _)| wanted.is_none_or(|wanted| wanted == name));
    let (shelf, name, _) = found.ok_or_else(|| KeeperError::NoSuchSet(wanted.unwrap_or("at all").into()))?;
    let opened = backup::open(settings, &shelf.folder.join(name))?;
    println!(
        "{name} on the {}: whole; {} at revision {}, k3s {}, {} live keys; its token opens it",
        shelf.place,
        opened.manifest.node,
        opened.contents.revision,
        opened.manifest.k3s,
        opened.contents.live.values().sum::<u64>()
    );
    Ok(())
}

/// Holds a drill now. One that went wrong is an error, so that a script hears of it.
fn drill(settings: &Settings, as_json: bool) -> Result<(), KeeperError> {
    let _held = backup::lock(true)?;
    let born = backup::cluster_here(settings).ok_or(KeeperError::NoCluster)?;
    let drill = drill::hold(settings, &born.node)?;
    if as_json {
        println!("{}", json!(drill));
    }
    if !drill.good {
        return Err(KeeperError::Drill { set: drill.set, why: drill.said });
    }
    if !as_json {
        println!("{} comes back: {}", drill.set, drill.said);
    }
    Ok(())
}

/// `bakelite wear [--json]`: what is written to each medium, and how long it may last.
///
/// # Errors
/// When the words mean nothing, or the history can't be read.
pub fn wear(words: &[&str]) -> Result<(), KeeperError> {
    let media = look::media()?;
    match words {
        ["--json"] => media.iter().for_each(|medium| println!("{}", json!(medium))),
        [] => {
            println!(
                "{:<10} {:<26} {:>12} {:>12} {:>6} {:>10}",
                "MEDIUM", "MODEL", "SINCE BOOT", "A DAY", "USED", "DAYS LEFT"
            );
            for medium in &media {
                let size = |bytes: Option<u64>| bytes.map_or("?".into(), |bytes| Size(bytes).human());
                println!(
                    "{:<10} {:<26} {:>12} {:>12} {:>6} {:>10}",
                    medium.name,
                    medium.model,
                    size(Some(medium.written)),
                    size(medium.per_day),
                    medium.used.map_or("?".into(), |used| format!("{used} %")),
                    medium.days_left.map_or("?".into(), |days| format!("~{days}"))
                );
            }
            println!(
                "days left are an estimate from what was written in the last week and what such media are made for"
            );
            for medium in media.iter().filter(|medium| !medium.ails.is_empty()) {
                println!("{}: {}", medium.name, medium.ails);
            }
        }
        other => return Err(KeeperError::WearWords(other.join(" "))),
    }
    Ok(())
}
