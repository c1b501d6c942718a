//! A machine with a loader that counts tries, as systemd-boot does: arguments that work, that panic, that are changed
//! again, with the plug pulled at each effect.

mod raspberry_pi;

use super::*;
use crate::testing;
use serde_json::json;
use std::collections::BTreeMap;

const FIRST: &str = "title Bakelite\nsort-key bakelite\nversion 0123\nlinux /bakelite/a/vmlinuz\ninitrd /bakelite/a/initrd\noptions bakelite.slot=a quiet loglevel=4\n";

/// The boot partition and what state keeps of it.
#[derive(Clone, Debug, PartialEq)]
struct Machine {
    entries: BTreeMap<String, String>,
    kept: BTreeMap<String, String>,
    boots: usize,
    fuse: Option<usize>,
    restarts: usize,
}

impl Machine {
    fn new() -> Self {
        let entries = [("bakelite-a+3.conf".to_string(), FIRST.to_string())].into();
        Self { entries, kept: BTreeMap::new(), boots: 0, fuse: None, restarts: 0 }
    }

    /// What the loader starts: tries left first, then by version, the newest first (systemd-boot's config_entry_compare).
    fn chosen(&self) -> String {
        let version = |text: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix("version ")).unwrap().to_string();
            line.rsplit_once('+').map_or(1, |(_, number)| number.parse::<u32>().unwrap())
        };
        let rank = |(file, text): &(&String, &String)| {
            (EntryName::parse(file).unwrap().is_exhausted(), std::cmp::Reverse(version(text)))
        };
        self.entries.iter().min_by_key(rank).unwrap().0.clone()
    }

    /// Power on: the loader counts and starts; a kernel that panics comes back here. What runs, and the selected entry.
    fn power_on(&mut self) -> Facts {
        loop {
            self.boots += 1;
            assert!(self.boots < 60, "it starts for ever");
            let file = self.chosen();
            let mut name = EntryName::parse(&file).unwrap();
            let text = self.entries.remove(&file).unwrap();
            name.tries = name.tries.map(|(left, done)| (left.saturating_sub(1), done + 1));
            self.entries.insert(name.text(), text.clone());
            let options = LoaderEntry::parse(&text).options;
            if options.value("panic-now").is_some() {
                continue;
            }
            let selected = EntryName { tries: None, ..name }.text();
            return Facts {
                boot: format!("boot{}", self.boots),
                cmdline: options.render(),
                controllers: CONTROLLERS.map(String::from).to_vec(),
                loader: Some(Loader { selected, entries: self.entries.clone() }),
                files: self.kept.clone(),
                ..Facts::default()
            };
        }
    }

    /// One boot, up to what settle says last; `None` for a pulled plug.
    fn boot(&mut self, settings: &Settings) -> Option<Decision> {
        let mut facts = self.power_on();
        for _ in 0..6 {
            let Decision::Run(_, actions) = decide(&facts, settings) else { return Some(decide(&facts, settings)) };
            for action in actions {
                if self.fuse == Some(0) {
                    self.fuse = None;
                    return None;
                }
                self.fuse = self.fuse.map(|left| left - 1);
                match action {
                    Action::AddEntry { name, text } => drop(self.entries.insert(name, text)),
                    Action::RemoveEntries { names } => self.entries.retain(|name, _| !names.contains(name)),
                    Action::Publish { path, text, .. } => drop(self.kept.insert(path, text)),
                    Action::Remove { path } => drop(self.kept.remove(&path)),
                    other => panic!("{other:?}"),
                }
            }
            facts.files = self.kept.clone();
            facts.loader.as_mut().unwrap().entries = self.entries.clone();
        }
        panic!("it never comes to an end");
    }

    /// init marks a good boot: the counter goes.
    fn good(&mut self, facts: &Facts) {
        let selected = EntryName::parse(&facts.loader.as_ref().unwrap().selected).unwrap();
        let file = self.entries.keys().find(|file| EntryName::parse(file).unwrap().is_same(&selected)).unwrap().clone();
        let text = self.entries.remove(&file).unwrap();
        self.entries.insert(selected.text(), text);
    }

    /// Boots until nothing is restarted; what the last boot says.
    fn run_to_end(&mut self, settings: &Settings) -> Decision {
        for _ in 0..9 {
            match self.boot(settings) {
                Some(Decision::Reboot(..)) => self.restarts += 1,
                Some(other) => {
                    let facts = self.seen();
                    self.good(&facts);
                    return other;
                }
                None => {}
            }
        }
        panic!("it restarts for ever");
    }

    /// The running entry, without starting it again.
    fn seen(&self) -> Facts {
        let mut probe = self.clone();
        probe.entries.retain(|_, text| LoaderEntry::parse(text).options.value("panic-now").is_none());
        let selected = EntryName { tries: None, ..EntryName::parse(&probe.chosen()).unwrap() }.text();
        let loader = Some(Loader { selected, entries: self.entries.clone() });
        Facts { loader, ..Facts::default() }
    }

    fn names(&self) -> Vec<&str> {
        self.entries.keys().map(String::as_str).collect()
    }
}

