//! What a boot does about apps, how those that are tried end, and which bundles fit.

use super::*;
use crate::testing::settings;
use crate::{cluster, restore};
use bakelite_spec::apps::MANIFESTS;
use bakelite_spec::bundle::{APPS, Bundle, Part};
use serde_json::json;

const BORN: &str =
    r#"{"format":1,"epoch":0,"node":"shop-1","datastore":"sqlite","row":"r","revision":9,"k3s":"v1.36.2+k3s1"}"#;

fn machine() -> (Facts, Settings) {
    let mut settings = settings(&json!({ "image": { "name": "till", "version": "1.4" } }));
    settings.manifest.appliance = "1.4".into();
    let files = [(cluster::ON_STATE.to_string(), BORN.to_string())].into();
    let facts =
        Facts { state_is_durable: true, payload_ran: true, boot: "one".into(), uptime: 50, files, ..Facts::default() };
    (facts, settings)
}

fn bundle(version: &str) -> Bundle {
    let part = |name: &str, to: Option<String>| Part {
        name: name.into(),
        size: 7,
        sha256: format!("{name}-{version}").replace('/', "-"),
        to,
        ..Part::default()
    };
    let to = format!("{MANIFESTS}/bakelite-till.yaml");
    Bundle {
        kind: APPS.into(),
        name: "till".into(),
        version: version.into(),
        image: format!("id-{version}"),
        board: "qemu-x86_64".into(),
        parts: vec![part("images/till.tar", None), part("manifests/bakelite-till.yaml", Some(to))],
        ..Bundle::default()
    }
}

/// The machine with a bundle in that is tried in boot `one`.
fn with(facts: &Facts, version: &str) -> Facts {
    let before = of(facts);
    let apps = Apps::of(&bundle(version), 3, before.apps.as_ref(), before.round + 1);
    let trial = Trial { boot: "one".into(), since: 50, starts: STARTS, ..Trial::default() };
    keeping(facts, &before.begun(apps, trial))
}

fn keeping(facts: &Facts, record: &Record) -> Facts {
    let mut facts = facts.clone();
    facts.files.insert(RECORD.into(), json(record));
    facts.stored.extend(record.apps.iter().flat_map(Apps::stored));
    facts
}

/// Does what a decision wants written.
fn done(facts: &Facts, decision: &Decision) -> Facts {
    let mut facts = facts.clone();
    let Decision::Run(_, actions) = decision else { panic!("{decision:?}") };
    for action in actions {
        match action {
            Action::Publish { path, text, .. } => drop(facts.files.insert(path.clone(), text.clone())),
            Action::RemoveFolder { path } => {
                let folder = path.strip_prefix(STORE).unwrap().trim_start_matches('/').to_string() + "/";
                facts.stored.retain(|path, _| !path.starts_with(&folder));
            }
            other => panic!("{other:?}"),
        }
    }
    facts
}

#[test]
fn starts_are_counted_and_after_the_last_one_what_was_there_counts_again() {
    let (facts, settings) = machine();
    let mut facts = with(&facts, "1.5");
    assert_eq!(decide(&facts, &settings), Decision::Done("apps 1.5 (id-1.5) are tried".into()));
    for boot in ["two", "three", "four"] {
        (facts.boot, facts.uptime) = (boot.into(), 20);
        facts = done(&facts, &decide(&facts, &settings));
        let trial = of(&facts).trial.unwrap();
        assert_eq!((trial.boot.as_str(), trial.since), (boot, 20));
        assert_eq!(decide(&facts, &settings).kind(), "done");
    }
    facts.boot = "five".into();
    facts = done(&facts, &decide(&facts, &settings));
    assert!(of(&facts).apps.is_none() && laid(&facts, &settings).payload == settings.manifest.payload);
    facts.payload_ran = false;
    let swept = decide(&facts, &settings);
    assert!(matches!(&swept, Decision::Run(why, actions) if actions.len() == 2 && why.starts_with("2 folder(s)")));
    let Decision::Without(fault) = decide(&done(&facts, &swept), &settings) else { panic!("nobody is told") };
    assert!(fault.text.contains("went back to the image's own: in 3 starts"), "{}", fault.text);
}

#[test]
fn nothing_goes_from_the_store_while_a_bundle_may_be_written() {
    let (facts, settings) = machine();
    let facts = Facts { stored: [("half/till.tar".to_string(), 3)].into(), ..facts };
    assert_eq!(decide(&facts, &settings).kind(), "done");
    let before_k3s = Facts { payload_ran: false, ..facts };
    assert_eq!(decide(&before_k3s, &settings).kind(), "run");
}

#[test]
fn a_file_that_is_gone_takes_back_what_is_tried_and_nothing_else() {
    let (facts, settings) = machine();
    let good = of(&with(&facts, "1.5")).proved();
    let mut facts = with(&keeping(&facts, &good), "1.6");
    facts.stored.retain(|path, _| !path.contains("till.yaml-1.6"));
    facts = done(&facts, &decide(&facts, &settings));
    assert_eq!(of(&facts).apps.unwrap().version, "1.5");
    assert!(last(&facts).unwrap().words().contains("isn't in the store any more; bring the bundle once more"));
    assert!(judge(&bundle("1.5"), &facts, &settings).unwrap_err().contains("are what is in"));
    // What has proved itself stays, and is said to lack something until it is brought again.
    facts.stored.clear();
    assert!(
        matches!(decide(&facts, &settings), Decision::Without(fault) if fault.text.contains("images-till.tar-1.5"))
    );
    assert_eq!(judge(&bundle("1.5"), &facts, &settings), Ok(()));
    facts.files.insert(RECORD.into(), "{".into());
    assert!(matches!(decide(&facts, &settings), Decision::Without(fault) if fault.text.contains("can't be read")));
}

