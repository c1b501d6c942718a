//! A seed is taken whole, once, wherever the plug is pulled; and never by another node.

use super::*;
use crate::testing::settings;
use serde_json::json;

/// The boot partition's file and state.
#[derive(Clone)]
struct Machine {
    facts: Facts,
    new: NewSeed,
    /// What the file on the boot partition is.
    file: Option<Seed>,
    secrets: Vec<String>,
    fuse: Option<usize>,
    boots: usize,
    /// How often everything was emptied.
    resets: usize,
}

impl Machine {
    fn new(new: NewSeed) -> Self {
        let facts = Facts { state_is_durable: true, ..Facts::default() };
        Self { facts, file: Some(Seed::New(new.clone())), new, secrets: Vec::new(), fuse: None, boots: 0, resets: 0 }
    }

    /// Looks as firstboot does.
    fn look(&mut self) {
        self.facts.seed = match &self.file {
            Some(Seed::New(_)) if self.facts.has(SPENDING) => Some(Seed::Spending),
            Some(Seed::New(new)) => {
                let lacking = new.secrets.iter().filter(|name| !self.secrets.contains(name)).cloned().collect();
                Some(Seed::New(NewSeed { secrets: lacking, ..new.clone() }))
            }
            // Half overwritten: whatever it reads as, state says what it is.
            Some(Seed::Spending) if self.facts.has(SPENDING) => Some(Seed::Spending),
            Some(Seed::Spending) => panic!("a half overwritten seed is read as another one"),
            other => other.clone(),
        };
    }

    /// One boot; `None` for a pulled plug.
    fn boot(&mut self) -> Option<Decision> {
        self.boots += 1;
        self.facts.boot = format!("boot{}", self.boots);
        // What a wish of another boot leads to: state is empty, and the machine restarts.
        if self.facts.file(WISH).is_some_and(|text| reset::is_due(text, &self.facts.boot)) {
            self.facts.files.clear();
            self.secrets.clear();
            self.resets += 1;
        }
        for _ in 0..8 {
            self.look();
            let decision = decide(&self.facts, &settings(&json!({})));
            let Decision::Run(_, actions) = decision else { return Some(decision) };
            for action in actions {
                let cut = self.fuse == Some(0);
                self.fuse = self.fuse.map(|left| left.saturating_sub(1));
                match action {
                    Action::SpendSeed if cut => self.file = Some(Seed::Spending),
                    Action::TakeSecrets { names } if cut => self.secrets.extend(names.into_iter().take(1)),
                    _ if cut => {}
                    Action::SpendSeed => self.file = None,
                    Action::MarkSeed => {
                        self.new.fresh = false;
                        self.file = Some(Seed::New(self.new.clone()));
                    }
                    Action::TakeSecrets { names } => self.secrets.extend(names),
                    Action::Publish { path, text, .. } => drop(self.facts.files.insert(path, text)),
                    Action::Remove { path } => drop(self.facts.files.remove(&path)),
                    other => panic!("{other:?}"),
                }
                if cut {
                    self.fuse = None;
                    return None;
                }
            }
        }
        panic!("it never comes to an end");
    }
}

fn new() -> NewSeed {
    NewSeed {
        pass: None,
        node: Some("shop-017".into()),
        ticket: Some("line-1".into()),
        keys: vec!["network.wait".into(), "seed.secrets.wifi".into()],
        values: [("number".to_string(), "017".to_string())].into(),
        secrets: vec!["join".into(), "wifi".into()],
        settings: json!({ "network": { "wait": 3 } }),
        length: 200,
        fresh: false,
    }
}

