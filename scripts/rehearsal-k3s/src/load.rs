//! The writes of an idle machine, as its settings imply (k3s.md 4.4 and 11.3): three leases of the API server, the
//! kubelet's two, something each five minutes, and compaction. Sizes and rates are those measured; the contents are filler.
//! A write that fails is logged and tried again at its next turn, as k3s does on a full disk.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use serde_yaml::Value;

use crate::config::Settings;
use crate::datastore::Datastore;
use crate::deploy::Deployer;
use crate::objects::{self, Rollout};
use crate::stop::Stop;
use crate::token::sha256_hex;

const COMPACTION: Duration = Duration::from_secs(300);
/// Between two looks at the manifests.
const DEPLOY: Duration = Duration::from_secs(15);
/// A deployment of one, and when it is up.
const WORKLOAD: &str = "/registry/deployments/default/rehearsed";
const UP: Duration = Duration::from_secs(8);
/// The nodes, and how often the kubelet says anew that all is as it was.
pub const NODES: &str = "/registry/minions/";
const NODE_EACH: Duration = Duration::from_secs(300);
/// What the kubelet has where no drop-in says otherwise, in seconds.
const NODE_LEASE: f64 = 40.0;

/// Who the writes are about.
pub struct Machine<'a> {
    pub node: &'a str,
    pub address: IpAddr,
    /// `<D>/agent/etc/kubelet.conf.d`
    pub kubelet_drop_ins: &'a Path,
    /// The kernel's id of this boot.
    pub boot: &'a str,
    /// What deploys manifests, where images can be had.
    pub deployer: Option<&'a Deployer>,
}

struct Writer {
    key: String,
    every: Duration,
    lease: i64,
    bytes: usize,
}

struct ApiServer {
    identity: bool,
    interoperability: bool,
    leases_its_address: bool,
}

impl ApiServer {
    fn new(settings: &Settings) -> Self {
        let arguments = settings.list("kube-apiserver-arg");
        let value = |name: &str| arguments.iter().rev().find_map(|text| text.strip_prefix(name)?.strip_prefix('='));
        let gate_is_off = |name: &str| {
            let gates = value("feature-gates").unwrap_or_default();
            gates.split(',').any(|gate| gate.trim().strip_prefix(name) == Some("=false"))
        };
        Self {
            identity: !gate_is_off("APIServerIdentity"),
            interoperability: !gate_is_off("UnknownVersionInteroperabilityProxy"),
            leases_its_address: !matches!(value("endpoint-reconciler-type"), Some("master-count" | "none")),
        }
    }
}

/// Why the API server wouldn't start with these arguments.
pub fn api_server_fault(settings: &Settings) -> Option<&'static str> {
    let api = ApiServer::new(settings);
    (api.interoperability && !api.identity).then_some(
        "UnknownVersionInteroperabilityProxy is enabled, but depends on features that are disabled: [APIServerIdentity]",
    )
}

fn writers(settings: &Settings, machine: &Machine<'_>) -> Vec<Writer> {
    let api = ApiServer::new(settings);
    let name = format!("apiserver-{}", &sha256_hex(machine.node.as_bytes())[..26]);
    let every = |seconds: f64, key: String, lease: i64, bytes: usize| Writer {
        key,
        every: Duration::from_secs_f64(seconds),
        lease,
        bytes,
    };
    let mut writers = vec![every(300.0, "/registry/rehearsal/idle".to_owned(), 0, 600)];
    if api.interoperability {
        writers.push(every(10.0, format!("/registry/peerserverleases/{name}"), 15, 138));
    }
    if api.leases_its_address {
        writers.push(every(10.0, format!("/registry/masterleases/{}", machine.address), 15, 62));
    }
    if api.identity {
        writers.push(every(10.0, format!("/registry/leases/kube-system/{name}"), 0, 708));
    }
    if !settings.is_on("disable-agent") {
        let seconds = node_lease_seconds(machine.kubelet_drop_ins) * 0.25;
        writers.push(every(seconds, format!("/registry/leases/kube-node-lease/{}", machine.node), 0, 480));
    }
    writers
}

/// `nodeLeaseDurationSeconds` of the kubelet's drop-ins: the last in lexical order.
fn node_lease_seconds(folder: &Path) -> f64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|suffix| suffix == "conf")).collect();
    files.sort();
    let seconds = |path: &std::path::PathBuf| -> Option<f64> {
        let value: Value = serde_yaml::from_slice(&fs::read(path).ok()?).ok()?;
        value.get("nodeLeaseDurationSeconds")?.as_f64().filter(|seconds| *seconds >= 1.0)
    };
    files.iter().rev().find_map(seconds).unwrap_or(NODE_LEASE)
}

