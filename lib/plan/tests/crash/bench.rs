//! A machine with media that forget: what wasn't synced before a cut may be there afterwards or not, at an adversary's whim.
//!
//! Each action is played as the single writes, renames and syncs that the real one makes, and the power can go before
//! each of them. k3s is played as well: it makes a new cluster where it finds no database, as the real one does.

use bakelite_plan::Settings;
use bakelite_plan::action::Action;
use bakelite_plan::cluster::{ON_DISK, ON_STATE};
use bakelite_plan::disk::{Content, Data, Disk, Proof, Seal};
use bakelite_plan::facts::{Amount, Database, Facts};
use bakelite_plan::home::{self, COPIED, DISK_HOME, HOME, INTENT};
use bakelite_plan::identity::{Identity, PASSWORD, RECORD, TOKEN};
use bakelite_plan::latency;
use bakelite_plan::seal::SEAL;
use bakelite_plan::settings::HOST_KEY;
use bakelite_plan::step::{BORN, Decision, EARLY, SETTLE, Step};
use bakelite_spec::firewall::RULES;
use bakelite_spec::records::Place;
use std::collections::BTreeMap;

/// k3s's database on the card and on a data disk; its text is the revision.
pub const CARD_DATABASE: &str = "/state/rancher/db";
pub const DISK_DATABASE: &str = "/disk/rancher/db";
const COPYING: &str = "/disk/bakelite/copying.json";

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
    /// The identity's record is taken out of the seal first.
    RecordFirst,
}

pub struct Cut;

