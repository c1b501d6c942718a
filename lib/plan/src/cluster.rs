//! Cluster-born: that this machine has had a cluster, and what may not be missing, older or behind since.
//!
//! k3s makes a new, empty cluster where it finds no database, and calls it ready. So with the record, and with nothing
//! else, k3s is started only upon a database of at least the revision that was on the medium, and with a k3s that isn't
//! older. The record is the same on state and data disk; of two copies the higher epoch rules, then the revision.

use crate::Settings;
use crate::action::Action;
use crate::facts::{Database, Facts};
use crate::home::{self, json};
use crate::identity;
use crate::reset;
use crate::restore::{self, blank::BORN_NOW};
use crate::step::{Decision, publish};
use crate::update;
use bakelite_spec::appliance::{K3sRole, Payload as Kind};
use bakelite_spec::fault::{Code, Fault};
use bakelite_spec::records::{ClusterBorn, Datastore, FORMAT, k3s_version};
use bakelite_spec::status::LastStart;
use serde_json::Value;
use std::collections::BTreeMap;

/// State's copy.
pub const ON_STATE: &str = "/var/lib/bakelite/cluster.json";
/// The data disk's copy.
pub const ON_DISK: &str = "/disk/bakelite/cluster.json";
/// k3s's database.
pub const DATABASE: &str = "/var/lib/rancher/k3s/server/db/state.db";
/// That the database was checked in this boot.
pub const CHECKED: &str = "/run/bakelite/database-checked";
/// How k3s's last start went, kept over a boot.
pub const LAST_START: &str = "/var/lib/bakelite/last-start.json";
/// The folder of k3s's database.
const FOLDER: &str = "/var/lib/rancher/k3s/server/db";
/// The record is written again when the database is so many revisions ahead: about an hour of an idle node.
const REFRESH: u64 = 1_500;

/// Keys of k3s's that can't be changed once a cluster is born, with what they are where they aren't set: they are in its
/// certificates, addresses and rows.
pub(crate) const IMMUTABLE: &[(&str, &str)] = &[
    ("cluster-cidr", "10.42.0.0/16"),
    ("cluster-domain", "cluster.local"),
    ("secrets-encryption", "false"),
    ("service-cidr", "10.43.0.0/16"),
];

/// What keeps the cluster's data, as the appliance has it.
pub fn datastore(settings: &Settings) -> Datastore {
    let k3s = &settings.appliance.k3s;
    if k3s.role == K3sRole::Agent {
        Datastore::None
    } else if k3s.config.contains_key("datastore-endpoint") {
        Datastore::External
    } else if k3s.is_single_server() {
        Datastore::Sqlite
    } else {
        Datastore::Etcd
    }
}

/// The keys of the appliance that can't be changed once a cluster is born, where they are set.
pub(crate) fn immutable_keys(settings: &Settings) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), String::from);
    let config = &settings.appliance.k3s.config;
    IMMUTABLE.iter().filter_map(|(key, _)| Some((key.to_string(), text(config.get(*key)?)))).collect()
}

pub(crate) fn copy(facts: &Facts, path: &str) -> Option<ClusterBorn> {
    serde_json::from_str(facts.file(path)?).ok()
}

/// The record that counts.
pub fn of(facts: &Facts) -> Option<ClusterBorn> {
    ClusterBorn::ruling(copy(facts, ON_STATE).as_ref(), copy(facts, ON_DISK).as_ref()).cloned()
}

/// What names one line of a cluster's database, for a word that replaces it: the act that it permits gives it another.
pub fn id(born: &ClusterBorn) -> String {
    format!("{}.{}.{}", born.node, born.row.trim_start_matches("/bootstrap/"), born.epoch)
}

/// Decides whether the payload may be started upon what is there.
pub fn integrity(facts: &Facts, settings: &Settings) -> Decision {
    match judged(facts, settings) {
        Decision::Done(why) => Decision::of(restore::over(facts).into_iter().collect(), why.clone(), why),
        decision => decision,
    }
}

fn judged(facts: &Facts, settings: &Settings) -> Decision {
    let payload = &settings.manifest.payload;
    if payload.kind == Kind::None {
        return Decision::Skip("this image has no payload".into());
    }
    if restore::is_under_way(facts) {
        return restore::decide(facts, settings);
    }
    let born = of(facts);
    if datastore(settings) == Datastore::Sqlite
        && let Some(decision) =
            facts.database.as_ref().and_then(|database| whole(facts, settings, database, born.as_ref()))
    {
        return decision;
    }
    let Some(born) = born else {
        return Decision::Done("this machine has had no cluster yet".into());
    };
    let node = identity::of(facts).map(|identity| identity.node);
    let copies = [ON_STATE, ON_DISK].into_iter().filter_map(|path| Some((path, copy(facts, path)?)));
    for (path, other) in copies {
        if node.as_ref().is_some_and(|node| other.node != *node) {
            let text =
                format!("{path} speaks of the cluster of {}, and this is {}", other.node, node.unwrap_or_default());
            return Decision::Refuse(Fault::new(Code::IdentityConflict, text));
        }
    }
    if let (Some(had), Some(has)) = (k3s_version(&born.k3s), k3s_version(&payload.version))
        && has < had
    {
        let text = format!("this card has k3s {}, and the cluster ran with {} already", payload.version, born.k3s);
        return Decision::Refuse(Fault::new(Code::K3sOlder, text));
    }
    let keys = immutable_keys(settings);
    for (key, default) in IMMUTABLE {
        let value = |keys: &BTreeMap<String, String>| keys.get(*key).cloned().unwrap_or_else(|| default.to_string());
        let (is, was) = (value(&keys), value(&born.keys));
        if is != was {
            let text = format!("`k3s.config.{key}` is {is}, and the cluster was born with {was}");
            return Decision::Refuse(Fault::new(Code::K3sKeyChanged, text));
        }
    }
    if born.datastore != Datastore::Sqlite {
        return Decision::Done("the cluster's data isn't in a database of this machine".into());
    }
    let database = facts.database.clone().unwrap_or_default();
    if database.revision == 0 {
        let what = if facts.database.is_none() { "is missing" } else { "is empty" };
        let text = format!("the database {what}, and {} had a cluster of revision {}", born.node, born.revision);
        return restore::heal(facts, settings, &born, Fault::new(Code::DatabaseMissing, text), Some(0));
    }
    if database.revision < born.revision {
        let text = format!(
            "the database has revision {}, and revision {} was on this machine's medium already",
            database.revision, born.revision
        );
        let fault = Fault::new(Code::DatabaseOlder, text);
        return restore::heal(facts, settings, &born, fault, Some(database.revision));
    }
    let known = format!("the database has revision {}, and {} is known", database.revision, born.revision);
    // While an update is tried the record stays that of the old k3s until the new one is ready: it may never come so far.
    let records = match update::trial(facts, settings) {
        Some(_) => Vec::new(),
        None => record(facts, settings, Some(&born), &database),
    };
    Decision::of(records, known.clone(), known)
}

