//! An update whatever moment the plug is pulled: it ends in the new system, or in the old one with a database that no newer
//! k3s has written to.

use crate::bench::{BY_NEW, Bench, CARD_DATABASE, Mutation};
use crate::cuts::{ADVERSARIES, NESTED};
use crate::starts::{set, unfenced, used_card_blank_disk};
use bakelite_plan::Settings;
use bakelite_plan::cluster::ON_STATE;
use bakelite_plan::step::Decision;
use bakelite_plan::update;
use bakelite_spec::fault::Code;
use bakelite_spec::update::{Armed, Ended, FORMAT, LAST, PATH, Side, TRIES, Update};
use serde_json::json;
use std::collections::VecDeque;

/// How the new system is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum New {
    Good,
    /// k3s becomes ready, writes, and dies for good.
    Dies,
    /// The machine hangs as soon as k3s runs, and the watchdog restarts it.
    Hangs,
    /// It hangs before anything of ours runs.
    NeverStarts,
}

fn side(slot: &str, k3s: &str) -> Side {
    Side { slot: slot.into(), image: format!("image-{slot}"), version: String::new(), k3s: k3s.into() }
}

fn of(side: &Side) -> Settings {
    let mut settings = unfenced();
    settings.manifest.image.clone_from(&side.image);
    settings.manifest.payload.version.clone_from(&side.k3s);
    settings
}

fn entry(slot: &str, rank: u32) -> String {
    format!("version {rank}.x\nlinux /bakelite/{slot}/vmlinuz\noptions bakelite.slot={slot}\n")
}

