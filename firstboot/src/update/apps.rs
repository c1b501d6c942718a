//! Apps: archives, manifests and charts of a bundle go into the store beside k3s's data, and one record makes them count.
//!
//! Each file is written once, synced, read back, and gets its place in the store only as what was signed. The record names
//! all of them and what was there before, and comes last, in one rename; until then nothing but room was used. k3s, which
//! runs on, finds them by the passes that follow each change; whether they prove themselves is the keeper's to see.

use super::attempt::Attempt;
use super::{Tell, refused, slot};
use crate::disks::Looked;
use crate::error::FirstbootError;
use crate::probe;
use crate::relocate::LIMIT;
use bakelite_datastore::workloads;
use bakelite_plan::facts::Facts;
use bakelite_plan::home::json;
use bakelite_plan::update::judge;
use bakelite_plan::{Settings, apps, cluster};
use bakelite_spec::apps::{Apps, INCOMING, RECORD, Record, STARTS, STORE, Trial, manifest_name};
use bakelite_spec::bundle::{Bundle, Part};
use bakelite_spec::manifest::Manifest;
use bakelite_spec::quantity::Size;
use bakelite_spec::status::paths;
use bakelite_spec::workload;
use bakelite_sys::sum::pour;
use bakelite_sys::{SysError, durable, mount, names_in, read_text, socket};
use bakelite_trust::bundle::BundleError;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// What has to be left over.
const SPARE: u64 = 64 << 20;
/// k3s's own archive unpacks to some three times its size (k3s.md 5.6).
const UNPACKED: u64 = 3;

/// The store below a root.
fn store(root: &Path) -> PathBuf {
    root.join(STORE.trim_start_matches('/'))
}

/// A part's place in the store.
fn place(root: &Path, part: &Part) -> PathBuf {
    let name = part.name.rsplit('/').next().unwrap_or_default();
    store(root).join(&part.sha256).join(name)
}

/// Whether a part is there already: it gets its place only once it was whole.
fn is_there(root: &Path, part: &Part) -> bool {
    place(root, part).metadata().is_ok_and(|found| found.is_file() && found.len() == part.size)
}

/// Whether what is there and what comes have room at once, with what k3s unpacks.
///
/// # Errors
/// The numbers.
pub fn room(root: &Path, bundle: &Bundle) -> Result<(), FirstbootError> {
    let new = || bundle.parts.iter().filter(|part| !is_there(root, part));
    let needed: u64 = new().map(|part| part.size).sum();
    let unpacked = |part: &Part| part.size * if part.name.ends_with(".tar") { 1 } else { UNPACKED };
    let unpacked: u64 = new().filter(|part| part.to.is_none()).map(unpacked).sum();
    let free = mount::free(&root.join("var/lib/rancher"));
    if needed + unpacked + SPARE <= free {
        return Ok(());
    }
    let [needed, unpacked, free] = [needed, unpacked, free].map(|bytes| Size(bytes).human());
    let why = format!(
        "its files take {needed} and unpacked by k3s some {unpacked} more, and {free} are free beside k3s's data; make room there"
    );
    Err(refused(bundle, &why))
}

/// Makes the store ready for a bundle that fits.
///
/// # Errors
/// When it doesn't bring what is held, there is no room, or something can't be removed.
pub fn begin(
    root: &Path,
    bundle: &Bundle,
    facts: &Facts,
    settings: &Settings,
    tell: Tell<'_>,
) -> Result<(), FirstbootError> {
    keeps_by_its_word(bundle, facts, settings)?;
    let record = apps::of(facts);
    let kept = record.digests();
    // What a cut has left there is of use for this bundle, or for none.
    let is_of_use = |name: &str| kept.contains(name) || bundle.parts.iter().any(|part| part.sha256 == name);
    let store = store(root);
    for name in names_in(&store).into_iter().filter(|name| !is_of_use(name)) {
        durable::remove_tree(&store.join(name))?;
    }
    room(root, bundle)?;
    tell(&format!("{} is signed by an owner and fits; it is put beside k3s's data, and k3s runs on.", bundle.words()));
    let incoming = store.join(INCOMING);
    durable::make_folder(&incoming)?;
    Ok(incoming.ancestors().skip(1).take(4).try_for_each(durable::sync_folder)?)
}

