//! Power cuts while a data disk is claimed, sealed, moved to, or found again: at every single write, with media that
//! forget what wasn't synced, by two hundred adversaries, and once more during the recovery. All end in the same machine.

#![expect(clippy::unwrap_used, reason = "a test")]

mod apps;
mod bench;
#[path = "../common/mod.rs"]
mod common;
mod resets;
mod updates;

use bakelite_plan::disk::Proof;
use bakelite_plan::home::{TO_CARD, TO_DISK};
use bakelite_plan::identity::{DEVICE_KEY, PASSWORD, RECORD, TOKEN};
use bakelite_plan::restore::FoundSet;
use bakelite_plan::seal::SEAL;
use bakelite_plan::settings::HOST_KEY;
use bench::{Bench, CARD_DATABASE, DISK_DATABASE, Files, Medium, Mutation};
use common::settings;
use serde_json::json;

const ADVERSARIES: u64 = 200;
const NESTED: u64 = 8;
const IDENTITY: &str = r#"{"format":1,"node":"shop-1"}"#;

/// An appliance without a firewall: its rules touch no medium, and making them thousands of times takes half a minute.
fn unfenced() -> bakelite_plan::Settings {
    settings(&json!({ "firewall": { "input": "open" } }))
}

fn fresh_card_blank_disk() -> Bench {
    let media = vec![Medium::new("a", Proof::Blank), Medium::new("b", Proof::Holds("NTFS".into()))];
    Bench::new(unfenced(), Files::default(), media)
}

fn identity() -> [(&'static str, &'static str); 5] {
    [(TOKEN, "t"), (PASSWORD, "p"), (DEVICE_KEY, "d"), (HOST_KEY, "k"), (RECORD, IDENTITY)]
}

/// A cluster that ran on the card until the disk was plugged in.
fn used_card_blank_disk() -> Bench {
    let born = r#"{"format":1,"epoch":0,"node":"shop-1","datastore":"sqlite","row":"row","revision":400,"k3s":"v1.36.2+k3s1"}"#;
    let mut files = identity().to_vec();
    files.push((bakelite_plan::cluster::ON_STATE, born));
    files.extend([(CARD_DATABASE, "412"), ("/state/rancher/volume", "mine"), ("/state/opt/tool", "tool")]);
    Bench::new(unfenced(), Files::with(&files), vec![Medium::new("a", Proof::Blank)])
}

/// The disk of a node whose card was lost.
fn fresh_card_old_disk() -> Bench {
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
fn set(source: serde_json::Value, trust: serde_json::Value, revision: u64) -> FoundSet {
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
fn fresh_card_stick(media: Vec<Medium>) -> Bench {
    let settings = settings(&json!({ "firewall": { "input": "open" }, "hostname": "shop-{serial}" }));
    let granted = set(json!({ "stick": "sda1" }), json!({ "granted": { "clock": true } }), 800);
    Bench { sticks: vec![granted], ..Bench::new(settings, Files::default(), media) }
}

/// A card whose data disk is lost, with a set of its own on it, and a blank disk.
fn used_card_lost_disk() -> Bench {
    let born = r#"{"format":1,"epoch":0,"node":"shop-1","datastore":"sqlite","row":"row","revision":900,"k3s":"v1.36.2+k3s1"}"#;
    let home = r#"{"format":1,"place":{"disk":{"guid":"old","words":"serial old"}},"epoch":0}"#;
    let mut files = identity().to_vec();
    files.extend([(bakelite_plan::cluster::ON_STATE, born), (bakelite_plan::home::HOME, home)]);
    let bench = Bench::new(unfenced(), Files::with(&files), vec![Medium::new("b", Proof::Blank)]);
    Bench { sticks: vec![set(json!("card"), json!("own"), 880)], ..bench }
}

/// Plays a machine to its end, cut after so many effects, once or twice. What is wrong, if something is.
fn play(start: &Bench, wanted: &str, cuts: &[usize], seed: u64) -> Result<(), String> {
    let mut machine = Bench { seed: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, ..start.clone() };
    let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for cut in cuts {
            machine.fuse = Some(*cut);
            if machine.boot().is_err() {
                machine.power_cut();
            }
        }
        machine.fuse = None;
        machine.run_to_end();
        // One more boot in order: what is only mended there counts as well.
        machine.power_cut();
        machine.run_to_end();
        machine
    }));
    let machine = played.map_err(|_| "it panicked".to_string())?;
    let got = machine.outcome();
    if got != wanted {
        return Err(format!("{got}\n   instead of {wanted}"));
    }
    let foreign =
        machine.media.iter().filter(|medium| medium.disk.proof != Some(Proof::Blank) && medium.files.is_none());
    if foreign.map(|medium| medium.writes).sum::<usize>() > 0 {
        return Err("a foreign disk was written".into());
    }
    Ok(())
}