#[test]
fn what_is_tried_ends_well_once_nothing_is_missing_for_a_while_and_badly_when_its_time_is_over() {
    let trial = Trial { since: 100, ..Trial::default() };
    assert_eq!(verdict(&trial, 130, 300, "till", false), Verdict::Wait);
    assert_eq!(verdict(&trial, 200, 300, "", false), Verdict::Wait);
    assert_eq!(verdict(&trial, 200, 300, "", true), Verdict::Good);
    assert_eq!(verdict(&trial, 399, 300, "till", false), Verdict::Wait);
    let back = "after 300 s something is still missing: till";
    assert_eq!(verdict(&trial, 400, 300, "till", false), Verdict::Back(back.into()));
    assert!(matches!(verdict(&trial, 400, 300, "", false), Verdict::Back(why) if why.contains("steady")));
}

#[test]
fn an_image_that_contains_them_gets_rid_of_them_once_nothing_leads_back() {
    let (facts, mut settings) = machine();
    let facts = keeping(&facts, &of(&with(&facts, "1.5")).proved());
    let good = Facts { present: vec![paths::GOOD.into()], ..facts.clone() };
    assert_eq!(leave_to_the_image(&good, &settings).kind(), "done");
    settings.manifest.appliance = "1.5".into();
    assert_eq!(leave_to_the_image(&facts, &settings).kind(), "done", "not a good boot yet");
    let mut updating = good.clone();
    updating.files.insert(update::PATH.into(), "{}".into());
    assert_eq!(leave_to_the_image(&updating, &settings).kind(), "done");
    let left = done(&good, &leave_to_the_image(&good, &settings));
    assert!(left.stored.is_empty() && of(&left).apps.is_none());
    assert_eq!(leave_to_the_image(&left, &settings).kind(), "done");
}

#[test]
fn a_bundle_fits_or_is_told_why_not() {
    let (facts, settings) = machine();
    let judged = |bundle: &Bundle| crate::update::judge(bundle, &facts, &settings);
    assert_eq!(judged(&bundle("1.5")), Ok(()));
    let astray = |name: &str, to: &str| {
        let mut bundle = bundle("1.5");
        (bundle.parts[1].name, bundle.parts[1].to) = (name.into(), Some(to.into()));
        bundle
    };
    let manifest = format!("{MANIFESTS}/bakelite-till.yaml");
    for (bundle, why) in [
        (Bundle { board: "rpi4".into(), ..bundle("1.5") }, "for the board rpi4, and this is qemu-x86_64"),
        (Bundle { name: "kiosk".into(), ..bundle("1.5") }, "it is of `kiosk`, and this machine is `till`"),
        (bundle("1.4"), "it isn't newer: its version is 1.4, and the system has 1.4"),
        (bundle("1.3"), "it isn't newer"),
        (Bundle { after: "1.4.1".into(), ..bundle("1.5") }, "it goes upon 1.4.1 and later, and 1.4 runs here"),
        (Bundle { until: "1.3".into(), ..bundle("1.5") }, "it goes upon 1.3 and earlier, and 1.4 runs here"),
        (astray("manifests/passwd", "/etc/passwd"), "would go where nothing of a bundle goes"),
        (astray("manifests/x", &manifest), "would go where nothing of a bundle goes"),
        (astray("images/..", &manifest), "would go where nothing of a bundle goes"),
    ] {
        let said = judged(&bundle).unwrap_err();
        assert!(said.contains(why), "{why}: {said}");
    }
    let bare = settings_with(&settings, |settings| settings.appliance.image.version = None);
    assert_eq!(judge(&bundle("0.1"), &facts, &settings_with(&bare, |s| s.manifest.appliance.clear())), Ok(()));
}

fn settings_with(settings: &Settings, change: impl Fn(&mut Settings)) -> Settings {
    let mut settings = settings.clone();
    change(&mut settings);
    settings
}

#[test]
fn a_machine_that_has_something_else_to_end_first_takes_none() {
    let (facts, settings) = machine();
    let said = |facts: &Facts, version: &str| judge(&bundle(version), facts, &settings).unwrap_err();
    let tried = with(&facts, "1.5");
    assert!(said(&tried, "1.5").contains("apps 1.5 (id-1.5) are what is in"));
    assert!(said(&tried, "1.6").contains("apps 1.5 (id-1.5) are still being tried"));
    let good = keeping(&facts, &of(&tried).proved());
    assert!(said(&good, "1.4.9").contains("its version is 1.4.9, and the apps that are in have 1.5"));
    assert_eq!(judge(&bundle("1.6"), &good, &settings), Ok(()));
    let mut update = facts.clone();
    update.files.insert(update::PATH.into(), json(&update::Update { tries: 2, ..update::Update::default() }));
    assert!(said(&update, "1.5").contains("is still being tried"));
    let mut asked = facts.clone();
    asked.files.insert(restore::WORD.into(), "{}".into());
    assert!(said(&asked, "1.5").contains("a backup is being restored"));
    assert!(said(&Facts { payload_ran: false, ..facts.clone() }, "1.5").contains("k3s has yet to become ready"));
    assert!(said(&Facts { power_is_low: true, ..facts.clone() }, "1.5").contains("voltage was too low"));
    let etcd = settings_with(&settings, |settings| settings.appliance.k3s.cluster_init = true);
    assert!(judge(&bundle("1.5"), &facts, &etcd).unwrap_err().contains("isn't in SQLite"));
}
