//! A machine with media that forget: its boots, its facts and its power cuts. What firstboot does to it is in `acts`.
//!
//! k3s is played as well: it makes a new cluster where it finds no database, as the real one does.

mod acts;
mod laying;
mod media;
mod resetting;
mod restoring;
mod updating;

use bakelite_plan::Settings;
use bakelite_plan::cluster::{ON_DISK, ON_STATE};
use bakelite_plan::disk::{Content, Data, Disk, Seal};
use bakelite_plan::facts::{Amount, Database, Facts};
use bakelite_plan::home::{self, AT_ONCE, COPIED, COPIED_ON_CARD, DISK_HOME, HOME, INTENT, TO_CARD};
use bakelite_plan::identity::{DEVICE_KEY, Identity, PASSWORD, RECORD, TOKEN};
use bakelite_plan::restore::blank::BASELINE;
use bakelite_plan::restore::trial::{ROLLED_BACK, TRIAL};
use bakelite_plan::restore::{FoundSet, STAGED, WORD, Word};
use bakelite_plan::seal::SEAL;
use bakelite_plan::settings::HOST_KEY;
use bakelite_plan::step::{BORN, Decision, EARLY, SETTLE, Step, UPKEEP};
use bakelite_plan::{old_copy, reset};
use bakelite_spec::fault::{Code, Fault};
use bakelite_spec::places;
use bakelite_spec::records::Place;
use bakelite_spec::status::{LastStart, paths};
use bakelite_spec::update;
pub use media::{Files, Medium};
use std::collections::BTreeMap;
pub use updating::BY_NEW;

/// k3s's database on the card and on a data disk; its text is the revision.
pub const CARD_DATABASE: &str = "/state/rancher/db";
pub const DISK_DATABASE: &str = "/disk/rancher/db";
/// What is sealed, the record last.
const SECRETS: [&str; 5] = [TOKEN, PASSWORD, DEVICE_KEY, HOST_KEY, RECORD];

/// A rule that a broken firstboot would break: with each of them a test has to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Files are renamed into place without a sync.
    NoSync,
    /// The copy is called whole before it is made.
    CopiedFirst,
    /// The record of the birth is written before the file system is there.
    BornFirst,
    /// A copy that was begun is never cleared, and k3s runs meanwhile.
    SwitchWithoutMoving,
    /// A set is called whole before it is unpacked.
    StagedFirst,
    /// The identity's record is taken out of the seal first.
    RecordFirst,
    /// A disk isn't told that the cluster left it.
    LeftUnsaid,
    /// The wish for a reset goes before what it is about.
    WishFirst,
    /// The new slot can be started before the update's record is there.
    EntryFirst,
    /// That the new k3s may write isn't noted.
    StartUnsaid,
    /// The old system doesn't count the tries that it asks for.
    TryUncounted,
    /// Apps count before they are in the store.
    LaidFirst,
    /// What was there before goes from the store before it counts no more.
    SweptFirst,
}

pub struct Cut;

