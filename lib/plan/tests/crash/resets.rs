//! A machine is made blank by a person's word: whatever moment the plug is pulled, it ends blank, and never half.

use crate::bench::{Bench, CARD_DATABASE, DISK_DATABASE, Files, Medium, Mutation};
use crate::cuts::{cuts, killed};
use crate::starts::{IDENTITY, identity, set, unfenced};
use bakelite_plan::cluster::{ON_DISK, ON_STATE};
use bakelite_plan::home::{DISK_HOME, HOME};
use bakelite_plan::reset::{Level, WISH, Wish};
use bakelite_plan::seal::SEAL;
use bakelite_spec::records::DiskName;
use serde_json::json;

const BORN: &str =
    r#"{"format":1,"epoch":2,"node":"shop-1","datastore":"sqlite","row":"row","revision":400,"k3s":"v1.36.2+k3s1"}"#;

/// A cluster on its data disk, with a set of its own on the card, and the wish.
fn wished(level: Level, with_disk: bool) -> Bench {
    let disk = DiskName { guid: "old".into(), words: "serial old".into() };
    let home = r#"{"format":1,"place":{"disk":{"guid":"old","words":"serial old"}},"epoch":2}"#;
    let (epoch, boot, node) = (3, "earlier".into(), "shop-1".into());
    let wish = Wish { format: 1, level, node, disk: with_disk.then_some(disk), epoch, boot };
    let wish = serde_json::to_string(&wish).unwrap();
    let mut files = identity().to_vec();
    files.extend([(ON_STATE, BORN), (WISH, &wish), ("/state/opt/tool", "tool"), ("/var/lib/bakelite/sets/x", "set")]);
    let own = vec![set(json!("card"), json!("own"), 880)];
    if !with_disk {
        files.push((CARD_DATABASE, "412"));
        return Bench { sticks: own, ..Bench::new(unfenced(), Files::with(&files), Vec::new()) };
    }
    files.push((HOME, home));
    let seal = format!("3|t|p|d|k|{IDENTITY}");
    let disk_home = r#"{"format":1,"node":"shop-1","epoch":2}"#;
    let on_disk = Files::with(&[
        (SEAL, &seal),
        (DISK_HOME, disk_home),
        (ON_DISK, BORN),
        (DISK_DATABASE, "412"),
        ("/disk/data/till", "mine"),
    ]);
    let media = vec![Medium::data("a", "old", on_disk)];
    Bench { sticks: own, ..Bench::new(unfenced(), Files::with(&files), media) }
}

/// What a machine is after its reset and a start of k3s.
fn after(level: Level, with_disk: bool) -> Bench {
    let mut machine = wished(level, with_disk);
    machine.run_to_end();
    machine
}

#[test]
fn everything_goes_whatever_moment_the_plug_is_pulled() {
    for with_disk in [true, false] {
        // Its set would be of no use to the machine: the key that opens it is gone.
        let start = Bench { sticks: Vec::new(), ..wished(Level::Everything, with_disk) };
        cuts("everything", &start, 60, 4);
        let mut machine = start;
        machine.run_to_end();
        let outcome = machine.outcome();
        assert!(!outcome.contains("shop-1") && outcome.contains("token Some(\"a new one\")"), "{outcome}");
        assert!(!machine.card.durable.keys().any(|path| path.contains("sets") || path.contains("opt")), "{outcome}");
        assert_eq!(machine.revision, 10, "a new cluster");
        assert_eq!(outcome.contains("(true, false, 0)"), with_disk, "{outcome}");
    }
}

#[test]
fn with_the_identity_kept_the_cluster_goes_whatever_moment_the_plug_is_pulled() {
    for with_disk in [true, false] {
        cuts("the cluster", &wished(Level::KeepIdentity, with_disk), 60, 4);
        let machine = after(Level::KeepIdentity, with_disk);
        let outcome = machine.outcome();
        assert!(outcome.contains("shop-1") && outcome.contains("token Some(\"the old one\")"), "{outcome}");
        assert_eq!(machine.revision, 10, "a new cluster, and the old set isn't taken for it");
        assert!(machine.card.durable.contains_key("/var/lib/bakelite/sets/x"), "backups stay");
        let born = machine.text(ON_STATE).unwrap();
        assert!(born.contains("\"epoch\":3"), "{born}");
        if with_disk {
            assert_eq!(machine.text(ON_DISK), Some(born));
            assert!(outcome.contains("(true, false, 3)") && outcome.contains("sealed Some(true)"), "{outcome}");
        }
    }
}

#[test]
fn an_old_card_is_not_taken_for_the_new_cluster() {
    let start = wished(Level::KeepIdentity, true);
    let mut machine = start.clone();
    machine.run_to_end();
    let mut old = start.card;
    old.live.remove(WISH);
    machine.card = Files { durable: old.live.clone(), ..old };
    machine.power_cut();
    machine.run_to_end();
    // The disk rules: its line of the database is the newer one, and k3s goes on upon it.
    assert_eq!((machine.lost, machine.revision), (0, 15), "{}", machine.outcome());
}

#[test]
fn a_missing_disk_is_waited_for_and_a_wish_that_goes_first_is_found_out() {
    let mut machine = wished(Level::Everything, true);
    machine.media[0].here = false;
    let decisions = machine.boot().unwrap_or_default();
    assert!(decisions.iter().any(|(name, decision)| *name == "reset" && decision.kind() == "wait"), "{decisions:?}");
    assert_eq!(machine.revision, 0, "k3s waits, too");
    machine.power_cut();
    machine.media[0].here = true;
    machine.run_to_end();
    assert!(!machine.outcome().contains("shop-1"), "{}", machine.outcome());
    for level in [Level::Everything, Level::KeepIdentity] {
        assert!(killed(&wished(level, true), Mutation::WishFirst) > 0, "{level:?}");
    }
}
