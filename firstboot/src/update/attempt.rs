//! One try to take a bundle, and the note of it that outlives the machine: so that what fails isn't written again and again.
//!
//! The note comes before the first byte, so a try that went down with the machine is known too; it says more once the try has
//! failed, and goes once what is written counts. A note that can't be written stops the update: nothing would bound it.

use crate::error::FirstbootError;
use bakelite_plan::Settings;
use bakelite_plan::facts::Facts;
use bakelite_plan::update::again::Memory;
use bakelite_spec::bundle::Bundle;
use bakelite_spec::tried::{End, PATH, Tried, TriedBundles};
use bakelite_spec::update::LOCK;
use bakelite_sys::{durable, lock, read_text, words};
use bakelite_trust::bundle;
use std::cell::RefCell;
use std::fs::File;
use std::path::{Path, PathBuf};

/// A try; while it lasts nobody else takes a bundle.
#[derive(Debug)]
pub struct Attempt {
    /// The machine's root.
    pub root: PathBuf,
    noted: RefCell<Option<Tried>>,
    _held: File,
}

impl Attempt {
    /// Begins one, with nothing noted yet.
    ///
    /// # Errors
    /// When there is another one.
    pub fn new(root: &Path) -> Result<Self, FirstbootError> {
        let held = lock::try_take(&below(root, LOCK))?;
        let held = held.ok_or_else(|| FirstbootError::NotUpdated("another update is being written".into()))?;
        Ok(Self { root: root.into(), noted: RefCell::default(), _held: held })
    }

    /// Notes that a bundle is written from now on.
    ///
    /// # Errors
    /// When it can't be noted.
    pub fn begin(&self, bundle: &Bundle, facts: &Facts, settings: &Settings) -> Result<(), FirstbootError> {
        self.change(|known| {
            let memory = Memory { tried: known.clone(), ..Memory::of(facts, settings, false) };
            let begun = memory.begin(&bundle.image, &bundle::digest(bundle), bundle.words());
            known.note(begun.clone());
            self.noted.replace(Some(begun));
        })
    }

    /// Forgets it: what was written counts from now on.
    ///
    /// # Errors
    /// When that can't be noted.
    pub fn succeed(&self) -> Result<(), FirstbootError> {
        self.noted.take().map_or(Ok(()), |begun| self.change(|known| known.forget(&begun.image, &begun.manifest)))
    }

    /// Ends it, and notes why where it has failed after it was begun.
    ///
    /// # Errors
    /// Those that it was given.
    pub fn end(self, went: Result<(), FirstbootError>) -> Result<(), FirstbootError> {
        if let (Err(error), Some(begun)) = (&went, self.noted.take()) {
            let (end, why) = match error {
                FirstbootError::NotRehearsed { why, .. } => (End::Rehearsal, why.clone()),
                error => (End::Failed, words(error)),
            };
            if let Err(error) = self.change(|known| known.note(Tried { end, why, ..begun })) {
                log::warn!("why an update has failed isn't noted: {}", words(&error));
            }
        }
        went
    }

    fn change(&self, change: impl FnOnce(&mut TriedBundles)) -> Result<(), FirstbootError> {
        let path = below(&self.root, PATH);
        let mut known = TriedBundles::read(&read_text(&path).unwrap_or_default());
        change(&mut known);
        if known.bundles.is_empty() {
            durable::remove_file(&path)?;
        } else {
            durable::write_durable(&path, known.text().as_bytes(), 0o600)?;
        }
        Ok(())
    }
}

fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bakelite_trust::bundle::BundleError;

    const REHEARSED: &str = "its k3s was tried and ended";

    fn machine() -> (tempfile::TempDir, Settings) {
        let root = crate::layers::testing::machine("k3s: rehearsal\n");
        let settings = crate::layers::settings(root.path()).unwrap();
        durable::make_folder(below(root.path(), PATH).parent().unwrap()).unwrap();
        (root, settings)
    }

    fn bundle() -> Bundle {
        Bundle { image: "new".into(), version: "2.0".into(), ..Bundle::default() }
    }

    /// What is noted, as the next boot reads it.
    fn noted(root: &Path) -> Vec<Tried> {
        TriedBundles::read(&read_text(below(root, PATH)).unwrap_or_default()).bundles
    }

    fn facts(boot: &str) -> Facts {
        Facts { boot: boot.into(), clock: 1_800_000_000, ..Facts::default() }
    }

    #[test]
    fn a_try_is_noted_before_it_writes_and_says_how_it_ended() {
        let (root, settings) = machine();
        let root = root.path();
        let attempt = Attempt::new(root).unwrap();
        assert!(Attempt::new(root).unwrap_err().to_string().contains("another update"), "one at a time");
        attempt.begin(&bundle(), &facts("one"), &settings).unwrap();
        assert_eq!(noted(root)[0].end, End::Open);
        // The plug is pulled here.
        drop(attempt);
        assert_eq!((noted(root).len(), noted(root)[0].times), (1, 1));
        let ways: [(FirstbootError, End, &str); 2] = [
            (BundleError::Torn("initrd".into()).into(), End::Failed, "the bundle isn't taken: it is cut off within"),
            (FirstbootError::NotRehearsed { bundle: "2.0".into(), why: REHEARSED.into() }, End::Rehearsal, REHEARSED),
        ];
        for (number, (error, end, why)) in ways.into_iter().enumerate() {
            let attempt = Attempt::new(root).unwrap();
            attempt.begin(&bundle(), &facts("two"), &settings).unwrap();
            assert!(attempt.end(Err(error)).is_err());
            let noted = noted(root);
            assert_eq!((noted.len(), noted[0].end, noted[0].times), (1, end, 2 + number as u32));
            assert!(noted[0].why.starts_with(why), "{}", noted[0].why);
        }
        let attempt = Attempt::new(root).unwrap();
        attempt.begin(&bundle(), &facts("three"), &settings).unwrap();
        attempt.succeed().unwrap();
        // What counts already has not failed.
        assert!(attempt.end(Err(FirstbootError::NotUpdated("no restart".into()))).is_err());
        assert!(!below(root, PATH).exists());
    }

    #[test]
    fn what_is_refused_before_it_is_begun_is_not_noted() {
        let (root, _) = machine();
        let attempt = Attempt::new(root.path()).unwrap();
        assert!(attempt.end(Err(FirstbootError::NotUpdated("no room".into()))).is_err());
        assert!(!below(root.path(), PATH).exists());
    }
}