/// What a first start writes: enough of a cluster's names for whoever counts live keys.
pub fn seed(datastore: &Datastore) -> Result<(), rusqlite::Error> {
    const KEYS: [(&str, usize); 22] = [
        ("/registry/health", 17),
        ("/registry/namespaces/kube-system", 287),
        ("/registry/namespaces/kube-public", 287),
        ("/registry/namespaces/kube-node-lease", 295),
        ("/registry/namespaces/default", 279),
        ("/registry/ranges/servicenodeports", 66),
        ("/registry/ranges/serviceips", 74),
        ("/registry/servicecidrs/kubernetes", 534),
        ("/registry/services/specs/default/kubernetes", 420),
        ("/registry/services/endpoints/default/kubernetes", 210),
        ("/registry/endpointslices/default/kubernetes", 330),
        ("/registry/priorityclasses/system-cluster-critical", 390),
        ("/registry/priorityclasses/system-node-critical", 390),
        ("/registry/prioritylevelconfigurations/system", 636),
        ("/registry/apiregistration.k8s.io/apiservices/v1.", 816),
        ("/registry/apiregistration.k8s.io/apiservices/v1.apps", 849),
        ("/registry/clusterroles/admin", 5200),
        ("/registry/clusterroles/edit", 4100),
        ("/registry/clusterroles/view", 3300),
        ("/registry/clusterrolebindings/cluster-admin", 480),
        ("/registry/configmaps/kube-system/extension-apiserver-authentication", 1848),
        ("/registry/configmaps/kube-system/kube-root-ca.crt", 970),
    ];
    for (at, (key, bytes)) in KEYS.into_iter().enumerate() {
        if !datastore.is_live(key)? {
            datastore.put(key, Some(&filler(at, bytes)), 0)?;
        }
    }
    Ok(())
}

/// What the kubelet and a controller note once after a start: that the node is there in this boot; that the one workload has yet
/// to come up, and then that it has.
fn notes(machine: &Machine<'_>, has_workload: bool) -> Vec<(Duration, String, Vec<u8>)> {
    let node = objects::node(machine.boot, &filler(0, 5800));
    let mut notes = vec![
        (Duration::from_secs(2), format!("{NODES}{}", machine.node), node),
        (Duration::from_secs(3), WORKLOAD.to_owned(), objects::deployment(Rollout::first(0))),
    ];
    if has_workload {
        notes.push((UP, WORKLOAD.to_owned(), objects::deployment(Rollout::first(1))));
    }
    notes
}

/// A built-in's value: k3s's prefix, then bytes that differ from write to write.
fn filler(turn: usize, bytes: usize) -> Vec<u8> {
    let mut value = b"k8s\0".to_vec();
    let mut block = turn as u64;
    while value.len() < bytes {
        value.extend_from_slice(sha256_hex(&block.to_le_bytes()).as_bytes());
        block = block.wrapping_add(1 << 32);
    }
    value.truncate(bytes);
    value
}

/// How a run is otherwise than it should be.
#[derive(Default)]
pub struct Otherwise {
    /// It ends after so long.
    pub at_most: Option<Duration>,
    /// Every write fails with the words of a full disk.
    pub disk_is_full: bool,
    /// The workload never comes up.
    pub no_workload: bool,
}

