//! What k3s gets on machines of each size, as several appliances have it.

use super::*;
use crate::testing;
use serde_json::json;

fn settings(k3s: Value) -> Settings {
    testing::settings(&json!({ "k3s": k3s }))
}

fn machine(mebibytes: u64) -> Facts {
    let address = Some(("eth0".into(), "192.168.1.10".parse().unwrap()));
    Facts { state_is_durable: true, memory: mebibytes << 20, address, ..Facts::default() }
}

/// The text of a file that is published or told, without its comment.
fn file(facts: &Facts, settings: &Settings, path: &str) -> String {
    let Decision::Run(_, actions) = decide(facts, settings) else { panic!("nothing to do") };
    let found = actions.iter().find_map(|action| match action {
        Action::Publish { path: place, text, .. } | Action::Tell { path: place, text, .. } if place == path => {
            Some(text)
        }
        _ => None,
    });
    found
        .unwrap_or_else(|| panic!("{path} is not written"))
        .lines()
        .filter(|line| !line.starts_with('#'))
        .fold(String::new(), |text, line| text + line + "\n")
}

fn config(facts: &Facts, k3s: Value) -> String {
    file(facts, &settings(k3s), CONFIG)
}

#[test]
fn a_small_server_by_itself() {
    let (facts, settings) = (machine(470), settings(json!({})));
    assert_eq!(
        file(&facts, &settings, CONFIG),
        r#"disable: ["local-storage","metrics-server","servicelb","traefik"]
disable-cloud-controller: true
disable-helm-controller: true
disable-network-policy: true
kube-apiserver-arg: ["event-ttl=30m","max-requests-inflight=50","max-mutating-requests-inflight=25","default-watch-cache-size=20","endpoint-reconciler-type=master-count","feature-gates=APIServerIdentity=false,UnknownVersionInteroperabilityProxy=false"]
kube-controller-manager-arg: ["node-monitor-grace-period=200s"]
node-ip: "192.168.1.10"
node-name: "shop-1"
prefer-bundled-bin: true
tls-san: ["shop-1","shop-1.local","192.168.1.10"]
token-file: "/var/lib/bakelite/token"
write-kubeconfig-mode: "0600"
"#
    );
    assert_eq!(
        file(&facts, &settings, KUBELET),
        r#"apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerLogMaxFiles: 2
containerLogMaxSize: "2Mi"
evictionHard: {"imagefs.available":"5%","memory.available":"48Mi","nodefs.available":"5%"}
imageGCHighThresholdPercent: 85
imageGCLowThresholdPercent: 75
maxPods: 15
nodeLeaseDurationSeconds: 160
systemReserved: {"memory":"64Mi"}
"#
    );
    assert_eq!(
        file(&facts, &settings, paths::PAYLOAD_ENVIRONMENT),
        "GOMEMLIMIT=220MiB\nGOGC=50\nCONTAINERD_GOMEMLIMIT=48MiB\n"
    );
}

#[test]
fn a_big_server_has_all_components_and_a_slow_medium_gets_time() {
    let big = Facts { slow_medium: true, ..machine(7800) };
    let text = config(&big, json!({}));
    assert!(!text.contains("disable") && !text.contains("max-requests-inflight"), "{text}");
    assert_eq!(file(&big, &settings(json!({})), paths::PAYLOAD_ENVIRONMENT), "KINE_COMPACT_TIMEOUT=60s\n");
    assert!(file(&big, &settings(json!({})), KUBELET).contains("maxPods: 110"));
}

#[test]
fn a_kiosk() {
    let text = config(
        &machine(1900),
        json!({ "config": {
            "write-kubeconfig-mode": "644", "disable": ["servicelb", "traefik"],
            "kube-apiserver-arg": ["max-requests-inflight=100", "max-mutating-requests-inflight=50"],
        } }),
    );
    assert!(text.contains("write-kubeconfig-mode: \"644\"\n"), "{text}");
    assert!(text.contains("disable: [\"servicelb\",\"traefik\"]\n"), "{text}");
    assert!(text.contains("\"max-requests-inflight=100\",\"max-mutating-requests-inflight=50\"]"), "{text}");
}

#[test]
fn a_hardened_server() {
    let settings = settings(json!({ "hardened": true, "config": { "kube-apiserver-arg": ["audit-log-maxage=7"] } }));
    let text = file(&machine(4000), &settings, CONFIG);
    for wanted in [
        "anonymous-auth=false",
        "audit-log-path=/var/lib/rancher",
        "audit-log-maxage=7",
        "protect-kernel-defaults: true",
    ] {
        assert!(text.contains(wanted), "{wanted} in {text}");
    }
    assert!(!text.contains("audit-log-maxage=30") && text.contains("write-kubeconfig-mode: \"0600\""), "{text}");
    assert!(file(&machine(4000), &settings, AUDIT_POLICY).contains("level: Metadata"));
}

