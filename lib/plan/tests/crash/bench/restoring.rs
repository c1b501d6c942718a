//! How a set comes in: unpacked beside its place, said to be whole, put in place by single renames.

use super::{Bench, Cut, Mutation};
use bakelite_plan::identity::{PASSWORD, TOKEN};
use bakelite_plan::restore::{ASIDE_ON_STATE, FOLDER, STAGED};
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
    pub(super) fn put_in_place(&mut self, aside: &str) -> Result<(), Cut> {
        let (from, to) = (self.medium(&self.staged()), self.database());
        let Some(text) = self.text(&from) else { return Ok(()) };
        if let Some(old) = self.text(to) {
            self.publish(&self.medium(&format!("{FOLDER}/{aside}/db")), &old)?;
            self.remove(to)?;
        }
        self.publish(to, &text)?;
        self.revision = 0;
        self.remove(&from)
    }

    pub(super) fn take_identity(&mut self, aside: &str) -> Result<(), Cut> {
        let staged = self.text(&self.medium(&format!("{FOLDER}/staged/token")));
        for (path, text) in [(TOKEN, staged.as_deref().unwrap_or("t")), (PASSWORD, "p"), (HOST_KEY, "k")] {
            let (old, kept) = (self.text(path), format!("{ASIDE_ON_STATE}/{aside}{path}"));
            if old.as_deref() != Some(text) {
                if self.text(&kept).is_none() {
                    self.publish(&kept, &old.unwrap_or_default())?;
                }
                self.publish(path, text)?;
            }
        }
        Ok(())
    }

    /// What is in the database's place goes aside once, and what was there before comes back.
    pub(super) fn put_back(&mut self, aside: &str) -> Result<(), Cut> {
        let at = |name: &str| self.medium(&format!("{FOLDER}/{aside}/{name}"));
        let (kept, undone, cleared, live) = (at("db"), at("undone"), at("cleared"), self.database());
        if self.text(&cleared).is_none() {
            if let Some(new) = self.text(live) {
                self.publish(&undone, &new)?;
                self.remove(live)?;
            }
            self.publish(&cleared, "")?;
        }
        if let Some(old) = self.text(&kept) {
            self.publish(live, &old)?;
            self.remove(&kept)?;
        }
        self.revision = 0;
        Ok(())
    }

    pub(super) fn give_back_identity(&mut self, aside: &str) -> Result<(), Cut> {
        for path in [TOKEN, PASSWORD, HOST_KEY] {
            match self.text(&format!("{ASIDE_ON_STATE}/{aside}{path}")) {
                Some(none) if none.is_empty() => self.remove(path)?,
                Some(old) => self.publish(path, &old)?,
                None => {}
            }
        }
        Ok(())
    }

    /// A copy of the database with one row more, and the token that opens it.
    pub(super) fn rekey(&mut self, note: &str) -> Result<(), Cut> {
        let revision: u64 = self.text(self.database()).unwrap().parse().unwrap();
        let (said, database) = (self.medium(STAGED), self.medium(&self.staged()));
        let mut note: serde_json::Value = serde_json::from_str(note).unwrap();
        note["revision"] = (revision + 1).into();
        self.write(&database, &(revision + 1).to_string(), false)?;
        self.write(&self.medium(&format!("{FOLDER}/staged/token")), "sealed anew", false)?;
        self.tick()?;
        self.files(&database).sync();
        self.publish(&said, &note.to_string())
    }

    pub(super) fn remove_staged(&mut self) -> Result<(), Cut> {
        for path in [STAGED.to_string(), self.staged(), format!("{FOLDER}/staged/token")] {
            let path = self.medium(&path);
            if self.text(&path).is_some() {
                self.remove(&path)?;
            }
        }
        Ok(())
    }
}