/// Writes until a stop is asked for.
pub fn run(datastore: &Datastore, settings: &Settings, machine: &Machine<'_>, stop: &Stop, otherwise: &Otherwise) {
    let Otherwise { at_most, disk_is_full, no_workload } = *otherwise;
    let mut notes = if settings.is_on("disable-agent") { Vec::new() } else { notes(machine, !no_workload) };
    let mut turns: Vec<(Duration, Writer)> =
        writers(settings, machine).into_iter().map(|writer| (Duration::ZERO, writer)).collect();
    let (mut now, mut compaction, mut deploys) = (Duration::ZERO, COMPACTION, Duration::ZERO);
    for turn in 0_usize.. {
        let mut next = compaction.min(at_most.unwrap_or(Duration::MAX));
        for (_, key, value) in notes.extract_if(.., |(due, ..)| *due <= now).collect::<Vec<_>>() {
            // The kubelet changes what is its own in a node, and everybody else writes a whole object.
            let keep = |old: &[u8]| objects::keep_conditions(old, &value).ok();
            let written = datastore.change(&key, |old| {
                let kept = old.filter(|_| key.starts_with(NODES)).and_then(keep);
                Some(kept.unwrap_or_else(|| value.clone()))
            });
            if let Err(error) = written {
                log::error!("error in txn request_put:<key:\"{key}\">: {error}");
            }
            if key.starts_with(NODES) {
                notes.push((now + NODE_EACH, key, value));
            }
        }
        next = notes.iter().map(|(due, ..)| *due).fold(next, Duration::min);
        if let Some(deployer) = machine.deployer {
            if deploys <= now {
                deploys = now + DEPLOY;
                if let Err(error) = deployer.look(datastore) {
                    log::error!("Failed to process config: {error}");
                }
            }
            next = next.min(deploys);
        }
        for (due, writer) in &mut turns {
            if *due <= now {
                let value = filler(turn, writer.bytes);
                let written = if disk_is_full {
                    Err("database or disk is full".to_owned())
                } else {
                    datastore.put(&writer.key, Some(&value), writer.lease).map_err(|error| error.to_string())
                };
                if let Err(error) = written {
                    log::error!("error in txn request_put:<key:\"{}\">: {error}", writer.key);
                }
                *due = now + writer.every;
            }
            next = next.min(*due);
        }
        if stop.wait(next.saturating_sub(now)) || at_most.is_some_and(|end| next >= end) {
            return;
        }
        now = next;
        if now >= compaction {
            compaction = now + COMPACTION;
            match datastore.compact() {
                Ok(rows) => log::info!("COMPACT deleted {rows} rows"),
                Err(error) => log::error!("Compact failed: {error}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Role;
    use crate::paths::{Root, write};
    use std::net::Ipv4Addr;

    /// Rows a minute with these arguments.
    fn rate(arguments: &[&str], drop_ins: &Path) -> f64 {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let root = Root::new(Some(drop_ins.to_owned()));
        let settings = Settings::load(Role::Server, &arguments, |_| None, &root).unwrap();
        let machine = Machine {
            node: "n",
            address: Ipv4Addr::LOCALHOST.into(),
            kubelet_drop_ins: drop_ins,
            boot: "b",
            deployer: None,
        };
        let node = if settings.is_on("disable-agent") { 0.0 } else { 60.0 / NODE_EACH.as_secs_f64() };
        let all = writers(&settings, &machine).iter().map(|writer| 60.0 / writer.every.as_secs_f64()).sum::<f64>();
        all + node
    }

    #[test]
    fn rates_are_those_measured() {
        let folder = tempfile::tempdir().unwrap();
        let alone = "--disable-agent";
        let reconciler = "--kube-apiserver-arg=endpoint-reconciler-type=master-count";
        let gates =
            "--kube-apiserver-arg=feature-gates=APIServerIdentity=false,UnknownVersionInteroperabilityProxy=false";
        let proxy = "--kube-apiserver-arg=feature-gates=UnknownVersionInteroperabilityProxy=false";
        for (arguments, measured) in [
            (vec![alone], 18.0),
            (vec![alone, reconciler], 12.1),
            (vec![alone, gates], 6.2),
            (vec![alone, proxy], 12.1),
            (vec![alone, gates, reconciler], 0.2),
            (vec![], 24.0),
        ] {
            let ours = rate(&arguments, folder.path());
            assert!((ours - measured).abs() <= 0.5, "{arguments:?}: {ours} for {measured}");
        }
        write(&folder.path().join("50.conf"), b"kind: KubeletConfiguration\nnodeLeaseDurationSeconds: 160\n", 0o600)
            .unwrap();
        let quiet = rate(&[gates, reconciler], folder.path());
        assert!((quiet - 2.0).abs() <= 0.2, "{quiet}");
    }

    #[test]
    fn one_gate_alone_stops_the_api_server() {
        let load = |argument: &str| {
            Settings::load(Role::Server, &[argument.to_owned()], |_| None, &Root::new(Some("/nowhere".into()))).unwrap()
        };
        assert!(api_server_fault(&load("--kube-apiserver-arg=feature-gates=APIServerIdentity=false")).is_some());
        assert!(api_server_fault(&load("--disable-agent")).is_none());
    }
}
