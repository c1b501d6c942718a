//! A boot that is the trial of an update.

use super::*;

fn goes_back(rig: &Rig) -> Vec<&str> {
    let back = |effect: &'_ Effect| matches!(effect, Effect::GoBack(_));
    let words = rig.others.iter().filter(|effect| back(effect));
    words.map(|effect| if let Effect::GoBack(why) = effect { why.as_str() } else { "" }).collect()
}

#[test]
fn what_a_person_would_be_needed_for_leads_back_while_an_update_is_tried_and_only_then() {
    type Act = fn(&mut Rig);
    let cases: [(&str, Act); 5] = [
        ("early refused", |rig| {
            rig.feed(Event::Tick);
            rig.end(EARLY, 77);
        }),
        ("settle refused", |rig| {
            rig.feed(Event::Tick);
            rig.end(EARLY, 0);
            rig.end(SETTLE, 77);
        }),
        ("token", |rig| {
            rig.up();
            let fault = Fault::new(Code::K3sWrongToken, "the token");
            rig.feed(Event::Ended(K3S, Some(1), None, Some(fault)));
        }),
        ("k3s ended 3 times", |rig| {
            rig.up();
            for _ in 0..FAILING {
                rig.end(K3S, 1);
                rig.advance(60_000);
                rig.end(SETTLE, 0);
                rig.advance(1_000);
            }
        }),
        ("within 300 s", |rig| {
            rig.feed(Event::Tick);
            rig.advance(300_000);
        }),
    ];
    for (why, act) in cases {
        for is_tried in [true, false] {
            let mut rig = Rig::new(table(), None);
            if is_tried {
                rig.state.tries_an_update(300, false);
            }
            act(&mut rig);
            rig.advance(1_000_000);
            let said = goes_back(&rig);
            assert_eq!(said.len(), usize::from(is_tried), "{why}: {said:?}");
            assert!(said.iter().all(|said| said.contains(why)), "{why}: {said:?}");
        }
    }
}

#[test]
fn a_good_boot_ends_the_trial_and_what_only_waits_goes_on() {
    let mut rig = Rig::new(table(), None);
    rig.state.tries_an_update(300, false);
    rig.feed(Event::Tick);
    rig.end(EARLY, 75);
    rig.advance(10_000);
    rig.end(EARLY, 0);
    rig.end(SETTLE, 0);
    rig.feed(Event::Ended(K3S, Some(1), None, Some(Fault::new(Code::K3sNoAddress, "no address"))));
    rig.advance(6_000);
    rig.end(SETTLE, 0);
    rig.advance(1_000);
    rig.feed(Event::Ready(K3S, None));
    rig.advance(GOOD);
    assert!(rig.state.good);
    rig.feed(Event::Ended(K3S, Some(1), None, Some(Fault::new(Code::K3sWrongToken, "x"))));
    rig.advance(1_000_000);
    assert!(goes_back(&rig).is_empty(), "{:?}", goes_back(&rig));
}

#[test]
fn k3s_alone_is_no_good_boot_where_workloads_were_available_before() {
    let mut rig = Rig::new(table(), None);
    rig.state.tries_an_update(900, true);
    rig.up();
    rig.advance(GOOD + 60_000);
    assert!(!rig.state.good && goes_back(&rig).is_empty(), "it is waited for them");
    rig.files = true;
    rig.advance(6_000);
    assert!(rig.state.good);

    let mut rig = Rig::new(table(), None);
    rig.state.tries_an_update(300, true);
    rig.up();
    rig.advance(1_000_000);
    assert_eq!(goes_back(&rig), [format!("it was no good boot within 300 s of its start; {WORKLOADS}")]);
}
