//! The rehearsal of an update: the new k3s opens a copy of the database before anything of the running cluster is touched.
//!
//! Here is decided whether it is worth it and there is room, what that k3s is told, and what is missing afterwards. It gets the few
//! settings that a cluster can't change, and no others: what else the new system's appliance says is for its own boot to prove.

use crate::Settings;
use crate::action::Action;
use crate::cluster;
use crate::facts::Facts;
use bakelite_spec::appliance::Payload as Kind;
use bakelite_spec::bundle::Bundle;
use bakelite_spec::quantity::Size;
use bakelite_spec::records::{ClusterBorn, Datastore};

/// Where it takes place, on the file system of k3s's data.
pub const FOLDER: &str = "/var/lib/rancher/bakelite/rehearsal";
/// That one takes place in this boot.
pub const HELD: &str = "/run/bakelite/update-rehearsal";
/// What the new k3s may take. A server without an agent takes some 230 MB (k3s.md 11.4).
pub const MEMORY: u64 = 512 << 20;
/// What has to stay for the others meanwhile.
const LEFT: u64 = 128 << 20;
/// What k3s unpacks of itself (k3s.md 2.1), and some more.
const UNPACKED: u64 = 320 << 20;
/// What the API server makes anew for itself, and removes where a version has it no more.
const OF_THE_SERVER: &[&str] = &[
    "/registry/apiregistration.k8s.io/",
    "/registry/flowschemas/",
    "/registry/prioritylevelconfigurations/",
    "/registry/ranges/",
    "/registry/clusterroles/system:",
    "/registry/clusterrolebindings/system:",
];

/// What there is to rehearse with, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Means {
    /// Memory that can be had without taking any from others.
    pub memory: u64,
    /// Room beside k3s's data.
    pub room: u64,
    /// What the database takes.
    pub database: u64,
}

/// Whether a bundle is rehearsed, with the cluster that it is rehearsed for; else why not, in words for a person. An empty
/// text: there is nothing to rehearse.
///
/// # Errors
/// Why not.
pub fn due(bundle: &Bundle, facts: &Facts, settings: &Settings, means: Means) -> Result<ClusterBorn, String> {
    let payload = &settings.manifest.payload;
    let born = cluster::of(facts).filter(|born| born.datastore == Datastore::Sqlite).ok_or_else(String::new)?;
    // The stand-in has one version, whatever becomes of it.
    if bundle.k3s == payload.version && payload.kind != Kind::Rehearsal {
        return Err(String::new());
    }
    if means.memory < MEMORY + LEFT {
        let (free, needed) = (Size(means.memory).human(), Size(MEMORY + LEFT).human());
        return Err(format!("{free} of memory are free, and it takes {needed}"));
    }
    let needed = UNPACKED + 3 * means.database;
    if means.room < needed {
        let (free, needed) = (Size(means.room).human(), Size(needed).human());
        return Err(format!("{free} are free beside k3s's data, and it takes {needed}"));
    }
    Ok(born)
}

/// The configuration of the k3s that is rehearsed, at an address that leads nowhere.
pub fn config(born: &ClusterBorn, address: &str) -> String {
    let own = [("disable-agent", "true"), ("node-name", born.node.as_str()), ("node-ip", address)];
    let kept = born.keys.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    // JSON texts are YAML; k3s takes the text of a truth value for one.
    own.into_iter().chain(kept).map(|(key, value)| format!("{key}: {}\n", serde_json::Value::from(value))).collect()
}

/// Which objects are missing, of those that lasted before; what the API server itself looks after isn't missed.
pub fn missing<'a>(lost: &'a [String]) -> Vec<&'a str> {
    let is_of_people = |name: &&'a str| !OF_THE_SERVER.iter().any(|prefix| name.starts_with(prefix));
    lost.iter().map(String::as_str).filter(is_of_people).collect()
}

/// Removes what a cut has left of one.
pub(crate) fn leftovers(facts: &Facts) -> Option<Action> {
    (facts.has(FOLDER) && !facts.has(HELD)).then(|| Action::RemoveFolder { path: FOLDER.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::settings;
    use serde_json::json;

    #[test]
    fn another_k3s_is_rehearsed_where_there_is_room() {
        let mut settings = settings(&json!({}));
        settings.manifest.payload.kind = Kind::Official;
        settings.manifest.payload.version = "v1.36.2+k3s1".into();
        let born = r#"{"format":1,"epoch":0,"node":"shop-1","datastore":"sqlite","row":"r","revision":9,"k3s":"v1.36.2+k3s1"}"#;
        let facts = Facts { files: [(cluster::ON_STATE.to_string(), born.to_string())].into(), ..Facts::default() };
        let bundle = |k3s: &str| Bundle { k3s: k3s.into(), ..Bundle::default() };
        let means = Means { memory: 1 << 30, room: 1 << 30, database: 9 << 20 };
        let due_with = |means| due(&bundle("v1.37.0+k3s1"), &facts, &settings, means).map(|born| born.node);
        assert_eq!(due_with(means).as_deref(), Ok("shop-1"));
        assert!(due_with(Means { memory: 600 << 20, ..means }).unwrap_err().contains("640 MiB"));
        assert!(due_with(Means { database: 300 << 20, ..means }).unwrap_err().contains("free beside k3s's data"));
        assert_eq!(due(&bundle("v1.36.2+k3s1"), &facts, &settings, means), Err(String::new()), "the same k3s");
        assert_eq!(due(&bundle("v1.37.0+k3s1"), &Facts::default(), &settings, means), Err(String::new()), "no cluster");
    }

    #[test]
    fn it_is_told_what_a_cluster_cannot_change() {
        let keys = [("cluster-cidr".to_string(), "10.1.0.0/16".to_string())].into();
        let born: ClusterBorn = serde_json::from_value(json!({
            "format": 1, "epoch": 0, "node": "shop-1", "datastore": "sqlite", "row": "r", "revision": 9, "k3s": "v"
        }))
        .unwrap();
        let text = config(&ClusterBorn { keys, ..born }, "203.0.113.254");
        let expected = "disable-agent: \"true\"\nnode-name: \"shop-1\"\nnode-ip: \"203.0.113.254\"\ncluster-cidr: \"10.1.0.0/16\"\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_the_server_looks_after_is_not_missed() {
        let lost =
            ["/registry/flowschemas/probes", "/registry/secrets/shop/till", "/registry/clusterroles/system:node"];
        assert_eq!(missing(&lost.map(String::from)), ["/registry/secrets/shop/till"]);
    }

    #[test]
    fn what_a_cut_has_left_goes_unless_one_takes_place() {
        let left = Facts { present: vec![FOLDER.into()], ..Facts::default() };
        assert_eq!(leftovers(&left), Some(Action::RemoveFolder { path: FOLDER.into() }));
        let held = Facts { present: vec![FOLDER.into(), HELD.into()], ..Facts::default() };
        assert_eq!((leftovers(&held), leftovers(&Facts::default())), (None, None));
    }
}
