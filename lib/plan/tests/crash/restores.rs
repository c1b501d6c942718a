//! Backups that are put in place: from a stick, after a lost disk, by a word, and back again.

use crate::bench::{Bench, CARD_DATABASE, DISK_DATABASE, Files, Medium};
use crate::common::settings;
use crate::cuts::{cuts, uncut};
use crate::starts::{fresh_card_old_disk, fresh_card_stick, set, used_card_blank_disk, used_card_lost_disk};
use bakelite_plan::disk::Proof;
use bakelite_plan::identity::TOKEN;
use bakelite_plan::settings::HOST_KEY;
use serde_json::json;

#[test]
fn a_set_from_a_stick_is_restored_whatever_moment_the_plug_is_pulled() {
    for media in [Vec::new(), vec![Medium::new("a", Proof::Blank)]] {
        let start = fresh_card_stick(media);
        assert!(cuts("restore", &start, 50, 3) > 40);
        let mut whole = start;
        whole.run_to_end();
        let outcome = whole.outcome();
        assert!(
            outcome.contains("shop-1") && outcome.contains("the old one") && outcome.contains("intent false"),
            "{outcome}"
        );
        let born: serde_json::Value = serde_json::from_str(&whole.card.live[bakelite_plan::cluster::ON_STATE]).unwrap();
        assert_eq!((born["epoch"].as_u64(), born["node"].as_str()), (Some(1), Some("shop-1")), "{born}");
        assert!(whole.revision > 800, "k3s ran upon revision {}", whole.revision);
    }
}

#[test]
fn a_blank_disk_takes_a_lost_ones_place_whatever_moment_the_plug_is_pulled() {
    let start = used_card_lost_disk();
    assert!(cuts("lost disk", &start, 50, 3) > 40);
    let mut machine = start;
    machine.run_to_end();
    assert!(machine.outcome().contains("(true, false, 1)") && machine.revision > 880, "{}", machine.outcome());
    // The old disk comes back: the new one stays the home, and nobody writes to the old one.
    let home = r#"{"format":1,"node":"shop-1","epoch":0}"#;
    let files = Files::with(&[(bakelite_plan::home::DISK_HOME, home), (DISK_DATABASE, "950")]);
    machine.power_cut();
    machine.media.push(Medium::data("a", "old", files));
    machine.run_to_end();
    assert_eq!((machine.attached, machine.media[1].writes), (Some(0), 0));
}

/// A living cluster on the card or a disk, a stick with a set, and the word that names the cluster.
fn living_and_word(mut living: Bench, id: &str) -> Bench {
    living.settings = settings(&json!({
        "firewall": { "input": "open" }, "hostname": "shop-{serial}", "restore": { "set": "newest", "replaces": id }
    }));
    living.sticks = vec![set(json!({ "stick": "sda1" }), json!({ "granted": { "clock": true } }), 300)];
    living
}

#[test]
fn a_word_that_names_the_cluster_is_spent_once_whatever_moment_the_plug_is_pulled() {
    let on_card = Bench { media: Vec::new(), ..used_card_blank_disk() };
    for (living, id, epoch) in [(on_card, "shop-1.row.0", 1), (fresh_card_old_disk(), "shop-1.row.1", 2)] {
        let start = living_and_word(living, id);
        assert!(cuts("word", &start, 8, 17) > 30);
        let mut machine = start;
        machine.run_to_end();
        let born: serde_json::Value =
            serde_json::from_str(&machine.card.live[bakelite_plan::cluster::ON_STATE]).unwrap();
        assert_eq!(born["epoch"].as_u64(), Some(epoch), "{born}");
        assert!((300..400).contains(&machine.revision), "{}", machine.revision);
        assert_eq!(machine.lost, 0);
    }
}

#[test]
fn a_restored_set_that_k3s_cannot_live_with_is_taken_back_whatever_moment_the_plug_is_pulled() {
    let on_card = Bench { media: Vec::new(), ..used_card_blank_disk() };
    for (living, id, epoch) in [(on_card, "shop-1.row.0", 2), (fresh_card_old_disk(), "shop-1.row.1", 3)] {
        let start = Bench { doomed: vec![300], ..living_and_word(living, id) };
        assert!(cuts("taken back", &start, 8, 17) > 50);
        let mut machine = start;
        machine.run_to_end();
        let born: serde_json::Value =
            serde_json::from_str(&machine.card.live[bakelite_plan::cluster::ON_STATE]).unwrap();
        assert_eq!(born["epoch"].as_u64(), Some(epoch), "{born}");
        assert!(machine.revision > 412, "{}", machine.revision);
        assert_eq!([TOKEN, HOST_KEY].map(|path| machine.card.live[path].as_str()), ["t", "k"]);
        assert!(!machine.card.live.contains_key(bakelite_plan::restore::trial::TRIAL));
        // It stays so, and isn't tried again.
        machine.power_cut();
        let decisions = machine.boot().unwrap_or_default();
        let why = decisions.iter().rev().find(|(name, _)| *name == "restore").map(|(_, decision)| decision.clone());
        assert!(why.as_ref().is_some_and(|why| why.kind() == "without" && why.why().contains("taken back")), "{why:?}");
    }
}