#[test]
fn one_of_three_servers_is_neither_quiet_nor_cut_down() {
    let facts = machine(900);
    let text = config(
        &facts,
        json!({
            "server": "https://10.0.0.1:6443", "token": { "seed": "join" },
            "kubelet": { "nodeStatusUpdateFrequency": "20s", "maxPods": 110 },
            "config": {
                "tls-san": ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.100", "*.shop.lan"],
                "secrets-encryption": true, "etcd-expose-metrics": true,
                "kube-apiserver-arg": ["enable-admission-plugins=NodeRestriction", "audit-log-maxbackup=3"],
                "kube-controller-manager-arg": ["bind-address=0.0.0.0"],
            },
        }),
    );
    assert!(text.contains("server: \"https://10.0.0.1:6443\"\n"), "{text}");
    assert!(text.contains("token-file: \"/var/lib/bakelite/secrets/join\"\n"), "{text}");
    assert!(text.contains("kube-controller-manager-arg: [\"bind-address=0.0.0.0\"]\n"), "{text}");
    assert!(text.contains("\"192.168.1.10\",\"10.0.0.1\"") && text.contains("*.shop.lan"), "{text}");
    assert!(!text.contains("disable") && !text.contains("feature-gates"), "{text}");
    let founder = settings(json!({ "cluster-init": true, "kubelet": { "maxPods": 110 } }));
    assert!(file(&facts, &founder, CONFIG).contains("cluster-init: true\n"));
    assert!(file(&facts, &founder, KUBELET).contains("maxPods: 110\n"));
    assert!(!file(&facts, &founder, KUBELET).contains("nodeLeaseDurationSeconds"));
}

#[test]
fn an_agent_gets_only_what_an_agent_takes() {
    let text = config(
        &machine(900),
        json!({
            "role": "agent", "server": "https://10.0.0.1:6443", "token": { "secret": "join" },
            "config": { "node-label": ["site=lyon", "edge-role=till", "device-type=pi4"] },
        }),
    );
    let keys: Vec<&str> = text.lines().filter_map(|line| line.split(':').next()).collect();
    assert_eq!(keys, ["node-ip", "node-label", "node-name", "prefer-bundled-bin", "server", "token-file"]);
    for key in keys {
        let flag = bakelite_spec::k3s_flags::find(key).unwrap();
        assert!(flag.is_of(bakelite_spec::appliance::K3sRole::Agent), "{key}");
    }
}

#[test]
fn a_secret_stays_out_of_the_decision() {
    let endpoint = json!({ "config": { "datastore-endpoint": { "secret": "db" } } });
    let text = config(&machine(4000), endpoint);
    // Another datastore may have other servers beside this one.
    assert!(!text.contains("datastore-endpoint") && !text.contains("feature-gates"), "{text}");
}

#[test]
fn quiet_goes_with_agents_by_half_and_not_at_all_where_k3s_refuses_it() {
    let agents = settings(json!({ "agents": true }));
    assert!(file(&machine(4000), &agents, CONFIG).contains("feature-gates"));
    assert!(!file(&machine(4000), &agents, CONFIG).contains("grace-period"));
    assert!(!config(&machine(4000), json!({ "quiet": "off" })).contains("feature-gates"));

    let mut refused = machine(4000);
    let start = r#"{"started":1.0,"ready-at":null,"ended":2.0,"status":0,"signal":null,"fault":{"code":"k3s-refuses-quiet","who":"wait","text":"x","hint":"x"}}"#;
    refused.files.insert(paths::LAST_START.into(), start.into());
    let settings = settings(json!({}));
    assert!(!file(&refused, &settings, CONFIG).contains("feature-gates"));
    assert_eq!(file(&refused, &settings, quiet::REFUSED), "v1.36.2+k3s1\n");
    let mut later = machine(4000);
    later.files.insert(quiet::REFUSED.into(), "v1.36.2+k3s1\n".into());
    assert!(!file(&later, &settings, CONFIG).contains("feature-gates"));
    later.files.insert(quiet::REFUSED.into(), "v1.37.0+k3s1\n".into());
    assert!(file(&later, &settings, CONFIG).contains("feature-gates"));
}

#[test]
fn components_stay_those_of_the_first_start() {
    let mut facts = machine(470);
    let settings = settings(json!({}));
    assert_eq!(file(&facts, &settings, tier::FIRST), "\"512M\"\n");
    facts.files.insert(tier::FIRST.into(), "\"4G\"\n".into());
    let text = file(&facts, &settings, CONFIG);
    assert!(!text.contains("disable") && text.contains("max-requests-inflight=50"), "{text}");
}
