//! Restore: which backup a machine takes by itself, and how it takes the place of what was there.
//!
//! Only a machine without a cluster, or with a blank one, restores unasked, and only what its own key opens or an owner has
//! granted. A living cluster is replaced by a word that names it. A set is unpacked and proved beside its place first; then
//! comes the intent, then the data, then cluster-born with the next epoch, and the intent goes (DESIGN, Epoch). From the
//! intent on k3s isn't started before all of it is done.

pub mod blank;
mod choose;
mod heal;
pub mod leftovers;
mod living;
pub mod lost_disk;
pub mod mirror;
pub mod preview;
pub mod trial;
mod word;

pub use choose::{FoundSet, Source, Trust};
pub use heal::heal;
use word::asks_rekey;
pub use word::{AT_ONCE, WORD, Word, asks};

use crate::action::Action;
use crate::facts::Facts;
use crate::home::{self, DISK_HOME, HOME, INTENT, json};
use crate::identity::{Identity, PASSWORD, RECORD, TOKEN};
use crate::settings::HOST_KEY;
use crate::step::{Decision, publish};
use crate::{Settings, cluster, data_disk, reset, seal};
use bakelite_spec::appliance::Payload as Kind;
use bakelite_spec::apps;
use bakelite_spec::fault::{Code, Fault};
use bakelite_spec::records::{Act, Before, ClusterBorn, Datastore, DiskHome, FORMAT, Home, Intent, Place};
use bakelite_spec::set;
use bakelite_spec::status::paths;
use choose::{Asked, Choice};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use trial::gone;

/// Everything about restoring, on the file system that k3s's data is on.
pub const FOLDER: &str = "/var/lib/rancher/bakelite";
/// The folders on a machine's own media that its sets lie in, by node.
pub const OWN: Own = Own { card: "/var/lib/bakelite/sets", disk: "/disk/bakelite/sets" };
/// Where a set is unpacked, below [`FOLDER`].
pub const STAGING: &str = "staged";
/// What is said of the set that is unpacked there whole.
pub const STAGED: &str = "/var/lib/rancher/bakelite/staged/staged.json";
/// What was restored last, with what was lost, for a person and for reports.
pub const RESTORED: &str = "/var/lib/bakelite/restored.json";
/// A set's folder of the user's own manifests, and where they go.
pub const MANIFESTS: (&str, &str) = ("manifests", apps::MANIFESTS);
/// What a set has besides the database, by its path there, and where it belongs.
pub const FILES: &[(&str, &str)] = &[
    (set::TOKEN, TOKEN),
    ("node/password", PASSWORD),
    ("ssh/host-key", HOST_KEY),
    ("settings/applied.yaml", paths::APPLIED),
];

/// Where a machine's own sets are.
#[derive(Clone, Copy, Debug)]
pub struct Own {
    /// On its card.
    pub card: &'static str,
    /// On its data disk.
    pub disk: &'static str,
}

/// Below it, and below this one on state, what was there before an act lies in a folder of [`aside`]'s name.
pub const ASIDE_ON_STATE: &str = "/var/lib/bakelite/aside";

/// The name of the folders for what was there before the act that began a line.
pub fn aside(epoch: u64) -> String {
    format!("aside-{epoch}")
}

/// What a database that was sealed with a new token goes by, in place of a set.
pub const REKEYED: &str = "the cluster's own database with a new token";
/// What a database that was brought back from damage goes by, in place of a set.
pub const HEALED: &str = "the damaged database";
/// While k3s runs nothing is put in its place; it may have begun a cluster of its own since the last boot.
const RUNNING: &str = "k3s has run since the machine was switched on; a backup is looked for at the next boot";

/// What is said of an unpacked set: all that is needed to end the act when its stick is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Note {
    /// What is restored: a set's [`FoundSet::key`], or [`HEALED`].
    pub set: String,
    /// The node.
    pub node: String,
    /// The revision of the database.
    pub revision: u64,
    /// The k3s version that it ran with.
    pub k3s: String,
    /// The name of the row with the cluster's keys.
    pub row: String,
    /// The keys of k3s's configuration that can't be changed any more.
    pub keys: BTreeMap<String, String>,
    /// Claims whose data isn't there.
    pub lacks: Vec<String>,
    /// How many other nodes the cluster has.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub others: u64,
    /// What a person should know besides.
    #[serde(default)]
    pub said: String,
}

impl Note {
    fn of(found: &FoundSet) -> Option<Self> {
        let manifest = found.manifest.as_ref()?.clone();
        Some(Self {
            set: found.key(),
            node: manifest.node,
            revision: manifest.revision,
            k3s: manifest.k3s,
            row: manifest.row,
            keys: manifest.keys,
            lacks: manifest.volumes.lacks,
            others: manifest.live.get(NODES).map_or(0, |nodes| nodes.saturating_sub(1)),
            said: String::new(),
        })
    }