fn with(arguments: &[&str]) -> Settings {
    testing::settings(&json!({ "kernel": { "cmdline": arguments } }))
}

#[test]
fn without_arguments_nothing_is_touched() {
    let mut machine = Machine::new();
    assert!(matches!(machine.run_to_end(&with(&[])), Decision::Done(_)));
    assert_eq!((machine.names(), machine.restarts), (vec!["bakelite-a.conf"], 0));
    assert_eq!(machine.entries["bakelite-a.conf"], FIRST);
}

#[test]
fn what_a_stick_has_started_is_left_as_it_is() {
    let mut facts = Machine::new().power_on();
    facts.cmdline = "bakelite.slot=a quiet bakelite.recovery".into();
    facts.loader.as_mut().unwrap().selected = "bakelite-recovery.conf".into();
    for settings in [with(&[]), with(&["nosmt"])] {
        assert!(matches!(decide(&facts, &settings), Decision::Done(why) if why.contains("a stick")));
    }
}

#[test]
fn arguments_come_with_one_restart_and_prove_themselves() {
    let mut machine = Machine::new();
    let Decision::Done(why) = machine.run_to_end(&with(&["nomodeset", "loglevel=7"])) else { panic!() };
    assert_eq!(why, "the kernel was started with `nomodeset loglevel=7`");
    assert_eq!((machine.names(), machine.restarts), (vec!["bakelite-a+2-1.conf", "bakelite-a-2.conf"], 1));
    // Other ones: the generation before the last one goes when they have proved themselves.
    machine.run_to_end(&with(&["nosmt"]));
    machine.run_to_end(&with(&["nosmt"]));
    assert_eq!((machine.names(), machine.restarts), (vec!["bakelite-a-2.conf", "bakelite-a-3.conf"], 2));
    let third = LoaderEntry::parse(&machine.entries["bakelite-a-3.conf"]);
    assert!(third.options.is_like(&Cmdline::parse("bakelite.slot=a quiet loglevel=4 nosmt")));
    assert!(machine.kept.is_empty());
    // And none any more.
    machine.run_to_end(&with(&[]));
    let last = LoaderEntry::parse(&machine.entries[machine.seen().loader.unwrap().selected.as_str()]);
    assert!(last.options.is_like(&LoaderEntry::parse(FIRST).options));
}

#[test]
fn arguments_that_do_not_come_up_are_told_and_never_tried_again() {
    let mut machine = Machine::new();
    machine.run_to_end(&with(&[]));
    let bad = with(&["panic-now"]);
    for _ in 0..3 {
        let Decision::Without(fault) = machine.run_to_end(&bad) else { panic!() };
        assert_eq!(fault.code, Code::KernelArguments);
        assert!(fault.text.contains("with `panic-now`"), "{}", fault.text);
        assert_eq!(machine.restarts, 1);
    }
    assert!(matches!(machine.run_to_end(&with(&[])), Decision::Done(_)));
    assert!(matches!(machine.run_to_end(&with(&["nosmt"])), Decision::Done(_)));
    assert_eq!(machine.restarts, 2, "other arguments have a try of their own");
    machine.run_to_end(&with(&["nosmt"]));
    assert_eq!(machine.names(), ["bakelite-a-3.conf", "bakelite-a.conf"], "what never came up goes");
}

#[test]
fn a_machine_that_works_or_only_tries_settings_is_not_restarted() {
    let settings = with(&["nosmt"]);
    let fresh = Machine::new().power_on();
    assert_eq!(decide(&fresh, &settings).kind(), "run");
    let ran = Facts { payload_ran: true, ..fresh.clone() };
    let tried = Facts { present: vec![paths::TRIAL.into()], ..fresh };
    for facts in [ran, tried] {
        let Decision::Done(why) = decide(&facts, &settings) else { panic!() };
        assert_eq!(why, "the kernel's other arguments come at the next start: with `nosmt`");
    }
}

#[test]
fn a_usb_bridge_that_is_reset_again_and_again_gets_its_quirk_with_one_restart() {
    let noted = r#"{"format":1,"quirks":["152d:0578:u","abcd:0001:u"]}"#.to_string();
    let mut settings = with(&[]);
    settings.manifest.board.usb_quirks = vec!["152d:1561:u".into(), "152D:0578:um".into()];
    let mut facts = Machine::new().power_on();
    facts.payload_ran = true;
    assert!(matches!(decide(&facts, &settings), Decision::Done(_)), "the board's own are in the image");
    facts.files.insert(USB_QUIRKS.into(), noted);
    let Decision::Run(why, actions) = decide(&facts, &settings) else { panic!() };
    // What is said of a bridge already stays as it is said.
    let line = "usb-storage.quirks=152d:1561:u,152D:0578:um,abcd:0001:u";
    assert!(why.ends_with(&format!("with `{line}`")), "{why}");
    let Action::AddEntry { name, text } = &actions[0] else { panic!() };
    assert!(text.contains(line), "{text}");
    facts.loader.as_mut().unwrap().entries.insert(name.clone(), text.clone());
    let Decision::Run(_, actions) = decide(&facts, &settings) else { panic!() };
    let Action::Publish { path, text, .. } = &actions[0] else { panic!("{actions:?}") };
    facts.files.insert(path.clone(), text.clone());
    assert!(matches!(decide(&facts, &settings), Decision::Reboot(..)));
    // It came up with the old arguments all the same: told, and not tried again.
    let later = Facts { boot: "later".into(), ..facts };
    assert!(matches!(decide(&later, &settings), Decision::Without(_)));
    // What an appliance says stands before what was found.
    let own = with(&["usb-storage.quirks=abcd:0001:g"]);
    let found = wanted(&later, &own);
    assert_eq!(found.value(QUIRKS), Some("abcd:0001:g,152d:0578:u"));
}