/// Puts a part into the store.
///
/// # Errors
/// When it can't be written, isn't what was signed, or what is read back is something else.
pub fn put(root: &Path, part: &Part, input: &mut dyn Read) -> Result<(), FirstbootError> {
    if is_there(root, part) {
        let read = io::copy(input, &mut io::sink()).map(drop);
        return Ok(read.map_err(|source| BundleError::Stream { act: "reading", source })?);
    }
    let (store, place) = (store(root), place(root, part));
    let incoming = store.join(INCOMING).join(&part.sha256);
    let mut file = durable::create_private(&incoming)?;
    let written = pour(&mut *input, &mut file).and_then(|written| file.sync_all().map(|()| written));
    let (length, sum) = written.map_err(|source| SysError::Write { path: incoming.clone(), source })?;
    if length != part.size || sum != part.sha256 {
        return Err(BundleError::Differs(part.name.clone()).into());
    }
    durable::forget_cached(&incoming)?;
    slot::is_back(&incoming, &sum, part.size)?;
    durable::make_folder(place.parent().unwrap_or(&store))?;
    durable::publish(&incoming, &place)?;
    durable::sync_folder(&store)?;
    log::info!("wrote {} ({} bytes), and read it back", place.display(), part.size);
    Ok(())
}

/// The record, which makes them count; then k3s is to find them.
///
/// # Errors
/// When the bundle doesn't fit any more, the workloads can't be read, or something can't be written.
pub fn commit(attempt: &Attempt, bundle: &Bundle, settings: &Settings, tell: Tell<'_>) -> Result<(), FirstbootError> {
    let root = attempt.root.as_path();
    // Looked at anew: minutes have passed, and the cluster may have moved.
    let facts = probe::facts(root, &Looked::by_early(root), 0);
    judge(bundle, &facts, settings).map_err(|why| refused(bundle, &why))?;
    if let Some(lost) = bundle.parts.iter().find(|part| !is_there(root, part)) {
        return Err(refused(bundle, &format!("its {} isn't in the store any more; try it once more", lost.name)));
    }
    let before = apps::of(&facts);
    let brought = Apps::of(bundle, facts.clock, before.apps.as_ref(), before.round + 1);
    let begun = before.begun(brought, Trial::default());
    let (was, is) = (before.lay(&settings.manifest), begun.proved().lay(&settings.manifest));
    keeps(bundle, &was, &of_manifests(&is, workload::holders))?;
    let (then, now) = (of_manifests(&was, workload::names), of_manifests(&is, workload::names));
    let seen = workloads::look(Path::new(cluster::DATABASE), &facts.boot)?;
    // What its manifests don't have any more is deleted.
    let stay = seen.of_available().filter(|name| !then.contains(name) || now.contains(name));
    let trial = Trial {
        before: before.apps.clone(),
        workloads: stay.collect(),
        own: now,
        boot: facts.boot.clone(),
        since: facts.uptime,
        starts: STARTS,
    };
    let record = Record { trial: Some(trial), ..begun };
    durable::write_durable(RECORD, json(&record).as_bytes(), 0o600)?;
    attempt.succeed()?;
    tell(
        "All of it is written and was read back. k3s finds it now; `bakelite status` says whether it has proved itself.",
    );
    Ok(socket::ask(Path::new(paths::CONTROL), "refit", LIMIT)?)
}

/// Whether a bundle brings all that is held now, as far as it says so itself.
///
/// # Errors
/// What it doesn't bring.
pub fn keeps_by_its_word(bundle: &Bundle, facts: &Facts, settings: &Settings) -> Result<(), FirstbootError> {
    let Some(holds) = &bundle.holds else { return Ok(()) };
    keeps(bundle, &apps::of(facts).lay(&settings.manifest), holds)
}

fn keeps(bundle: &Bundle, was: &Manifest, holds: &[String]) -> Result<(), FirstbootError> {
    let held = of_manifests(was, workload::holders);
    let Some(drops) = dropped(&held, holds, &bundle.drops) else { return Ok(()) };
    let why = format!(
        "it doesn't bring {drops} any more, which k3s would delete with all that is in it; where that is wanted, make it with `--drops {drops}`"
    );
    Err(refused(bundle, &why))
}

/// What was held and isn't any more, without the owner's word.
fn dropped<'a>(held: &'a [String], holds: &[String], drops: &[String]) -> Option<&'a str> {
    held.iter().find(|name| !holds.contains(name) && !drops.contains(name)).map(String::as_str)
}

