//! Restore: which backup a machine takes by itself, and how it takes the place of what was there.
//!
//! Only a machine without a cluster restores unasked, and only what its own key opens or an owner has granted. A living
//! cluster is replaced by a word that names it. A set is unpacked and proved beside its place first; then comes the intent,
//! then the data, then cluster-born with the next epoch, and the intent goes (DESIGN, Epoch). From the intent on k3s isn't
//! started before all of it is done.

mod choose;
mod heal;
pub mod lost_disk;

pub use choose::{FoundSet, Source, Trust};
pub use heal::heal;

use crate::action::Action;
use crate::facts::Facts;
use crate::home::{self, DISK_HOME, HOME, INTENT, json};
use crate::identity::{self, Identity, PASSWORD, RECORD, TOKEN};
use crate::settings::HOST_KEY;
use crate::step::{Decision, publish};
use crate::{Settings, cluster, data_disk};
use bakelite_spec::appliance::Payload as Kind;
use bakelite_spec::fault::{Code, Fault};
use bakelite_spec::records::{Act, ClusterBorn, Datastore, DiskHome, FORMAT, Home, Intent, Place};
use bakelite_spec::set;
use bakelite_spec::status::paths;
use choose::Choice;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
pub const MANIFESTS: (&str, &str) = ("manifests", "/var/lib/rancher/k3s/server/manifests");
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
            said: String::new(),
        })
    }
}

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

/// Whether a person has named the cluster that is here, for it to be replaced.
fn is_named(facts: &Facts, settings: &Settings) -> bool {
    let named = settings.appliance.restore.replaces.as_deref();
    cluster::of(facts).is_some_and(|born| Some(cluster::id(&born).as_str()) == named)
}

pub(crate) fn is_under_way(facts: &Facts) -> bool {
    home::intent(facts).is_some_and(|intent| intent.act.as_move().is_none())
}

/// Whether no set is to be chosen: there is a cluster, and nobody has named it.
fn has_cluster(facts: &Facts, settings: &Settings) -> bool {
    cluster::of(facts).is_some() && !is_named(facts, settings)
}

/// The node that this machine becomes, if a backup says so.
pub fn node(facts: &Facts, settings: &Settings) -> Option<String> {
    if is_under_way(facts) {
        return note(facts).map(|note| note.node);
    }
    if skips(settings).is_some() || has_cluster(facts, settings) {
        return None;
    }
    match choose::choose(facts.sets.as_deref()?, settings) {
        Choice::Set(found, _) => Some(found.node.clone()),
        Choice::Nothing(_) | Choice::Refused(_) => None,
    }
}

/// Whether a new identity has to wait for what becomes of a backup.
pub fn withholds(facts: &Facts, settings: &Settings) -> bool {
    if skips(settings).is_some() || has_cluster(facts, settings) || facts.payload_ran {
        return false;
    }
    let chosen = facts.sets.as_deref().map(|sets| choose::choose(sets, settings));
    is_under_way(facts) || matches!(chosen, None | Some(Choice::Refused(_)))
}

fn note(facts: &Facts) -> Option<Note> {
    serde_json::from_str(facts.file(STAGED)?).ok()
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
    if has_cluster(facts, settings) {
        return Decision::Done("this machine has a cluster, and nobody has named it to be replaced".into());
    }
    if facts.payload_ran {
        return Decision::Done(RUNNING.into());
    }
    let data_disk = data_disk::decide(facts, settings);
    if data_disk::withholds(&data_disk) {
        return Decision::Skip("no backup is chosen before it is clear what becomes of the data disk".into());
    }
    if identity::of(facts).is_none()
        && let Some(wait) = data_disk::unsettled(facts, &settings.appliance.storage)
    {
        return wait;
    }
    chosen(facts, settings, |found, passed_over| {
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
    })
}

/// What comes of the sets that there are.
fn chosen(facts: &Facts, settings: &Settings, set: impl FnOnce(&FoundSet, &[String]) -> Decision) -> Decision {
    let Some(sets) = &facts.sets else {
        return Decision::Run("looking whether there is a backup to restore".into(), vec![Action::LookForSets]);
    };
    match choose::choose(sets, settings) {
        Choice::Nothing(why) => Decision::Done(why),
        Choice::Refused(fault) => Decision::Refuse(fault),
        Choice::Set(found, passed_over) => set(found, &passed_over),
    }
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
        return match note(facts).filter(|note| note.set == intent.set) {
            Some(note) => finish(facts, &intent, &note),
            None => resume(facts, settings, &intent),
        };
    }
    if has_cluster(facts, settings) {
        return tidy(facts, "this machine has a cluster".into());
    }
    if facts.payload_ran {
        return Decision::Done(RUNNING.into());
    }
    let decision = chosen(facts, settings, |found, _| {
        let Some(wanted) = Note::of(found) else { return Decision::Done("there is no backup to restore".into()) };
        if note(facts).as_ref() != Some(&wanted) {
            let text = format!("{} is unpacked and proved", found.words());
            return Decision::Run(text, vec![Action::StageSet { set: wanted.set.clone(), note: json(&wanted) }]);
        }
        let intent = intend(facts, &wanted);
        let why = format!("{} is whole, and takes the place of what is there", found.words());
        Decision::Run(why, intent.into_iter().collect())
    });
    match decision {
        Decision::Done(why) => tidy(facts, why),
        decision => decision,
    }
}

/// The intent to put in place what is unpacked.
fn intend(facts: &Facts, note: &Note) -> Option<Action> {
    let from_epoch = cluster::of(facts).map_or(0, |born| born.epoch).max(home::of(facts).map_or(0, |home| home.epoch));
    let disk = facts.attached().map(|(_, data)| data.guid.clone()).unwrap_or_default();
    let (act, revision, set) = (Act::Restore, note.revision, note.set.clone());
    publish(facts, INTENT, json(&Intent { format: FORMAT, act, from_epoch, disk, revision, set }), 0o600)
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

/// What an act leaves behind goes.
fn tidy(facts: &Facts, done: String) -> Decision {
    let left = facts.has(STAGED).then(|| Action::RemoveFolder { path: format!("{FOLDER}/{STAGING}") });
    Decision::of(left.into_iter().collect(), done, "the unpacked copy of what was restored goes")
}

/// From the intent to the end. Each action may be done twice, so a cut anywhere begins here again.
fn finish(facts: &Facts, intent: &Intent, note: &Note) -> Decision {
    let epoch = intent.from_epoch + 1;
    let aside = format!("aside-{epoch}");
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
    if let Some((_, data)) = attached {
        // A new card would find the secrets of before in it.
        let sealed = data.content.as_ref().and_then(|content| content.seal.as_ref());
        actions.push(Action::Seal { generation: sealed.map_or(1, |seal| seal.generation + 1) });
    }
    actions.extend(publish(facts, RESTORED, json(note), 0o600));
    // What is in place now was proved to the last page while it was unpacked.
    actions.push(Action::Tell { path: cluster::CHECKED.into(), text: String::new(), mode: 0o644 });
    actions.push(Action::Remove { path: INTENT.into() });
    actions.push(Action::RemoveFolder { path: format!("{FOLDER}/{STAGING}") });
    let lacks = if note.lacks.is_empty() {
        String::new()
    } else {
        format!("; it is incomplete, as the set has no data of the claims {}", note.lacks.join(", "))
    };
    let said = if note.said.is_empty() { String::new() } else { format!("; {}", note.said) };
    Decision::Run(format!("{} is {} again, at revision {}{said}{lacks}", note.set, note.node, note.revision), actions)
}
