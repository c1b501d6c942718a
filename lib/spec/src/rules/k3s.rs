//! Rules for `k3s`: what its configuration may hold, and which of its keys go together.
//!
//! k3s itself says little: an unknown key is skipped (server) or fatal (agent), a nested mapping ends in exit status 0,
//! and a list where one text belongs silently loses all but its last entry (k3s.md 5.1, 11.5).

use crate::appliance::{Appliance, K3s, K3sRole, Payload};
use crate::finding::{Finding, nearest};
use crate::k3s_flags;
use crate::secret::SecretRef;
use serde_json::Value;

/// Keys that the appliance chooses itself, and what to write instead.
const OWNED: &[(&str, &str)] = &[
    ("agent-token-file", "`agent-token: {secret: NAME}`"),
    ("cluster-init", "`k3s.cluster-init`"),
    ("cluster-reset", "leaving it out; it is a command, not a setting"),
    ("cluster-reset-restore-path", "leaving it out; it is a command, not a setting"),
    ("config", "leaving it out"),
    ("data-dir", "leaving it out; where the data lies is decided by `storage`"),
    ("log", "leaving it out; the machine keeps the log"),
    ("node-name", "`hostname`"),
    ("private-registry", "`registries`"),
    ("rootless", "leaving it out"),
    ("server", "`k3s.server`"),
    ("token", "`k3s.token`"),
    ("token-file", "`k3s.token`"),
];

/// Keys whose value is a secret.
const SECRETS: &[&str] = &[
    "agent-token",
    "datastore-endpoint",
    "etcd-s3-access-key",
    "etcd-s3-secret-key",
    "etcd-s3-session-token",
    "vpn-auth",
];

/// All findings.
pub fn findings(appliance: &Appliance) -> Vec<Finding> {
    let k3s = &appliance.k3s;
    if k3s.payload == Payload::None {
        return Vec::new();
    }
    let mut found: Vec<Finding> = k3s.config.iter().filter_map(|(key, value)| config(k3s.role, key, value)).collect();
    found.extend(together(k3s));
    found
}

/// What is wrong with one key of `k3s.config`.
fn config(role: K3sRole, key: &str, value: &Value) -> Option<Finding> {
    let place = format!("k3s.config.{key}");
    if let Some((_, instead)) = OWNED.iter().find(|(owned, _)| *owned == key) {
        return Some(Finding::error(place, "is chosen by the appliance itself", *instead));
    }
    let Some(flag) = k3s_flags::find(key).filter(|flag| flag.is_of(role)) else {
        let names = k3s_flags::all().filter(|flag| flag.is_of(role)).map(|flag| flag.name);
        let hint = nearest(key, names).map_or_else(|| "leaving it out".into(), |name| format!("`{name}`"));
        return Some(Finding::error(place, format!("is no flag of `k3s {}`", role.name()), hint));
    };
    if SecretRef::of(value).is_some() {
        return None;
    }
    // An endpoint without a login holds no secret.
    if SECRETS.contains(&key) && (key != "datastore-endpoint" || value.as_str().is_some_and(|text| text.contains('@')))
    {
        return Some(Finding::error(place, "is a secret and must not be in an image", "`{secret: NAME}`"));
    }
    // YAML reads 0600 as a number, and k3s takes that for another mode (k3s.md 11.5).
    if key == "write-kubeconfig-mode" && !value.is_string() {
        return Some(Finding::error(place, "is a number, and k3s takes it for another mode", "quotes: `\"0600\"`"));
    }
    let should = flag.misfit(value)?;
    Some(Finding::error(place, format!("is not what `k3s {}` takes", role.name()), should))
}

