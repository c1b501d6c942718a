//! How the payload ends, hangs and is asked for.

use super::*;

#[test]
fn each_end_of_the_payload_is_a_failure_with_a_settle_before_the_next_start() {
    let mut rig = Rig::new(table(), None);
    rig.up();
    rig.advance(1_000);
    rig.end(K3S, 0);
    assert_eq!(rig.state.units[K3S].state, UnitState::Failed);
    rig.advance(5_000);
    assert_eq!((rig.started(SETTLE), rig.started(K3S)), (2, 1));
    rig.end(SETTLE, 0);
    rig.advance(1);
    assert_eq!(rig.started(K3S), 2);
}

#[test]
fn a_final_fault_gives_the_payload_up_until_a_person_asks() {
    let mut rig = Rig::new(table(), None);
    rig.up();
    let fault = Fault::new(Code::K3sWrongToken, "x");
    rig.feed(Event::Ended(K3S, Some(1), None, Some(fault.clone())));
    rig.advance(10_000_000);
    assert_eq!(rig.started(K3S), 1);
    assert_eq!(rig.state.faults(), [fault]);
    rig.feed(Event::Ask(Ask::Start("k3s".into())));
    rig.end(SETTLE, 0);
    assert_eq!(rig.started(K3S), 2);
    assert!(rig.state.faults().is_empty());
}

#[test]
fn words_that_nobody_knows_are_told_once_they_come_again_and_again() {
    let mut rig = Rig::new(table(), None);
    rig.up();
    for failures in 1..=LONG_FAILING {
        assert_eq!(rig.state.faults().is_empty(), failures <= FAILING, "before failure {failures}");
        rig.feed(Event::Ended(K3S, Some(1), None, Some(Fault::new(Code::K3sFailing, "level=fatal msg=\"new\""))));
        let (starts, pause) = (rig.started(K3S), if failures < LONG_FAILING { 60_000 } else { LONG_PAUSE });
        rig.advance(pause + 1_000);
        rig.end(SETTLE, 0);
        rig.advance(2_000);
        assert_eq!(rig.started(K3S), starts + 1, "after failure {failures}");
    }
    let faults = rig.state.faults();
    assert_eq!((faults.len(), faults[0].code), (1, Code::K3sFailing));
    assert!(faults[0].text.ends_with("times in a row (exit status 1): level=fatal msg=\"new\""), "{}", faults[0].text);
}

#[test]
fn while_a_restored_backup_has_to_prove_itself_settle_is_asked_whatever_k3s_died_of() {
    let mut rig = Rig::new(table(), None);
    rig.files = true;
    rig.up();
    for _ in 0..4 {
        rig.feed(Event::Ended(K3S, Some(1), None, Some(Fault::new(Code::K3sWrongToken, "x"))));
        let settled = rig.started(SETTLE);
        rig.advance(61_000);
        assert_eq!(rig.started(SETTLE), settled + 1);
        rig.end(SETTLE, 0);
        rig.advance(2_000);
        rig.feed(Event::Ready(K3S, None));
    }
    assert_eq!(rig.started(K3S), 5);
}

#[test]
fn what_k3s_has_shrugged_off_is_shown_although_it_is_ready() {
    let mut rig = Rig::new(table(), None);
    rig.feed(Event::Tick);
    rig.end(EARLY, 0);
    rig.end(SETTLE, 0);
    let fault = Fault::new(Code::K3sDatabaseDamaged, "malformed");
    rig.feed(Event::Ready(K3S, Some(fault.clone())));
    assert_eq!(rig.state.faults(), std::slice::from_ref(&fault));
    let kept = |effect: &Effect| matches!(effect, Effect::LastStart(start) if start.fault.as_ref() == Some(&fault));
    assert!(rig.others.iter().any(kept), "the next start has to know");
}

#[test]
fn a_hang_gets_one_sigterm_then_sigkill() {
    let mut rig = Rig::new(table(), None);
    rig.feed(Event::Tick);
    rig.end(EARLY, 0);
    rig.end(SETTLE, 0);
    rig.advance(300_000);
    assert_eq!(rig.terms.len(), 1);
    rig.feed(Event::Ask(Ask::Restart("k3s".into())));
    rig.advance(10_000);
    assert_eq!(rig.kills, [K3S]);
    rig.feed(Event::Ended(K3S, None, Some(9), None));
    assert_eq!(rig.terms.len(), 1);
}

#[test]
fn a_closed_port_counts_only_when_it_stays_closed() {
    for (open_in_between, restarted) in [(true, false), (false, true)] {
        let mut rig = Rig::new(table(), None);
        rig.up();
        for look in 0..6 {
            rig.advance(PORT_EACH);
            rig.feed(Event::Port(K3S, open_in_between && look == 3));
        }
        assert_eq!(!rig.terms.is_empty(), restarted);
    }
}