/// How many effects it takes without a cut, and what comes of it.
fn uncut(start: &Bench) -> (usize, String) {
    let mut whole = Bench { mutation: None, ..start.clone() };
    whole.run_to_end();
    let effects = whole.effects;
    whole.power_cut();
    whole.run_to_end();
    (effects, whole.outcome())
}

fn every_cut(name: &str, start: &Bench) -> usize {
    cuts(name, start, ADVERSARIES, 1)
}

/// Every cut with so many adversaries, and each so-many-th again during the recovery.
fn cuts(name: &str, start: &Bench, adversaries: u64, stride: usize) -> usize {
    let (total, wanted) = uncut(start);
    let mut runs = 0;
    for cut in 0..=total {
        for seed in 1..=adversaries {
            play(start, &wanted, &[cut], seed)
                .unwrap_or_else(|error| panic!("{name}: cut at {cut}, adversary {seed}: {error}"));
            runs += 1;
        }
        for second in (cut % stride..=total).step_by(stride) {
            let seed = 1 + (cut as u64 * 31 + second as u64) % NESTED;
            play(start, &wanted, &[cut, second], seed)
                .unwrap_or_else(|error| panic!("{name}: cuts at {cut} and {second}, adversary {seed}: {error}"));
            runs += 1;
        }
    }
    eprintln!("{name}: {total} effects, {runs} runs with cuts, all end the same");
    total
}

#[test]
fn a_blank_disk_is_claimed_whatever_moment_the_plug_is_pulled() {
    assert!(every_cut("claim", &fresh_card_blank_disk()) > 40);
}

#[test]
fn a_cluster_moves_from_the_card_whatever_moment_the_plug_is_pulled() {
    let start = used_card_blank_disk();
    assert!(every_cut("promotion", &start) > 60);
    let mut whole = start;
    whole.run_to_end();
    let outcome = whole.outcome();
    for words in ["(true, false, 1)", "/disk/rancher/volume", "/disk/opt/tool", "/disk/rancher/db", "lost 0"] {
        assert!(outcome.contains(words), "{outcome}");
    }
    assert_eq!(whole.card.live["/state/rancher/volume"], "mine", "the old copy stays");
}

/// A cluster that moved to a disk, and a person who wants it back on the card.
fn used_disk_wish_card() -> Bench {
    let mut machine = used_card_blank_disk();
    machine.run_to_end();
    machine.power_cut();
    machine.wish = Some(TO_CARD);
    machine
}

#[test]
fn a_cluster_moves_back_to_the_card_whatever_moment_the_plug_is_pulled() {
    let start = used_disk_wish_card();
    assert!(every_cut("demotion", &start) > 30);
    let mut whole = start;
    whole.run_to_end();
    let outcome = whole.outcome();
    for words in ["(false, false, 2)", "/state/rancher/volume", "/state/opt/tool", "/state/rancher/db", "lost 0"] {
        assert!(outcome.contains(words), "{outcome}");
    }
    assert!(whole.outcome().contains("sealed Some(true)"), "the disk stays sealed: {}", whole.outcome());
}

/// Boots in order, all of them good, until the old copy could be gone.
fn good_boots(machine: &mut Bench, boots: usize) {
    machine.good = true;
    for _ in 0..boots {
        machine.power_cut();
        machine.run_to_end();
    }
}

fn old_copy(machine: &Bench) -> usize {
    machine.card.live.keys().filter(|path| path.starts_with("/state/")).count()
}

