//! The night watch: backs the datastore up on a schedule while k3s runs, and answers what the operator asks of backups.
//!
//! It runs beside k3s and must never harm it: one set at a time, with the lowest priority, never into the last free
//! space. What it makes counts only when it was opened again. When and what to keep is decided in `schedule` and
//! `retention`, which are pure.

mod backup;
mod command;
pub mod pull;
mod retention;
mod schedule;
mod shelf;

pub use command::{Backups, backups, make_one, operate, put};

use bakelite_datastore::set::SetError;
use bakelite_plan::Settings;
use bakelite_sys::{SysError, machine, words};
use bakelite_trust::keys::KeyError;
use shelf::Shelf;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Between two looks at the clock.
const LOOK: Duration = Duration::from_secs(60);
/// After a backup that failed, until the next attempt.
const PAUSE: Duration = Duration::from_secs(600);

/// What can go wrong with backups.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The operator's words mean nothing.
    #[error("`bakelite backup {0}` means nothing; try bakelite backup now | list [--json] | verify [SET]")]
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
    /// The lock can't be taken.
    #[error("taking the lock {}", path.display())]
    Lock {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A copy can't be written.
    #[error("copying {name} onto the {place}")]
    Copy {
        /// The set.
        name: String,
        /// Where to.
        place: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// What was written isn't what is read back.
    #[error("the copy of {name} on the {place} isn't what was written; the medium may be failing")]
    Differs {
        /// The set.
        name: String,
        /// Where.
        place: &'static str,
    },
    /// No room for a copy.
    #[error("the {place} has {free} bytes free, too few for a backup of {needed}")]
    NoRoom {
        /// Where.
        place: &'static str,
        /// What is free.
        free: u64,
        /// The set's length.
        needed: u64,
    },
    /// Making or opening a set.
    #[error(transparent)]
    Set(#[from] SetError),
    /// A key isn't one.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Anything with the system.
    #[error(transparent)]
    Sys(#[from] SysError),
}

/// Keeps watch for ever. `settings` gives what counts now, and `None` while that can't be read.
pub fn serve(settings: &dyn Fn() -> Option<Settings>) -> ! {
    // k3s and what it runs come first.
    let _ = rustix::process::nice(10);
    let mut not_before = Instant::now();
    loop {
        if Instant::now() >= not_before
            && let Some(settings) = settings()
            && let Err(error) = turn(&settings)
        {
            log::error!("no backup: {}", words(&error));
            not_before = Instant::now() + PAUSE;
        }
        std::thread::sleep(LOOK);
    }
}

/// Makes a backup if one is due.
fn turn(settings: &Settings) -> Result<(), KeeperError> {
    let Some(born) = backup::cluster_here(settings) else { return Ok(()) };
    let shelf = Shelf::all(&born.node).swap_remove(0);
    let has_data_disk = Shelf::of_disk(&born.node).is_some();
    let Some(every) = settings.appliance.backup.every.seconds(has_data_disk) else { return Ok(()) };
    let last = shelf.newest().map(|(_, newest)| newest.made);
    if !schedule::is_due(last, machine::clock(), every, schedule::shift(&born.node, every)) {
        return Ok(());
    }
    let Some(_held) = backup::lock(false)? else { return Ok(()) };
    backup::make(settings, &born).map(drop)
}
