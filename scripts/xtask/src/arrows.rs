//! Which of our crates may depend on which: DESIGN's arrows as a table. Everything else is a finding.

use crate::door;
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::Path;

const DEVICE_LIBRARIES: &[&str] = &["spec", "plan", "disk", "sys", "trust", "datastore"];

/// What a crate may depend on. Names are those of the packages without `bakelite-`; `bakelite` is the command.
const ALLOWED: &[(&str, &[&str])] = &[
    ("spec", &[]),
    ("plan", &["spec"]),
    ("disk", &["spec"]),
    ("sys", &["spec"]),
    ("trust", &["spec"]),
    // DESIGN gives vm only spec. It reads the image's partition table, and a second reader of that would be worse.
    ("vm", &["spec", "disk"]),
    ("datastore", &["spec", "sys", "trust"]),
    ("init", &["spec", "disk", "sys", "trust"]),
    ("keeper", DEVICE_LIBRARIES),
    // Its program is firstboot's: a second one would have the same libraries once more.
    ("recovery", DEVICE_LIBRARIES),
    // One program on the device, so that what both need is there once.
    ("firstboot", &["spec", "plan", "disk", "sys", "trust", "datastore", "keeper", "recovery"]),
    ("image", &["spec", "disk", "trust"]),
    ("flash", &["spec", "disk", "trust", "image"]),
    ("bakelite", &["spec", "plan", "image", "flash", "vm"]),
    // A proof against our own code would prove nothing.
    ("rehearsal-k3s", &[]),
    // Not in the house: it checks it.
    ("xtask", &["spec", "plan", "disk", "trust", "datastore", "vm"]),
];

/// Findings in the workspace.
pub fn findings(root: &Path) -> Result<Vec<String>> {
    let text = door::run("cargo", &["metadata", "--no-deps", "--offline", "--format-version", "1"], root)?;
    Ok(look(&serde_json::from_str(&text).context("reading cargo's metadata")?))
}

fn look(metadata: &Value) -> Vec<String> {
    let packages = || metadata["packages"].as_array().into_iter().flatten();
    let name_of = |package: &Value| package["name"].as_str().unwrap_or_default().to_string();
    let names: Vec<String> = packages().map(&name_of).collect();
    let mut findings = Vec::new();
    for package in packages() {
        let name = name_of(package);
        let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == short(&name)) else {
            findings.push(format!("{name} is not in the table of arrows (scripts/xtask/src/arrows.rs)"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let target = name_of(dependency);
            if names.contains(&target) && target != name && !allowed.contains(&short(&target)) {
                findings.push(format!("{name} depends on {target}: there is no such arrow"));
            }
        }
    }
    findings
}

fn short(name: &str) -> &str {
    name.strip_prefix("bakelite-").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn package(name: &str, dependencies: &[&str]) -> Value {
        let dependencies: Vec<Value> = dependencies.iter().map(|name| json!({"name": name})).collect();
        json!({"name": name, "dependencies": dependencies})
    }

    #[test]
    fn only_arrows_of_the_table_pass() {
        let good = json!({"packages": [
            package("bakelite-spec", &["serde"]),
            package("bakelite-init", &["bakelite-spec", "log"]),
            package("bakelite", &["bakelite-spec"]),
        ]});
        assert_eq!(look(&good), Vec::<String>::new());
        let bad = json!({"packages": [
            package("bakelite-spec", &[]),
            package("bakelite-init", &[]),
            package("bakelite", &["bakelite-init"]),
            package("rehearsal-k3s", &["bakelite-spec"]),
            package("bakelite-cellar", &[]),
        ]});
        let findings = look(&bad);
        assert_eq!(findings.len(), 3, "{findings:?}");
        assert_eq!(findings[0], "bakelite depends on bakelite-init: there is no such arrow");
    }

    #[test]
    fn the_table_has_no_cycle() {
        for (place, (name, allowed)) in ALLOWED.iter().enumerate() {
            for target in *allowed {
                let of_target = ALLOWED.iter().position(|(known, _)| known == target);
                assert!(of_target.is_some_and(|of_target| of_target < place), "{name} -> {target}");
            }
        }
    }
}