/// A cluster on the card of slot a at revision 412, with a set that was just taken, and slot b written. On a Raspberry Pi the
/// command itself asks for the first try.
fn written(once: bool) -> Bench {
    let mut machine = Bench { media: Vec::new(), ..used_card_blank_disk() };
    machine.card.live.insert("/boot/bakelite-a.conf".into(), entry("a", 1));
    machine.card.sync();
    let own = set(json!("card"), json!("own"), 412);
    let record = Update {
        format: FORMAT,
        from: side("a", "v1.36.2+k3s1"),
        to: side("b", "v1.37.0+k3s1"),
        epoch: 0,
        set: own.key(),
        entry: Armed { name: if once { "bakelite-b+1.conf" } else { "bakelite-b+3.conf" }.into(), text: entry("b", 2) },
        once,
        tries: TRIES - u32::from(once),
        patience: 900,
        ..Update::default()
    };
    machine.sticks = vec![own];
    machine.armed = (serde_json::to_string(&record).unwrap(), (record.entry.name, record.entry.text));
    machine.settings = of(&record.from);
    machine.revision = 412;
    if once { machine.on_a_pi() } else { machine }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome {
    slot: String,
    why: bool,
    epoch: u64,
    set_put_back: bool,
    lost: bool,
    boots: usize,
    effects: usize,
}

/// One power-on, until it is well or goes down. Whether it stays up.
fn power_on(machine: &mut Bench, new: New) -> Result<bool, crate::bench::Cut> {
    let slot = machine.start_loader();
    machine.settings = of(&if slot == "a" { side("a", "v1.36.2+k3s1") } else { side("b", "v1.37.0+k3s1") });
    if slot == "b" && new == New::NeverStarts {
        return Ok(false);
    }
    let decisions = machine.boot()?;
    let fault_of = |decision: &Decision| match decision {
        Decision::Reboot(_, fault) => Some(fault.clone()),
        _ => None,
    };
    if let Some(fault) = decisions.iter().find_map(|(_, decision)| fault_of(decision)) {
        let update: Update = serde_json::from_str(&machine.text(PATH).unwrap()).unwrap();
        assert_eq!(fault.is_some(), !update.failed.is_empty(), "only a way back is a fault: {fault:?}");
        machine.restart();
        return Ok(false);
    }
    let tried = update::trial(&machine.facts(), &machine.settings).is_some();
    match new {
        _ if slot == "a" => {}
        New::Hangs => return Ok(false),
        New::Dies if tried => {
            machine.leave()?;
            return Ok(false);
        }
        New::Dies => panic!("a system that is no trial is given up"),
        New::Good | New::NeverStarts => machine.prove()?,
    }
    let refused = decisions.iter().find(|(_, decision)| matches!(decision, Decision::Refuse(_)));
    assert!(refused.is_none(), "{refused:?}");
    Ok(true)
}

/// Arms and runs it to its end, cut after so many effects from its beginning, and once more so many after that.
fn run(start: &Bench, new: New, cuts: &[usize], seed: u64) -> Outcome {
    let mut machine = Bench { seed: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, ..start.clone() };
    let mut cuts: VecDeque<usize> = cuts.iter().copied().collect();
    machine.fuse = cuts.front().copied();
    let mut ended = machine.arm().map(|()| false);
    let (mut boots, mut effects) = (0, 0);
    loop {
        effects += machine.effects;
        match ended {
            Ok(stays) => {
                machine.card.sync();
                if stays {
                    break;
                }
                // The rest of the way to the plug is in the next boot.
                cuts.iter_mut().take(1).for_each(|cut| *cut -= machine.effects);
            }
            Err(crate::bench::Cut) => {
                cuts.pop_front();
                machine.asks_to_try = false;
            }
        }
        machine.power_cut();
        boots += 1;
        assert!(boots < 16, "never comes to an end");
        machine.fuse = cuts.front().copied();
        ended = power_on(&mut machine, new);
    }
    assert!(!machine.card.live.contains_key(PATH), "{:?}", machine.text(PATH));
    let ended = machine.text(LAST).map(|text| serde_json::from_str::<Ended>(&text).unwrap());
    let born: serde_json::Value = serde_json::from_str(&machine.card.live[ON_STATE]).unwrap();
    assert_eq!(machine.lost, 0);
    Outcome {
        slot: machine.slot.clone().unwrap_or_default(),
        why: ended.as_ref().is_some_and(|ended| !ended.why.is_empty()),
        epoch: born["epoch"].as_u64().unwrap(),
        set_put_back: ended.as_ref().is_some_and(|ended| ended.set_put_back),
        lost: ended.is_some_and(|ended| !ended.lost.is_empty()),
        boots,
        effects,
    }
}

/// Writes, syncs and renames until the record is on the medium: a cut before that leaves a machine that knows of no update.
const RECORDED: usize = 4;

fn is_as_wanted(new: New, cut: usize, outcome: &Outcome) -> bool {
    let back = |put_back: bool| Outcome {
        slot: "a".into(),
        why: true,
        epoch: u64::from(put_back),
        set_put_back: put_back,
        lost: put_back,
        ..outcome.clone()
    };
    if cut <= RECORDED && *outcome == (Outcome { why: false, ..back(false) }) {
        return true;
    }
    match new {
        New::Good => (outcome.slot.as_str(), outcome.why, outcome.epoch) == ("b", false, 0),
        New::Dies | New::Hangs => *outcome == back(true),
        New::NeverStarts => *outcome == back(false),
    }
}

#[test]
fn an_update_ends_in_one_of_the_two_whatever_moment_the_plug_is_pulled() {
    ends_in_one_of_the_two(&written(false), adversaries(10), 3);
}

/// Between two tries the old system starts.
#[test]
fn an_update_by_tryboot_ends_in_one_of_the_two_whatever_moment_the_plug_is_pulled() {
    ends_in_one_of_the_two(&written(true), adversaries(40), 4);
}

/// All of them where there is an hour for it (`scripts/test --full`), else a part.
pub fn adversaries(part: u64) -> u64 {
    if std::env::var_os("BAKELITE_TEST_FULL").is_some() { ADVERSARIES } else { ADVERSARIES / part }
}

fn ends_in_one_of_the_two(start: &Bench, adversaries: u64, most_boots: usize) {
    for new in [New::Good, New::Dies, New::Hangs, New::NeverStarts] {
        let whole = run(start, new, &[], 1);
        assert!(is_as_wanted(new, usize::MAX, &whole), "{new:?}: {whole:?}");
        let (mut runs, mut most) = (0, 0);
        for (cut, seed) in (0..=whole.effects).flat_map(|cut| (1..=adversaries).map(move |seed| (cut, seed))) {
            let outcome = run(start, new, &[cut], seed);
            assert!(is_as_wanted(new, cut, &outcome), "{new:?}: cut at {cut}, adversary {seed}: {outcome:?}");
            most = most.max(outcome.boots.saturating_sub(whole.boots));
            runs += 1;
        }
        for (cut, second) in
            (0..=whole.effects).flat_map(|cut| (cut % 5..=60).step_by(5).map(move |second| (cut, second)))
        {
            let outcome = run(start, new, &[cut, second], 1 + (cut as u64 * 31 + second as u64) % NESTED);
            assert!(is_as_wanted(new, cut, &outcome), "{new:?}: cuts at {cut} and {second}: {outcome:?}");
            most = most.max(outcome.boots.saturating_sub(whole.boots));
            runs += 1;
        }
        eprintln!(
            "{new:?}: {} boots, {} effects, {runs} runs with cuts, at most {most} boots more",
            whole.boots, whole.effects
        );
        assert!(most <= most_boots);
    }
}

/// How many cuts find something wrong.
fn wrong(mutation: Mutation, new: New, once: bool) -> usize {
    std::panic::set_hook(Box::new(|_| {}));
    let start = Bench { mutation: Some(mutation), ..written(once) };
    let is_wrong = |cut: &usize| {
        (1..=8).any(|seed| {
            let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&start, new, &[*cut], seed)));
            !ran.is_ok_and(|outcome| is_as_wanted(new, *cut, &outcome))
        })
    };
    let found = (0..120).filter(is_wrong).count();
    drop(std::panic::take_hook());
    found
}

