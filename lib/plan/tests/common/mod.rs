//! The settings of a machine for tests: an appliance's changes on top of the defaults, and a manifest.

use bakelite_plan::Settings;
use bakelite_spec::appliance::Appliance;
use bakelite_spec::board::Board;
use bakelite_spec::keys::{APPLIANCE, BOARD, defaults};
use bakelite_spec::manifest::{Manifest, PayloadFile, PayloadManifest};
use serde_json::{Value, json};

const IMAGES: &str = "/usr/lib/bakelite/payload/k3s-airgap-images-amd64.tar.zst";

pub fn settings(changes: &Value) -> Settings {
    let lay = |table, changes: &Value| {
        let layer = bakelite_spec::layers::Layer::Appliance;
        bakelite_spec::layers::Effective { values: defaults(table), ..Default::default() }.with(layer, changes).values
    };
    let board = json!({ "description": "x", "arch": "x86_64", "kernel": { "package": "linux" } });
    let file =
        |path: &str, images| PayloadFile { path: path.into(), size: 1, sha256: "0123456789abcdef".into(), images };
    let payload = PayloadManifest {
        kind: bakelite_spec::appliance::Payload::Official,
        version: "v1.36.2+k3s1".into(),
        program: "/usr/lib/bakelite/payload/k3s".into(),
        files: vec![file("/usr/lib/bakelite/payload/k3s", false), file(IMAGES, true)],
    };
    let board = Board::from_values(&lay(BOARD, &board)).unwrap();
    // An image that was baked: what was done for it is noted by its name.
    let manifest = Manifest { image: "0".into(), ..Manifest::unbaked("qemu-x86_64", board, payload) };
    let mut values = lay(APPLIANCE, changes);
    if changes.get("storage").is_none() {
        values["storage"]["settle"] = 0.into();
    }
    values["board"] = "qemu-x86_64".into();
    Settings { appliance: Appliance::from_values(&values).unwrap(), manifest, local: bakelite_plan::Local::default() }
}
