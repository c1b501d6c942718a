//! A pass upon a world that fails: counted, withheld after the third time, tried again by the next boot; with power cuts
//! at every effect.

use super::*;
use crate::layers::{self, testing};
use crate::world::Changed;
use bakelite_plan::facts::Facts;
use bakelite_spec::attempts::{Attempts, LIMIT, PATH};
use bakelite_spec::fault::Code;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

const WANTED: &str = "/var/lib/bakelite/wanted";
const NAMED: &str = "/var/lib/bakelite/named";

/// A machine on which an act may fail or kill it, and whose power may go before any effect.
#[derive(Clone, Default)]
struct Fake {
    facts: Facts,
    fails: bool,
    kills: bool,
    fuse: Option<usize>,
    acts: usize,
    report: Report,
}

/// The end of a boot.
struct Cut;

impl World for Fake {
    fn facts(&self) -> Facts {
        self.facts.clone()
    }

    fn apply(&mut self, action: &Action) -> Result<Changed, FirstbootError> {
        if self.fuse == Some(0) {
            resume_unwind(Box::new(Cut));
        }
        self.fuse = self.fuse.map(|left| left - 1);
        match action {
            Action::Publish { path, text, .. } => drop(self.facts.files.insert(path.clone(), text.clone())),
            Action::Remove { path } => drop(self.facts.files.remove(path)),
            Action::Claim { .. } => {
                self.acts += 1;
                if self.kills {
                    resume_unwind(Box::new(Cut));
                }
                if self.fails {
                    return Err(FirstbootError::NothingToMove("the disk doesn't take it".into()));
                }
                self.facts.files.insert(WANTED.into(), String::new());
            }
            other => panic!("{other:?}"),
        }
        Ok(Changed::Yes)
    }

    fn tell(&mut self, _: &str) {}

    fn report(&mut self, report: &Report) -> Result<(), FirstbootError> {
        self.report = report.clone();
        Ok(())
    }
}

fn claim(facts: &Facts, _: &Settings) -> Decision {
    if facts.has(WANTED) {
        return Decision::Done("it is there".into());
    }
    Decision::Run("it is made".into(), vec![Action::Claim { disk: "s1".into() }])
}

fn name(facts: &Facts, _: &Settings) -> Decision {
    if facts.has(NAMED) {
        return Decision::Done("it has a name".into());
    }
    Decision::Run(
        "it gets a name".into(),
        vec![Action::Publish { path: NAMED.into(), text: String::new(), mode: 0o600 }],
    )
}

const STEPS: &[Step] = &[
    Step { name: "claim", ends_the_pass: false, fails_as: None, decide: claim },
    Step { name: "name", ends_the_pass: false, fails_as: None, decide: name },
];

impl Fake {
    /// One boot with a pass in it; `None` if it ended before the pass did.
    fn boot(&mut self, number: usize) -> Option<Result<Outcome, FirstbootError>> {
        self.facts.boot = format!("boot{number}");
        let root = testing::machine("k3s: none\n");
        let settings = layers::settings(root.path()).unwrap();
        catch_unwind(AssertUnwindSafe(|| run("early", STEPS, self, &settings))).ok()
    }

    fn attempts(&self) -> Attempts {
        self.facts.file(PATH).map_or_else(Attempts::default, Attempts::read)
    }
}

#[test]
fn the_third_fault_ends_the_tries_and_what_comes_after_is_done() {
    let mut world = Fake { fails: true, ..Fake::default() };
    for _ in 1..LIMIT {
        assert!(world.boot(1).unwrap().is_err());
        assert!(!world.facts.has(NAMED));
    }
    for _ in 0..3 {
        assert_eq!(world.boot(1).unwrap().unwrap(), Outcome::Refused);
    }
    assert_eq!(world.acts, 3, "it isn't tried any more");
    assert!(world.facts.has(NAMED), "the other steps are done");
    let fault = world.report.faults.first().unwrap();
    assert_eq!(fault.code, Code::SafeMode);
    assert!(fault.text.contains("the disk doesn't take it"), "{}", fault.text);

    assert_eq!(world.boot(2).unwrap().unwrap(), Outcome::Refused);
    assert_eq!(world.acts, 4, "a power-on gives one fresh try");
    world.fails = false;
    assert_eq!(world.boot(2).unwrap().unwrap(), Outcome::Refused);
    assert_eq!(world.boot(3).unwrap().unwrap(), Outcome::GoOn);
    assert!(world.attempts().is_empty(), "what went well is forgotten");
}

#[test]
fn other_facts_give_another_try_at_once() {
    let mut world = Fake { fails: true, ..Fake::default() };
    (0..LIMIT).for_each(|_| drop(world.boot(1)));
    world.fails = false;
    world.facts.disks.push(bakelite_plan::disk::Disk { serial: "s2".into(), ..Default::default() });
    assert_eq!(world.boot(1).unwrap().unwrap(), Outcome::GoOn);
}

#[test]
fn an_act_that_kills_the_machine_is_not_done_for_ever() {
    let mut world = Fake { kills: true, ..Fake::default() };
    let ended: Vec<bool> = (1..=8).map(|number| world.boot(number).is_some()).collect();
    assert_eq!(ended, [false, false, false, true, false, true, false, true], "an operator gets in");
    world.kills = false;
    assert_eq!(world.boot(9).unwrap().unwrap(), Outcome::GoOn);
}

#[test]
fn a_pulled_plug_leads_to_the_same_machine() {
    let mut whole = Fake::default();
    assert_eq!(whole.boot(1).unwrap().unwrap(), Outcome::GoOn);
    for first in 0..6 {
        for second in 0..6 {
            let mut world = Fake::default();
            for (number, fuse) in [first, second].into_iter().enumerate() {
                world.fuse = Some(fuse);
                drop(world.boot(number));
            }
            world.fuse = None;
            assert_eq!(world.boot(8).unwrap().unwrap(), Outcome::GoOn, "{first} {second}");
            assert_eq!(world.facts.files, whole.facts.files, "{first} {second}");
        }
    }
}
