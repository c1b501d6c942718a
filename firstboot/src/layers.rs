//! The settings of this machine: what was baked, and on top of it what a person wrote onto the kernel command line.
//!
//! A key that isn't known or has a bad value is left out with a word in the log: the baked value stands.

use crate::error::FirstbootError;
use bakelite_plan::Settings;
use bakelite_spec::appliance::Appliance;
use bakelite_spec::check::{check, expand, is_known};
use bakelite_spec::cmdline::Cmdline;
use bakelite_spec::keys::APPLIANCE;
use bakelite_spec::layers::{Effective, Layer};
use bakelite_spec::manifest::Manifest;
use bakelite_spec::status::paths;
use bakelite_sys::read_text;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::path::Path;

/// Keys that nobody sets at the machine: they decide who may.
const FIXED: &[&str] = &[
    "board",
    "charts",
    "debug",
    "files",
    "image",
    "images",
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
    "without",
];

/// Reads and merges.
///
/// # Errors
/// When the baked settings can't be read.
pub fn settings(root: &Path) -> Result<Settings, FirstbootError> {
    let baked = |name: &str| root.join(paths::BAKED.trim_start_matches('/')).join(name);
    let manifest: Manifest = read(&baked("manifest.json"))?;
    let effective: Effective = read(&baked("appliance.json"))?;
    let cmdline = Cmdline::parse(&read_text(root.join("proc/cmdline")).unwrap_or_default());
    let with_words = effective.clone().with(Layer::CommandLine, &from_cmdline(&cmdline, &effective.values));
    let appliance = Appliance::from_values(&with_words.values)
        .or_else(|error| {
            log::warn!("the kernel command line's settings don't fit: {error}");
            Appliance::from_values(&effective.values)
        })
        .map_err(|source| FirstbootError::ReadBaked { path: baked("appliance.json").display().to_string(), source })?;
    Ok(Settings { appliance, manifest })
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, FirstbootError> {
    let text = read_text(path)?;
    serde_json::from_str(&text).map_err(|source| FirstbootError::ReadBaked { path: path.display().to_string(), source })
}

/// `bakelite.network.wait=5` as a tree; only keys that are known, allowed and well-formed.
fn from_cmdline(cmdline: &Cmdline, baked: &Value) -> Value {
    let mut tree = json!({});
    for (key, text) in cmdline.with_prefix("bakelite.") {
        let top = key.split('.').next().unwrap_or(key);
        if key == "slot" || FIXED.contains(&top) || !is_known(APPLIANCE, key) {
            continue;
        }
        let value = serde_yaml::from_str(text).unwrap_or_else(|_| Value::String(text.into()));
        let mut one = key.rsplit('.').fold(value, |inner, name| json!({ name: inner }));
        expand(&mut one);
        one["board"] = baked["board"].clone();
        match check(&one, APPLIANCE).first() {
            Some(located) => log::warn!("kernel command line: {}", located.finding),
            None => tree = Effective { values: tree, ..Effective::default() }.with(Layer::CommandLine, &one).values,
        }
    }
    tree
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_at_the_boot_menu_sets_what_is_allowed_and_well_formed() {
        let line = "bakelite.slot=a bakelite.network.wait=5 bakelite.debug=true bakelite.k3s=rehearsal bakelite.nope=1 \
                    bakelite.memory.zram=maybe quiet";
        let tree = from_cmdline(&Cmdline::parse(line), &json!({ "board": { "name": "x" } }));
        assert_eq!(
            tree,
            json!({ "board": { "name": "x" }, "network": { "wait": 5 }, "k3s": { "payload": "rehearsal" } })
        );
    }
}
