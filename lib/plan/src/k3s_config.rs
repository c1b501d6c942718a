//! k3s's config.yaml: a few keys of ours, then the user's, which win.
//!
//! Each value is written as JSON, which is YAML, so texts are always quoted: unquoted, `0644` would be a number in
//! octal (k3s.md 11.5). The token stands in a file of its own and never in here.

use crate::Settings;
use crate::action::Action;
use crate::address::{DUMMY, node_address};
use crate::facts::Facts;
use crate::identity::{self, TOKEN};
use crate::step::{Decision, publish};
use bakelite_spec::appliance::Payload as Kind;
use serde_json::{Map, Value, json};

/// The file.
pub const CONFIG: &str = "/etc/rancher/k3s/config.yaml";
/// Tells init that the payload reads something new, and has to be started again if it runs.
pub const CHANGED: &str = "/run/bakelite/payload-changed";

/// Decides about the configuration.
pub fn decide(facts: &Facts, settings: &Settings) -> Decision {
    if settings.manifest.payload.kind == Kind::None {
        return Decision::Skip("this image has no payload".into());
    }
    let node = identity::node_name(facts, settings);
    let text = render(&config(facts, settings, &node));
    let keys = text.lines().count() - 1;
    let mut actions: Vec<Action> = publish(facts, CONFIG, text, 0o600).into_iter().collect();
    if !actions.is_empty() {
        // Said first: a cut between the two costs a restart, the other order would lose the change.
        actions.insert(0, Action::Tell { path: CHANGED.into(), text: "config.yaml\n".into(), mode: 0o644 });
    }
    let address = node_address(facts);
    let what = format!("{keys} keys for {node} at {address}");
    Decision::of(actions, format!("config.yaml has {what}"), format!("config.yaml gets {what}"))
}

fn config(facts: &Facts, settings: &Settings, node: &str) -> Map<String, Value> {
    let address = node_address(facts);
    let mut names = vec![node.to_string(), format!("{node}.local")];
    if address != DUMMY {
        names.push(address.to_string());
    }
    let ours = json!({
        "node-ip": address.to_string(),
        "node-name": node,
        "prefer-bundled-bin": true,
        "tls-san": names,
        "token-file": TOKEN,
        "write-kubeconfig-mode": "0600",
    });
    let mut config = ours.as_object().cloned().unwrap_or_default();
    config.extend(settings.appliance.k3s.config.clone());
    config
}

fn render(config: &Map<String, Value>) -> String {
    let lines = config.iter().map(|(key, value)| format!("{key}: {value}\n"));
    std::iter::once(
        "# Written by bakelite before each start of k3s; set keys by `k3s.config` in the appliance.\n".to_string(),
    )
    .chain(lines)
    .collect()
}
