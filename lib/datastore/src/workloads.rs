//! Workloads: which of the cluster's are available, as k3s's own controllers have noted it.
//!
//! Read from the rows where k3s has them: nothing has to be asked, started or trusted for it, and nothing is written. Of
//! each object only the few fields are decoded that say so (kubernetes' generated.proto, whose numbers never change). What
//! was noted before a restart of the machine says nothing; whether a node has come up since tells its boot's id.

use crate::{DatastoreError, connect, failed};
use prost::Message;
use rusqlite::Connection;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What stands before a built-in object's bytes (k3s.md 4.2).
const PREFIX: &[u8] = b"k8s\0";
/// Where all objects are.
const REGISTRY: &str = "/registry/";
/// The node's own part of that.
const NODES: &str = "minions/";
/// What k3s has deployed of each manifest, as JSON (k3s: pkg/deploy; a custom resource).
const ADDONS: &str = "k3s.cattle.io/addons/kube-system/";
/// Of a condition that holds.
const TRUE: &str = "True";

/// What is to be seen of a cluster's workloads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workloads {
    /// Whether each is available, such as `deployments/default/till`: as many of it as are wanted.
    pub available: BTreeMap<String, bool>,
    /// Whether that is so of each as it was last described, with nothing left of how it was before.
    pub rolled_out: BTreeMap<String, bool>,
    /// The sums of manifests that k3s has deployed whole, by the names that it knows them by.
    pub deployed: BTreeMap<String, String>,
    /// The nodes that have come up in this boot, and are ready.
    pub up: BTreeSet<String>,
}

impl Workloads {
    /// The names of those that are available.
    pub fn of_available(self) -> impl Iterator<Item = String> {
        self.available.into_iter().filter_map(|(name, is)| is.then_some(name))
    }
}

/// An object's bytes as kubernetes wraps them.
#[derive(Clone, PartialEq, Message)]
struct Wrapped {
    #[prost(bytes = "vec", tag = "2")]
    raw: Vec<u8>,
}

