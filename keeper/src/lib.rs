//! The night watch: backs the datastore up on a schedule while k3s runs, and answers what the operator asks of backups.
//!
//! It runs beside k3s and must never harm it: one set at a time, with the lowest priority, never into the last free
//! space. What it makes counts only when it was opened again. When and what to keep is decided in `schedule` and
//! `retention`, which are pure.

mod apps;
mod available;
mod backup;
mod certificates;
mod command;
mod conditions;
mod drill;
mod errand;
mod history;
mod hygiene;
mod integrity;
mod listen;
mod look;
mod metrics;
mod mirror;
mod node;
pub mod pull;
mod retention;
mod schedule;
mod serve;
mod shelf;
mod target;
#[cfg(test)]
mod testing;
mod told;
mod trial;
mod volumes;
mod wear;

pub use command::{Backups, backups, has_room_for_one, make_one, operate, put, wear};
pub use serve::serve;

use bakelite_datastore::set::SetError;
use bakelite_disk::DiskError;
use bakelite_plan::identity::{Identity, RECORD};
use bakelite_spec::set::Misfit;
use bakelite_sys::{SysError, read_text};
use bakelite_trust::keys::KeyError;
use std::path::PathBuf;

/// The node's name, once it has one.
fn node() -> Option<String> {
    Some(Identity::read(&read_text(RECORD).ok()?)?.node)
}

/// What can go wrong with backups.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The operator's words mean nothing.
    #[error(
        "`bakelite backup {0}` means nothing; try bakelite backup now | list [--json] | verify [SET] | drill [--json]"
    )]
    Words(String),
    /// A puller asks for something that isn't its to have.
    #[error("`{0}` can't be asked for; this key may list [--json] | get SET [OFFSET] | sum SET")]
    Serve(String),
    /// A puller has more than there is.
    #[error("the set has {length} bytes, and {from} were asked to be left out; fetch it anew")]
    Behind {
        /// The place that was asked for.
        from: u64,
        /// The set's length.
        length: u64,
    },
    /// There is nothing to back up.
    #[error("there is no cluster on SQLite here to back up; k3s has to be ready once")]
    NoCluster,
    /// No set of that name.
    #[error("there is no backup {0} on this machine; `bakelite backup list` shows those that are")]
    NoSuchSet(String),
    /// A copy can't be written.
    #[error("copying {name} onto the {place}")]
    Copy {
        /// The set.
        name: String,
        /// Where to.
        place: String,
        /// Why not.
        source: std::io::Error,
    },
    /// Two media with the target's label.
    #[error("{count} attached file systems are labelled {label}; take all but one out, or give them other labels")]
    TwoTargets {
        /// The label.
        label: String,
        /// How many.
        count: usize,
    },
    /// No room for a copy.
    #[error("the {place} has {free} bytes free, and {needed} are needed for a backup")]
    NoRoom {
        /// Where.
        place: String,
        /// What is free.
        free: u64,
        /// What is needed, with what has to stay free.
        needed: u64,
    },
    /// Making or opening a set.
    #[error(transparent)]
    Set(#[from] SetError),
    /// A key isn't one.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A set of another k3s.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// The drill has found something wrong.
    #[error("{set} doesn't come back: {why}")]
    Drill {
        /// The set.
        set: String,
        /// What is wrong.
        why: String,
    },
    /// The history of what was written to media.
    #[error("{act} the history {}", path.display())]
    History {
        /// What was done.
        act: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: rusqlite::Error,
    },
    /// Looking at somebody's medium.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Anything with the system.
    #[error(transparent)]
    Sys(#[from] SysError),
}