    /// Of a database that is made of the cluster's own; whoever makes it knows the rest.
    fn of_own(what: &str, born: &ClusterBorn) -> Self {
        Self {
            set: what.into(),
            node: born.node.clone(),
            revision: 0,
            k3s: born.k3s.clone(),
            row: String::new(),
            keys: born.keys.clone(),
            lacks: Vec::new(),
            others: 0,
            said: String::new(),
        }
    }

    /// What is missing, and what others have to do; empty where nothing is.
    fn lacking(&self) -> String {
        let mut text = String::new();
        if !self.lacks.is_empty() {
            text += &format!("; it is incomplete, as the set has no data of the claims {}", self.lacks.join(", "));
        }
        if self.others > 0 {
            text += &format!("; restart k3s on its {} other node(s), which still watch what was before", self.others);
        }
        text
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The prefix of the nodes' names in the database.
const NODES: &str = "/registry/minions";

/// Whether there is a database to restore at all on such a machine.
fn skips(settings: &Settings) -> Option<Decision> {
    let text = if settings.manifest.payload.kind == Kind::None {
        "this image has no payload"
    } else if cluster::datastore(settings) != Datastore::Sqlite {
        "the cluster's data isn't in a database of this machine"
    } else {
        return None;
    };
    Some(Decision::Skip(text.into()))
}

pub(crate) fn is_under_way(facts: &Facts) -> bool {
    home::intent(facts).is_some_and(|intent| intent.act.as_move().is_none())
}

/// The line of the database that is here; no act ever begins one of a lower number.
fn line(facts: &Facts) -> u64 {
    let born = cluster::of(facts).map_or(reset::epoch_of_next(facts), |born| born.epoch);
    born.max(home::of(facts).map_or(0, |home| home.epoch)).max(trial::rolled_back(facts).epoch)
}

/// The node that this machine becomes, if a backup says so.
pub fn node(facts: &Facts, settings: &Settings) -> Option<String> {
    if is_under_way(facts) {
        return note(facts).map(|note| note.node);
    }
    if skips(settings).is_some() || cluster::of(facts).is_some() {
        return None;
    }
    match choice(facts, facts.sets.as_deref()?, settings) {
        Choice::Set(found, _) => Some(found.node.clone()),
        Choice::Nothing(_) | Choice::Refused(_) => None,
    }
}

/// Whether a new identity has to wait for what becomes of a backup.
pub fn withholds(facts: &Facts, settings: &Settings) -> bool {
    if skips(settings).is_some() || cluster::of(facts).is_some() || facts.payload_ran {
        return false;
    }
    let chosen = facts.sets.as_deref().map(|sets| choice(facts, sets, settings));
    is_under_way(facts) || matches!(chosen, None | Some(Choice::Refused(_)))
}

/// Which of the sets is taken, by the word that counts if there is one.
fn choice<'a>(facts: &Facts, sets: &'a [FoundSet], settings: &Settings) -> Choice<'a> {
    let word = word::of(facts, settings);
    choose::choose(facts, sets, settings, word.as_ref().map_or_else(Asked::default, Word::asks))
}

fn note(facts: &Facts) -> Option<Note> {
    serde_json::from_str(facts.file(STAGED)?).ok()
}

/// What was restored last.
pub(crate) fn restored(facts: &Facts) -> Option<Note> {
    serde_json::from_str(facts.file(RESTORED)?).ok()
}

/// Decides, before there is an identity, whether a backup brings one. Copies nothing.
pub fn decide_early(facts: &Facts, settings: &Settings) -> Decision {
    if let Some(skip) = skips(settings) {
        return skip;
    }
    if !facts.state_is_durable {
        return Decision::Skip("without a state partition nothing is restored".into());
    }
    if is_under_way(facts) {
        return Decision::Done("a backup is being restored".into());
    }
    if cluster::of(facts).is_some() {
        return Decision::Done("this machine has a cluster".into());
    }
    if facts.payload_ran {
        return Decision::Done(RUNNING.into());
    }
    let data_disk = data_disk::decide(facts, settings);
    if data_disk::withholds(&data_disk) {
        return Decision::Skip("no backup is chosen before it is clear what becomes of the data disk".into());
    }
    // A stick that was pulled out while it was read may come back: an identity that was made meanwhile is no reason to hurry.
    if let Some(wait) = data_disk::unsettled(facts, &settings.appliance.storage) {
        return wait;
    }
    let Some(sets) = &facts.sets else { return look() };
    let found = |found: &FoundSet, passed_over: &[String]| {
        let said: String = passed_over.iter().map(|why| format!("; {why}")).collect();
        let said = match found.trust {
            Trust::Granted { clock: false } => {
                format!(
                    "{said}; that its grant hasn't expired can't be proved, as the clock wasn't compared with the network's"
                )
            }
            _ => said,
        };
        Decision::Done(format!("this machine becomes {}: {} is restored{said}", found.node, found.words()))
    };
    match choice(facts, sets, settings) {
        Choice::Nothing(why) => Decision::Done(why),
        Choice::Refused(fault) => Decision::Refuse(fault),
        Choice::Set(set, passed_over) => found(set, &passed_over),
    }
}

