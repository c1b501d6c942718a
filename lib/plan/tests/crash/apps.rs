//! A bundle of apps whatever moment the plug is pulled: k3s finds the old ones as a whole, or the new ones, and the store
//! holds what counts and nothing else.

use crate::bench::{Bench, Mutation};
use crate::cuts::NESTED;
use crate::starts::used_card_blank_disk;
use bakelite_plan::{apps, payload};
use bakelite_spec::apps::{ARCHIVES, Apps, Ended, LAST, MANIFESTS, NOTHING, Record, STARTS, STORE, Trial};
use bakelite_spec::bundle::{Bundle, Part};
use bakelite_spec::manifest::{Pass, PayloadFile, PlacedFile};
use std::collections::BTreeMap;

/// How the new apps are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum New {
    Good,
    /// A workload of theirs never becomes available.
    Lacking,
    /// The machine goes down each time before anything is judged.
    Hanging,
}

/// A bundle with two manifests and an archive of its own, and one that all have. Digests are what the files hold.
fn bundle(version: &str) -> (Bundle, Vec<(String, String)>) {
    let part = |name: &str, text: String, to: Option<String>| {
        let part = Part {
            name: format!("x/{name}"),
            size: text.len() as u64,
            sha256: format!("sum-{text}"),
            to,
            ..Part::default()
        };
        (part, (format!("sum-{text}/{name}"), text))
    };
    let manifest = |name: &str| {
        let name = format!("bakelite-{name}.yaml");
        part(&name, format!("{name} of {version}"), Some(format!("{MANIFESTS}/{name}")))
    };
    let parts = [
        part("till.tar", format!("till of {version}"), None),
        part("base.tar", "base".into(), None),
        manifest("till"),
        manifest(&format!("only-{version}")),
    ];
    let (parts, files) = parts.into_iter().unzip();
    (Bundle { version: version.into(), image: format!("id-{version}"), parts, ..Bundle::default() }, files)
}

fn begun(before: &Record, version: &str, boot: &str) -> Record {
    let apps = Apps::of(&bundle(version).0, 0, before.apps.as_ref(), before.round + 1);
    before.begun(apps, Trial { boot: boot.into(), starts: STARTS, ..Trial::default() })
}

/// A machine whose image has apps of its own; with `first`, a bundle is in already.
fn machine(first: bool) -> Bench {
    let mut machine = Bench { media: Vec::new(), ..used_card_blank_disk() };
    let manifest = &mut machine.settings.manifest;
    let own = |name: &str| PlacedFile {
        from: format!("/usr/lib/bakelite/user/manifests/{name}"),
        to: format!("{MANIFESTS}/{name}"),
        mode: 0o600,
        owner: 0,
        group: 0,
        quoting: None,
        pass: Pass::Settle,
    };
    manifest.user.placed = vec![own("bakelite-own.yaml"), own("bakelite-till.yaml")];
    let archive = format!("{ARCHIVES}/till.tar");
    manifest.payload.files.push(PayloadFile { path: archive, size: 1, sha256: "own".into(), images: true });
    machine.card.live.insert(payload::VERIFIED.into(), format!("{}\n", manifest.image));
    machine.card.sync();
    let settled = |machine: &mut Bench| assert!(machine.settle_apps().is_ok());
    settled(&mut machine);
    if first {
        machine.ran = true;
        let boot = machine.facts().boot;
        let done = machine.lay(&bundle("1.1").1, &begun(&Record::default(), "1.1", &boot)).is_ok();
        settled(&mut machine);
        assert!(done && machine.end_trial("").is_ok());
        settled(&mut machine);
    }
    machine.card.sync();
    machine.effects = 0;
    machine
}