/// Of an object's metadata, how often its description has changed.
#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(int64, tag = "7")]
    generation: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Deployment {
    #[prost(message, optional, tag = "1")]
    metadata: Option<Metadata>,
    #[prost(message, optional, tag = "2")]
    spec: Option<Wanted>,
    #[prost(message, optional, tag = "3")]
    status: Option<DeploymentStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct DeploymentStatus {
    #[prost(int64, tag = "1")]
    observed: i64,
    #[prost(int32, tag = "2")]
    replicas: i32,
    #[prost(int32, tag = "3")]
    updated: i32,
    #[prost(int32, tag = "4")]
    available: i32,
}

#[derive(Clone, PartialEq, Message)]
struct StatefulSet {
    #[prost(message, optional, tag = "1")]
    metadata: Option<Metadata>,
    #[prost(message, optional, tag = "2")]
    spec: Option<Wanted>,
    #[prost(message, optional, tag = "3")]
    status: Option<StatefulSetStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct StatefulSetStatus {
    #[prost(int64, tag = "1")]
    observed: i64,
    #[prost(int32, tag = "2")]
    replicas: i32,
    #[prost(int32, tag = "5")]
    updated: i32,
    #[prost(int32, tag = "11")]
    available: i32,
}

/// How many are wanted; one where that isn't said.
#[derive(Clone, PartialEq, Message)]
struct Wanted {
    #[prost(int32, optional, tag = "1")]
    replicas: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct DaemonSet {
    #[prost(message, optional, tag = "1")]
    metadata: Option<Metadata>,
    #[prost(message, optional, tag = "3")]
    status: Option<DaemonSetStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct DaemonSetStatus {
    #[prost(int32, tag = "3")]
    wanted: i32,
    #[prost(int64, tag = "5")]
    observed: i64,
    #[prost(int32, tag = "6")]
    updated: i32,
    #[prost(int32, tag = "7")]
    available: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(message, optional, tag = "3")]
    status: Option<NodeStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct NodeStatus {
    #[prost(message, repeated, tag = "4")]
    conditions: Vec<Condition>,
    #[prost(message, optional, tag = "7")]
    info: Option<NodeInfo>,
}

#[derive(Clone, PartialEq, Message)]
struct Condition {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(string, tag = "2")]
    status: String,
}

#[derive(Clone, PartialEq, Message)]
struct NodeInfo {
    #[prost(string, tag = "3")]
    boot: String,
}

fn wanted(spec: Option<Wanted>) -> i32 {
    spec.and_then(|spec| spec.replicas).unwrap_or(1)
}

fn generation(metadata: Option<Metadata>) -> i64 {
    metadata.unwrap_or_default().generation
}

/// What one workload says of itself.
struct Counts {
    wanted: i32,
    available: i32,
    /// How many there are, and how many of them are as it was last described.
    replicas: i32,
    updated: i32,
    /// Whether its last description is what the other numbers are about.
    is_seen: bool,
}

impl Counts {
    /// Nothing that could be said to be available.
    const UNREADABLE: Self = Self { wanted: 1, available: 0, replicas: 0, updated: 0, is_seen: false };

    fn is_available(&self) -> bool {
        self.available >= self.wanted
    }

    /// As `kubectl rollout status` has it (kubectl: pkg/polymorphichelpers/rollout_status.go).
    fn is_rolled_out(&self) -> bool {
        self.is_seen && self.updated >= self.wanted && self.replicas <= self.updated && self.is_available()
    }
}

type Read = fn(&[u8]) -> Option<Counts>;

/// The kinds that say how available they are, by the names of their folders.
const KINDS: [(&str, Read); 3] = [
    ("daemonsets/", |raw| {
        let found = DaemonSet::decode(raw).ok()?;
        let DaemonSetStatus { wanted, observed, updated, available } = found.status.unwrap_or_default();
        let is_seen = observed >= generation(found.metadata);
        Some(Counts { wanted, available, replicas: updated, updated, is_seen })
    }),
    ("deployments/", |raw| {
        let found = Deployment::decode(raw).ok()?;
        let DeploymentStatus { observed, replicas, updated, available } = found.status.unwrap_or_default();
        let is_seen = observed >= generation(found.metadata);
        Some(Counts { wanted: wanted(found.spec), available, replicas, updated, is_seen })
    }),
    ("statefulsets/", |raw| {
        let found = StatefulSet::decode(raw).ok()?;
        let StatefulSetStatus { observed, replicas, updated, available } = found.status.unwrap_or_default();
        let is_seen = observed >= generation(found.metadata);
        Some(Counts { wanted: wanted(found.spec), available, replicas, updated, is_seen })
    }),
];

/// What k3s notes of a manifest.
#[derive(Deserialize)]
struct Addon {
    #[serde(default)]
    spec: AddonSpec,
}

#[derive(Default, Deserialize)]
struct AddonSpec {
    #[serde(default)]
    checksum: String,
}

/// Looks at the workloads and nodes where k3s has its database; `boot` is the kernel's id of this boot.
///
/// # Errors
/// SQLite's.
pub fn look(path: &Path, boot: &str) -> Result<Workloads, DatastoreError> {
    connect(path).and_then(|connection| read(&connection, boot)).map_err(failed("reading", path))
}

fn read(connection: &Connection, boot: &str) -> rusqlite::Result<Workloads> {
    let transaction = connection.unchecked_transaction()?;
    let mut seen = Workloads::default();
    for (kind, counts) in KINDS {
        for (name, value) in objects(&transaction, kind)? {
            let counts = raw(&value).and_then(|raw| counts(&raw)).unwrap_or(Counts::UNREADABLE);
            seen.rolled_out.insert(name.clone(), counts.is_rolled_out());
            seen.available.insert(name, counts.is_available());
        }
    }
    let deployed = objects(&transaction, ADDONS)?.into_iter().filter_map(|(name, value)| {
        let addon: Addon = serde_json::from_slice(&value).ok()?;
        Some((name.strip_prefix(ADDONS)?.to_string(), addon.spec.checksum))
    });
    seen.deployed = deployed.filter(|(_, sum)| !sum.is_empty()).collect();
    let is_up = |value: &[u8]| {
        let status = raw(value).and_then(|raw| Node::decode(raw.as_slice()).ok()).and_then(|node| node.status);
        let status = status.unwrap_or_default();
        let is_ready = status.conditions.iter().any(|found| found.kind == "Ready" && found.status == TRUE);
        is_ready && status.info.is_some_and(|info| info.boot == boot)
    };
    let nodes = objects(&transaction, NODES)?.into_iter().filter(|(_, value)| is_up(value));
    seen.up = nodes.filter_map(|(name, _)| Some(name.strip_prefix(NODES)?.to_string())).collect();
    Ok(seen)
}

/// The live objects of a kind, by their names below [`REGISTRY`].
fn objects(connection: &Connection, kind: &str) -> rusqlite::Result<Vec<(String, Vec<u8>)>> {
    let query = "SELECT name, value FROM kine \
                 JOIN (SELECT max(id) AS newest FROM kine WHERE name >= ?1 AND name < ?2 GROUP BY name) ON id = newest \
                 WHERE deleted = 0";
    let first = format!("{REGISTRY}{kind}");
    // What comes behind a slash.
    let behind = format!("{}0", first.trim_end_matches('/'));
    let mut statement = connection.prepare(query)?;
    let rows = statement.query_map([&first, &behind], |row| {
        let name = row.get::<_, String>(0)?;
        let value = row.get::<_, Option<Vec<u8>>>(1)?.unwrap_or_default();
        Ok((name.strip_prefix(REGISTRY).unwrap_or(&name).to_string(), value))
    })?;
    rows.collect()
}

fn raw(value: &[u8]) -> Option<Vec<u8>> {
    Some(Wrapped::decode(value.strip_prefix(PREFIX)?).ok()?.raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    fn wrapped(object: &impl Message) -> Vec<u8> {
        let wrapped = Wrapped { raw: object.encode_to_vec() };
        [PREFIX, &wrapped.encode_to_vec()].concat()
    }

    fn deployment(replicas: Option<i32>, available: i32) -> Vec<u8> {
        described(1, replicas, DeploymentStatus { observed: 1, replicas: available, updated: available, available })
    }

    fn described(generation: i64, replicas: Option<i32>, status: DeploymentStatus) -> Vec<u8> {
        let metadata = Some(Metadata { generation });
        wrapped(&Deployment { metadata, spec: Some(Wanted { replicas }), status: Some(status) })
    }

    fn node(ready: &str, boot: &str) -> Vec<u8> {
        let condition = |kind: &str, status: &str| Condition { kind: kind.into(), status: status.into() };
        let conditions = vec![condition("MemoryPressure", "False"), condition("Ready", ready)];
        let status = NodeStatus { conditions, info: Some(NodeInfo { boot: boot.into() }) };
        wrapped(&Node { status: Some(status) })
    }

    #[test]
    fn each_kind_says_whether_as_many_are_available_as_are_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let connection = fixtures::kine(&path);
        let put = |name: &str, deleted: i64, value: &[u8]| {
            let row = "INSERT INTO kine (name, deleted, value) VALUES (?1, ?2, ?3)";
            connection.execute(row, (format!("/registry/{name}"), deleted, value)).unwrap();
        };
        let set = |available| {
            let status = StatefulSetStatus { observed: 0, replicas: 2, updated: 2, available };
            wrapped(&StatefulSet { metadata: None, spec: Some(Wanted { replicas: Some(2) }), status: Some(status) })
        };
        let daemons = |wanted, available| {
            let status = Some(DaemonSetStatus { wanted, observed: 0, updated: wanted, available });
            wrapped(&DaemonSet { metadata: None, status })
        };
        put("deployments/default/till", 0, &deployment(None, 1));
        put("deployments/default/till", 0, &deployment(Some(2), 1));
        put("deployments/default/asleep", 0, &deployment(Some(0), 0));
        put("deployments/default/gone", 0, &deployment(None, 1));
        put("deployments/default/gone", 1, &deployment(None, 1));
        put("deployments/default/torn", 0, b"k8s\0\xff\xff");
        put("statefulsets/shop/db", 0, &set(2));
        put("daemonsets/shop/probe", 0, &daemons(1, 1));
        put("daemonsets/shop/other", 0, &daemons(1, 0));
        put("deployments0", 0, b"x");
        put("minions/shop-1", 0, &node("True", "this"));
        put("minions/shop-2", 0, &node("True", "before"));
        put("minions/shop-3", 0, &node("Unknown", "this"));
        let seen = look(&path, "this").unwrap();
        let expected = [
            ("daemonsets/shop/other", false),
            ("daemonsets/shop/probe", true),
            ("deployments/default/asleep", true),
            ("deployments/default/till", false),
            ("deployments/default/torn", false),
            ("statefulsets/shop/db", true),
        ];
        assert_eq!(seen.available, expected.map(|(name, is)| (name.to_string(), is)).into());
        assert_eq!(seen.up, ["shop-1".to_string()].into());
    }

    /// A deployment of one keeps its old pod until the new one is there: available it is all the time.
    #[test]
    fn what_was_described_anew_is_rolled_out_once_nothing_of_before_is_left() {
        let status =
            |observed, replicas, updated, available| DeploymentStatus { observed, replicas, updated, available };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let connection = fixtures::kine(&path);
        let name = "deployments/default/till";
        for (described_as, is) in [
            (described(1, Some(1), status(1, 1, 1, 1)), true),
            (described(2, Some(1), status(1, 1, 1, 1)), false),
            (described(2, Some(1), status(2, 2, 1, 1)), false),
            (described(2, Some(1), status(2, 1, 1, 0)), false),
            (described(2, Some(1), status(2, 1, 1, 1)), true),
        ] {
            let row = "INSERT INTO kine (name, deleted, value) VALUES (?1, 0, ?2)";
            connection.execute(row, (format!("/registry/{name}"), described_as)).unwrap();
            let seen = look(&path, "x").unwrap();
            assert_eq!(seen.rolled_out[name], is, "{seen:?}");
        }
        let addon = r#"{"apiVersion":"k3s.cattle.io/v1","kind":"Addon","spec":{"checksum":"ab","source":"/x"}}"#;
        let row = "INSERT INTO kine (name, deleted, value) VALUES (?1, 0, ?2)";
        for (name, value) in [("bakelite-till", addon), ("bakelite-new", "{\"spec\":{}}"), ("torn", "{")] {
            connection.execute(row, (format!("/registry/{ADDONS}{name}"), value.as_bytes())).unwrap();
        }
        assert_eq!(look(&path, "x").unwrap().deployed, [("bakelite-till".to_string(), "ab".to_string())].into());
    }

    /// How k3s wraps its objects is seen in what it wrote; it had no workloads.
    #[test]
    fn what_k3s_wrote_is_wrapped_like_that() {
        let Some((_folder, path)) = fixtures::online_copy() else { return };
        let connection = connect(&path).unwrap();
        let namespaces = objects(&connection, "namespaces/").unwrap();
        assert!(namespaces.iter().any(|(name, _)| name == "namespaces/kube-system"), "{namespaces:?}");
        for (name, value) in namespaces {
            let own = name.rsplit('/').next().unwrap().as_bytes().to_vec();
            let raw = raw(&value).unwrap();
            assert!(raw.windows(own.len()).any(|part| part == own), "{name}");
        }
        let seen = look(&path, "x").unwrap();
        assert!(!seen.deployed.is_empty() && seen.deployed.values().all(|sum| sum.len() == 64), "{seen:?}");
        assert_eq!(Workloads { deployed: BTreeMap::new(), ..seen }, Workloads::default());
    }
}