fn look() -> Decision {
    Decision::Run("looking whether there is a backup to restore".into(), vec![Action::LookForSets])
}

/// Decides about the act itself, once it is clear where the cluster lives.
pub fn decide(facts: &Facts, settings: &Settings) -> Decision {
    if let Some(skip) = skips(settings) {
        return skip;
    }
    if let Some(intent) = home::intent(facts).filter(|_| is_under_way(facts)) {
        if lost_disk::is_back(facts, &intent) {
            let why = "the data disk that was lost is back; nothing is restored".into();
            return Decision::Run(why, vec![Action::Remove { path: INTENT.into() }]);
        }
        if intent.act == Act::RollBack {
            return trial::finish(facts, settings, &intent);
        }
        return match note(facts).filter(|note| note.set == intent.set) {
            Some(note) => finish(facts, &intent, &note),
            None => resume(facts, settings, &intent),
        };
    }
    if let Some(decision) = trial::judge(facts) {
        return decision;
    }
    if let Some(born) = cluster::of(facts) {
        return living::decide(facts, settings, &born);
    }
    if facts.payload_ran {
        return Decision::Done(RUNNING.into());
    }
    let Some(sets) = &facts.sets else { return look() };
    match choice(facts, sets, settings) {
        Choice::Nothing(why) => tidy(facts, why),
        Choice::Refused(fault) => Decision::Refuse(fault),
        Choice::Set(found, passed_over) => take(facts, found, &passed_over),
    }
}

/// A set that was chosen is unpacked, and once it is whole its act begins. What was passed over for it stays said.
fn take(facts: &Facts, found: &FoundSet, passed_over: &[String]) -> Decision {
    let Some(wanted) = Note::of(found) else { return tidy(facts, "there is no backup to restore".into()) };
    let wanted = Note { said: passed_over.join("; "), ..wanted };
    if note(facts).as_ref() != Some(&wanted) {
        let text = format!("{} is unpacked and proved", found.words());
        return Decision::Run(text, vec![Action::StageSet { set: wanted.set.clone(), note: json(&wanted) }]);
    }
    let intent = intend(facts, &wanted, Some(trial::before(facts)));
    let why = format!("{} is whole, and takes the place of what is there", found.words());
    Decision::Run(why, intent.into_iter().collect())
}

/// The intent to put in place what is unpacked; with who the machine was, where that can be taken back.
fn intend(facts: &Facts, note: &Note, before: Option<Before>) -> Option<Action> {
    let disk = facts.attached().map(|(_, data)| data.guid.clone()).unwrap_or_default();
    let (act, revision, set, from_epoch) = (Act::Restore, note.revision, note.set.clone(), line(facts));
    publish(facts, INTENT, json(&Intent { format: FORMAT, act, from_epoch, disk, revision, set, before }), 0o600)
}

/// Puts one of this machine's own sets in place, which was taken before what `why` speaks of.
pub(crate) fn put_set_back(facts: &Facts, set: &str, why: &str) -> Decision {
    let Some(sets) = &facts.sets else {
        return Decision::Run(format!("{why}; looking for the backup from before it"), vec![Action::LookForSets]);
    };
    let is_it = |found: &&FoundSet| found.key() == set && found.trust == Trust::Own && found.torn.is_empty();
    let Some((found, wanted)) = sets.iter().find(is_it).and_then(|found| Some((found, Note::of(found)?))) else {
        let text = format!("{why}, and the backup from before it, {set}, isn't here whole");
        return Decision::Refuse(Fault::new(Code::UpdateUnfinished, text));
    };
    let wanted = Note { said: why.into(), ..wanted };
    if note(facts).as_ref() != Some(&wanted) {
        let text = format!("{why}; {} is unpacked and proved", found.words());
        return Decision::Run(text, vec![Action::StageSet { set: wanted.set.clone(), note: json(&wanted) }]);
    }
    let why = format!("{why}; {} takes the place of what is there", found.words());
    Decision::Run(why, intend(facts, &wanted, None).into_iter().collect())
}