/// What manifests for k3s have, in order.
fn of_manifests(laid: &Manifest, read: fn(&str) -> Vec<String>) -> Vec<String> {
    let manifests = laid.user.placed.iter().filter(|file| manifest_name(&file.to).is_some());
    // Of one that can't be read k3s knows nothing either.
    let mut names: Vec<String> =
        manifests.filter_map(|file| read_text(&file.from).ok()).flat_map(|text| read(&text)).collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use bakelite_spec::hexadecimal::hexadecimal;
    use sha2::{Digest, Sha256};

    fn part(text: &str) -> Part {
        let sha256 = hexadecimal(Sha256::digest(text));
        Part { name: "images/till.tar".into(), size: text.len() as u64, sha256, ..Part::default() }
    }

    fn settings() -> Settings {
        crate::layers::settings(crate::layers::testing::machine("k3s: rehearsal\n").path()).unwrap()
    }

    #[test]
    fn only_what_was_signed_gets_its_place_and_what_is_there_is_not_written_again() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let settings = settings();
        let bundle = Bundle { parts: vec![part("till")], ..Bundle::default() };
        let half = store(root).join("left-by-a-cut");
        durable::make_folder(&half).unwrap();
        begin(root, &bundle, &Facts::default(), &settings, &|_| {}).unwrap();
        assert!(!half.exists(), "what no bundle needs goes first");
        for other in ["tilt", "til"] {
            assert!(put(root, &part("till"), &mut other.as_bytes()).is_err());
            assert!(!is_there(root, &part("till")), "{other}");
        }
        put(root, &part("till"), &mut "till".as_bytes()).unwrap();
        assert!(is_there(root, &part("till")));
        let mut unread = "till".as_bytes();
        put(root, &part("till"), &mut unread).unwrap();
        assert!(unread.is_empty(), "the stream goes on behind it");
        assert_eq!(std::fs::read_to_string(place(root, &part("till"))).unwrap(), "till");
        begin(root, &bundle, &Facts::default(), &settings, &|_| {}).unwrap();
        assert!(is_there(root, &part("till")), "what a cut has left is of use");
    }

    #[test]
    fn what_has_no_room_is_told_with_its_numbers() {
        let root = tempfile::tempdir().unwrap();
        durable::make_folder(root.path().join("var/lib/rancher")).unwrap();
        let huge = Part { name: "images/till.tar.zst".into(), size: 1 << 50, ..Part::default() };
        let said = room(root.path(), &Bundle { parts: vec![huge], ..Bundle::default() }).unwrap_err().to_string();
        assert!(said.contains("its files take 1024 TiB and unpacked by k3s some 3072 TiB more"), "{said}");
    }

    #[test]
    fn what_would_take_data_along_is_known_by_its_name() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("bakelite-till.yaml");
        durable::replace(&path, b"kind: PersistentVolumeClaim\nmetadata: {name: till}\n", 0o600).unwrap();
        let mut settings = settings();
        let to = "/var/lib/rancher/k3s/server/manifests/bakelite-till.yaml".to_string();
        let from = path.display().to_string();
        settings.manifest.user.placed = vec![bakelite_spec::manifest::PlacedFile {
            from,
            to,
            mode: 0o600,
            owner: 0,
            group: 0,
            quoting: None,
            pass: bakelite_spec::manifest::Pass::Settle,
        }];
        let held = of_manifests(&settings.manifest, workload::holders);
        assert_eq!(dropped(&held, &[], &[]), Some("persistentvolumeclaims/default/till"));
        assert_eq!(dropped(&held, &held, &[]), None);
        assert_eq!(dropped(&held, &[], &held), None, "its maker has signed for it");
        let says = |holds: Option<&[String]>, drops: &[String]| {
            let bundle = Bundle { holds: holds.map(<[String]>::to_vec), drops: drops.to_vec(), ..Bundle::default() };
            keeps_by_its_word(&bundle, &Facts::default(), &settings).map_err(|error| error.to_string())
        };
        assert!(says(Some(&[]), &[]).unwrap_err().contains("--drops persistentvolumeclaims/default/till"));
        assert_eq!((says(Some(&held), &[]), says(Some(&[]), &held)), (Ok(()), Ok(())));
        assert_eq!(says(None, &[]), Ok(()), "one that doesn't say is read for it");
    }
}
