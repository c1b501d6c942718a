//! Power cuts: a machine that is cut before or after any action, once or twice, ends as the machine that wasn't.
//!
//! The world here forgets /run and links at each cut and keeps what an action made durable. Secrets are numbered, so a
//! secret that is made twice shows.

#![expect(clippy::unwrap_used, reason = "a test")]

mod common;

use bakelite_plan::Settings;
use bakelite_plan::action::Action;
use bakelite_plan::address::{DUMMY, LAST};
use bakelite_plan::cluster::CHECKED as DATABASE_CHECKED;
use bakelite_plan::data_disk::DEVICES;
use bakelite_plan::debris::VERIFIED;
use bakelite_plan::facts::{Database, Dummy, Facts, Link, PlacedState};
use bakelite_plan::identity::{DEVICE_KEY, PASSWORD, RECORD, TOKEN};
use bakelite_plan::k3s_config::{CHANGED, CONFIG};
use bakelite_plan::settings::HOST_KEY;
use bakelite_plan::step::{Decision, EARLY, SETTLE, Step};
use bakelite_spec::firewall::RULES;
use bakelite_spec::manifest::{Pass, PlacedFile};
use common::settings;
use serde_json::json;
use std::collections::BTreeMap;

const MANIFEST: &str = "/var/lib/rancher/k3s/server/manifests/bakelite-till.yaml";

fn placed(to: &str, pass: Pass) -> PlacedFile {
    let from = "/usr/lib/bakelite/user/x".into();
    PlacedFile { from, to: to.into(), mode: 0o600, owner: 0, group: 0, quoting: None, pass }
}

/// A machine whose state is kept and whose /run is not.
#[derive(Clone, Default)]
struct Machine {
    kept: BTreeMap<String, String>,
    links: BTreeMap<String, String>,
    hollow: Vec<String>,
    /// Files of the image in other places, with where they come from.
    placed: BTreeMap<String, String>,
    run: BTreeMap<String, String>,
    dummy: Option<Dummy>,
    wired: Vec<Link>,
    address: Option<(String, std::net::IpAddr)>,
    waited: u64,
    waited_for_time: u64,
    secrets: usize,
    payload_checked: Option<String>,
    has_database: bool,
    database_checked: bool,
    unclean: bool,
    looked_for_sets: bool,
    /// The power goes after so many actions.
    fuse: Option<usize>,
    actions: usize,
}

struct Cut;

impl Machine {
    fn facts(&self) -> Facts {
        let secret = |path: &&str| self.kept.contains_key(*path);
        Facts {
            serial: "abc123".into(),
            state_is_durable: true,
            links: self.wired.clone(),
            address: self.address.clone(),
            default_route: self.address.as_ref().is_some_and(|(link, _)| link == "eth0"),
            dummy: self.dummy.clone(),
            files: self.kept.iter().chain(&self.run).map(|(path, text)| (path.clone(), text.clone())).collect(),
            present: [TOKEN, PASSWORD, DEVICE_KEY, HOST_KEY]
                .iter()
                .filter(|path| secret(path))
                .map(ToString::to_string)
                .chain(self.placed.keys().cloned())
                .collect(),
            image_links: self.links.clone(),
            placed: self.placed.keys().map(|path| (path.clone(), PlacedState::Same)).collect(),
            hollow: self.hollow.clone(),
            waited: self.waited,
            waited_for_time: self.waited_for_time,
            payload_checked: self.payload_checked.clone(),
            database: self.has_database.then(|| Database { checked: self.database_checked, ..Database::default() }),
            unclean: self.unclean,
            sets: self.looked_for_sets.then(Vec::new),
            ..Facts::default()
        }
    }

    fn apply(&mut self, action: &Action) -> Result<(), Cut> {
        if self.fuse == Some(self.actions) {
            return Err(Cut);
        }
        self.actions += 1;
        match action.clone() {
            Action::Publish { path, text, .. } => drop(self.kept.insert(path, text)),
            Action::Tell { path, text, .. } => drop(self.run.insert(path, text)),
            Action::LoadRules { rules } => drop(self.run.insert(RULES.into(), rules)),
            Action::MakeSecret { path } | Action::MakeHostKey { path } | Action::MakeDeviceKey { path } => {
                self.secrets += 1;
                assert!(self.kept.insert(path.clone(), format!("secret {path}")).is_none(), "{path} was made twice");
            }
            Action::Link { path, target } => drop(self.links.insert(path, target)),
            Action::Unlink { path } => drop(self.links.remove(&path)),
            Action::SetAside { path } | Action::RemoveFolder { path } | Action::RemoveHollow { path } => {
                self.hollow.retain(|hollow| !hollow.starts_with(&path));
            }
            Action::Place(file) => drop(self.placed.insert(file.to, file.from)),
            Action::Remove { path } => drop(self.placed.remove(&path)),
            Action::AwaitAddress { seconds, .. } => self.waited += seconds,
            Action::AwaitTime { seconds } => self.waited_for_time += seconds,
            Action::MakeDummy { addresses } => {
                self.dummy = Some(Dummy { addresses: addresses.into_iter().chain([DUMMY]).collect() });
            }
            Action::RemoveDummy => self.dummy = None,
            Action::VerifyPayload { .. } => self.payload_checked = Some(String::new()),
            Action::PrepareDatabase { .. } => self.has_database = true,
            Action::CheckDatabase { .. } => self.database_checked = true,
            Action::LookForSets => self.looked_for_sets = true,
            Action::VerifyUnpacked { .. } | Action::Sync { .. } => {}
            other => panic!("{other:?} on a machine without a data disk"),
        }
        Ok(())
    }