/// The intent is there, and the unpacked copy isn't.
fn resume(facts: &Facts, settings: &Settings, intent: &Intent) -> Decision {
    let Some(sets) = &facts.sets else {
        return Decision::Run("looking for the backup that is to be restored".into(), vec![Action::LookForSets]);
    };
    let named = sets.iter().find(|found| found.key() == intent.set && found.torn.is_empty());
    if let Some((found, note)) = named.and_then(|found| Some((found, Note::of(found)?))) {
        let text = format!("{} is unpacked and proved", found.words());
        return Decision::Run(text, vec![Action::StageSet { set: note.set.clone(), note: json(&note) }]);
    }
    if intent.act == Act::Replacement
        && let Some(found) = lost_disk::newest(facts, settings)
    {
        let why = format!("{} can't be used; {} is restored", intent.set, found.words());
        return Decision::Run(why, lost_disk::intend(facts, &intent.disk, found).into_iter().collect());
    }
    let text = format!("{} is to be restored, and its unpacked copy is gone", intent.set);
    Decision::Refuse(Fault::new(Code::RestoreUnfinished, text))
}

/// What an act leaves behind goes, and a word that was followed or can't be.
fn tidy(facts: &Facts, done: String) -> Decision {
    let staged = facts.has(STAGED).then(|| Action::RemoveFolder { path: format!("{FOLDER}/{STAGING}") });
    let left: Vec<Action> = staged.into_iter().chain(trial::stale(facts)).chain(gone(facts, WORD)).collect();
    if left.is_empty() {
        if let Some(fault) = trial::said(facts) {
            return Decision::Without(fault);
        }
        if let Some(note) = restored(facts).filter(|note| !note.lacking().is_empty()) {
            let text = format!("{} was restored{}", note.set, note.lacking());
            return Decision::Warn(Fault::new(Code::RestoreIncomplete, text));
        }
    }
    Decision::of(left, done, "what a restore has left behind goes")
}

/// That k3s was stopped for a restore: it is about to be started again. Only once nothing is left to put in its place.
pub(crate) fn over(facts: &Facts) -> Option<Action> {
    facts.file(home::AT_ONCE).filter(|word| word.trim_end() == AT_ONCE).and(gone(facts, home::AT_ONCE))
}

/// From the intent to the end. Each action may be done twice, so a cut anywhere begins here again.
fn finish(facts: &Facts, intent: &Intent, note: &Note) -> Decision {
    let epoch = intent.from_epoch + 1;
    let aside = aside(epoch);
    let born = ClusterBorn {
        format: FORMAT,
        epoch,
        node: note.node.clone(),
        datastore: Datastore::Sqlite,
        row: note.row.clone(),
        revision: note.revision,
        k3s: note.k3s.clone(),
        keys: note.keys.clone(),
    };
    let identity = Identity { format: 1, node: note.node.clone() };
    let attached = facts.attached();
    let place = attached.map_or(Place::Card, |(disk, data)| Place::Disk(disk.data_name(data)));
    let home = Home { format: FORMAT, place, moving: None, epoch };
    let on_disk = DiskHome { format: FORMAT, node: note.node.clone(), epoch, left: false };
    let has_disk = attached.is_some();
    let mut actions = vec![Action::PutInPlace { aside: aside.clone() }, Action::TakeIdentity { aside }];
    let records = [
        publish(facts, RECORD, json(&identity), 0o600),
        publish(facts, DISK_HOME, json(&on_disk), 0o600).filter(|_| has_disk),
        // Without a data disk a record would say that a person wants the cluster on the card.
        publish(facts, HOME, json(&home), 0o600).filter(|_| has_disk || facts.has(HOME)),
        publish(facts, cluster::ON_DISK, json(&born), 0o600).filter(|_| has_disk),
        publish(facts, cluster::ON_STATE, json(&born), 0o600),
    ];
    actions.extend(records.into_iter().flatten());
    // A new card would find the secrets of before in the old one.
    actions.extend(attached.map(|(_, data)| seal::again(data)));
    actions.extend(publish(facts, RESTORED, json(note), 0o600));
    actions.extend(trial::begin(facts, intent));
    // It was a start upon another database.
    actions.extend(gone(facts, paths::LAST_START));
    // Else the machine goes by its old name until the next boot.
    if facts.file(paths::HOSTNAME).is_some_and(|name| name.trim_end() != note.node) {
        actions.push(Action::Refit);
    }
    actions.extend(gone(facts, WORD));
    // What is in place now was proved to the last page while it was unpacked.
    actions.push(Action::Tell { path: cluster::CHECKED.into(), text: String::new(), mode: 0o644 });
    actions.push(Action::Remove { path: INTENT.into() });
    actions.push(Action::RemoveFolder { path: format!("{FOLDER}/{STAGING}") });
    let lacks = note.lacking();
    let said = if note.said.is_empty() { String::new() } else { format!("; {}", note.said) };
    Decision::Run(format!("{} is {} again, at revision {}{said}{lacks}", note.set, note.node, note.revision), actions)
}
