//! The two objects whose content somebody outside reads: a node and a deployment, as kubernetes encodes them (its generated.proto,
//! field by field), in the wrapping that k3s's rows have (k3s.md 4.2). Of each only what says how it is; the rest is filler.

use prost::{DecodeError, Message};

const PREFIX: &[u8] = b"k8s\0";
/// The kubelet's own condition.
const READY: &str = "Ready";

#[derive(Clone, PartialEq, Message)]
struct Unknown {
    #[prost(message, optional, tag = "1")]
    kind: Option<Kind>,
    #[prost(bytes = "vec", tag = "2")]
    raw: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Kind {
    #[prost(string, tag = "1")]
    version: String,
    #[prost(string, tag = "2")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Object {
    #[prost(bytes = "vec", tag = "1")]
    metadata: Vec<u8>,
    #[prost(message, optional, tag = "2")]
    spec: Option<DeploymentSpec>,
    #[prost(bytes = "vec", tag = "3")]
    status: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct DeploymentSpec {
    #[prost(int32, optional, tag = "1")]
    replicas: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(int64, tag = "7")]
    generation: i64,
}

#[derive(Clone, PartialEq, Message)]
struct DeploymentStatus {
    #[prost(int64, tag = "1")]
    observed_generation: i64,
    #[prost(int32, tag = "2")]
    replicas: i32,
    #[prost(int32, tag = "3")]
    updated_replicas: i32,
    #[prost(int32, tag = "4")]
    available_replicas: i32,
    #[prost(int32, tag = "5")]
    unavailable_replicas: i32,
}

#[derive(Clone, PartialEq, Message)]
struct NodeStatus {
    #[prost(message, repeated, tag = "4")]
    conditions: Vec<Condition>,
    #[prost(message, optional, tag = "7")]
    node_info: Option<NodeSystemInfo>,
}

/// A condition of a node.
#[derive(Clone, PartialEq, Message)]
pub struct Condition {
    #[prost(string, tag = "1")]
    pub kind: String,
    #[prost(string, tag = "2")]
    pub status: String,
    #[prost(message, optional, tag = "3")]
    pub heartbeat: Option<Moment>,
    #[prost(message, optional, tag = "4")]
    pub transition: Option<Moment>,
    #[prost(string, tag = "5")]
    pub reason: String,
    #[prost(string, tag = "6")]
    pub message: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Moment {
    #[prost(int64, tag = "1")]
    pub seconds: i64,
}

#[derive(Clone, PartialEq, Message)]
struct NodeSystemInfo {
    #[prost(string, tag = "3")]
    boot_id: String,
}

fn row(version: &str, name: &str, object: &Object) -> Vec<u8> {
    let kind = Some(Kind { version: version.to_owned(), name: name.to_owned() });
    [PREFIX, &Unknown { kind, raw: object.encode_to_vec() }.encode_to_vec()].concat()
}

/// A node that is ready in this boot.
pub fn node(boot: &str, metadata: &[u8]) -> Vec<u8> {
    let ready = Condition { kind: READY.to_owned(), status: "True".to_owned(), ..Condition::default() };
    let node_info = Some(NodeSystemInfo { boot_id: boot.to_owned() });
    let status = NodeStatus { conditions: vec![ready], node_info }.encode_to_vec();
    row("v1", "Node", &Object { metadata: metadata.to_vec(), spec: None, status })
}

/// The conditions in a node's row.
pub fn conditions(row: &[u8]) -> Result<Vec<Condition>, DecodeError> {
    Ok(status(row)?.1.conditions)
}

/// A node's row with these conditions merged in by their types, as the API server merges a patch of its status.
pub fn with_conditions(row: &[u8], new: &[Condition]) -> Result<Vec<u8>, DecodeError> {
    let (mut object, mut status) = status(row)?;
    for condition in new {
        match status.conditions.iter_mut().find(|old| old.kind == condition.kind) {
            Some(old) => old.clone_from(condition),
            None => status.conditions.push(condition.clone()),
        }
    }
    object.status = status.encode_to_vec();
    Ok(self::row("v1", "Node", &object))
}

/// What the kubelet writes of a node keeps the conditions that aren't its own.
pub fn keep_conditions(old: &[u8], new: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let foreign: Vec<Condition> = conditions(old)?.into_iter().filter(|condition| condition.kind != READY).collect();
    with_conditions(new, &foreign)
}

fn status(row: &[u8]) -> Result<(Object, NodeStatus), DecodeError> {
    let object = Object::decode(Unknown::decode(row.strip_prefix(PREFIX).unwrap_or(row))?.raw.as_slice())?;
    let status = NodeStatus::decode(object.status.as_slice())?;
    Ok((object, status))
}

/// How far a deployment of one is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rollout {
    /// How often it was described anew, and up to which description the rest is about.
    pub generation: i64,
    pub observed: i64,
    /// How many there are, how many of them are new, and how many are available.
    pub replicas: i32,
    pub updated: i32,
    pub available: i32,
}

impl Rollout {
    /// A first one.
    pub fn first(available: i32) -> Self {
        Self { generation: 1, observed: 1, replicas: 1, updated: 1, available }
    }

