//! What firstboot does, as the single writes, renames and syncs of the real one: the power can go before each of them.

use super::media::Files;
use super::{Bench, Cut, Mutation, SECRETS};
use bakelite_plan::action::Action;
use bakelite_plan::disk::Proof;
use bakelite_plan::home::{AT_ONCE, COPIED, COPIED_ON_CARD, INTENT};
use bakelite_plan::latency;
use bakelite_plan::reset;
use bakelite_plan::restore::{FOLDER, FoundSet, Source};
use bakelite_plan::seal::SEAL;
use bakelite_spec::apps::STORE;
use bakelite_spec::firewall::RULES;
use bakelite_spec::records::Move;
use bakelite_spec::update::PATH;

const COPYING: &str = "/disk/bakelite/copying.json";
const COPYING_ON_CARD: &str = "/var/lib/bakelite/copying.json";

impl Bench {
    pub(super) fn apply(&mut self, action: &Action) -> Result<(), Cut> {
        match action {
            Action::Publish { path, text, .. } => {
                let skipped = match self.mutation {
                    Some(Mutation::SwitchWithoutMoving) => text.contains("moving"),
                    Some(Mutation::LeftUnsaid) => text.contains("left"),
                    Some(Mutation::StartUnsaid) => path == PATH && text.contains("\"started\":true"),
                    Some(Mutation::TryUncounted) => {
                        path == PATH && self.slot.as_deref() == Some("a") && !text.contains("failed")
                    }
                    _ => false,
                };
                if !skipped {
                    self.publish(path, text)?;
                }
            }
            Action::Tell { path, text, .. } => drop(self.run.insert(path.clone(), text.clone())),
            Action::LoadRules { rules } => drop(self.run.insert(RULES.into(), rules.clone())),
            Action::FindToken { path } => self.publish(path, "t")?,
            Action::MakeSecret { path } | Action::MakeHostKey { path } | Action::MakeDeviceKey { path } => {
                self.secrets += 1;
                let text = format!("secret{}", self.secrets);
                self.publish(path, &text)?;
            }
            Action::Remove { path } if path.starts_with("/run/") => drop(self.run.remove(path)),
            Action::Remove { path } => self.remove(path)?,
            Action::AddEntry { name, text } => self.add_entry(name, text)?,
            Action::RemoveEntries { names } => self.remove_entries(names)?,
            Action::Prove { disk, .. } => self.proved.push(disk.clone()),
            Action::LookInto { guid } => {
                let at = self.at(|medium| medium.table.0.as_ref() == Some(guid));
                let content = Self::content(self.media[at].files.as_ref().unwrap());
                self.looked.insert(guid.clone(), content);
            }
            Action::Claim { disk } => {
                self.guids += 1;
                let guid = format!("guid{}", self.guids);
                let at = self.at(|medium| medium.disk.key() == *disk);
                assert_eq!(self.media[at].disk.proof, Some(Proof::Blank), "a disk that isn't blank is claimed");
                self.tick()?;
                self.media[at].writes += 1;
                self.media[at].table.0 = Some(guid.clone());
                self.tick()?;
                self.media[at].table.1 = Some(guid);
            }
            Action::Bear { guid } => self.bear(guid)?,
            Action::Attach { guid } => {
                let at = self.at(|medium| medium.table.0.as_ref() == Some(guid));
                self.attached = self.media[at].files.is_some().then_some(at);
            }
            Action::Seal { generation } => {
                let text = format!("{generation}|{}", self.to_seal());
                self.publish(SEAL, &text)?;
            }
            Action::Unseal => {
                let seal = self.text(SEAL).unwrap();
                let mut parts: Vec<_> = SECRETS.into_iter().zip(seal.split('|').skip(1)).collect();
                if self.mutation == Some(Mutation::RecordFirst) {
                    parts.reverse();
                }
                for (path, text) in parts {
                    self.publish(path, text)?;
                }
            }
            Action::LookForSets => {
                let spares = reset::spares_own_sets(&self.facts());
                let sees = |set: &&FoundSet| !spares || matches!(set.source, Source::Stick(_));
                self.sets = Some(self.sticks.iter().filter(sees).cloned().collect());
            }
            Action::Unbear { guid } => self.unbear(guid)?,
            Action::Blank { folders, but } => self.blank(folders, but)?,
            Action::StageSet { set, note } => self.stage(set, note)?,
            Action::Climb { .. } | Action::StageMirror { .. } => unreachable!("nothing is damaged"),
            Action::PutInPlace { aside } => self.put_in_place(aside)?,
            Action::TakeIdentity { aside } => self.take_identity(aside)?,
            Action::CompareWithAside { .. } => self.lost_names = Some(vec!["/registry/secrets/till/new".into()]),
            Action::StopWorkloads { .. } => {}
            Action::PutBack { aside } => self.put_back(aside)?,
            Action::GiveBackIdentity { aside } => self.give_back_identity(aside)?,
            Action::Rekey { note, .. } => self.rekey(note)?,
            Action::NoteBaseline { baseline, .. } => self.publish(baseline, "noted")?,
            Action::CompareWithBaseline { .. } => self.beyond_baseline = Some(Vec::new()),
            Action::Refit => {}
            Action::RemoveFolder { path } if path.starts_with(STORE) => self.remove_below(path)?,
            Action::RemoveFolder { path } if path.starts_with(FOLDER) => self.remove_staged()?,
            Action::Show { folder, place, .. } => drop(self.shown.insert(place.clone(), folder.clone())),
            Action::RemoveOldCopy => self.remove_old_copy()?,
            Action::Hide { place } => drop(self.shown.remove(place)),
            Action::CopyHome { way, .. } => self.copy_home(*way)?,
            Action::ForgetAddresses { .. }
            | Action::SetAside { .. }
            | Action::RemoveFolder { .. }
            | Action::RemoveHollow { .. }
            | Action::AwaitAddress { .. }
            | Action::AwaitTime { .. }
            | Action::MakeDummy { .. }
            | Action::RemoveDummy
            | Action::TakeSecrets { .. }
            | Action::SpendSeed
            | Action::MarkSeed
            | Action::Trim { .. }
            | Action::VerifyUnpacked { .. }
            | Action::VerifyPayload { .. }
            | Action::CheckDatabase { .. }
            | Action::Sync { .. } => {}
            Action::Link { path, target } => self.publish(path, target)?,
            Action::Unlink { path } => self.remove(path)?,
            Action::Place(file) => self.place(file)?,
            Action::MeasureLatency { disk, .. } => {
                let mut all = latency::all(&self.facts());
                all.insert(disk.clone(), latency::Latency::of(vec![1]));
                self.publish(latency::RECORD, &serde_json::to_string(&all).unwrap())?;
            }
            Action::PrepareDatabase { .. } => {
                if self.text(self.database()).is_none() {
                    self.publish(self.database(), "0")?;
                }
            }
        }
        Ok(())
    }