/// Whether k3s has said that its database is damaged, at its last start in this boot or the one before: it starts upon it,
/// and says that it is ready.
fn is_suspected(facts: &Facts) -> bool {
    let start = facts.file(LAST_START).and_then(|text| serde_json::from_str::<LastStart>(text).ok());
    start.and_then(|start| start.fault).is_some_and(|fault| fault.code == Code::K3sDatabaseDamaged)
}

/// Whether the database can be read at all. After a boot that was not ended in order SQLite checks all of it: k3s itself
/// starts upon a destroyed page, and says that it is ready (k3s.md 11.1).
fn whole(facts: &Facts, settings: &Settings, database: &Database, born: Option<&ClusterBorn>) -> Option<Decision> {
    if database.damage.is_empty() {
        if !facts.unclean && !is_suspected(facts) || facts.has(CHECKED) {
            return None;
        }
        let why = if facts.unclean {
            "the last boot was not ended in order: the database is checked"
        } else {
            "k3s said at its last start that its database is damaged: it is checked"
        };
        let checked = Action::Tell { path: CHECKED.into(), text: String::new(), mode: 0o644 };
        let action = if database.checked { checked } else { Action::CheckDatabase { path: DATABASE.into() } };
        return Some(Decision::Run(why.into(), vec![action]));
    }
    let text = format!("k3s's database can't be used: {}", database.damage);
    if let Some(born) = born {
        let fault = Fault::new(Code::K3sDatabaseDamaged, text);
        return Some(restore::heal(facts, settings, born, fault, None));
    }
    // A first start that was cut: no cluster was ever ready in it. It is kept all the same.
    Some(Decision::Run(
        format!("{text}; it is set aside, as there was no cluster yet"),
        vec![Action::SetAside { path: FOLDER.into() }],
    ))
}

/// Decides about the record once the payload is ready.
pub fn born(facts: &Facts, settings: &Settings) -> Decision {
    if settings.manifest.payload.kind == Kind::None {
        return Decision::Skip("this image has no payload".into());
    }
    let before = of(facts);
    let database = facts.database.clone().unwrap_or_default();
    let text = match datastore(settings) {
        Datastore::Sqlite if database.revision == 0 => {
            return Decision::Skip("there is no database on this machine".into());
        }
        Datastore::Sqlite => format!("the cluster is born, and its database has revision {}", database.revision),
        Datastore::Etcd | Datastore::External | Datastore::None => "this machine belongs to a cluster".into(),
    };
    let mut actions = record(facts, settings, before.as_ref(), &database);
    if before.is_none() && !actions.is_empty() {
        actions.insert(0, Action::Tell { path: BORN_NOW.into(), text: String::new(), mode: 0o644 });
    }
    Decision::of(actions, text.clone(), text)
}

/// Writes the record where it lacks, differs or is far behind: on the data disk first, where the database is.
fn record(facts: &Facts, settings: &Settings, before: Option<&ClusterBorn>, database: &Database) -> Vec<Action> {
    let Some(identity) = identity::of(facts) else { return Vec::new() };
    let version = &settings.manifest.payload.version;
    let now = ClusterBorn {
        format: FORMAT,
        // A move changes the home's epoch first; a cut between the two is mended here.
        epoch: before
            .map_or(reset::epoch_of_next(facts), |born| born.epoch)
            .max(home::of(facts).map_or(0, |home| home.epoch)),
        node: identity.node,
        datastore: datastore(settings),
        row: database.row.clone(),
        revision: database.revision,
        k3s: version.clone(),
        keys: immutable_keys(settings),
    };
    let fresh = before.filter(|before| {
        let same = ClusterBorn { revision: before.revision, ..now.clone() } == **before;
        same && now.revision < before.revision + REFRESH
    });
    let text = json(fresh.unwrap_or(&now));
    let on_disk = facts.attached().and_then(|_| publish(facts, ON_DISK, text.clone(), 0o600));
    on_disk.into_iter().chain(publish(facts, ON_STATE, text, 0o600)).collect()
}
