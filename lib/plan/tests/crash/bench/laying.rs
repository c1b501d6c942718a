//! The store of apps, and what is put where k3s looks: what isn't firstboot's passes of a bundle of apps.

use super::{Bench, Cut, Mutation};
use bakelite_plan::apps;
use bakelite_plan::facts::PlacedState;
use bakelite_plan::{payload, placed};
use bakelite_spec::apps::{LAST, RECORD, Record, STORE};
use bakelite_spec::manifest::PlacedFile;
use std::collections::BTreeMap;

/// The files that the steps read.
pub(super) const FILES: [&str; 5] = [RECORD, LAST, payload::CACHE, payload::VERIFIED, placed::RECORD];
/// Where manifests go.
const SERVER: &str = "/var/lib/rancher/k3s/server/";

impl Bench {
    pub(super) fn image_links(&self) -> BTreeMap<String, String> {
        let links = self.card.live.iter().filter(|(path, _)| path.starts_with(payload::IMAGES));
        let links = links.filter(|(path, _)| *path != payload::CACHE && !path.ends_with(".new"));
        links.map(|(path, target)| (path.clone(), target.clone())).collect()
    }

    pub(super) fn stored(&self) -> BTreeMap<String, u64> {
        let files = self.card.live.iter().filter_map(|(path, text)| Some((path.strip_prefix(STORE)?, text)));
        files.map(|(path, text)| (path.trim_start_matches('/').to_string(), text.len() as u64)).collect()
    }

    /// What a file has to hold: of the store its text, of an image its name there.
    fn placed_content(&self, from: &str) -> String {
        if from.starts_with(STORE) { self.text(from).unwrap_or_default() } else { from.into() }
    }

    pub(super) fn placed(&self) -> BTreeMap<String, PlacedState> {
        let record = self.text(RECORD).and_then(|text| Record::read(&text));
        let laid = record.unwrap_or_default().lay(&self.settings.manifest);
        let state = |file: &PlacedFile| {
            let is_same = self.card.live.get(&file.to) == Some(&self.placed_content(&file.from));
            if is_same { PlacedState::Same } else { PlacedState::Differs }
        };
        laid.user.placed.iter().map(|file| (file.to.clone(), state(file))).collect()
    }

    pub(super) fn placed_files(&self) -> Vec<String> {
        self.card.live.keys().filter(|path| path.starts_with(SERVER)).cloned().collect()
    }

    pub(super) fn place(&mut self, file: &PlacedFile) -> Result<(), Cut> {
        let content = self.placed_content(&file.from);
        assert!(!content.is_empty(), "{} has no content", file.from);
        self.publish(&file.to, &content)
    }

    pub(super) fn remove_below(&mut self, folder: &str) -> Result<(), Cut> {
        let below = format!("{folder}/");
        for path in self.card.live.keys().filter(|path| path.starts_with(&below)).cloned().collect::<Vec<_>>() {
            self.remove(&path)?;
        }
        Ok(())
    }

    /// What the command does: each file into the store, then the record.
    pub fn lay(&mut self, files: &[(String, String)], record: &Record) -> Result<(), Cut> {
        let record = serde_json::to_string(record).unwrap();
        if self.mutation == Some(Mutation::LaidFirst) {
            self.publish(RECORD, &record)?;
        }
        for (path, text) in files {
            let path = format!("{STORE}/{path}");
            // What is there is whole.
            if self.text(&path).as_ref() != Some(text) {
                self.publish(&path, text)?;
            }
        }
        self.publish(RECORD, &record)
    }

    /// What the keeper does at the end of what is tried: `why` is empty where it has proved itself.
    pub fn end_trial(&mut self, why: &str) -> Result<(), Cut> {
        let record = apps::of(&self.facts());
        let after = if why.is_empty() { record.proved() } else { record.undone() };
        if self.mutation == Some(Mutation::SweptFirst) {
            self.sweep(&record.proved())?;
        }
        self.publish(LAST, &serde_json::to_string(&record.ended(0, why)).unwrap())?;
        self.publish(RECORD, &serde_json::to_string(&after).unwrap())?;
        self.sweep(&after)
    }

    fn sweep(&mut self, record: &Record) -> Result<(), Cut> {
        let kept = record.digests();
        let stored = self.stored();
        let folders = stored.keys().filter_map(|path| path.split('/').next());
        let goes: std::collections::BTreeSet<String> =
            folders.filter(|folder| !kept.contains(folder)).map(String::from).collect();
        goes.iter().try_for_each(|folder| self.remove_below(&format!("{STORE}/{folder}")))
    }

    /// The steps that know of apps, as one pass has them.
    pub fn settle_apps(&mut self) -> Result<(), Cut> {
        for step in bakelite_plan::step::SETTLE.iter().filter(|step| matches!(step.name, "apps" | "payload" | "placed"))
        {
            self.settle(step)?;
        }
        Ok(())
    }
}
