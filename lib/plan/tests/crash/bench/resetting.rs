//! How a machine becomes blank: the pass in place of early, the acts, and the restart after it.

use super::{Bench, Cut, Decisions, Mutation};
use bakelite_plan::reset::{DONE, STEPS, WISH, is_due};
use bakelite_plan::step::Decision;

/// Where the card has what is seen elsewhere.
const ON_CARD: &[(&str, &str)] = &[
    ("/var/lib/bakelite", "/state/bakelite"),
    ("/var/lib/dropbear", "/state/dropbear"),
    ("/etc/rancher", "/state/rancher-etc"),
];

/// A path as the medium has it.
fn physical(path: &str) -> String {
    let place = ON_CARD.iter().find(|(seen, _)| path.starts_with(seen));
    place.map_or_else(|| path.into(), |(seen, there)| path.replacen(seen, there, 1))
}

impl Bench {
    pub(super) fn is_for_a_reset(&self) -> bool {
        let boot = format!("boot{}", self.boots);
        self.run.contains_key(DONE) || self.text(WISH).is_some_and(|text| is_due(&text, &boot))
    }

    /// The pass; a restart in order looks like a cut after which nothing was forgotten.
    pub(super) fn reset(&mut self) -> Result<Decisions, Cut> {
        let (decisions, _) = self.pass(STEPS)?;
        if decisions.iter().any(|(_, decision)| matches!(decision, Decision::Reboot(..))) {
            self.card.sync();
            self.media.iter_mut().filter_map(|medium| medium.files.as_mut()).for_each(|files| files.sync());
            return Err(Cut);
        }
        Ok(decisions)
    }

    pub(super) fn unbear(&mut self, guid: &str) -> Result<(), Cut> {
        let at = self.at(|medium| medium.table.0.as_deref() == Some(guid));
        assert!(self.attached != Some(at), "what is in use is given up");
        self.tick()?;
        self.media[at].writes += 1;
        self.media[at].given_up = true;
        self.media[at].born.0 = None;
        self.tick()?;
        self.media[at].born.1 = None;
        Ok(())
    }

    pub(super) fn blank(&mut self, folders: &[String], but: &[String]) -> Result<(), Cut> {
        if self.mutation == Some(Mutation::WishFirst) {
            self.remove(WISH)?;
        }
        let is_below = |path: &str, folder: &String| {
            path.strip_prefix(folder.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let goes = |path: &String| {
            let path = physical(path);
            folders.iter().any(|folder| is_below(&path, folder)) && !but.iter().any(|kept| is_below(&path, kept))
        };
        let medium = if folders[0].starts_with("/disk/") { "/disk/" } else { "/state/" };
        let paths: Vec<String> = self.files(medium).live.keys().filter(|path| goes(path)).cloned().collect();
        for path in paths {
            self.tick()?;
            let files = self.files(medium);
            files.live.remove(&path);
            files.pending.push((path, None));
        }
        self.tick()?;
        self.files(medium).sync();
        Ok(())
    }
}