    fn power_cut(&mut self) {
        self.payload_checked = None;
        self.database_checked = false;
        self.looked_for_sets = false;
        self.unclean = true;
        self.run.clear();
        self.placed.retain(|path, _| !path.starts_with("/run/"));
        self.dummy = None;
        (self.waited, self.waited_for_time) = (0, 0);
        self.actions = 0;
        self.fuse = None;
    }

    /// One boot; `Err` is a power cut.
    fn boot(&mut self, settings: &Settings) -> Result<Vec<(&'static str, Decision)>, Cut> {
        let mut decisions = Vec::new();
        for step in EARLY.iter().chain(SETTLE) {
            decisions.push((step.name, self.settle(step, settings)?));
        }
        Ok(decisions)
    }

    fn settle(&mut self, step: &Step, settings: &Settings) -> Result<Decision, Cut> {
        for _ in 0..8 {
            let decision = (step.decide)(&self.facts(), settings);
            let Decision::Run(_, actions) = &decision else { return Ok(decision) };
            actions.iter().try_for_each(|action| self.apply(action))?;
        }
        panic!("{} never comes to an end", step.name);
    }

    fn run_to_end(&mut self, settings: &Settings) -> usize {
        let mut boots = 1;
        while self.boot(settings).is_err() {
            self.power_cut();
            boots += 1;
            assert!(boots < 9);
        }
        // Only a boot that had no identity yet notes its disks.
        self.run.remove(DEVICES);
        boots
    }
}

fn decide(steps: &[Step], name: &str, facts: &Facts, settings: &Settings) -> Decision {
    (steps.iter().find(|step| step.name == name).unwrap().decide)(facts, settings)
}

#[test]
fn every_cut_ends_in_the_same_machine() {
    let with_link =
        Machine { wired: vec![Link { name: "eth0".into(), carrier: true, ..Link::default() }], ..Machine::default() };
    let with_address = Machine { address: Some(("eth0".into(), "10.0.0.2".parse().unwrap())), ..with_link.clone() };
    let mut runs = 0;
    for fresh in [Machine::default(), with_link, with_address] {
        let mut settings = settings(&json!({ "ssh": { "keys": ["ssh-ed25519 AAAA"] } }));
        settings.manifest.user.placed =
            vec![placed("/run/bakelite/files/etc/x", Pass::Early), placed(MANIFEST, Pass::Settle)];
        let mut whole = fresh.clone();
        whole.run_to_end(&settings);
        whole.run.remove(CHANGED);
        let total = whole.actions;
        assert!(total > 8, "only {total} actions");
        for first in 0..=total {
            for second in 0..=total {
                let mut machine = Machine { fuse: Some(first), ..fresh.clone() };
                if machine.boot(&settings).is_err() {
                    machine.power_cut();
                    machine.fuse = Some(second);
                }
                machine.run_to_end(&settings);
                // Whether a running payload has to be started again; after a cut none runs.
                machine.run.remove(CHANGED);
                // A boot without a cut before it has nothing to verify.
                machine.run.remove(VERIFIED);
                machine.run.remove(DATABASE_CHECKED);
                assert_eq!((&machine.kept, &machine.links, &machine.run), (&whole.kept, &whole.links, &whole.run));
                assert_eq!(machine.placed, whole.placed);
                assert_eq!(machine.secrets, 4, "cut at {first} and {second}");
                runs += 1;
            }
        }
    }
    eprintln!("{runs} runs with two cuts each, all end the same");
}

#[test]
fn a_finished_machine_changes_nothing_on_its_media() {
    let settings = settings(&json!({}));
    let mut machine = Machine::default();
    machine.run_to_end(&settings);
    let kept = machine.kept.clone();
    machine.power_cut();
    let before = machine.kept.len();
    assert!(machine.boot(&settings).is_ok());
    assert_eq!((machine.kept.len(), machine.secrets), (before, 4));
    assert_eq!(machine.kept, kept);
}

