//! A machine with media that forget: its boots, its facts and its power cuts. What firstboot does to it is in `acts`.
//!
//! k3s is played as well: it makes a new cluster where it finds no database, as the real one does.

mod acts;
mod laying;
mod looking;
mod media;
mod resetting;
mod restoring;
mod storage;
mod updating;

use bakelite_plan::Settings;
use bakelite_plan::disk::Content;
use bakelite_plan::home::{self, AT_ONCE, INTENT, TO_CARD};
use bakelite_plan::identity::{DEVICE_KEY, PASSWORD, RECORD, TOKEN};
use bakelite_plan::restore::{FoundSet, Word};
use bakelite_plan::seal::SEAL;
use bakelite_plan::settings::HOST_KEY;
use bakelite_plan::step::{BORN, Decision, EARLY, SETTLE, Step, UPKEEP};
use bakelite_spec::fault::{Code, Fault};
use bakelite_spec::places;
use bakelite_spec::records::Place;
use bakelite_spec::status::{LastStart, paths};
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