#[test]
fn a_new_address_restarts_the_payload_once_and_only_if_its_files_changed() {
    for changed in [false, true] {
        let mut rig = Rig::new(table(), None);
        rig.feed(Event::Address(Some("10.0.0.2".into())));
        rig.advance(5_000);
        rig.up();
        rig.advance(60_000);
        assert_eq!(rig.started(SETTLE), 1, "the address it was settled with is no news");
        rig.feed(Event::Address(None));
        rig.advance(60_000);
        rig.feed(Event::Address(Some("10.0.0.2".into())));
        rig.advance(60_000);
        assert_eq!(rig.started(SETTLE), 1, "a cable pulled and put back is no news");
        rig.feed(Event::Address(Some("10.0.0.3".into())));
        rig.advance(ADDRESS - 1_000);
        rig.feed(Event::Address(Some("10.0.0.4".into())));
        rig.advance(ADDRESS - 1_000);
        assert_eq!(rig.started(EARLY), 1, "it is waited until it stays");
        rig.advance(1_000);
        rig.end(EARLY, 0);
        rig.files = changed;
        rig.end(SETTLE, 0);
        assert_eq!(rig.terms.len(), usize::from(changed));
        if changed {
            rig.end(K3S, 0);
            assert_eq!((rig.started(K3S), rig.started(SETTLE)), (2, 2));
        }
        rig.advance(600_000);
        assert_eq!(rig.started(SETTLE), 2);
    }
}

#[test]
fn a_payload_that_was_stopped_stays_down_until_asked_for_and_a_restart_is_both() {
    let mut rig = Rig::new(table(), None);
    rig.up();
    rig.feed(Event::Ask(Ask::Stop("k3s".into())));
    rig.end(K3S, 0);
    rig.advance(1_000_000);
    assert_eq!((rig.started(SETTLE), rig.started(K3S)), (1, 1));
    rig.feed(Event::Ask(Ask::Start("k3s".into())));
    rig.end(SETTLE, 0);
    assert_eq!((rig.started(SETTLE), rig.started(K3S)), (2, 2));
    rig.feed(Event::Ask(Ask::Restart("k3s".into())));
    rig.end(K3S, 0);
    rig.end(SETTLE, 0);
    assert_eq!((rig.started(SETTLE), rig.started(K3S)), (3, 3));
}

#[test]
fn a_payload_that_only_repeats_one_complaint_is_ended_and_soon_left_in_peace() {
    let mut rig = Rig::new(table(), None);
    rig.feed(Event::Tick);
    rig.end(EARLY, 0);
    rig.end(SETTLE, 0);
    let full = || Some(Fault::new(Code::K3sDiskFull, "disk I/O error: no space left on device"));
    rig.feed(Event::Deaf(K3S, full()));
    rig.advance(59_000);
    rig.feed(Event::Deaf(K3S, None));
    rig.feed(Event::Deaf(K3S, full()));
    rig.advance(59_000);
    assert!(rig.terms.is_empty(), "it said something else in between");
    rig.advance(1_000);
    rig.feed(Event::Deaf(K3S, full()));
    assert_eq!(rig.terms.len(), 1);
    // It doesn't listen to SIGTERM either.
    rig.advance(10_000);
    assert_eq!(rig.kills, [K3S]);
    for failures in 1..=4 {
        // What was ended has no last words of its own; what it repeated stands for them.
        rig.feed(Event::Ended(K3S, None, Some(9), full().filter(|_| failures > 1)));
        assert_eq!(rig.state.units[K3S].fault, full());
        let (starts, pause) = (rig.started(K3S), if failures < FAILING { 60_000 } else { LONG_PAUSE });
        rig.advance(pause - 30_000);
        rig.end(SETTLE, 0);
        rig.advance(31_000);
        rig.end(SETTLE, 0);
        assert_eq!(rig.started(K3S), starts + 1, "after failure {failures}");
    }
    // A complaint of a payload that is ready is no reason.
    rig.feed(Event::Ready(K3S, None));
    rig.feed(Event::Deaf(K3S, full()));
    rig.advance(70_000);
    rig.feed(Event::Deaf(K3S, full()));
    assert_eq!(rig.terms.len(), 1);
}

#[test]
fn without_a_payload_access_makes_it_ready_and_good() {
    let mut units = table();
    units.pop();
    let mut rig = Rig::new(units, None);
    rig.feed(Event::Tick);
    rig.end(EARLY, 0);
    assert!(rig.others.contains(&Effect::Say(What::Ready { payload: "none".into() })));
    rig.advance(GOOD);
    assert!(rig.state.good);
}