#[test]
fn a_new_pattern_renames_nobody() {
    let mut machine = Machine::default();
    machine.run_to_end(&settings(&json!({ "hostname": "old-{serial}" })));
    machine.power_cut();
    machine.run_to_end(&settings(&json!({ "hostname": "new-{serial}" })));
    assert!(machine.kept[RECORD].contains("old-abc123"));
    assert!(machine.kept[CONFIG].contains("node-name: \"old-abc123\""));
}

#[test]
fn without_a_durable_state_or_with_a_broken_record_there_is_no_identity_but_there_are_settings() {
    let settings = settings(&json!({}));
    let volatile = Facts { state_is_durable: false, serial: "abc".into(), ..Facts::default() };
    let broken = Facts { state_is_durable: true, files: [(RECORD.into(), "\0\0".into())].into(), ..Facts::default() };
    for facts in [volatile, broken] {
        assert_eq!(decide(EARLY, "identity", &facts, &settings).kind(), "refuse");
        assert_eq!(decide(EARLY, "settings", &facts, &settings).kind(), "run");
    }
}

#[test]
fn k3s_gets_the_real_address_else_the_last_one_else_the_stand_ins() {
    let settings =
        settings(&json!({ "k3s": { "config": { "write-kubeconfig-mode": "0644", "disable": ["traefik"] } } }));
    let mut machine = Machine::default();
    machine.run_to_end(&settings);
    assert!(machine.kept[CONFIG].contains("node-ip: \"203.0.113.254\""));
    assert!(!machine.kept[CONFIG].contains("tls-san: [\"bakelite-abc123\",\"bakelite-abc123.local\",\"203"));
    machine.address = Some(("eth0".into(), "10.0.0.2".parse().unwrap()));
    machine.run_to_end(&settings);
    assert!(machine.dummy.is_none(), "the stand-in goes when a real address comes");
    assert_eq!(machine.kept[LAST], "10.0.0.2\n");
    machine.address = None;
    machine.power_cut();
    machine.run_to_end(&settings);
    assert!(machine.kept[CONFIG].contains("node-ip: \"10.0.0.2\""), "without a network the node keeps its address");
    assert!(machine.dummy.as_ref().is_some_and(|dummy| dummy.addresses.contains(&"10.0.0.2".parse().unwrap())));
    assert!(machine.kept[CONFIG].contains("write-kubeconfig-mode: \"0644\""), "the user's keys win, quoted");
    assert!(machine.kept[CONFIG].contains("token-file: \"/var/lib/bakelite/token\""));
}

#[test]
fn a_network_without_a_gateway_gets_a_route_that_leads_nowhere_and_keeps_its_address() {
    let settings = settings(&json!({}));
    let mut machine = Machine { address: Some(("lan".into(), "10.9.0.2".parse().unwrap())), ..Machine::default() };
    machine.run_to_end(&settings);
    assert!(machine.dummy.is_some());
    assert!(machine.kept[CONFIG].contains("node-ip: \"10.9.0.2\""));
}

#[test]
fn what_a_pulled_plug_left_empty_goes_and_tls_goes_before_cred() {
    let settings = settings(&json!({}));
    let hollow = [
        "/var/lib/rancher/k3s/server/cred/passwd",
        "/var/lib/rancher/k3s/data/0123/bin/k3s",
        "/var/lib/rancher/k3s/data/0123/bin/aux/ip",
        "/var/lib/kubelet/cpu_manager_state",
    ];
    let facts = Facts { hollow: hollow.map(String::from).to_vec(), ..Facts::default() };
    let Decision::Run(_, actions) = decide(SETTLE, "debris", &facts, &settings) else { panic!("nothing is done") };
    assert_eq!(
        actions,
        [
            Action::SetAside { path: "/var/lib/rancher/k3s/server/tls".into() },
            Action::SetAside { path: "/var/lib/rancher/k3s/server/cred".into() },
            Action::RemoveFolder { path: "/var/lib/rancher/k3s/data/0123".into() },
            Action::RemoveHollow { path: "/var/lib/kubelet/cpu_manager_state".into() },
        ]
    );
    let mut machine = Machine { hollow: facts.hollow, ..Machine::default() };
    machine.run_to_end(&settings);
    assert!(machine.hollow.is_empty());
}