#[test]
fn the_old_copy_on_the_card_goes_in_the_second_good_boot_whatever_moment_the_plug_is_pulled() {
    let mut moved = used_card_blank_disk();
    moved.run_to_end();
    let kept = old_copy(&moved);
    assert!(kept > 2);
    good_boots(&mut moved, 1);
    assert_eq!(old_copy(&moved), kept, "one good boot isn't enough");
    moved.power_cut();
    let start = moved.clone();
    assert!(every_cut("old copy", &start) > 8);
    moved.run_to_end();
    assert_eq!(old_copy(&moved), 0);
    assert!(!moved.card.live.contains_key(bakelite_plan::old_copy::RECORD));
    assert!(moved.outcome().contains("(true, false, 1)") && moved.outcome().contains("/disk/rancher/volume"));
}

#[test]
fn the_old_copy_stays_without_its_disk_and_without_good_boots_and_where_it_is_the_cluster() {
    let mut bad = used_card_blank_disk();
    bad.run_to_end();
    let kept = old_copy(&bad);
    for _ in 0..4 {
        bad.power_cut();
        bad.run_to_end();
    }
    assert_eq!(old_copy(&bad), kept, "no boot was good");
    good_boots(&mut bad, 1);
    bad.media[0].here = false;
    bad.power_cut();
    let _ = bad.boot();
    assert_eq!(old_copy(&bad), kept, "the disk is gone");
    // Back to the card: what is there is the cluster from now on.
    let mut back = used_disk_wish_card();
    good_boots(&mut back, 4);
    assert!(back.outcome().contains("(false, false, 2)"), "{}", back.outcome());
    assert!(old_copy(&back) >= kept && back.lost == 0, "{}", back.outcome());
    // A card with things of its own that were never copied has no mark.
    let mut other = fresh_card_old_disk();
    other.card = Files::with(&[("/state/data/mine", "mine")]);
    other.run_to_end();
    good_boots(&mut other, 3);
    assert_eq!(old_copy(&other), 1);
}

#[test]
fn a_wish_that_a_cut_took_away_leaves_the_cluster_whole_on_one_of_the_two() {
    let start = used_disk_wish_card();
    let (mut stayed, mut moved) = (0, 0);
    for cut in 0..=uncut(&start).0 {
        for seed in 1..=20 {
            let mut machine = Bench { fuse: Some(cut), seed, ..start.clone() };
            if machine.boot().is_err() {
                machine.power_cut();
            }
            machine.fuse = None;
            machine.wish = None;
            machine.run_to_end();
            machine.power_cut();
            machine.run_to_end();
            let outcome = machine.outcome();
            assert!(outcome.contains("intent false lost 0"), "{outcome}");
            stayed += usize::from(outcome.contains("(true, false, 1)"));
            moved += usize::from(outcome.contains("(false, false, 2)"));
        }
    }
    assert!(stayed > 0 && moved > 0, "{stayed} stayed, {moved} moved");
}

#[test]
fn what_moved_back_stays_on_the_card_until_a_person_wants_it_on_the_disk_again() {
    let mut machine = used_disk_wish_card();
    machine.run_to_end();
    machine.wish = None;
    for disk_is_here in [true, false, true] {
        machine.power_cut();
        machine.media[0].here = disk_is_here;
        machine.run_to_end();
        assert!(machine.outcome().contains("(false, false, 2)"), "{}", machine.outcome());
    }
    machine.power_cut();
    machine.wish = Some(TO_DISK);
    // The way itself has its two hundred adversaries above; a few are enough for a disk that holds an old copy.
    let (total, wanted) = uncut(&machine);
    for (cut, seed) in (0..=total).flat_map(|cut| (1..=NESTED).map(move |seed| (cut, seed))) {
        play(&machine, &wanted, &[cut], seed).unwrap_or_else(|error| panic!("cut at {cut}, adversary {seed}: {error}"));
    }
    machine.run_to_end();
    assert!(machine.outcome().contains("(true, false, 3)"), "{}", machine.outcome());
    assert_eq!(machine.lost, 0);
}