/// What is wrong with the keys of `k3s` beside each other.
fn together(k3s: &K3s) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut error = |key: &str, problem: &str, hint: &str| found.push(Finding::error(key, problem, hint));
    if k3s.role == K3sRole::Agent {
        if k3s.server.is_none() {
            error("k3s.server", "is missing: an agent joins a server", "`server: https://192.168.1.100:6443`");
        }
        if k3s.cluster_init {
            error("k3s.cluster-init", "is for a server", "`role: server`, or leaving it out");
        }
    }
    if k3s.server.is_some() && k3s.token.is_none() {
        error("k3s.token", "is missing: the server takes nobody in without it", "`token: {seed: join-token}`");
    }
    if k3s.cluster_init && k3s.server.is_some() {
        error("k3s.cluster-init", "founds a cluster, and `server` joins one", "one of them");
    }
    if k3s.cluster_init && k3s.config.contains_key("datastore-endpoint") {
        error("k3s.cluster-init", "brings etcd, and `datastore-endpoint` is another datastore", "one of them");
    }
    for key in ["apiVersion", "kind"] {
        if k3s.kubelet.contains_key(key) {
            error(&format!("k3s.kubelet.{key}"), "is written by the appliance", "leaving it out");
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{APPLIANCE, defaults};
    use crate::layers::{Effective, Layer};
    use serde_json::json;

    fn lines(k3s: Value) -> Vec<String> {
        let base = Effective { values: defaults(APPLIANCE), ..Effective::default() };
        let merged = base.with(Layer::Appliance, &json!({ "board": { "name": "x" }, "k3s": k3s }));
        findings(&Appliance::from_values(&merged.values).unwrap()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn keys_are_held_against_the_table_of_the_role() {
        assert_eq!(
            lines(json!({ "config": { "disable": ["traefik"], "node-label": ["site=a"], "tls-san": ["a"] } })),
            [""; 0]
        );
        assert_eq!(
            lines(json!({ "config": { "dissable": ["traefik"] } })),
            ["k3s.config.dissable: is no flag of `k3s server`; try `disable`"]
        );
        assert_eq!(
            lines(json!({
                "role": "agent", "server": "https://a:6443", "token": { "secret": "join" },
                "config": { "tls-san": ["a"], "node-label": ["site=a"] }
            })),
            ["k3s.config.tls-san: is no flag of `k3s agent`; try leaving it out"]
        );
        assert_eq!(
            lines(json!({ "config": { "disable": { "traefik": true } } })),
            ["k3s.config.disable: is not what `k3s server` takes; try a list of texts"]
        );
        assert_eq!(
            lines(json!({ "config": { "write-kubeconfig-mode": 644 } })),
            [
                "k3s.config.write-kubeconfig-mode: is a number, and k3s takes it for another mode; try quotes: `\"0600\"`"
            ]
        );
    }

    #[test]
    fn secrets_are_references_and_owned_keys_have_a_place_elsewhere() {
        let found = lines(json!({ "config": {
            "agent-token": "hunter2",
            "datastore-endpoint": "postgres://k3s:hunter2@db:5432/k3s",
            "etcd-s3-secret-key": { "secret": "s3" },
            "token": "hunter2",
        } }));
        assert_eq!(
            found,
            [
                "k3s.config.agent-token: is a secret and must not be in an image; try `{secret: NAME}`",
                "k3s.config.datastore-endpoint: is a secret and must not be in an image; try `{secret: NAME}`",
                "k3s.config.token: is chosen by the appliance itself; try `k3s.token`",
            ]
        );
        assert!(!found.concat().contains("hunter2"));
        assert_eq!(lines(json!({ "config": { "datastore-endpoint": { "secret": "db" } } })), [""; 0]);
    }

    #[test]
    fn keys_that_need_or_exclude_each_other() {
        assert_eq!(
            lines(json!({ "role": "agent" })),
            ["k3s.server: is missing: an agent joins a server; try `server: https://192.168.1.100:6443`"]
        );
        assert_eq!(
            lines(json!({ "server": "https://a:6443", "cluster-init": true })),
            [
                "k3s.token: is missing: the server takes nobody in without it; try `token: {seed: join-token}`",
                "k3s.cluster-init: founds a cluster, and `server` joins one; try one of them",
            ]
        );
        assert_eq!(
            lines(json!({ "kubelet": { "kind": "KubeletConfiguration" } })),
            ["k3s.kubelet.kind: is written by the appliance; try leaving it out"]
        );
    }
}
