//! How a set comes in: unpacked beside its place, said to be whole, put in place by single renames.

use super::{Bench, Cut, Mutation};
use bakelite_plan::identity::{PASSWORD, TOKEN};
use bakelite_plan::restore::{FOLDER, STAGED};
use bakelite_plan::settings::HOST_KEY;

impl Bench {
    /// Where k3s's data is, what seems to be at a path is on a medium.
    pub(super) fn medium(&self, path: &str) -> String {
        let medium = if self.is_shown_from_disk() { "/disk" } else { "/state" };
        path.replacen("/var/lib", medium, 1)
    }

    /// The database of an unpacked set.
    fn staged(&self) -> String {
        format!("{FOLDER}/staged/db")
    }

    /// Unpacked, synced, and then said to be whole.
    pub(super) fn stage(&mut self, set: &str, note: &str) -> Result<(), Cut> {
        let found = self.sets.as_ref().unwrap().iter().find(|found| found.key() == set).unwrap();
        let revision = found.manifest.as_ref().unwrap().revision.to_string();
        let (said, database) = (self.medium(STAGED), self.medium(&self.staged()));
        if self.mutation == Some(Mutation::StagedFirst) {
            self.publish(&said, note)?;
        }
        self.write(&database, &revision, false)?;
        self.tick()?;
        self.files(&database).sync();
        self.publish(&said, note)
    }

    /// The old one aside, the new one in its place, each by a rename that is durable before the next.
    pub(super) fn put_in_place(&mut self) -> Result<(), Cut> {
        let (from, to) = (self.medium(&self.staged()), self.database());
        let Some(text) = self.text(&from) else { return Ok(()) };
        if let Some(old) = self.text(to) {
            self.publish(&self.medium(&format!("{FOLDER}/aside")), &old)?;
            self.remove(to)?;
        }
        self.publish(to, &text)?;
        self.revision = 0;
        self.remove(&from)
    }

    pub(super) fn take_identity(&mut self) -> Result<(), Cut> {
        for (path, text) in [(TOKEN, "t"), (PASSWORD, "p"), (HOST_KEY, "k")] {
            if self.text(path).as_deref() != Some(text) {
                self.publish(path, text)?;
            }
        }
        Ok(())
    }

    pub(super) fn remove_staged(&mut self) -> Result<(), Cut> {
        for path in [STAGED.to_string(), self.staged()] {
            let path = self.medium(&path);
            if self.text(&path).is_some() {
                self.remove(&path)?;
            }
        }
        Ok(())
    }
}