#[test]
fn the_old_copy_on_a_disk_that_the_cluster_left_is_never_started() {
    for (mutation, fails) in [(None, false), (Some(Mutation::LeftUnsaid), true)] {
        let spare = used_disk_wish_card().card;
        let mut machine = Bench { mutation, ..used_disk_wish_card() };
        machine.run_to_end();
        machine.power_cut();
        machine.wish = None;
        // The disk's record of the cluster is as old as the last time that it was here; the mark alone has to do.
        machine.media[0].files.as_mut().unwrap().live.remove(bakelite_plan::cluster::ON_DISK);
        for card in [Files::default(), spare] {
            let mut machine = Bench { card, ..machine.clone() };
            std::panic::set_hook(Box::new(|_| {}));
            let booted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| machine.boot()));
            drop(std::panic::take_hook());
            let started = booted.is_err() || machine.ran;
            assert_eq!(started, fails, "{mutation:?}");
            if let Ok(Ok(decisions)) = booted {
                let why = decisions.iter().find(|(name, _)| *name == "home").map(|(_, decision)| decision.why());
                assert!(why.is_some_and(|why| why.contains("went on to a card")), "{decisions:?}");
            }
        }
    }
}

#[test]
fn a_new_card_with_the_old_disk_is_the_same_node() {
    let start = fresh_card_old_disk();
    assert!(every_cut("new card", &start) > 20);
    let mut whole = start;
    whole.run_to_end();
    assert_eq!([TOKEN, DEVICE_KEY, HOST_KEY].map(|path| whole.card.live[path].as_str()), ["t", "d", "k"]);
    assert!(whole.outcome().contains("lost 0"), "{}", whole.outcome());
    assert_eq!(whole.secrets, 0, "nothing is made anew");
}

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

/// How many of the cuts find something wrong.
fn killed(start: &Bench, mutation: Mutation) -> usize {
    std::panic::set_hook(Box::new(|_| {}));
    let start = Bench { mutation: Some(mutation), ..start.clone() };
    let (total, wanted) = uncut(&start);
    let found = (0..=total).filter(|cut| (1..=20).any(|seed| play(&start, &wanted, &[*cut], seed).is_err())).count();
    drop(std::panic::take_hook());
    found
}

#[test]
fn a_firstboot_that_breaks_a_rule_is_found_out() {
    for (mutation, start) in [
        (Mutation::NoSync, fresh_card_blank_disk()),
        (Mutation::NoSync, used_card_blank_disk()),
        (Mutation::CopiedFirst, used_card_blank_disk()),
        (Mutation::BornFirst, fresh_card_blank_disk()),
        (Mutation::RecordFirst, fresh_card_old_disk()),
        (Mutation::StagedFirst, fresh_card_stick(vec![Medium::new("a", Proof::Blank)])),
    ] {
        let found = killed(&start, mutation);
        assert!(found > 0, "{mutation:?} is not found");
        eprintln!("{mutation:?}: {found} cuts find it");
    }
}

#[test]
fn while_a_move_is_not_over_a_missing_disk_is_waited_for() {
    for (mutation, fails) in [(None, false), (Some(Mutation::SwitchWithoutMoving), true)] {
        let start = Bench { mutation, ..used_card_blank_disk() };
        let mut two_lines = false;
        for cut in 0..=uncut(&start).0 {
            for seed in 1..=20 {
                let mut machine = Bench { fuse: Some(cut), seed, ..start.clone() };
                if machine.boot().is_ok() {
                    continue;
                }
                machine.power_cut();
                // One boot without the disk, then it is back: k3s must not have run on both.
                machine.media[0].here = false;
                let _ = machine.boot();
                machine.power_cut();
                machine.media[0].here = true;
                std::panic::set_hook(Box::new(|_| {}));
                let back = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| machine.run_to_end()));
                drop(std::panic::take_hook());
                two_lines |= back.is_err();
            }
        }
        assert_eq!(two_lines, fails, "{mutation:?}");
    }
}

#[test]
fn a_lost_disk_is_waited_for_and_nothing_takes_its_place() {
    let mut machine = fresh_card_blank_disk();
    machine.run_to_end();
    machine.power_cut();
    machine.media[0].here = false;
    machine.media.push(Medium::new("c", Proof::Blank));
    let decisions = machine.boot().unwrap_or_default();
    let why = &decisions.iter().find(|(name, _)| *name == "data-disk").unwrap().1;
    assert_eq!((why.kind(), why.why().contains("serial-c")), ("wait", true), "{why:?}");
    assert_eq!((machine.lost, machine.media[2].writes), (0, 0));
    machine.power_cut();
    machine.media[0].here = true;
    machine.run_to_end();
    assert!(machine.outcome().contains("(true, false, 0)"), "{}", machine.outcome());
    assert_eq!(machine.lost, 0);
}
