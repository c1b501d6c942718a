//! What firstboot sees of it.

use super::media::Files;
use super::{Bench, CARD_DATABASE, DISK_DATABASE, SECRETS, laying};
use bakelite_plan::cluster::{ON_DISK, ON_STATE};
use bakelite_plan::disk::{Content, Data, Disk, Seal};
use bakelite_plan::facts::{Amount, Database, Facts};
use bakelite_plan::home::{self, AT_ONCE, COPIED, COPIED_ON_CARD, DISK_HOME, HOME, INTENT};
use bakelite_plan::identity::{Identity, RECORD};
use bakelite_plan::restore::blank::BASELINE;
use bakelite_plan::restore::trial::{ROLLED_BACK, TRIAL};
use bakelite_plan::restore::{STAGED, WORD};
use bakelite_plan::seal::SEAL;
use bakelite_plan::{old_copy, reset};
use bakelite_spec::places;
use bakelite_spec::records::Place;
use bakelite_spec::update;
use std::collections::BTreeMap;

impl Bench {
    pub(super) fn to_seal(&self) -> String {
        if !self.card.live.contains_key(RECORD) {
            return String::new();
        }
        let text = |path: &&str| self.card.live.get(*path).cloned().unwrap_or_default();
        SECRETS.iter().map(text).collect::<Vec<_>>().join("|")
    }

    /// `GENERATION|` and [`SECRETS`].
    pub(super) fn read_seal(text: &str) -> Option<Seal> {
        let (generation, digest) = text.split_once('|')?;
        let identity: Identity = serde_json::from_str(digest.rsplit('|').next()?).ok()?;
        Some(Seal { node: identity.node, generation: generation.parse().ok()?, digest: digest.into() })
    }

    pub(super) fn content(files: &Files) -> Content {
        let record = |path: &str| files.live.get(path);
        Content {
            seal: record(SEAL).and_then(|text| Self::read_seal(text)),
            home: record(DISK_HOME).and_then(|text| serde_json::from_str(text).ok()),
            cluster: record(ON_DISK).and_then(|text| serde_json::from_str(text).ok()),
            unused: !files.live.keys().any(|path| !path.starts_with("/disk/bakelite/")),
        }
    }

    pub(super) fn is_shown_from_disk(&self) -> bool {
        self.shown.get(places::RANCHER.at).is_some_and(|folder| folder.starts_with("/disk/"))
    }

    pub(super) fn lives_on_disk(&self) -> bool {
        home::of(&self.facts()).is_some_and(|home| matches!(home.place, Place::Disk(_)))
    }

    /// Where k3s reads its database.
    pub(super) fn database(&self) -> &'static str {
        if self.is_shown_from_disk() { DISK_DATABASE } else { CARD_DATABASE }
    }

    pub fn facts(&self) -> Facts {
        let disks = (0..self.media.len()).filter(|at| self.media[*at].here).map(|at| {
            let medium = &self.media[at];
            let attached = self.attached == Some(at);
            let data = medium.table.0.clone().map(|guid| Data {
                born: medium.born.0.as_ref() == Some(&guid),
                attached,
                content: if attached {
                    medium.files.as_ref().map(Self::content)
                } else {
                    self.looked.get(&guid).cloned()
                },
                damaged: None,
                guid,
            });
            let proof = medium.disk.proof.clone().filter(|_| self.proved.contains(&medium.disk.key()));
            Disk { data, proof, ..medium.disk.clone() }
        });
        let of_moves = [RECORD, HOME, INTENT, ON_STATE, DISK_HOME, COPIED, COPIED_ON_CARD, ON_DISK, old_copy::RECORD];
        let of_restores = [TRIAL, ROLLED_BACK, WORD, BASELINE, reset::WISH, reset::FRESH];
        let paths = of_moves.into_iter().chain(of_restores).chain([update::PATH, update::LAST]).chain(laying::FILES);
        let mut files: BTreeMap<_, _> = paths.filter_map(|path| Some((path.to_string(), self.text(path)?))).collect();
        files.extend(self.run.clone());
        files.extend(self.text(&self.medium(STAGED)).map(|text| (STAGED.to_string(), text)));
        let present = SECRETS[..4].iter().filter(|path| self.card.live.contains_key(**path));
        let mut facts = Facts {
            serial: "abc123".into(),
            state_is_durable: true,
            present: present.map(ToString::to_string).collect(),
            to_seal: self.to_seal(),
            disks: disks.collect(),
            uptime: self.uptime,
            shown: self.shown.clone(),
            free_on_disk: 100 << 30,
            free_on_card: 100 << 30,
            payload_ran: self.ran && !self.run.contains_key(AT_ONCE),
            boot: format!("boot{}", self.boots),
            words: self.sets.as_ref().map_or_else(Vec::new, |_| self.words.clone()),
            sets: self.sets.clone(),
            beyond_baseline: self.beyond_baseline.clone(),
            lost: self.lost_names.clone(),
            loader: self.loader(),
            cmdline: self.slot.as_ref().map_or_else(String::new, |slot| format!("bakelite.slot={slot}")),
            image_links: self.image_links(),
            stored: self.stored(),
            placed: self.placed(),
            files,
            ..Facts::default()
        };
        facts.present.extend(self.placed_files());
        let amount = |files: u64| (files > 0).then_some(Amount { bytes: 1 << 20, files });
        facts.on_card = amount(self.tree("/state/").len() as u64);
        facts.on_disk = amount(self.tree("/disk/").len() as u64);
        let on_disk =
            home::of(&facts).is_some_and(|home| matches!(home.place, Place::Disk(_)) && home.moving.is_none());
        if !on_disk || self.is_shown_from_disk() {
            let revision = |text: String| Database {
                revision: text.parse().unwrap_or(0),
                row: "row".into(),
                ..Database::default()
            };
            facts.database = self.text(self.database()).map(revision);
        }
        facts
    }

    /// The files that move, of the card (`/state/`) or the attached disk (`/disk/`).
    pub(super) fn tree(&self, medium: &str) -> BTreeMap<String, String> {
        let files = match self.attached {
            _ if medium == "/state/" => Some(&self.card),
            attached => attached.and_then(|at| self.media[at].files.as_ref()),
        };
        let all = files.into_iter().flat_map(|files| &files.live);
        let moves = all.filter(|(path, _)| path.starts_with(medium) && !path.starts_with("/disk/bakelite/"));
        moves.map(|(path, text)| (path.clone(), text.clone())).collect()
    }
}