#[test]
fn a_pulled_plug_leads_to_the_same_entries() {
    for arguments in [&["nosmt"][..], &["panic-now"]] {
        let settings = with(arguments);
        let mut whole = Machine::new();
        whole.run_to_end(&with(&[]));
        let start = whole.clone();
        let ended = whole.run_to_end(&settings);
        for first in 0..4 {
            for second in 0..4 {
                let mut machine = start.clone();
                for fuse in [first, second] {
                    machine.fuse = Some(fuse);
                    drop(machine.boot(&settings));
                }
                machine.fuse = None;
                let got = machine.run_to_end(&settings);
                assert_eq!(got.kind(), ended.kind(), "{first} {second}");
                let running = |machine: &Machine| machine.seen().loader.unwrap().selected;
                assert_eq!(running(&machine), running(&whole), "{first} {second}");
            }
        }
    }
}

fn facts(controllers: &[&str], cmdline: &str) -> Facts {
    let controllers = controllers.iter().map(ToString::to_string).collect();
    let loader = Loader { selected: "bakelite-a".into(), entries: [("bakelite-a.conf".into(), FIRST.into())].into() };
    Facts { controllers, cmdline: cmdline.into(), loader: Some(loader), boot: "b".into(), ..Facts::default() }
}

#[test]
fn a_board_whose_kernel_needs_it_gets_its_cgroups_once() {
    let mut settings = with(&[]);
    settings.manifest.board.cmdline =
        vec!["console=tty1".into(), "cgroup_enable=memory".into(), "cgroup_memory=1".into()];
    let once = facts(&["cpu", "cpuset", "pids"], "quiet");
    let Decision::Run(why, actions) = decide(&once, &settings) else { panic!() };
    assert!(why.contains("with `cgroup_enable=memory cgroup_memory=1`"), "{why}");
    let Action::AddEntry { name, text } = &actions[0] else { panic!() };
    assert_eq!(name, "bakelite-a-2+3.conf");
    assert!(!text.contains("console=tty1"), "only what k3s needs");
    let mut twice = facts(&["cpu", "cpuset", "pids"], "quiet cgroup_enable=memory cgroup_memory=1");
    twice.loader = Some(Loader {
        selected: "bakelite-a-2.conf".into(),
        entries: [("bakelite-a-2+2-1.conf".into(), text.clone())].into(),
    });
    let Decision::Refuse(fault) = decide(&twice, &settings) else { panic!() };
    assert_eq!(fault.code, Code::K3sNoCgroup);
    assert!(fault.text.contains("memory, although `cgroup_enable"), "{}", fault.text);
    // Debian's kernel: no argument helps.
    let Decision::Refuse(fault) = decide(&once, &with(&[])) else { panic!() };
    assert!(fault.text.contains("knows no argument"), "{}", fault.text);
}

#[test]
fn on_a_system_of_somebody_else_a_person_is_told_what_to_write() {
    let settings = with(&["cgroup_enable=memory", "cgroup_memory=1"]);
    let mut foreign = Facts { cmdline: "root=/dev/sda1 quiet".into(), ..Facts::default() };
    let Decision::Warn(fault) = decide(&foreign, &settings) else { panic!() };
    assert!(fault.text.contains("lacks `cgroup_enable=memory cgroup_memory=1`"), "{}", fault.text);
    for (path, text) in [
        ("/boot/firmware/cmdline.txt", "console=tty1 root=PARTUUID=1-02\r\nrootwait\n\0\0"),
        ("/boot/cmdline.txt", "console=tty1 root=PARTUUID=1-02 rootwait cgroup_enable=cpuset"),
        ("/boot/cmdline.txt", ""),
    ] {
        foreign.files = [(path.to_string(), text.to_string())].into();
        let Decision::Warn(fault) = decide(&foreign, &settings) else { panic!() };
        let line = fault.text.split("restart: ").nth(1).unwrap();
        assert!(fault.text.contains(path) && !line.contains(['\n', '\r', '\0']), "{}", fault.text);
        let kept = if text.is_empty() { "" } else { "console=tty1 root=PARTUUID=1-02 rootwait " };
        assert_eq!(line, format!("{kept}cgroup_enable=memory cgroup_memory=1"));
    }
    foreign.cmdline += " cgroup_enable=memory cgroup_memory=1";
    assert!(matches!(decide(&foreign, &settings), Decision::Skip(_)));
}
