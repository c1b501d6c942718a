//! The machines that the cuts begin with.

use crate::bench::{Bench, CARD_DATABASE, DISK_DATABASE, Files, Medium};
use crate::common::settings;
use bakelite_plan::disk::Proof;
use bakelite_plan::identity::{DEVICE_KEY, PASSWORD, RECORD, TOKEN};
use bakelite_plan::restore::FoundSet;
use bakelite_plan::seal::SEAL;
use bakelite_plan::settings::HOST_KEY;
use serde_json::json;

pub const IDENTITY: &str = r#"{"format":1,"node":"shop-1"}"#;

/// An appliance without a firewall: its rules touch no medium, and making them thousands of times takes half a minute.
pub fn unfenced() -> bakelite_plan::Settings {
    settings(&json!({ "firewall": { "input": "open" } }))
}

pub fn fresh_card_blank_disk() -> Bench {
    let media = vec![Medium::new("a", Proof::Blank), Medium::new("b", Proof::Holds("NTFS".into()))];
    Bench::new(unfenced(), Files::default(), media)
}

pub fn identity() -> [(&'static str, &'static str); 5] {
    [(TOKEN, "t"), (PASSWORD, "p"), (DEVICE_KEY, "d"), (HOST_KEY, "k"), (RECORD, IDENTITY)]
}

/// A cluster that ran on the card until the disk was plugged in.
pub fn used_card_blank_disk() -> Bench {
    let born = r#"{"format":1,"epoch":0,"node":"shop-1","datastore":"sqlite","row":"row","revision":400,"k3s":"v1.36.2+k3s1"}"#;
    let mut files = identity().to_vec();
    files.push((bakelite_plan::cluster::ON_STATE, born));
    files.extend([(CARD_DATABASE, "412"), ("/state/rancher/volume", "mine"), ("/state/opt/tool", "tool")]);
    Bench::new(unfenced(), Files::with(&files), vec![Medium::new("a", Proof::Blank)])
}

/// The disk of a node whose card was lost.
pub fn fresh_card_old_disk() -> Bench {
    let seal = format!("3|t|p|d|k|{IDENTITY}");
    let born = r#"{"format":1,"epoch":1,"node":"shop-1","datastore":"sqlite","row":"row","revision":400,"k3s":"v1.36.2+k3s1"}"#;
    let home = r#"{"format":1,"node":"shop-1","epoch":1}"#;
    let files = Files::with(&[
        (SEAL, &seal),
        (bakelite_plan::home::DISK_HOME, home),
        (bakelite_plan::cluster::ON_DISK, born),
        (DISK_DATABASE, "412"),
    ]);
    Bench::new(unfenced(), Files::default(), vec![Medium::data("a", "old", files)])
}

/// A set of shop-1's.
pub fn set(source: serde_json::Value, trust: serde_json::Value, revision: u64) -> FoundSet {
    let manifest = json!({
        "format": 1, "made": 0, "version": "0", "node": "shop-1", "epoch": 0, "k3s": "v1.36.2+k3s1", "datastore": "sqlite",
        "keys": {}, "revision": revision, "compacted": 0, "live": {}, "row": "row",
        "volumes": { "holds": [], "lacks": [] }, "members": []
    });
    let file = "00000001-20261121T165500Z.tar.zst.age";
    let set = json!({ "source": source, "node": "shop-1", "file": file, "trust": trust, "manifest": manifest });
    serde_json::from_value(set).unwrap()
}

/// A fresh card, and a stick with a set that an owner has granted.
pub fn fresh_card_stick(media: Vec<Medium>) -> Bench {
    let settings = settings(&json!({ "firewall": { "input": "open" }, "hostname": "shop-{serial}" }));
    let granted = set(json!({ "stick": "sda1" }), json!({ "granted": { "clock": true } }), 800);
    Bench { sticks: vec![granted], ..Bench::new(settings, Files::default(), media) }
}

/// A card whose data disk is lost, with a set of its own on it, and a blank disk.
pub fn used_card_lost_disk() -> Bench {
    let born = r#"{"format":1,"epoch":0,"node":"shop-1","datastore":"sqlite","row":"row","revision":900,"k3s":"v1.36.2+k3s1"}"#;
    let home = r#"{"format":1,"place":{"disk":{"guid":"old","words":"serial old"}},"epoch":0}"#;
    let mut files = identity().to_vec();
    files.extend([(bakelite_plan::cluster::ON_STATE, born), (bakelite_plan::home::HOME, home)]);
    let bench = Bench::new(unfenced(), Files::with(&files), vec![Medium::new("b", Proof::Blank)]);
    Bench { sticks: vec![set(json!("card"), json!("own"), 880)], ..bench }
}
