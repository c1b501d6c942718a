//! The two commits of a Raspberry Pi's boot partition: what firmware starts, and what it starts for the one try that a restart
//! asks for.
//!
//! Each is one sector that is overwritten in place (law 3). Only what names files that are there, whole and durable, may be
//! committed: that is the caller's part.

use crate::{SysError, durable, read_text};
use bakelite_spec::pi::{COMMIT, Commit, TRY_COMMIT};
use std::path::Path;

/// What is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commits {
    /// What is started.
    pub started: Commit,
    /// What is started for one try, where that is another slot.
    pub tried: Option<Commit>,
}

impl Commits {
    /// Reads them from a mounted boot partition; `None` where it is no Raspberry Pi's.
    pub fn read(boot: &Path) -> Option<Self> {
        let read = |name: &str| Commit::parse(&read_text(boot.join(name)).ok()?);
        let started = read(COMMIT)?;
        let tried = read(TRY_COMMIT).filter(|tried| tried.slot != started.slot);
        Some(Self { started, tried })
    }

    /// Whether a slot can be started for a try only.
    pub fn is_tried(&self, slot: &str) -> bool {
        self.tried.as_ref().is_some_and(|tried| tried.slot == slot)
    }
}

/// Commits a slot that was only tried; whether there was anything to do.
///
/// # Errors
/// When it can't be written.
pub fn keep(boot: &Path, slot: &str) -> Result<bool, SysError> {
    let tried = Commits::read(boot).and_then(|commits| commits.tried).filter(|tried| tried.slot == slot);
    let Some(tried) = tried else { return Ok(false) };
    durable::overwrite(&boot.join(COMMIT), &tried.render())?;
    Ok(true)
}

/// Has a try start what is started anyway; whether a slot that isn't committed runs no more after the next restart.
///
/// # Errors
/// When it can't be written.
pub fn forget(boot: &Path, slot: &str) -> Result<bool, SysError> {
    let Some(commits) = Commits::read(boot).filter(|commits| commits.started.slot != slot) else { return Ok(false) };
    if commits.is_tried(slot) {
        durable::overwrite(&boot.join(TRY_COMMIT), &commits.started.render())?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_tried_kept_or_forgotten() {
        let of = |slot: &str, generation| Commit { slot: slot.into(), generation };
        let card = |started: &Commit, tried: &Commit| {
            let boot = tempfile::tempdir().unwrap();
            for (name, commit) in [(COMMIT, started), (TRY_COMMIT, tried)] {
                durable::replace(boot.path().join(name), &commit.render(), 0o644).unwrap();
            }
            boot
        };
        let boot = card(&of("a", 3), &of("b", 1));
        let read = || Commits::read(boot.path()).unwrap();
        assert!(read().is_tried("b") && !read().is_tried("a"));
        assert!(!keep(boot.path(), "a").unwrap() && !forget(boot.path(), "a").unwrap(), "it is what is started");
        assert!(keep(boot.path(), "b").unwrap());
        assert_eq!(read(), Commits { started: of("b", 1), tried: None });
        assert!(!keep(boot.path(), "b").unwrap() && !forget(boot.path(), "b").unwrap());
        let boot = card(&of("a", 3), &of("b", 1));
        assert!(forget(boot.path(), "b").unwrap());
        assert_eq!(Commits::read(boot.path()).unwrap(), Commits { started: of("a", 3), tried: None });
        assert!(forget(boot.path(), "b").unwrap(), "a cut before the restart");
        assert_eq!(Commits::read(tempfile::tempdir().unwrap().path()), None);
    }
}