#[test]
fn an_update_that_breaks_a_rule_is_found_out() {
    for (mutation, new, once) in [
        (Mutation::EntryFirst, New::Dies, false),
        (Mutation::StartUnsaid, New::Dies, false),
        (Mutation::NoSync, New::Good, false),
        (Mutation::StartUnsaid, New::Hangs, true),
        (Mutation::TryUncounted, New::NeverStarts, true),
    ] {
        let found = wrong(mutation, new, once);
        assert!(found > 0, "{mutation:?} is not found");
        eprintln!("{mutation:?}: {found} cuts find it");
    }
}

#[test]
fn the_old_k3s_is_never_started_upon_what_the_new_one_wrote() {
    let mut machine = written(false);
    machine.slot = Some("a".into());
    machine.card.live.insert(CARD_DATABASE.into(), (412 + BY_NEW).to_string());
    machine.card.sync();
    std::panic::set_hook(Box::new(|_| {}));
    let booted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| machine.boot().is_ok()));
    drop(std::panic::take_hook());
    assert!(booted.is_err(), "the bench itself would not notice");
}

#[test]
fn without_the_backup_from_before_no_k3s_is_started_until_somebody_brings_it() {
    let mut machine = written(false);
    assert!(machine.arm().is_ok());
    let sets = std::mem::take(&mut machine.sticks);
    let boot = |machine: &mut Bench| {
        machine.card.sync();
        machine.power_cut();
        let slot = machine.start_loader();
        machine.settings = of(&if slot == "a" { side("a", "v1.36.2+k3s1") } else { side("b", "v1.37.0+k3s1") });
        let Ok(decisions) = machine.boot() else { unreachable!("nothing is cut") };
        if slot == "b" {
            assert!(machine.leave().is_ok());
        }
        decisions
    };
    boot(&mut machine);
    for _ in 0..2 {
        let refused = boot(&mut machine).into_iter().find_map(|(step, decision)| match decision {
            Decision::Refuse(fault) => Some((step, fault)),
            _ => None,
        });
        let (step, fault) = refused.expect("nothing is refused");
        assert_eq!((step, fault.code), ("update", Code::UpdateUnfinished), "{fault:?}");
        assert!(fault.text.contains("isn't here whole") && !machine.ran && machine.text(PATH).is_some());
    }
    machine.sticks = sets;
    boot(&mut machine);
    let ended: Ended = serde_json::from_str(&machine.text(LAST).unwrap()).unwrap();
    assert!(ended.set_put_back && machine.ran && machine.text(PATH).is_none());
}