/// What the steps decided, by their names.
pub type Decisions = Vec<(&'static str, Decision)>;

/// The machine.
#[derive(Clone)]
pub struct Bench {
    pub settings: Settings,
    pub card: Files,
    pub media: Vec<Medium>,
    pub run: BTreeMap<String, String>,
    pub looked: BTreeMap<String, Content>,
    pub proved: Vec<String>,
    pub attached: Option<usize>,
    pub sets: Option<Vec<FoundSet>>,
    /// The sets that there are, on a stick or the card, all the time.
    pub sticks: Vec<FoundSet>,
    /// Words of a person's on them.
    pub words: Vec<Word>,
    pub beyond_baseline: Option<Vec<String>>,
    /// The revisions that k3s can't live with.
    pub doomed: Vec<u64>,
    pub shown: BTreeMap<String, String>,
    pub ran: bool,
    /// Which move a person asks for until it is done.
    pub wish: Option<&'static str>,
    pub uptime: u64,
    /// How often it was switched on.
    pub boots: usize,
    /// Whether each boot that starts k3s is a good one.
    pub good: bool,
    pub secrets: usize,
    pub guids: usize,
    /// How often k3s made a new cluster although there had been one.
    pub lost: usize,
    /// The highest revision that k3s was ever started upon.
    pub revision: u64,
    pub fuse: Option<usize>,
    pub effects: usize,
    pub seed: u64,
    pub mutation: Option<Mutation>,
    /// The slot that runs, where there are two.
    pub slot: Option<String>,
    /// The record of an update, and the new slot's entry by its name.
    pub armed: (String, (String, String)),
    /// Whether a Raspberry Pi's firmware starts it.
    pub is_pi: bool,
    /// Whether the next start is a try.
    pub asks_to_try: bool,
    /// What went with a database that was moved aside.
    pub lost_names: Option<Vec<String>>,
}

impl Bench {
    pub fn new(settings: Settings, card: Files, media: Vec<Medium>) -> Self {
        Self {
            settings,
            card,
            media,
            run: BTreeMap::new(),
            looked: BTreeMap::new(),
            proved: Vec::new(),
            attached: None,
            sets: None,
            sticks: Vec::new(),
            words: Vec::new(),
            beyond_baseline: None,
            doomed: Vec::new(),
            shown: BTreeMap::new(),
            ran: false,
            wish: None,
            uptime: 0,
            boots: 0,
            good: false,
            secrets: 0,
            guids: 0,
            lost: 0,
            revision: 0,
            fuse: None,
            effects: 0,
            seed: 1,
            mutation: None,
            slot: None,
            armed: Default::default(),
            is_pi: false,
            asks_to_try: false,
            lost_names: None,
        }
    }

    fn whim(&mut self) -> bool {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed & 1 == 1
    }

    /// One single effect is about to happen: the power may go here.
    fn tick(&mut self) -> Result<(), Cut> {
        if self.fuse == Some(self.effects) {
            return Err(Cut);
        }
        self.effects += 1;
        Ok(())
    }

    /// The power goes: each medium keeps what it was told to keep, and the rest at whim.
    pub fn power_cut(&mut self) {
        let mut seed = self.seed;
        let mut whim = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed & 1 == 1
        };
        self.card.forget(&mut whim);
        for medium in &mut self.media {
            if whim() {
                medium.table.1 = medium.table.0.clone();
            }
            if whim() {
                medium.born.1 = medium.born.0.clone();
            }
            medium.table.0 = medium.table.1.clone();
            medium.born.0 = medium.born.1.clone();
            medium.files.iter_mut().for_each(|files| files.forget(&mut whim));
        }
        self.seed = seed;
        self.run.clear();
        self.looked.clear();
        self.proved.clear();
        self.shown.clear();
        self.attached = None;
        self.sets = None;
        self.beyond_baseline = None;
        self.lost_names = None;
        self.ran = false;
        self.boots += 1;
        self.uptime = 0;
        self.effects = 0;
        self.fuse = None;
    }

    fn files(&mut self, path: &str) -> &mut Files {
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

    fn write(&mut self, path: &str, text: &str, sync: bool) -> Result<(), Cut> {
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
    fn publish(&mut self, path: &str, text: &str) -> Result<(), Cut> {
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

    fn remove(&mut self, path: &str) -> Result<(), Cut> {
        self.tick()?;
        let files = self.files(path);
        files.live.remove(path);
        files.pending.push((path.into(), None));
        self.tick()?;
        self.files(path).sync();
        Ok(())
    }

    fn to_seal(&self) -> String {
        if !self.card.live.contains_key(RECORD) {
            return String::new();
        }
        let text = |path: &&str| self.card.live.get(*path).cloned().unwrap_or_default();
        SECRETS.iter().map(text).collect::<Vec<_>>().join("|")
    }

    /// `GENERATION|` and [`SECRETS`].
    fn read_seal(text: &str) -> Option<Seal> {
        let (generation, digest) = text.split_once('|')?;
        let identity: Identity = serde_json::from_str(digest.rsplit('|').next()?).ok()?;
        Some(Seal { node: identity.node, generation: generation.parse().ok()?, digest: digest.into() })
    }

    fn content(files: &Files) -> Content {
        let record = |path: &str| files.live.get(path);
        Content {
            seal: record(SEAL).and_then(|text| Self::read_seal(text)),
            home: record(DISK_HOME).and_then(|text| serde_json::from_str(text).ok()),
            cluster: record(ON_DISK).and_then(|text| serde_json::from_str(text).ok()),
            unused: !files.live.keys().any(|path| !path.starts_with("/disk/bakelite/")),
        }
    }

    fn is_shown_from_disk(&self) -> bool {
        self.shown.get(places::RANCHER.at).is_some_and(|folder| folder.starts_with("/disk/"))
    }

    fn lives_on_disk(&self) -> bool {
        home::of(&self.facts()).is_some_and(|home| matches!(home.place, Place::Disk(_)))
    }

    /// Where k3s reads its database.
    fn database(&self) -> &'static str {
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
    fn tree(&self, medium: &str) -> BTreeMap<String, String> {
        let files = match self.attached {
            _ if medium == "/state/" => Some(&self.card),
            attached => attached.and_then(|at| self.media[at].files.as_ref()),
        };
        let all = files.into_iter().flat_map(|files| &files.live);
        let moves = all.filter(|(path, _)| path.starts_with(medium) && !path.starts_with("/disk/bakelite/"));
        moves.map(|(path, text)| (path.clone(), text.clone())).collect()
    }

    fn at(&self, fits: impl Fn(&Medium) -> bool) -> usize {
        self.media.iter().position(|medium| medium.here && fits(medium)).unwrap()
    }

    fn settle(&mut self, step: &Step) -> Result<Decision, Cut> {
        for _ in 0..12 {
            let decision = (step.decide)(&self.facts(), &self.settings);
            let Decision::Run(_, actions) = &decision else { return Ok(decision) };
            for action in actions {
                self.apply(action)?;
            }
        }
        panic!("{} never comes to an end", step.name);
    }

    /// A pass: the decisions, and whether the machine may go on.
    fn pass(&mut self, steps: &[Step]) -> Result<(Decisions, bool), Cut> {
        let (mut decisions, mut goes_on) = (Vec::new(), true);
        for step in steps {
            let decision = self.settle(step)?;
            goes_on &= !decision.stops();
            let stops = decision.stops();
            decisions.push((step.name, decision));
            if stops && step.ends_the_pass {
                break;
            }
        }
        Ok((decisions, goes_on))
    }

    /// One boot, as init does it: early until it has ended well, settle, k3s, the record of its birth.
    pub fn boot(&mut self) -> Result<Decisions, Cut> {
        if self.is_for_a_reset() {
            return self.reset();
        }
        let mut all = Vec::new();
        for place in places::OF_EITHER {
            self.shown.insert(place.at.into(), format!("/state/{}", place.folder));
        }
        if let Some(wish) = self.wish.filter(|wish| (*wish == TO_CARD) == self.lives_on_disk()) {
            self.run.insert(AT_ONCE.into(), wish.into());
        }
        for _ in 0..5 {
            let (decisions, goes_on) = self.pass(EARLY)?;
            all = decisions;
            if goes_on {
                break;
            }
            self.uptime += 10;
        }
        if all.iter().any(|(_, decision)| decision.stops()) {
            return Ok(all);
        }
        // The other steps of settle know nothing of media; convergence.rs cuts them.
        let steps: Vec<Step> = SETTLE
            .iter()
            .filter(|step| matches!(step.name, "home" | "update" | "restore" | "integrity" | "database" | "updated"))
            .copied()
            .collect();
        let (decisions, mut goes_on) = self.pass(&steps)?;
        all.extend(decisions);
        // Where k3s can't live with what is there, init has settle run once more.
        while goes_on && !self.run_k3s()? {
            assert!(all.len() < 99, "k3s never runs");
            let (decisions, again) = self.pass(&steps)?;
            all.extend(decisions);
            goes_on = again;
        }
        if goes_on {
            all.extend(self.pass(BORN)?.0);
            if self.good {
                self.run.insert(paths::GOOD.into(), "good".into());
                all.extend(self.pass(UPKEEP)?.0);
            }
        }
        Ok(all)
    }

    /// Whether k3s becomes ready.
    fn run_k3s(&mut self) -> Result<bool, Cut> {
        self.ran = true;
        let path = self.database();
        let found = self.text(path).and_then(|text| text.parse::<u64>().ok()).filter(|revision| *revision > 0);
        let Some(found) = found else {
            self.lost += usize::from(self.revision > 0);
            self.publish(path, "10")?;
            self.revision = self.revision.max(10);
            return Ok(true);
        };
        assert!(found >= self.revision, "k3s was started upon revision {found}, and {} was known", self.revision);
        let by_new = self.slot.as_deref() == Some("b");
        assert!(by_new || found < BY_NEW || self.slot.is_none(), "the old k3s was started upon what the new one wrote");
        if self.doomed.contains(&found) {
            let fault = Some(Fault::new(Code::K3sWrongToken, "different token"));
            let start = LastStart { started: self.uptime as f64, fault, ..LastStart::default() };
            self.run.insert(paths::LAST_START.into(), serde_json::to_string(&start).unwrap());
            self.uptime += 1;
            return Ok(false);
        }
        let written = found + if by_new { BY_NEW } else { 5 };
        self.publish(path, &written.to_string())?;
        self.revision = self.revision.max(written);
        self.run.remove(paths::LAST_START);
        Ok(true)
    }

    pub fn run_to_end(&mut self) {
        let mut boots = 0;
        while self.boot().is_err() {
            self.power_cut();
            boots += 1;
            assert!(boots < 9, "never comes to an end");
        }
    }

    /// What counts of a machine in the end: who it is, where it lives, whether all of it is there. Without what is random.
    pub fn outcome(&self) -> String {
        let home = home::of(&self.facts())
            .map(|home| (matches!(home.place, Place::Disk(_)), home.moving.is_some(), home.epoch));
        let sealed = self.text(SEAL).and_then(|text| Some(text.split_once('|')?.1.to_string()));
        let is_sealed = sealed.map(|digest| digest == self.to_seal());
        let stays = home::of(&self.facts()).is_none_or(|home| home.needs().is_none());
        let kept = self.tree(if stays { "/state/" } else { "/disk/" }).into_keys();
        let kept: Vec<_> = kept.filter(|path| !path.contains("/bakelite/")).collect();
        let old = self.tree("/state/").len() * usize::from(!stays);
        let intent = self.card.live.contains_key(INTENT);
        let record = self.card.live.get(RECORD).map(String::as_str);
        let which = |path: &str, old: &str| {
            self.card.live.get(path).map(|text| if text == old { "the old one" } else { "a new one" })
        };
        let (token, password) = (which(TOKEN, "t"), which(PASSWORD, "p"));
        format!(
            "{record:?} token {token:?} password {password:?} {home:?} sealed {is_sealed:?} {kept:?} old {old} intent {intent} lost {}",
            self.lost
        )
    }
}
