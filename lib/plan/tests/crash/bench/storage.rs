//! Its writes: what was synced is there after a cut, and of the rest a part, torn.

use super::media::Files;
use super::{Bench, Cut, Mutation};

impl Bench {
    pub(super) fn files(&mut self, path: &str) -> &mut Files {
        if path.starts_with("/disk/") {
            let at = self.attached.unwrap();
            self.media[at].writes += 1;
            self.media[at].files.as_mut().unwrap()
        } else {
            &mut self.card
        }
    }

    pub fn text(&self, path: &str) -> Option<String> {
        let files = if path.starts_with("/disk/") { self.media[self.attached?].files.as_ref()? } else { &self.card };
        files.live.get(path).or_else(|| self.run.get(path)).cloned()
    }

    pub(super) fn write(&mut self, path: &str, text: &str, sync: bool) -> Result<(), Cut> {
        self.tick()?;
        let torn = if self.whim() { String::new() } else { text.to_string() };
        let files = self.files(path);
        files.live.insert(path.into(), text.into());
        files.pending.push((path.into(), Some(torn)));
        if !sync || self.mutation == Some(Mutation::NoSync) {
            return Ok(());
        }
        self.tick()?;
        let files = self.files(path);
        files.pending.retain(|(pending, _)| pending != path);
        files.pending.push((path.into(), Some(text.into())));
        Ok(())
    }

    /// A file beside its place, synced, renamed, the folder synced.
    pub(super) fn publish(&mut self, path: &str, text: &str) -> Result<(), Cut> {
        let beside = format!("{path}.new");
        self.write(&beside, text, true)?;
        self.tick()?;
        let files = self.files(path);
        files.live.remove(&beside);
        files.live.insert(path.into(), text.into());
        // A rename carries what reached the medium by then.
        let reached = files.pending.iter().rev().find(|(pending, _)| *pending == beside);
        let reached = reached.and_then(|(_, text)| text.clone()).unwrap_or_default();
        files.pending.retain(|(pending, _)| *pending != beside);
        files.pending.push((path.into(), Some(reached)));
        if self.mutation == Some(Mutation::NoSync) {
            return Ok(());
        }
        self.tick()?;
        let files = self.files(path);
        for (path, text) in std::mem::take(&mut files.pending) {
            match text {
                Some(text) => drop(files.durable.insert(path, text)),
                None => drop(files.durable.remove(&path)),
            }
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &str) -> Result<(), Cut> {
        self.tick()?;
        let files = self.files(path);
        files.live.remove(path);
        files.pending.push((path.into(), None));
        self.tick()?;
        self.files(path).sync();
        Ok(())
    }
}
