//! k3s's configuration, rendered anew before each start: config.yaml, a kubelet drop-in, an audit policy, and the
//! environment that k3s is started with.
//!
//! What is tuned comes from the machine's memory ([`tier`]) and from how many servers the cluster has ([`quiet`]); the
//! user's own keys win ([`arguments`]). The token stands in a file of its own and never in here; a value that is a
//! secret comes by a drop-in which the `files` step fills in.

mod arguments;
mod keys;
pub mod quiet;
pub mod tier;

use crate::Settings;
use crate::action::Action;
use crate::address::node_address;
use crate::facts::Facts;
use crate::identity;
use crate::step::{Decision, publish, tell};
use bakelite_spec::appliance::Payload as Kind;
use bakelite_spec::status::paths;
use serde_json::{Map, Value};

/// The configuration.
pub const CONFIG: &str = "/etc/rancher/k3s/config.yaml";
/// The kubelet's part that has no flags (k3s.md 5.3: files of this folder in lexical order, k3s's own first).
pub const KUBELET: &str = "/var/lib/rancher/k3s/agent/etc/kubelet.conf.d/50-bakelite.conf";
/// containerd's part (k3s.md 5.7).
pub const CONTAINERD: &str = "/var/lib/rancher/k3s/agent/etc/containerd/config-v3.toml.d/50-bakelite.toml";
/// What the API server writes into its audit log.
pub const AUDIT_POLICY: &str = "/etc/rancher/k3s/audit-policy.yaml";
/// Tells init that the payload reads something new, and has to be started again if it runs.
pub const CHANGED: &str = "/run/bakelite/payload-changed";

/// Who changed what, without the contents: a log that a card can bear (k3s.md 5.8).
const AUDIT_RULES: &str = "\
# Written by bakelite: who changed what, without the contents.
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  users: [\"system:apiserver\", \"system:kube-scheduler\", \"system:kube-controller-manager\"]
- level: None
  resources: [{group: coordination.k8s.io, resources: [leases]}, {group: \"\", resources: [events]}]
- level: None
  verbs: [get, list, watch]
- level: Metadata
";

/// Layers are on the medium before containerd says that they are (containerd #10284; k3s.md 3.6): without it a pulled
/// plug leaves images full of empty files, and pulling them again doesn't mend it.
const SYNC_LAYERS: &str = "\
# Written by bakelite: unpacked layers are written out before they count.
version = 3
[plugins.'io.containerd.service.v1.diff-service']
  sync_fs = true
";

/// Decides about the configuration.
pub fn decide(facts: &Facts, settings: &Settings) -> Decision {
    if settings.manifest.payload.kind == Kind::None {
        return Decision::Skip("this image has no payload".into());
    }
    let k3s = &settings.appliance.k3s;
    let node = identity::node_name(facts, settings);
    let tuning = Tuning::of(facts, settings);
    let config = keys::config(facts, settings, &node, &tuning);
    let count = config.len();
    let audited = k3s.hardened && k3s.role == bakelite_spec::appliance::K3sRole::Server;
    let read_at_start: Vec<Action> = [
        publish(facts, KUBELET, keys::kubelet(settings, &tuning), 0o600),
        publish(facts, CONTAINERD, SYNC_LAYERS.into(), 0o600),
        audited.then(|| publish(facts, AUDIT_POLICY, AUDIT_RULES.into(), 0o600)).flatten(),
        publish(facts, CONFIG, render(&config), 0o600),
    ]
    .into_iter()
    .flatten()
    .collect();
    let environment = tell(facts, paths::PAYLOAD_ENVIRONMENT, environment(&tuning), 0o600);
    // At power-on the environment is always new, and nothing runs yet that would have another.
    let replaced = environment.is_some() && facts.has(paths::PAYLOAD_ENVIRONMENT);
    // Said first: a cut between the two costs a restart, the other order would lose the change.
    let changed = (!read_at_start.is_empty() || replaced).then(|| Action::Tell {
        path: CHANGED.into(),
        text: "config.yaml\n".into(),
        mode: 0o644,
    });
    let remembered = tier::remember(facts, tuning.components);
    let refused = quiet::remember(facts, settings);
    let actions =
        [changed, remembered, refused].into_iter().flatten().chain(read_at_start).chain(environment).collect();
    let what = format!("{count} keys for {node} at {}, {}", node_address(facts), tuning.words());
    Decision::of(actions, format!("config.yaml has {what}"), format!("config.yaml gets {what}"))
}

/// What is chosen for this machine.
struct Tuning {
    /// For the memory there is.
    tier: tier::Profile,
    /// The tier whose components run: that of the first start, as a component that goes takes its objects along.
    components: bakelite_spec::appliance::Tier,
    quiet: quiet::Quiet,
    slow_medium: bool,
}

impl Tuning {
    fn of(facts: &Facts, settings: &Settings) -> Self {
        let tier = tier::of(facts, settings);
        Self {
            tier: tier::profile(tier),
            components: tier::first(facts).unwrap_or(tier),
            quiet: quiet::of(facts, settings),
            slow_medium: facts.slow_medium,
        }
    }

    fn words(&self) -> String {
        format!("tuned for {}, {}", self.tier.words, self.quiet.words())
    }
}

fn environment(tuning: &Tuning) -> String {
    let mut lines = tuning.tier.environment.to_string();
    if tuning.slow_medium {
        // A slow card needs longer than 5 s for one round of compaction, and would never catch up (k3s.md 4.3).
        lines += "KINE_COMPACT_TIMEOUT=60s\n";
    }
    lines
}

/// Each value is written as JSON, which is YAML, so texts are always quoted: unquoted, `0644` would be a number in octal
/// (k3s.md 11.5).
fn render(config: &Map<String, Value>) -> String {
    let lines = config.iter().map(|(key, value)| format!("{key}: {value}\n"));
    std::iter::once(
        "# Written by bakelite before each start of k3s; set keys by `k3s.config` in the appliance.\n".to_string(),
    )
    .chain(lines)
    .collect()
}

#[cfg(test)]
mod tests;
