//! Settings for tests: an appliance's changes on top of the defaults, and a manifest with k3s.

use crate::Settings;
use bakelite_spec::appliance::{Appliance, Payload};
use bakelite_spec::board::Board;
use bakelite_spec::check::expand;
use bakelite_spec::keys::{APPLIANCE, BOARD, defaults};
use bakelite_spec::layers::{Effective, Layer};
use bakelite_spec::manifest::{Manifest, PayloadManifest};
use serde_json::{Value, json};

/// A machine called `shop-1`, short forms allowed.
pub fn settings(changes: &Value) -> Settings {
    let lay = |table, changes: &Value| {
        Effective { values: defaults(table), ..Effective::default() }.with(Layer::Appliance, changes)
    };
    let board = json!({ "description": "x", "arch": "x86_64", "kernel": { "package": "linux" } });
    let payload = PayloadManifest {
        kind: Payload::Official,
        version: "v1.36.2+k3s1".into(),
        program: "/usr/lib/bakelite/payload/k3s".into(),
        files: Vec::new(),
    };
    let board = Board::from_values(&lay(BOARD, &board).values).unwrap();
    let manifest = Manifest::unbaked("qemu-x86_64", board, payload);
    let named = json!({ "board": { "name": "qemu-x86_64" }, "hostname": "shop-1" });
    let mut changes = changes.clone();
    expand(&mut changes);
    let values = lay(APPLIANCE, &named).with(Layer::Appliance, &changes).values;
    Settings { appliance: Appliance::from_values(&values).unwrap(), manifest, local: crate::Local::default() }
}