#[test]
fn archives_of_an_older_image_go_and_a_users_own_stay() {
    let settings = settings(&json!({}));
    let mut machine = Machine::default();
    let folder = bakelite_plan::payload::IMAGES;
    machine.links.insert(format!("{folder}/k3s-old.tar.zst"), "/usr/lib/bakelite/payload/k3s-old.tar.zst".into());
    machine.links.insert(format!("{folder}/mine.tar"), "/data/mine.tar".into());
    machine.run_to_end(&settings);
    let names: Vec<_> = machine.links.keys().map(|path| path.rsplit('/').next().unwrap()).collect();
    assert_eq!(names, ["k3s-airgap-images-amd64-0123456789ab.tar.zst", "mine.tar"]);
}

#[test]
fn static_links_are_matched_by_mac_and_by_path() {
    let settings = settings(&json!({ "network": { "dns": ["9.9.9.9"], "links": [
        { "mac": "DC:A6:32:01:02:03", "address": "192.168.1.10/24", "gateway": "192.168.1.1" },
        { "path": "pci0000:00/0000:00:02.0", "dhcp": false },
    ] } }));
    let link = |name: &str, mac: &str, path: &str| Link {
        name: name.into(),
        mac: mac.into(),
        path: path.into(),
        carrier: true,
    };
    let wired = vec![
        link("eth0", "dc:a6:32:01:02:03", "pci0000:00/0000:00:01.0"),
        link("eth1", "dc:a6:32:01:02:04", "pci0000:00/0000:00:02.0/virtio1"),
        link("eth2", "dc:a6:32:01:02:05", "pci0000:00/0000:00:02.0x"),
    ];
    let mut machine = Machine { wired, ..Machine::default() };
    machine.run_to_end(&settings);
    let text = &machine.run["/run/bakelite/dhcpcd.conf"];
    assert!(text.contains("interface eth0\nstatic ip_address=192.168.1.10/24\nstatic routers=192.168.1.1\n"), "{text}");
    assert!(text.contains("interface eth1\nnodhcp\n"), "{text}");
    assert!(!text.contains("interface eth2"), "{text}");
    assert_eq!(machine.run["/run/bakelite/resolv.conf"], "nameserver 9.9.9.9\n");
}

#[test]
fn placed_files_go_with_the_image_and_a_users_own_stay_whatever_is_cut() {
    let mut old = settings(&json!({}));
    old.manifest.user.placed =
        vec![placed(MANIFEST, Pass::Settle), placed("/etc/rancher/k3s/registries.yaml", Pass::Settle)];
    let other = MANIFEST.replace("till", "web");
    let mut new = settings(&json!({}));
    new.manifest.user.placed = vec![placed(&other, Pass::Settle)];
    let own = "/var/lib/rancher/k3s/server/manifests/mine.yaml".to_string();
    let mut before = Machine::default();
    before.placed.insert(own.clone(), String::new());
    before.run_to_end(&old);
    assert_eq!(before.placed.len(), 3);
    assert!(before.run.contains_key(bakelite_plan::k3s_config::CHANGED));
    before.power_cut();
    for cut in 0..20 {
        let mut machine = Machine { fuse: Some(cut), ..before.clone() };
        machine.run_to_end(&new);
        let places: Vec<&String> = machine.placed.keys().collect();
        assert_eq!(places, [&other, &own], "cut at {cut}");
        assert_eq!(machine.kept[bakelite_plan::placed::RECORD], format!("[{other:?}]\n"));
    }
    // Without the record nothing is taken away: whose it was can't be known.
    let mut forgetful = before.clone();
    forgetful.kept.remove(bakelite_plan::placed::RECORD);
    forgetful.run_to_end(&new);
    assert_eq!(forgetful.placed.len(), 4);
}

#[test]
fn a_missing_secret_is_a_warning_that_names_it_and_all_else_goes_on() {
    let mut settings = settings(&json!({}));
    settings.manifest.user.placed =
        vec![placed("/run/bakelite/files/etc/a", Pass::Early), placed("/run/bakelite/files/etc/b", Pass::Early)];
    let lacks = PlacedState::Lacks(vec!["till-db".into()]);
    let mut facts = Facts { placed: [("/run/bakelite/files/etc/a".into(), lacks)].into(), ..Facts::default() };
    let decide = EARLY.iter().find(|step| step.name == "files").unwrap().decide;
    let Decision::Run(_, actions) = decide(&facts, &settings) else { panic!("the other file is made") };
    assert_eq!(actions, [Action::Place(placed("/run/bakelite/files/etc/b", Pass::Early))]);
    facts.placed.insert("/run/bakelite/files/etc/b".into(), PlacedState::Same);
    let Decision::Warn(fault) = decide(&facts, &settings) else { panic!("no warning") };
    assert_eq!(fault.text, "/run/bakelite/files/etc/a needs till-db");
}