    fn bear(&mut self, guid: &str) -> Result<(), Cut> {
        let at = self.at(|medium| medium.table.0.as_deref() == Some(guid));
        self.media[at].writes += 1;
        if self.mutation == Some(Mutation::BornFirst) {
            self.media[at].born = (Some(guid.into()), Some(guid.into()));
        }
        self.tick()?;
        let is_empty = self.media[at].files.as_ref().is_none_or(|files| files.durable.is_empty());
        assert!(is_empty || self.media[at].given_up, "something was formatted");
        self.media[at].files = Some(Files::default());
        self.tick()?;
        self.attached = Some(at);
        self.media[at].born.0 = Some(guid.into());
        self.tick()?;
        self.media[at].born.1 = Some(guid.into());
        Ok(())
    }

    fn remove_old_copy(&mut self) -> Result<(), Cut> {
        assert!(self.is_shown_from_disk(), "what is removed is in use");
        for path in self.tree("/state/").into_keys() {
            self.remove(&path)?;
        }
        Ok(())
    }

    fn copy_home(&mut self, way: Move) -> Result<(), Cut> {
        let (from, to, copying, copied) = match way {
            Move::Promotion => ("/state/", "/disk/", COPYING, COPIED),
            Move::Demotion => ("/disk/", "/state/", COPYING_ON_CARD, COPIED_ON_CARD),
        };
        let intent = self.text(INTENT).unwrap();
        if self.mutation == Some(Mutation::CopiedFirst) {
            self.publish(copied, &intent)?;
        }
        if self.text(copying).as_ref() != Some(&intent) {
            for path in self.tree(to).into_keys() {
                self.remove(&path)?;
            }
            self.publish(copying, &intent)?;
        }
        for (path, text) in self.tree(from) {
            let to = path.replacen(from, to, 1);
            let beside = format!("{to}.half");
            self.write(&beside, &text, false)?;
            self.tick()?;
            let files = self.files(&to);
            files.live.remove(&beside);
            files.live.insert(to.clone(), text.clone());
            files.pending.push((to, Some(text)));
        }
        self.tick()?;
        self.files(to).sync();
        self.publish(copied, &intent)?;
        self.remove(copying)?;
        self.run.remove(AT_ONCE);
        Ok(())
    }
}
