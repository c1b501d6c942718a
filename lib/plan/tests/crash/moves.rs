//! The cluster moves to a disk and back to the card; what it leaves behind goes, or is never started.

use crate::bench::{Bench, Files, Mutation};
use crate::cuts::{NESTED, every_cut, play, uncut};
use crate::starts::{fresh_card_old_disk, used_card_blank_disk};
use bakelite_plan::home::{TO_CARD, TO_DISK};

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
