//! A machine's root with baked settings, for tests.

use bakelite_spec::board::Board;
use bakelite_spec::keys::{APPLIANCE, BOARD, defaults};
use bakelite_spec::layers::{Effective, Layer};
use bakelite_spec::manifest::{Manifest, PayloadManifest};
use bakelite_spec::status::paths;
use bakelite_spec::yaml::Document;
use bakelite_sys::durable;
use serde_json::json;
use std::path::Path;

pub fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path.trim_start_matches('/'));
    durable::make_folder(path.parent().unwrap()).unwrap();
    durable::replace(&path, text.as_bytes(), 0o600).unwrap();
}

/// A machine without a firewall, as its image has no nft.
pub fn machine(appliance: &str) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let board = json!({ "description": "x", "arch": "x86_64", "kernel": { "package": "linux" } });
    let base = |table| Effective::default().with(Layer::Defaults, &defaults(table));
    let board = base(BOARD).with(Layer::Board, &board).values;
    let appliance = format!("board: qemu-x86_64\nfirewall: open\n{appliance}");
    let document = Document::read("a.yaml", &appliance, APPLIANCE).unwrap();
    let effective = base(APPLIANCE).with(Layer::Appliance, &document.value);
    let payload = PayloadManifest {
        kind: bakelite_spec::appliance::Payload::Rehearsal,
        version: String::new(),
        program: String::new(),
        files: Vec::new(),
    };
    let manifest = Manifest::unbaked("qemu-x86_64", Board::from_values(&board).unwrap(), payload);
    let baked = |name: &str| format!("{}/{name}", paths::BAKED);
    write(root.path(), &baked("manifest.json"), &serde_json::to_string(&manifest).unwrap());
    write(root.path(), &baked("appliance.json"), &serde_json::to_string(&effective).unwrap());
    root
}
