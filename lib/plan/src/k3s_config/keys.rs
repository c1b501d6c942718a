//! The keys of config.yaml and of the kubelet's drop-in.

use super::quiet::{API_SERVER, CONTROLLER, LEASE_SECONDS, Quiet};
use super::{AUDIT_POLICY, Tuning, arguments, tier};
use crate::address::{DUMMY, node_address};
use crate::facts::Facts;
use crate::identity::TOKEN;
use crate::{Settings, apps};
use bakelite_spec::appliance::K3sRole;
use bakelite_spec::manifest::Manifest;
use bakelite_spec::secret::SecretRef;
use serde_json::{Map, Value, json};

/// Where the audit log is; below k3s's data, so that it lies on the data disk if there is one.
const AUDIT_LOG: &str = "/var/lib/rancher/k3s/server/logs/audit.log";

/// config.yaml. What is a secret comes by a drop-in.
pub fn config(facts: &Facts, settings: &Settings, node: &str, tuning: &Tuning) -> Map<String, Value> {
    let k3s = &settings.appliance.k3s;
    let mut config = k3s.config.clone();
    config.retain(|_, value| SecretRef::of(value).is_none());
    let mut ours = json!({
        "node-ip": node_address(facts).to_string(),
        "node-name": node,
        "prefer-bundled-bin": true,
        "token-file": k3s.token.as_ref().map_or_else(|| TOKEN.to_string(), SecretRef::path),
    });
    if let Some(server) = &k3s.server {
        ours["server"] = server.clone().into();
    }
    if k3s.hardened {
        ours["protect-kernel-defaults"] = true.into();
    }
    if k3s.role == K3sRole::Server {
        server(facts, settings, node, tuning, &mut config, &mut ours);
    }
    for (key, value) in ours.as_object().cloned().unwrap_or_default() {
        config.entry(key).or_insert(value);
    }
    config
}

/// What only a server has.
fn server(
    facts: &Facts,
    settings: &Settings,
    node: &str,
    tuning: &Tuning,
    config: &mut Map<String, Value>,
    ours: &mut Value,
) {
    let k3s = &settings.appliance.k3s;
    let address = node_address(facts);
    let mut names = vec![node.to_string(), format!("{node}.local")];
    if address != DUMMY {
        names.push(address.to_string());
    }
    arguments::join(config, "tls-san", &names);
    ours["write-kubeconfig-mode"] = "0600".into();
    if k3s.cluster_init {
        ours["cluster-init"] = true.into();
    }
    // Several servers have to agree about their components, whatever memory each of them has (k3s.md 5.2).
    if k3s.is_single_server() {
        components(&apps::laid(facts, settings), tuning, config, ours);
    }
    let mut api_server = vec!["event-ttl=30m".to_string()];
    if let Some((all, changing)) = tuning.tier.requests {
        api_server.push(format!("max-requests-inflight={all}"));
        api_server.push(format!("max-mutating-requests-inflight={changing}"));
    }
    api_server.extend(tuning.tier.watch_cache.map(|size| format!("default-watch-cache-size={size}")));
    let mut controller = Vec::new();
    if matches!(tuning.quiet, Quiet::On | Quiet::WithAgents) {
        api_server.extend(API_SERVER.iter().map(ToString::to_string));
    }
    if tuning.quiet == Quiet::On {
        controller.push(CONTROLLER.to_string());
    }
    if k3s.hardened {
        api_server.extend([
            "anonymous-auth=false".to_string(),
            format!("audit-policy-file={AUDIT_POLICY}"),
            format!("audit-log-path={AUDIT_LOG}"),
            "audit-log-maxage=30".into(),
            "audit-log-maxbackup=10".into(),
            "audit-log-maxsize=10".into(),
        ]);
        controller.push("terminated-pod-gc-threshold=10".into());
    }
    arguments::add(config, "kube-apiserver-arg", &api_server);
    arguments::add(config, "kube-controller-manager-arg", &controller);
}

fn components(manifest: &Manifest, tuning: &Tuning, config: &Map<String, Value>, ours: &mut Value) {
    let components = tier::components(tuning.components);
    if !components.disable.is_empty() {
        ours["disable"] = components.disable.into();
    }
    // Without the load balancer's disabling, k3s still needs the cloud controller (k3s.md 5.4).
    if components.without_controllers && !config.contains_key("disable") {
        ours["disable-cloud-controller"] = true.into();
        ours["disable-network-policy"] = true.into();
    }
    let has_charts = manifest.user.placed.iter().any(|file| file.to.contains("/server/"));
    if components.without_helm && !has_charts && !config.contains_key("disable") {
        ours["disable-helm-controller"] = true.into();
    }
}

/// The kubelet's drop-in, as JSON, which is YAML.
pub fn kubelet(settings: &Settings, tuning: &Tuning) -> String {
    let tier = &tuning.tier;
    let mebibytes = |count: u32| json!({ "memory": format!("{count}Mi") });
    let mut keys = json!({
        "containerLogMaxFiles": 2,
        "containerLogMaxSize": "2Mi",
        // The whole map is replaced, so k3s's own entries are repeated.
        "evictionHard": {
            "imagefs.available": "5%",
            "memory.available": format!("{}Mi", tier.evict_below),
            "nodefs.available": "5%",
        },
        "imageGCHighThresholdPercent": 85,
        "imageGCLowThresholdPercent": 75,
        "maxPods": tier.max_pods,
        "systemReserved": mebibytes(tier.reserved.1),
    });
    if tier.reserved.0 > 0 {
        keys["kubeReserved"] = mebibytes(tier.reserved.0);
    }
    if tuning.quiet == Quiet::On {
        keys["nodeLeaseDurationSeconds"] = LEASE_SECONDS.into();
    }
    if let Value::Object(keys) = &mut keys {
        keys.extend(settings.appliance.k3s.kubelet.clone());
    }
    let lines = keys.as_object().into_iter().flatten().map(|(key, value)| format!("{key}: {value}\n"));
    let head = "# Written by bakelite before each start of k3s; set keys by `k3s.kubelet` in the appliance.\n\
                apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
    std::iter::once(head.to_string()).chain(lines).collect()
}