#[test]
fn without_a_cluster_before_the_next_older_set_is_tried_whatever_moment_the_plug_is_pulled() {
    let mut start = fresh_card_stick(vec![Medium::new("a", Proof::Blank)]);
    let mut older = set(json!({ "stick": "sda1" }), json!({ "granted": { "clock": true } }), 700);
    older.file = "00000000-20261121T145500Z.tar.zst.age".into();
    start.sticks.push(older);
    start.doomed = vec![800];
    assert!(cuts("next older", &start, 6, 29) > 60);
    start.run_to_end();
    assert!((701..800).contains(&start.revision), "{}", start.revision);
    // With none left nothing is begun beside it.
    let mut alone = Bench { doomed: vec![800], ..fresh_card_stick(Vec::new()) };
    alone.run_to_end();
    assert!(!alone.card.live.contains_key(CARD_DATABASE), "{}", alone.outcome());
}

#[test]
fn a_cluster_without_a_token_gets_a_new_one_whatever_moment_the_plug_is_pulled() {
    let mut start = Bench { media: Vec::new(), ..used_card_blank_disk() };
    start.settings = settings(&json!({ "firewall": { "input": "open" }, "restore": { "rekey": "shop-1.row.0" } }));
    start.card.live.remove(TOKEN);
    start.card.sync();
    assert!(cuts("new token", &start, 8, 17) > 30);
    start.run_to_end();
    assert_eq!((start.card.live[TOKEN].as_str(), start.lost), ("sealed anew", 0));
    assert!(start.revision > 413, "{}", start.revision);
}

#[test]
fn a_blank_cluster_gives_way_to_a_stick_and_any_other_stays() {
    let mut blank = Bench { media: vec![Medium::new("stick", Proof::Holds("FAT".into()))], ..used_card_blank_disk() };
    blank.settings = settings(&json!({ "firewall": { "input": "open" }, "hostname": "shop-{serial}" }));
    blank.sticks = vec![set(json!({ "stick": "sda1" }), json!({ "granted": { "clock": true } }), 900)];
    blank.card.live.insert(bakelite_plan::restore::blank::BASELINE.into(), "noted".into());
    blank.card.sync();
    assert!(cuts("blank", &blank, 8, 17) > 30);
    let mut machine = blank.clone();
    machine.run_to_end();
    assert!(machine.revision > 900, "{}", machine.revision);
    let mut unnoted = blank;
    unnoted.card.live.remove(bakelite_plan::restore::blank::BASELINE);
    unnoted.card.sync();
    unnoted.run_to_end();
    assert!(unnoted.revision < 500, "{}", unnoted.revision);
}

#[test]
fn a_lost_disk_that_is_back_in_time_stays_the_home() {
    let (total, _) = uncut(&used_card_lost_disk());
    let mut kept = 0;
    for cut in 0..=total {
        let mut machine = Bench { fuse: Some(cut), ..used_card_lost_disk() };
        let _ = machine.boot();
        machine.power_cut();
        if machine.media[0].files.as_ref().is_some_and(|files| files.live.contains_key(DISK_DATABASE)) {
            continue;
        }
        let born = machine.card.live[bakelite_plan::cluster::ON_STATE].clone();
        let home = r#"{"format":1,"node":"shop-1","epoch":0}"#;
        let files =
            [(bakelite_plan::home::DISK_HOME, home), (bakelite_plan::cluster::ON_DISK, &born), (DISK_DATABASE, "950")];
        machine.media.push(Medium::data("a", "old", Files::with(&files)));
        machine.run_to_end();
        if machine.attached == Some(1) {
            assert_eq!(machine.text(DISK_DATABASE).as_deref(), Some("955"), "cut at {cut}");
            assert!(machine.text(bakelite_plan::home::INTENT).is_none(), "cut at {cut}");
            kept += 1;
        }
    }
    assert!(kept > 3, "{kept}");
}
