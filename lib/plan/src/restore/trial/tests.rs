//! What is taken back and what isn't; when a trial is over; what goes of what was moved aside.

use super::*;
use crate::restore::leftovers;
use crate::testing::settings;
use bakelite_spec::records::Datastore;
use bakelite_spec::status::LastStart;
use serde_json::json as value;
use std::collections::BTreeMap;

fn born(epoch: u64) -> ClusterBorn {
    ClusterBorn {
        format: FORMAT,
        epoch,
        node: "shop-1".into(),
        datastore: Datastore::Sqlite,
        row: "/bootstrap/a".into(),
        revision: 400,
        k3s: "v1.36.2+k3s1".into(),
        keys: BTreeMap::new(),
    }
}

/// A machine on which a set was restored, in the line of this number.
fn restored(epoch: u64) -> Facts {
    let mut facts = Facts::default();
    let before = Before { node: "shop-1".into(), cluster: Some(born(0)) };
    let trial = RestoreTrial { format: FORMAT, epoch: 1, set: "shop-1/set".into(), before };
    facts.files.insert(TRIAL.into(), json(&trial));
    facts.files.insert(cluster::ON_STATE.into(), json(&born(epoch)));
    facts
}

fn died(facts: &mut Facts, code: Code, ready_at: Option<f64>) {
    let start = LastStart { started: 9.5, ready_at, fault: Some(Fault::new(code, "words")), ..LastStart::default() };
    facts.files.insert(paths::LAST_START.into(), serde_json::to_string(&start).unwrap());
}

#[test]
fn only_words_that_blame_the_set_take_it_back() {
    for code in [Code::K3sDatabaseDamaged, Code::K3sWrongToken, Code::K3sHangs, Code::K3sFailing] {
        let mut facts = restored(1);
        died(&mut facts, code, None);
        assert!(judge(&facts).is_some(), "{code:?}");
        died(&mut facts, code, Some(12.0));
        assert!(judge(&facts).is_none(), "{code:?}, and it is ready");
        let mut other = restored(2);
        died(&mut other, code, None);
        assert!(judge(&other).is_none(), "{code:?}, in another line");
    }
    for code in Code::ALL.iter().filter(|code| code.name().starts_with("k3s-")) {
        let blamed = [Code::K3sDatabaseDamaged, Code::K3sWrongToken, Code::K3sHangs, Code::K3sFailing].contains(code);
        let mut facts = restored(1);
        died(&mut facts, *code, None);
        assert_eq!(judge(&facts).is_some(), blamed, "{code:?}");
    }
}

#[test]
fn certificates_are_set_aside_before_the_set_is_blamed_for_them() {
    let mut facts = restored(1);
    died(&mut facts, Code::K3sStaleCertificates, None);
    facts.files.insert(RENEWED.into(), "9.5\n".into());
    assert!(judge(&facts).is_none(), "k3s hasn't been started since");
    facts.files.insert(RENEWED.into(), "3.5\n".into());
    assert!(judge(&facts).is_some());
}

#[test]
fn a_good_boot_ends_the_trial_and_no_other() {
    let settings = settings(&value!({}));
    let mut facts = restored(1);
    assert_eq!(prove(&facts, &settings).kind(), "skip");
    facts.files.insert(paths::GOOD.into(), "good".into());
    assert_eq!(prove(&facts, &settings).kind(), "run");
    facts.files.remove(TRIAL);
    assert_eq!(prove(&facts, &settings).kind(), "done");
}

#[test]
fn what_was_moved_aside_goes_by_number_and_room_and_never_during_a_trial() {
    let settings = settings(&value!({}));
    let folders = |facts: &Facts| match leftovers::decide(facts, &settings) {
        Decision::Run(_, actions) => actions.len() / 2,
        _ => 0,
    };
    let mut facts = restored(1);
    facts.asides = [(1, 100), (3, 100), (4, 100), (7, 100)].into();
    facts.free_beside_data = 1_000;
    facts.files.insert(paths::GOOD.into(), "good".into());
    assert_eq!(folders(&facts), 0, "a trial is on");
    facts.files.remove(TRIAL);
    assert_eq!(folders(&facts), 2);
    let Decision::Run(_, actions) = leftovers::decide(&facts, &settings) else { panic!() };
    assert!(
        actions.contains(&Action::RemoveFolder { path: "/var/lib/rancher/bakelite/aside-3".into() }),
        "{actions:?}"
    );
    facts.free_beside_data = 150;
    assert_eq!(folders(&facts), 3, "there is room for one");
    facts.files.remove(paths::GOOD);
    assert_eq!(folders(&facts), 0, "the boot isn't good yet");
}
