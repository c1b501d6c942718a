//! A Raspberry Pi: generations beside each other, one of them committed, nothing that counts tries. The plug is pulled before
//! each effect, and within the adding of a generation between its files and the commit.

use super::*;
use bakelite_spec::board::Flow;

const FLASHED: &str = "options bakelite.slot=a quiet loglevel=4\n";

/// The boot partition and what state keeps of it.
#[derive(Clone, Debug)]
struct Card {
    generations: BTreeMap<u32, String>,
    committed: u32,
    kept: BTreeMap<String, String>,
    boots: usize,
    restarts: usize,
    /// So many writes happen before the plug is pulled.
    fuse: Option<usize>,
}

impl Card {
    fn new() -> Self {
        let generations = [(1, FLASHED.to_string())].into();
        Self { generations, committed: 1, kept: BTreeMap::new(), boots: 0, restarts: 0, fuse: None }
    }

    fn name(generation: u32) -> String {
        EntryName { slot: "a".into(), generation, tries: None }.text()
    }

    fn entries(&self) -> BTreeMap<String, String> {
        // What nobody has committed is what a cut has left: the device passes it over.
        let seen = self.generations.iter().filter(|(generation, _)| **generation <= self.committed);
        seen.map(|(generation, text)| (Self::name(*generation), text.clone())).collect()
    }

    fn burn(&mut self) -> Option<()> {
        if self.fuse == Some(0) {
            self.fuse = None;
            return None;
        }
        self.fuse = self.fuse.map(|left| left - 1);
        Some(())
    }

    /// One boot, up to what settle says last; `None` for a pulled plug.
    fn boot(&mut self, settings: &Settings) -> Option<Decision> {
        self.boots += 1;
        let started = self.committed;
        let text = self.generations.get(&started).expect("what is committed is there");
        assert!(text.starts_with("options bakelite.slot=a "), "what is committed is whole: {text:?}");
        let mut facts = Facts {
            boot: format!("boot{}", self.boots),
            cmdline: LoaderEntry::parse(text).options.render(),
            controllers: CONTROLLERS.map(String::from).to_vec(),
            ..Facts::default()
        };
        for _ in 0..6 {
            facts.files = self.kept.clone();
            facts.loader = Some(Loader { selected: Self::name(started), entries: self.entries() });
            let Decision::Run(_, actions) = decide(&facts, settings) else { return Some(decide(&facts, settings)) };
            for action in actions {
                self.burn()?;
                match action {
                    Action::AddEntry { name, text } => {
                        let name = EntryName::parse(&name).unwrap();
                        assert!(name.tries.is_none() && name.generation > self.committed, "a live one is written");
                        self.generations.insert(name.generation, text[..9].into());
                        self.burn()?;
                        self.generations.insert(name.generation, text);
                        self.burn()?;
                        self.committed = name.generation;
                    }
                    Action::RemoveEntries { names } => {
                        let names: Vec<u32> =
                            names.iter().map(|name| EntryName::parse(name).unwrap().generation).collect();
                        assert!(!names.contains(&self.committed));
                        self.generations.retain(|generation, _| !names.contains(generation));
                    }
                    Action::Publish { path, text, .. } => drop(self.kept.insert(path, text)),
                    Action::Remove { path } => drop(self.kept.remove(&path)),
                    other => panic!("{other:?}"),
                }
            }
        }
        panic!("it never comes to an end");
    }

    fn run_to_end(&mut self, settings: &Settings) -> Decision {
        for _ in 0..9 {
            match self.boot(settings) {
                Some(Decision::Reboot(..)) => self.restarts += 1,
                Some(other) => return other,
                None => {}
            }
        }
        panic!("it restarts for ever");
    }

    fn options(&self) -> Cmdline {
        LoaderEntry::parse(&self.generations[&self.committed]).options
    }
}

fn pi(arguments: &[&str]) -> Settings {
    let mut settings = with(arguments);
    settings.manifest.board.boot.flow = Flow::RaspberryPi;
    settings
}

#[test]
fn arguments_come_with_one_restart_and_the_generation_before_stays() {
    let mut card = Card::new();
    assert!(matches!(card.run_to_end(&pi(&[])), Decision::Done(_)));
    assert_eq!((card.committed, card.restarts), (1, 0));
    let Decision::Done(why) = card.run_to_end(&pi(&["nosmt", "loglevel=7"])) else { panic!() };
    assert_eq!(why, "the kernel was started with `nosmt loglevel=7`");
    assert!(card.options().is_like(&Cmdline::parse("bakelite.slot=a quiet loglevel=7 nosmt")));
    assert_eq!((card.generations.len(), card.committed, card.restarts), (2, 2, 1));
    card.run_to_end(&pi(&[]));
    assert!(card.options().is_like(&LoaderEntry::parse(FLASHED).options));
    assert_eq!(card.generations.keys().copied().collect::<Vec<_>>(), [2, 3]);
    assert!(card.kept.is_empty());
}

#[test]
fn a_pulled_plug_leads_to_the_same_generation() {
    let settings = pi(&["nosmt"]);
    let mut cuts = 0;
    for first in 0..8 {
        for second in 0..8 {
            let mut card = Card::new();
            for fuse in [first, second] {
                card.fuse = Some(fuse);
                cuts += usize::from(card.boot(&settings).is_none());
            }
            card.fuse = None;
            assert!(matches!(card.run_to_end(&settings), Decision::Done(_)), "{first} {second}");
            assert!(card.options().is_like(&Cmdline::parse("bakelite.slot=a quiet loglevel=4 nosmt")));
            assert!(card.generations.contains_key(&1), "the one before stays");
        }
    }
    assert!(cuts > 40, "only {cuts} cuts");
}

#[test]
fn a_generation_that_a_person_took_back_is_told_and_not_forced_again() {
    let settings = pi(&["nosmt"]);
    let mut card = Card::new();
    while card.committed == 1 || card.kept.is_empty() {
        assert!(!matches!(card.boot(&settings), Some(Decision::Done(_))));
    }
    card.committed = 1;
    let Decision::Without(fault) = card.run_to_end(&settings) else { panic!() };
    assert_eq!(fault.code, Code::KernelArguments);
    assert_eq!(card.committed, 1);
}
