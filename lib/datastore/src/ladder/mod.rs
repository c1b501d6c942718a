//! The ladder: what can be made of a damaged database, the gentlest means first (k3s.md 3.10).
//!
//! First SQLite's own recovery from the -wal; then the indexes made anew; then all rows that can still be read, in a new
//! file. A backup, and stopping, are the caller's. Each rung works on a copy; the damaged files stay as they are, as
//! evidence. What a rung has lost is named: revisions and objects. Nothing is called healed that isn't whole, kine's, and
//! opened by the token.

mod salvage;

use crate::check::{self, Contents, Depth, Flaw};
use crate::fold::fold;
use crate::token::{Keys, TokenError};
use crate::{DatastoreError, beside, connect, failed, rekey};
use bakelite_sys::sum::pour;
use bakelite_sys::{SysError, durable};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rung {
    /// The -wal was folded, and nothing else was needed.
    Recovered,
    /// Indexes were made anew from the rows.
    Reindexed,
    /// The rows that could be read are in a new file.
    Salvaged,
}

/// What is missing afterwards.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Lost {
    /// Revisions that were there and can't be read, as far as an index still tells of them.
    pub revisions: Vec<u64>,
    /// The objects whose newest state was among them.
    pub objects: Vec<String>,
    /// That no index could tell: there may be more.
    pub uncertain: bool,
}

impl Lost {
    /// Whether nothing is known to be missing, and it would be known.
    pub fn is_nothing(&self) -> bool {
        self.revisions.is_empty() && self.objects.is_empty() && !self.uncertain
    }
}

/// A database that was brought back.
#[derive(Clone, Debug)]
pub struct Healed {
    /// Where it is: one file, without a -wal.
    pub path: PathBuf,
    /// What it took.
    pub rung: Rung,
    /// What is in it.
    pub contents: Contents,
    /// What isn't.
    pub lost: Lost,
    /// Whether the row with the cluster's keys was made again from k3s's own files.
    pub keys_made_again: bool,
}

/// Why a rung didn't hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The database.
    #[error(transparent)]
    Flaw(#[from] Flaw),
    /// Its token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// None of its rows can be read.
    #[error("none of its rows can be read")]
    NoRows,
    /// SQLite gave up.
    #[error("{0}")]
    Sqlite(String),
}

/// What the ladder works on.
#[derive(Clone, Copy, Debug)]
pub struct Patient<'a> {
    /// k3s's database; only read.
    pub database: &'a Path,
    /// An empty folder for copies, with room for twice the database.
    pub scratch: &'a Path,
    /// A revision that it has had.
    pub known: u64,
    /// The cluster's token.
    pub token: &'a str,
    /// The cluster's keys from k3s's own files, if all of them are there.
    pub keys: Option<&'a Keys>,
    /// Fresh random bytes, in case the row with the keys has to be sealed again.
    pub fresh: ([u8; 8], [u8; 12]),
}

/// Climbs as far as is needed. `Err` inside: why each rung broke.
///
/// # Errors
/// When files can't be copied or written: the medium, not the database.
pub fn climb(patient: &Patient<'_>) -> Result<Result<Healed, BTreeMap<&'static str, Broken>>, DatastoreError> {
    let rungs: [(&str, Try); 3] = [("recovery", recover), ("reindex", reindex), ("salvage", salvaged)];
    let mut broken = BTreeMap::new();
    for (name, rung) in rungs {
        let folder = patient.scratch.join(name);
        durable::remove_tree(&folder)?;
        durable::make_folder(&folder)?;
        match rung(patient, &folder)? {
            Ok(healed) => return Ok(Ok(healed)),
            // It isn't damaged but old, and what it lacks isn't in it.
            Err(why @ Broken::Flaw(Flaw::Older { .. })) => return Ok(Err([(name, why)].into())),
            Err(why) => drop(broken.insert(name, why)),
        }
        durable::remove_tree(&folder)?;
    }
    Ok(Err(broken))
}

type Try = fn(&Patient<'_>, &Path) -> Tried;
type Tried = Result<Result<Healed, Broken>, DatastoreError>;

/// A copy of the files as they are, to be tried upon.
fn copied(patient: &Patient<'_>, folder: &Path) -> Result<PathBuf, DatastoreError> {
    let copy = folder.join("state.db");
    for ending in ["", "-wal"] {
        let (from, to) = (beside(patient.database, ending), beside(&copy, ending));
        let Ok(file) = File::open(&from) else { continue };
        let write = |source| SysError::Write { path: to.clone(), source };
        pour(file, durable::create_private(&to)?).map_err(write)?;
    }
    Ok(copy)
}

fn recover(patient: &Patient<'_>, folder: &Path) -> Tried {
    let copy = copied(patient, folder)?;
    if let Err(error) = fold(&copy) {
        return Ok(Err(Broken::Sqlite(bakelite_sys::words(&error))));
    }
    finish(patient, copy, patient.known, Rung::Recovered, Lost::default())
}

fn reindex(patient: &Patient<'_>, folder: &Path) -> Tried {
    let copy = copied(patient, folder)?;
    let made = connect(&copy).and_then(|connection| connection.execute_batch("REINDEX"));
    if let Err(error) = made.map_err(failed("making the indexes of", &copy)).and_then(|()| fold(&copy)) {
        return Ok(Err(Broken::Sqlite(bakelite_sys::words(&error))));
    }
    finish(patient, copy, patient.known, Rung::Reindexed, Lost::default())
}

fn salvaged(patient: &Patient<'_>, folder: &Path) -> Tried {
    let (copy, new) = (copied(patient, folder)?, folder.join("salvaged.db"));
    match salvage::salvage(&copy, &new, patient.known) {
        Ok(Some((lost, _))) if lost.is_nothing() => finish(patient, new, patient.known, Rung::Salvaged, lost),
        Ok(Some((lost, revision))) => finish(patient, new, revision, Rung::Salvaged, lost),
        Ok(None) => Ok(Err(Broken::NoRows)),
        Err(error) => Ok(Err(Broken::Sqlite(error.to_string()))),
    }
}

/// Proves what a rung has made; the row with the cluster's keys is made again if it is all that lacks.
fn finish(patient: &Patient<'_>, path: PathBuf, known: u64, rung: Rung, lost: Lost) -> Tried {
    let checked = |path: &Path| -> Result<Result<Contents, Broken>, DatastoreError> {
        let contents = match check::copy(path, Depth::Full, known)? {
            Ok(contents) => contents,
            Err(flaw) => return Ok(Err(flaw.into())),
        };
        Ok(crate::prove(path, patient.token)?.map(|_| contents).map_err(Broken::from))
    };
    let mut keys_made_again = false;
    let mut found = checked(&path)?;
    let lacks_keys =
        matches!(&found, Err(Broken::Flaw(Flaw::NoKeys) | Broken::Token(TokenError::Damaged | TokenError::NoRow)));
    if let (true, Some(keys)) = (lacks_keys, patient.keys) {
        let (salt, nonce) = patient.fresh;
        rekey::reseal(&path, patient.token, keys, salt, nonce)?;
        fold(&path)?;
        found = checked(&path)?;
        keys_made_again = true;
    }
    Ok(found.map(|contents| Healed { path, rung, contents, lost, keys_made_again }))
}

#[cfg(test)]
mod tests;