/// What the steps decided, by their names.
pub type Decisions = Vec<(&'static str, Decision)>;

/// A file system that forgets.
#[derive(Clone, Debug, Default)]
pub struct Files {
    pub live: BTreeMap<String, String>,
    durable: BTreeMap<String, String>,
    pending: Vec<(String, Option<String>)>,
}

impl Files {
    pub fn with(files: &[(&str, &str)]) -> Self {
        let live: BTreeMap<_, _> = files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect();
        Self { durable: live.clone(), live, pending: Vec::new() }
    }

    fn sync(&mut self) {
        self.durable = self.live.clone();
        self.pending.clear();
    }

    fn forget(&mut self, whim: &mut impl FnMut() -> bool) {
        for (path, text) in std::mem::take(&mut self.pending) {
            match text {
                _ if !whim() => {}
                Some(text) => drop(self.durable.insert(path, text)),
                None => drop(self.durable.remove(&path)),
            }
        }
        self.live = self.durable.clone();
    }
}

/// A disk besides the card.
#[derive(Clone, Debug, Default)]
pub struct Medium {
    pub disk: Disk,
    /// The GUID of its data partition, as it is and as it is on the medium.
    table: (Option<String>, Option<String>),
    born: (Option<String>, Option<String>),
    pub files: Option<Files>,
    /// How often its bytes were written.
    pub writes: usize,
    /// Whether it is plugged in.
    pub here: bool,
}

impl Medium {
    pub fn new(name: &str, proof: Proof) -> Self {
        let disk = Disk {
            name: name.into(),
            transport: "nvme".into(),
            size: 256 << 30,
            serial: format!("serial-{name}"),
            proof: Some(proof),
            ..Disk::default()
        };
        Self { disk, here: true, ..Self::default() }
    }

    pub fn data(name: &str, guid: &str, files: Files) -> Self {
        let guid = Some(guid.to_string());
        let table = (guid.clone(), guid);
        Self { born: table.clone(), table, files: Some(files), ..Self::new(name, Proof::Holds("ext4".into())) }
    }
}

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
    pub shown: BTreeMap<String, String>,
    pub ran: bool,
    pub uptime: u64,
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
            shown: BTreeMap::new(),
            ran: false,
            uptime: 0,
            secrets: 0,
            guids: 0,
            lost: 0,
            revision: 0,
            fuse: None,
            effects: 0,
            seed: 1,
            mutation: None,
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
        self.ran = false;
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
        [TOKEN, PASSWORD, HOST_KEY, RECORD].iter().map(text).collect::<Vec<_>>().join("|")
    }

    /// `GENERATION|TOKEN|PASSWORD|KEY|RECORD`
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

    /// Where k3s reads its database.
    fn database(&self) -> &'static str {
        if self.shown.contains_key("/var/lib/rancher") { DISK_DATABASE } else { CARD_DATABASE }
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
        let paths = [RECORD, HOME, INTENT, ON_STATE, DISK_HOME, COPIED, ON_DISK];
        let mut files: BTreeMap<_, _> =
            paths.iter().filter_map(|path| Some((path.to_string(), self.text(path)?))).collect();
        files.extend(self.run.clone());
        let present = [TOKEN, PASSWORD, HOST_KEY].into_iter().filter(|path| self.card.live.contains_key(*path));
        let mut facts = Facts {
            serial: "abc123".into(),
            state_is_durable: true,
            present: present.map(String::from).collect(),
            to_seal: self.to_seal(),
            disks: disks.collect(),
            uptime: self.uptime,
            shown: self.shown.clone(),
            free_on_disk: 100 << 30,
            payload_ran: self.ran,
            files,
            ..Facts::default()
        };
        let card: Vec<_> = self.card.live.keys().filter(|path| path.starts_with("/state/")).collect();
        facts.on_card = (!card.is_empty()).then_some(Amount { bytes: 1 << 20, files: card.len() as u64 });
        let on_disk =
            home::of(&facts).is_some_and(|home| matches!(home.place, Place::Disk(_)) && home.moving.is_none());
        if !on_disk || !self.shown.is_empty() {
            let revision = |text: String| Database {
                revision: text.parse().unwrap_or(0),
                row: "row".into(),
                ..Database::default()
            };
            facts.database = self.text(self.database()).map(revision);
        }
        facts
    }

    fn at(&self, fits: impl Fn(&Medium) -> bool) -> usize {
        self.media.iter().position(|medium| medium.here && fits(medium)).unwrap()
    }

    fn apply(&mut self, action: &Action) -> Result<(), Cut> {
        match action {
            Action::Publish { path, text, .. } => {
                let skipped = self.mutation == Some(Mutation::SwitchWithoutMoving) && text.contains("moving");
                if !skipped {
                    self.publish(path, text)?;
                }
            }
            Action::Tell { path, text, .. } => drop(self.run.insert(path.clone(), text.clone())),
            Action::LoadRules { rules } => drop(self.run.insert(RULES.into(), rules.clone())),
            Action::MakeSecret { path } | Action::MakeHostKey { path } => {
                self.secrets += 1;
                let text = format!("secret{}", self.secrets);
                self.publish(path, &text)?;
            }
            Action::Remove { path } => self.remove(path)?,
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
                let mut parts: Vec<_> =
                    [TOKEN, PASSWORD, HOST_KEY, RECORD].into_iter().zip(seal.split('|').skip(1)).collect();
                if self.mutation == Some(Mutation::RecordFirst) {
                    parts.reverse();
                }
                for (path, text) in parts {
                    self.publish(path, text)?;
                }
            }
            Action::Show { folder, place, .. } => drop(self.shown.insert(place.clone(), folder.clone())),
            Action::CopyHome { .. } => self.copy_home()?,
            Action::ForgetAddresses { .. }
            | Action::Link { .. }
            | Action::Unlink { .. }
            | Action::SetAside { .. }
            | Action::RemoveFolder { .. }
            | Action::RemoveEmpty { .. }
            | Action::AwaitAddress { .. }
            | Action::MakeDummy { .. }
            | Action::RemoveDummy
            | Action::AddEntry { .. }
            | Action::TakeSecrets { .. }
            | Action::SpendSeed
            | Action::RemoveEntries { .. }
            | Action::VerifyUnpacked { .. }
            | Action::VerifyPayload { .. }
            | Action::CheckDatabase { .. }
            | Action::Sync { .. }
            | Action::Place(_) => {}
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
        assert!(self.media[at].files.as_ref().is_none_or(|files| files.durable.is_empty()), "something was formatted");
        self.media[at].files = Some(Files::default());
        self.tick()?;
        self.attached = Some(at);
        self.media[at].born.0 = Some(guid.into());
        self.tick()?;
        self.media[at].born.1 = Some(guid.into());
        Ok(())
    }

    fn copy_home(&mut self) -> Result<(), Cut> {
        let intent = self.text(INTENT).unwrap();
        if self.mutation == Some(Mutation::CopiedFirst) {
            self.publish(COPIED, &intent)?;
        }
        if self.text(COPYING).as_ref() != Some(&intent) {
            let old: Vec<String> =
                self.files("/disk/").live.keys().filter(|path| path.starts_with("/disk/rancher")).cloned().collect();
            for path in old {
                self.remove(&path)?;
            }
            self.publish(COPYING, &intent)?;
        }
        let card: Vec<_> = self.card.live.clone().into_iter().filter(|(path, _)| path.starts_with("/state/")).collect();
        for (path, text) in card {
            let to = path.replacen("/state", "/disk", 1);
            let beside = format!("{to}.half");
            self.write(&beside, &text, false)?;
            self.tick()?;
            let files = self.files(&to);
            files.live.remove(&beside);
            files.live.insert(to.clone(), text.clone());
            files.pending.push((to, Some(text)));
        }
        self.tick()?;
        self.files("/disk/").sync();
        self.publish(COPIED, &intent)?;
        self.remove(COPYING)
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
        let mut all = Vec::new();
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
        let steps: Vec<Step> =
            SETTLE.iter().filter(|step| matches!(step.name, "home" | "integrity" | "database")).copied().collect();
        let (decisions, goes_on) = self.pass(&steps)?;
        all.extend(decisions);
        if goes_on {
            self.run_k3s()?;
            all.extend(self.pass(BORN)?.0);
        }
        Ok(all)
    }

    fn run_k3s(&mut self) -> Result<(), Cut> {
        self.ran = true;
        let path = self.database();
        let found = self.text(path).and_then(|text| text.parse::<u64>().ok()).filter(|revision| *revision > 0);
        let Some(found) = found else {
            self.lost += usize::from(self.revision > 0);
            self.publish(path, "10")?;
            self.revision = self.revision.max(10);
            return Ok(());
        };
        assert!(found >= self.revision, "k3s was started upon revision {found}, and {} was known", self.revision);
        self.publish(path, &(found + 5).to_string())?;
        self.revision = self.revision.max(found + 5);
        Ok(())
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
        let kept: Vec<_> = self
            .attached
            .and_then(|at| self.media[at].files.as_ref())
            .map(|files| files.live.keys().filter(|path| !path.contains("/bakelite/")).cloned().collect())
            .unwrap_or_default();
        let intent = self.card.live.contains_key(INTENT);
        let record = self.card.live.get(RECORD).map(String::as_str);
        let token = self.card.live.get(TOKEN).map(|token| if token == "t" { "the old one" } else { "a new one" });
        format!("{record:?} token {token:?} {home:?} sealed {is_sealed:?} {kept:?} intent {intent} lost {}", self.lost)
    }
}