    /// The next step towards what is described; an old one goes when the new one is available.
    pub fn rolled(self, has_image: bool) -> Self {
        let is_over = self.observed == self.generation && self.updated == self.replicas && self.available > 0;
        if has_image || is_over {
            return Self { observed: self.generation, replicas: 1, updated: 1, available: 1, ..self };
        }
        let old = self.available;
        Self { observed: self.generation, replicas: 1 + old, updated: 1, available: old, ..self }
    }
}

/// A deployment of one.
pub fn deployment(rollout: Rollout) -> Vec<u8> {
    let status = DeploymentStatus {
        observed_generation: rollout.observed,
        replicas: rollout.replicas,
        updated_replicas: rollout.updated,
        available_replicas: rollout.available,
        unavailable_replicas: (rollout.replicas - rollout.available).max(0),
    };
    let spec = Some(DeploymentSpec { replicas: Some(1) });
    let metadata = Metadata { generation: rollout.generation }.encode_to_vec();
    row("apps/v1", "Deployment", &Object { metadata, spec, status: status.encode_to_vec() })
}

/// How far the deployment of a row is.
pub fn rollout(row: &[u8]) -> Rollout {
    let raw = row.strip_prefix(PREFIX).and_then(|row| Unknown::decode(row).ok()).map(|unknown| unknown.raw);
    let object = raw.and_then(|raw| Object::decode(raw.as_slice()).ok()).unwrap_or_default();
    let status = DeploymentStatus::decode(object.status.as_slice()).unwrap_or_default();
    Rollout {
        generation: Metadata::decode(object.metadata.as_slice()).unwrap_or_default().generation,
        observed: status.observed_generation,
        replicas: status.replicas,
        updated: status.updated_replicas,
        available: status.available_replicas,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_as_the_wire_format_has_them() {
        let row = deployment(Rollout::first(1));
        assert!(row.starts_with(b"k8s\0\x0a\x15\x0a\x07apps/v1\x12\x0aDeployment\x12"), "{row:?}");
        // Metadata: generation 1; spec: replicas 1; status: generation 1, replicas 1, updated 1, available 1.
        let object = [0x0a, 2, 56, 1, 0x12, 2, 8, 1, 0x1a, 8, 8, 1, 16, 1, 24, 1, 32, 1];
        assert!(row.ends_with(&object), "{row:?}");
        let uneven = Rollout { generation: 3, observed: 2, replicas: 2, updated: 1, available: 0 };
        assert_eq!(rollout(&deployment(uneven)), uneven);
        let node = node("boot", b"x");
        assert!(node.ends_with(b"\x22\x0d\x0a\x05Ready\x12\x04True\x3a\x06\x1a\x04boot"), "{node:?}");
    }
    #[test]
    fn foreign_conditions_are_merged_and_outlive_what_the_kubelet_writes() {
        let condition = |kind: &str, status: &str| Condition {
            kind: kind.to_owned(),
            status: status.to_owned(),
            transition: Some(Moment { seconds: 7 }),
            ..Condition::default()
        };
        let row = with_conditions(&node("boot", b"x"), &[condition("A", "True"), condition("B", "False")]).unwrap();
        let row = with_conditions(&row, &[condition("A", "False")]).unwrap();
        let row = keep_conditions(&row, &node("next", b"y")).unwrap();
        let all = conditions(&row).unwrap();
        let all: Vec<(&str, &str)> =
            all.iter().map(|condition| (condition.kind.as_str(), condition.status.as_str())).collect();
        assert_eq!(all, [("Ready", "True"), ("A", "False"), ("B", "False")]);
        assert!(row.ends_with(b"\x3a\x06\x1a\x04next"), "{row:?}");
    }
}