#[test]
fn a_pulled_plug_leads_to_the_same_seed_taken_once() {
    let mut whole = Machine::new(new());
    assert!(matches!(whole.boot(), Some(Decision::Done(_))));
    assert_eq!(whole.facts.files.keys().collect::<Vec<_>>(), [paths::SEED]);
    assert!(whole.facts.files[paths::SEED].contains("\"wait\":3"));
    let (ticket, took) = (whole.new.ticket.clone(), whole.new.keys.clone());
    let node = Some("shop-017".to_string());
    assert_eq!(of(&whole.facts), Kept { node, ticket, pass: None, took, values: whole.new.values.clone() });
    let told = acknowledged(&whole.facts).unwrap();
    assert_eq!((told.ticket.as_str(), told.took.len(), told.refused.as_str()), ("line-1", 2, ""));
    for first in 0..7 {
        for second in 0..7 {
            let mut machine = Machine::new(new());
            for fuse in [first, second] {
                machine.fuse = Some(fuse);
                drop(machine.boot());
            }
            machine.fuse = None;
            assert!(matches!(machine.boot(), Some(Decision::Done(_))), "{first} {second}");
            assert_eq!(machine.facts.files, whole.facts.files, "{first} {second}");
            machine.secrets.sort();
            machine.secrets.dedup();
            assert_eq!(machine.secrets, whole.secrets, "{first} {second}");
            assert_eq!(machine.file, None);
        }
    }
}

#[test]
fn a_seed_for_another_node_is_refused_and_nothing_of_it_is_taken() {
    let mut machine = Machine::new(new());
    machine.facts.files.insert(identity::RECORD.into(), "{\"format\":1,\"node\":\"shop-9\"}".into());
    let Some(Decision::Refuse(fault)) = machine.boot() else { panic!() };
    assert_eq!(fault.code, Code::SeedConflict);
    assert!(fault.text.contains("is for shop-017, and this machine is shop-9"), "{}", fault.text);
    assert!(machine.secrets.is_empty() && !machine.facts.has(paths::SEED));
    machine.facts.files.insert(identity::RECORD.into(), "{\"format\":1,\"node\":\"shop-017\"}".into());
    assert!(matches!(machine.boot(), Some(Decision::Done(_))));
    // Once taken, it names nobody else any more.
    assert_eq!(conflict(&machine.facts), None);
}

#[test]
fn a_wrong_seed_is_told_and_the_last_one_counts() {
    let mut machine = Machine::new(new());
    machine.boot();
    machine.file = Some(Seed::Refused("seed.yaml:1:1: no".into()));
    let Some(Decision::Without(fault)) = machine.boot() else { panic!() };
    assert_eq!((fault.code, fault.text.as_str()), (Code::SeedRefused, "seed.yaml:1:1: no"));
    assert_eq!(of(&machine.facts).node.as_deref(), Some("shop-017"));
}

#[test]
fn a_seed_with_a_new_life_empties_another_machine_and_then_counts_wherever_the_plug_is_pulled() {
    let returned = || {
        let mut machine = Machine::new(NewSeed { fresh: true, ..new() });
        machine.facts.files.insert(identity::RECORD.into(), "{\"format\":1,\"node\":\"shop-9\"}".into());
        machine
    };
    let mut whole = returned();
    let Some(Decision::Reboot(why, None)) = whole.boot() else { panic!() };
    assert!(why.contains("new life"), "{why}");
    assert_eq!(conflict(&whole.facts), None, "who it was doesn't count any more");
    assert!(matches!(whole.boot(), Some(Decision::Done(_))));
    assert_eq!(whole.resets, 1);
    assert_eq!(whole.facts.files.keys().collect::<Vec<_>>(), [paths::SEED]);
    for first in 0..9 {
        for second in 0..9 {
            let mut machine = returned();
            for fuse in [Some(first), Some(second), None, None] {
                machine.fuse = fuse;
                drop(machine.boot());
            }
            assert!(matches!(machine.boot(), Some(Decision::Done(_))), "{first} {second}");
            assert_eq!(machine.facts.files, whole.facts.files, "{first} {second}");
            assert!((1..=2).contains(&machine.resets), "{first} {second}: {}", machine.resets);
        }
    }
}

#[test]
fn a_machine_that_was_nobody_needs_no_new_life() {
    let mut machine = Machine::new(NewSeed { fresh: true, ..new() });
    assert!(matches!(machine.boot(), Some(Decision::Done(_))));
    assert_eq!(machine.resets, 0);
    assert_eq!(machine.facts.files.keys().collect::<Vec<_>>(), [paths::SEED]);
}
