//! Workloads: which of the cluster's are available, as k3s's own controllers have noted it.
//!
//! Read from the rows where k3s has them: nothing has to be asked, started or trusted for it, and nothing is written. Of
//! each object only the few fields are decoded that say so (kubernetes' generated.proto, whose numbers never change). What
//! was noted before a restart of the machine says nothing; whether a node has come up since tells its boot's id.

use crate::{DatastoreError, connect, failed};
use prost::Message;
use rusqlite::Connection;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What stands before a built-in object's bytes (k3s.md 4.2).
const PREFIX: &[u8] = b"k8s\0";
/// Where all objects are.
const REGISTRY: &str = "/registry/";
/// The node's own part of that.
const NODES: &str = "minions/";
/// Of a condition that holds.
const TRUE: &str = "True";

/// What is to be seen of a cluster's workloads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workloads {
    /// Whether each is available, such as `deployments/default/till`: as many of it as are wanted.
    pub available: BTreeMap<String, bool>,
    /// The nodes that have come up in this boot, and are ready.
    pub up: BTreeSet<String>,
}

/// An object's bytes as kubernetes wraps them.
#[derive(Clone, PartialEq, Message)]
struct Wrapped {
    #[prost(bytes = "vec", tag = "2")]
    raw: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Deployment {
    #[prost(message, optional, tag = "2")]
    spec: Option<Wanted>,
    #[prost(message, optional, tag = "3")]
    status: Option<DeploymentStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct DeploymentStatus {
    #[prost(int32, tag = "4")]
    available: i32,
}

#[derive(Clone, PartialEq, Message)]
struct StatefulSet {
    #[prost(message, optional, tag = "2")]
    spec: Option<Wanted>,
    #[prost(message, optional, tag = "3")]
    status: Option<StatefulSetStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct StatefulSetStatus {
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
    #[prost(message, optional, tag = "3")]
    status: Option<DaemonSetStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct DaemonSetStatus {
    #[prost(int32, tag = "3")]
    wanted: i32,
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

/// Reads what one kind of workload says: how many are wanted, and how many available.
type Counts = fn(&[u8]) -> Option<(i32, i32)>;

/// The kinds that say how available they are, by the names of their folders.
const KINDS: [(&str, Counts); 3] = [
    ("daemonsets/", |raw| {
        let status = DaemonSet::decode(raw).ok()?.status.unwrap_or_default();
        Some((status.wanted, status.available))
    }),
    ("deployments/", |raw| {
        let found = Deployment::decode(raw).ok()?;
        Some((wanted(found.spec), found.status.unwrap_or_default().available))
    }),
    ("statefulsets/", |raw| {
        let found = StatefulSet::decode(raw).ok()?;
        Some((wanted(found.spec), found.status.unwrap_or_default().available))
    }),
];

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
            // What can't be read is none that could be said to be available.
            let (wanted, available) = raw(&value).and_then(|raw| counts(&raw)).unwrap_or((1, 0));
            seen.available.insert(name, available >= wanted);
        }
    }
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
        let (spec, status) = (Wanted { replicas }, DeploymentStatus { available });
        wrapped(&Deployment { spec: Some(spec), status: Some(status) })
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
            let status = Some(StatefulSetStatus { available });
            wrapped(&StatefulSet { spec: Some(Wanted { replicas: Some(2) }), status })
        };
        let daemons = |wanted, available| wrapped(&DaemonSet { status: Some(DaemonSetStatus { wanted, available }) });
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
        assert_eq!(look(&path, "x").unwrap(), Workloads::default());
    }
}
