//! Machines in files, and what is decided about each, word for word. With BAKELITE_BLESS set the plans are written anew.

#![expect(clippy::unwrap_used, reason = "a test")]

mod common;

use bakelite_plan::facts::Facts;
use bakelite_plan::forecast;
use serde::Deserialize;
use serde_json::Value;
use std::fs::File;
use std::io::Write;
use std::path::Path;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Machine {
    /// What it shows, for a person.
    #[serde(rename = "shows")]
    _shows: String,
    appliance: Value,
    facts: Facts,
}

#[test]
fn each_machine_has_its_plan() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machines");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    assert!(files.len() >= 40, "only {} machines", files.len());
    let mut differing = Vec::new();
    for path in &files {
        let text = std::fs::read_to_string(path).unwrap();
        // By way of JSON: there an enum is a mapping with one key, which is what people write.
        let tree: Value = serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let machine: Machine =
            serde_json::from_value(tree).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        // The default is 15 s; without a word of the machine's own it is what most of them are about.
        let mut appliance = machine.appliance;
        if appliance.get("storage").is_none() {
            appliance["storage"] = serde_json::json!({});
        }
        let plan = forecast::text(&machine.facts, &common::settings(&appliance));
        let golden = path.with_extension("plan");
        if std::env::var_os("BAKELITE_BLESS").is_some() {
            File::create(&golden).unwrap().write_all(plan.as_bytes()).unwrap();
        }
        let wanted = std::fs::read_to_string(&golden).unwrap_or_default();
        if plan != wanted {
            differing.push(format!("{}:\n{plan}instead of\n{wanted}", path.display()));
        }
    }
    assert!(differing.is_empty(), "{}\nIf that is meant: BAKELITE_BLESS=1", differing.join("\n"));
}
