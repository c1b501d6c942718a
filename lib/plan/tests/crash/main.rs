//! Power cuts while a data disk is claimed, sealed, moved to, or found again: at every single write, with media that
//! forget what wasn't synced, by two hundred adversaries, and once more during the recovery. All end in the same machine.

#![expect(clippy::unwrap_used, reason = "a test")]

mod apps;
mod bench;
#[path = "../common/mod.rs"]
mod common;
mod cuts;
mod moves;
mod resets;
mod restores;
mod starts;
mod updates;

use bakelite_plan::disk::Proof;
use bakelite_plan::identity::{DEVICE_KEY, TOKEN};
use bakelite_plan::settings::HOST_KEY;
use bench::{Medium, Mutation};
use cuts::{every_cut, killed};
use starts::{fresh_card_blank_disk, fresh_card_old_disk, fresh_card_stick, used_card_blank_disk};

#[test]
fn a_blank_disk_is_claimed_whatever_moment_the_plug_is_pulled() {
    assert!(every_cut("claim", &fresh_card_blank_disk()) > 40);
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