/// What k3s finds: the manifests, and the archives without the rounds of their names.
fn found(machine: &Bench) -> BTreeMap<String, String> {
    let facts = machine.facts();
    let manifests = machine.card.live.iter().filter(|(path, _)| path.starts_with(MANIFESTS) && path.ends_with(".yaml"));
    // What k3s is to delete is as good as gone.
    let manifests = manifests.filter(|(_, text)| *text != NOTHING).map(|(path, text)| (path.clone(), text.clone()));
    let archives = facts.image_links.into_values().map(|target| {
        let holds =
            if target.starts_with(STORE) { machine.text(&target).unwrap_or_default() } else { "of the image".into() };
        (target, holds)
    });
    manifests.chain(archives).collect()
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome {
    found: BTreeMap<String, String>,
    stored: Vec<String>,
    why: bool,
    effects: usize,
}

/// One boot, or with `now` what follows in this one, up to its end.
fn go_on(machine: &mut Bench, new: New, boots: bool) -> Result<bool, crate::bench::Cut> {
    machine.ran = !boots;
    machine.settle_apps()?;
    machine.ran = true;
    if apps::of(&machine.facts()).trial.is_none() {
        return Ok(true);
    }
    match new {
        New::Hanging => return Ok(false),
        New::Good => machine.end_trial("")?,
        New::Lacking => machine.end_trial("something is missing")?,
    }
    machine.settle_apps()?;
    Ok(true)
}

/// Takes the bundle and goes on to the end, cut after so many effects, and once more so many after that.
fn run(start: &Bench, new: New, cuts: &[usize], seed: u64) -> Outcome {
    let mut machine = Bench { seed: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, ..start.clone() };
    let mut cuts = cuts.iter().copied();
    machine.fuse = cuts.next();
    let before = apps::of(&machine.facts());
    let record = begun(&before, "1.2", &machine.facts().boot);
    machine.ran = true;
    let mut ended = machine.lay(&bundle("1.2").1, &record).and_then(|()| go_on(&mut machine, new, false));
    let (mut boots, mut effects) = (0, 0);
    loop {
        effects += machine.effects;
        if matches!(ended, Ok(true)) {
            break;
        }
        machine.power_cut();
        boots += 1;
        assert!(boots < 12, "never comes to an end");
        machine.fuse = if ended.is_err() { cuts.next() } else { None };
        ended = go_on(&mut machine, new, true);
    }
    // One more boot in order, which puts away what a cut has left.
    machine.card.sync();
    machine.power_cut();
    assert!(matches!(go_on(&mut machine, new, true), Ok(true)));
    let ended = machine.text(LAST).map(|text| serde_json::from_str::<Ended>(&text).unwrap());
    let facts = machine.facts();
    let of_this = ended.filter(|ended| ended.id == "id-1.2");
    Outcome {
        found: found(&machine),
        stored: facts.stored.into_keys().collect(),
        why: of_this.is_some_and(|ended| !ended.why.is_empty()),
        effects,
    }
}

/// Writes, syncs and renames until the record is on the medium: after a cut before that the machine knows of no bundle.
fn recorded(start: &Bench) -> usize {
    let mut machine = start.clone();
    let record = begun(&apps::of(&machine.facts()), "1.2", &machine.facts().boot);
    assert!(machine.lay(&bundle("1.2").1, &record).is_ok());
    machine.effects
}

fn is_as_wanted(start: &Bench, new: New, cut: usize, outcome: &Outcome) -> bool {
    let mut files = bundle("1.2").1;
    files.sort();
    let stored: Vec<String> = files.iter().map(|(path, _)| path.clone()).collect();
    let manifests = ["bakelite-only-1.2.yaml", "bakelite-till.yaml"];
    let manifests = manifests.map(|name| (format!("{MANIFESTS}/{name}"), format!("{name} of 1.2")));
    let archives = files.iter().filter(|(path, _)| path.ends_with(".tar"));
    let archives = archives.map(|(path, text)| (format!("{STORE}/{path}"), text.clone()));
    let k3s = start.settings.manifest.payload.files[1].path.clone();
    let found_new = manifests.into_iter().chain(archives).chain([(k3s, "of the image".into())]).collect();
    let is_new = outcome.found == found_new && outcome.stored == stored && !outcome.why;
    let is_old = outcome.found == found(start) && outcome.stored.iter().eq(start.facts().stored.keys());
    if cut < recorded(start) && is_old && !outcome.why {
        return true;
    }
    if new == New::Good { is_new } else { is_old && outcome.why }
}

#[test]
fn apps_are_the_old_or_the_new_ones_whatever_moment_the_plug_is_pulled() {
    for (first, new) in
        [false, true].into_iter().flat_map(|first| [New::Good, New::Lacking, New::Hanging].map(|new| (first, new)))
    {
        let start = machine(first);
        let whole = run(&start, new, &[], 1);
        assert!(is_as_wanted(&start, new, usize::MAX, &whole), "{new:?}: {whole:#?}");
        let mut runs = 0;
        for (cut, seed) in
            (0..=whole.effects).flat_map(|cut| (1..=crate::updates::adversaries(40)).map(move |seed| (cut, seed)))
        {
            let outcome = run(&start, new, &[cut], seed);
            assert!(is_as_wanted(&start, new, cut, &outcome), "{new:?}: cut at {cut}, adversary {seed}: {outcome:#?}");
            runs += 1;
        }
        for (cut, second) in
            (0..=whole.effects).flat_map(|cut| (cut % 5..=40).step_by(5).map(move |second| (cut, second)))
        {
            let outcome = run(&start, new, &[cut, second], 1 + (cut as u64 * 31 + second as u64) % NESTED);
            assert!(is_as_wanted(&start, new, cut, &outcome), "{new:?}: cuts at {cut} and {second}: {outcome:#?}");
            runs += 1;
        }
        eprintln!("{new:?}, with a bundle before: {first}: {} effects, {runs} runs with cuts", whole.effects);
    }
}

/// How many cuts find something wrong.
fn wrong(mutation: Mutation, new: New) -> usize {
    std::panic::set_hook(Box::new(|_| {}));
    let start = machine(true);
    let broken = Bench { mutation: Some(mutation), ..start.clone() };
    let is_wrong = |cut: &usize| {
        (1..=8).any(|seed| {
            let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&broken, new, &[*cut], seed)));
            !ran.is_ok_and(|outcome| is_as_wanted(&start, new, *cut, &outcome))
        })
    };
    let found = (0..80).filter(is_wrong).count();
    drop(std::panic::take_hook());
    found
}

#[test]
fn apps_that_break_a_rule_are_found_out() {
    for (mutation, new) in
        [(Mutation::LaidFirst, New::Good), (Mutation::SweptFirst, New::Lacking), (Mutation::NoSync, New::Good)]
    {
        let found = wrong(mutation, new);
        assert!(found > 0, "{mutation:?} is not found");
        eprintln!("{mutation:?}: {found} cuts find it");
    }
}
