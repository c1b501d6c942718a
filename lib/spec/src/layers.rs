//! Layers: who set which key. Later layers win key by key; lists are replaced whole.
//!
//! The order is fixed (DESIGN.md, Layers): defaults < board < appliance < seed < overlay < applied < command line.

use crate::check::value_at;
use crate::finding::Finding;
use crate::secret::SecretRef;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Who can set a key, from the weakest to the strongest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// The defaults in the table of keys.
    Defaults,
    /// The board's `defaults`.
    Board,
    /// The appliance's YAML.
    Appliance,
    /// `seed.yaml` on the boot partition, by the flasher.
    Seed,
    /// `bakelite.yaml` on the boot partition, by a person.
    Overlay,
    /// Settings applied on the device.
    Applied,
    /// `bakelite.*` on the kernel command line, by a person.
    CommandLine,
}

impl Layer {
    /// The layer in a person's words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Defaults => "default",
            Self::Board => "board",
            Self::Appliance => "appliance",
            Self::Seed => "seed.yaml on the boot partition",
            Self::Overlay => "bakelite.yaml on the boot partition",
            Self::Applied => "bakelite config",
            Self::CommandLine => "kernel command line",
        }
    }
}

/// Keys that nobody sets at the machine, sections with all below them: they decide who may, or what is in the image.
const FIXED: &[&str] = &[
    "backup.encryption",
    "backup.pull",
    "board",
    "charts",
    "console",
    "debug",
    "files",
    "image",
    "images",
    "k3s.airgap",
    "k3s.files",
    "k3s.payload",
    "k3s.version",
    "manifests",
    "mirror",
    "modules",
    "owner",
    "packages",
    "registries",
    "repositories",
    "ssh",
    "trust",
    "units",
    "wifi",
    "without",
];

/// Of those, what the flasher may set for one machine.
const BY_SEED: &[&str] = &["backup.pull", "ssh"];

/// What a layer that was written for one machine sets and must not, short forms expanded.
pub fn fixed(layer: Layer, values: &Value) -> Vec<Finding> {
    let may = |key: &&&str| layer == Layer::Seed && BY_SEED.contains(*key);
    let set = FIXED.iter().filter(|key| !may(key) && value_at(values, key).is_some());
    let mut found: Vec<Finding> = set
        .map(|key| Finding::error(*key, "can't be set at the machine", "the appliance's YAML, and baking again"))
        .collect();
    let config = value_at(values, "k3s.config").and_then(Value::as_object);
    let secrets = config.into_iter().flatten().filter(|(_, value)| SecretRef::of(value).is_some());
    found.extend(secrets.map(|(key, _)| {
        let problem = "is a secret, and its file is made by the workshop";
        Finding::error(format!("k3s.config.{key}"), problem, "the appliance's YAML, and baking again")
    }));
    found
}

/// The merged tree with the layer that set each of its leaves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Effective {
    /// The merged values.
    pub values: Value,
    /// For each leaf by its dotted key: who set it.
    pub set_by: BTreeMap<String, Layer>,
}

impl Effective {
    /// Lays one more layer on top.
    #[must_use]
    pub fn with(mut self, layer: Layer, values: &Value) -> Self {
        if !self.values.is_object() {
            self.values = Value::Object(Map::new());
        }
        lay(&mut self.values, values, layer, "", &mut self.set_by);
        self
    }
}

fn lay(under: &mut Value, over: &Value, layer: Layer, prefix: &str, set_by: &mut BTreeMap<String, Layer>) {
    let (Value::Object(under), Value::Object(over)) = (under, over) else { return };
    for (name, value) in over {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match (under.get_mut(name), value) {
            (Some(section @ Value::Object(_)), Value::Object(_)) => lay(section, value, layer, &key, set_by),
            (None, Value::Object(_)) => {
                let mut section = Value::Object(Map::new());
                lay(&mut section, value, layer, &key, set_by);
                under.insert(name.clone(), section);
            }
            _ => {
                under.insert(name.clone(), value.clone());
                set_by.insert(key, layer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_stronger_layer_wins_key_by_key_and_is_remembered() {
        let effective = Effective::default()
            .with(Layer::Defaults, &json!({"k3s": {"payload": "official", "version": "v1"}, "debug": false}))
            .with(Layer::Appliance, &json!({"k3s": {"version": "v2"}, "ssh": {"keys": ["a", "b"]}}));
        assert_eq!(effective.values["k3s"], json!({"payload": "official", "version": "v2"}));
        assert_eq!(effective.set_by["k3s.version"], Layer::Appliance);
        assert_eq!(effective.set_by["k3s.payload"], Layer::Defaults);
        assert_eq!(effective.set_by["ssh.keys"], Layer::Appliance);
    }

    #[test]
    fn who_may_and_what_is_in_the_image_is_not_set_at_the_machine() {
        let values =
            json!({"ssh": {"keys": []}, "k3s": {"version": "v1", "tier": "1G", "config": {"x": {"secret": "y"}}}});
        let keys: Vec<String> = fixed(Layer::Overlay, &values).into_iter().map(|finding| finding.key).collect();
        assert_eq!(keys, ["k3s.version", "ssh", "k3s.config.x"]);
        assert_eq!(fixed(Layer::Seed, &json!({"ssh": {"keys": []}})), []);
        assert_eq!(fixed(Layer::Overlay, &json!({"firewall": {"ssh": []}, "network": {}})), []);
        for key in FIXED {
            assert!(crate::check::is_known(crate::keys::APPLIANCE, key), "{key}");
        }
    }
}
