//! Bundles on a stick that is plugged in: the newest that fits is taken, unasked.
//!
//! Only what an owner has signed counts; what doesn't fit is told once for each stick.

use super::unasked::{Known, Verdict};
use super::{fits, take};
use crate::disks::Looked;
use crate::error::FirstbootError;
use crate::world::Machine;
use crate::{probe, sets};
use bakelite_plan::Settings;
use bakelite_plan::facts::Facts;
use bakelite_plan::update::window;
use bakelite_spec::bundle::Bundle;
use bakelite_spec::fault::{Code, Fault};
use bakelite_spec::update::compare;
use bakelite_sys::{SysError, names_in, words};
use bakelite_trust::bundle::{self, BundleError};
use bakelite_trust::stick;
use std::cmp::Ordering;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Looks on all sticks, and takes what fits; what is wrong with the others. `is_plugged` says whether one has come just now.
pub fn look(settings: &Settings, is_plugged: bool) -> Vec<Fault> {
    let root = Path::new("/");
    let machine = Machine::new(root, Looked::by_early(root));
    let mut faults = Vec::new();
    for name in machine.foreign() {
        let looked = sets::on_stick(&name, |folder, _| {
            let facts = probe::facts(root, &machine.looked, 0);
            let known = Known::of(&facts, settings, is_plugged);
            let folder = folder.join(stick::BUNDLES);
            if let Err(error) = take_newest(&folder, &known, &facts, settings, &mut faults) {
                faults.push(Fault::new(Code::UpdateRefused, format!("the update on {name} failed: {}", words(&error))));
            }
            Ok(())
        });
        // A disk that can't be looked at has brought no update.
        if let Err(error) = looked {
            log::info!("looking for updates on {name}: {}", words(&error));
        }
    }
    faults
}

fn take_newest(
    folder: &Path,
    known: &Known,
    facts: &Facts,
    settings: &Settings,
    faults: &mut Vec<Fault>,
) -> Result<(), FirstbootError> {
    let names = names_in(folder).into_iter().filter(|name| stick::is_bundle(name)).take(stick::MOST);
    let heads = names.map(|name| {
        let path = folder.join(&name);
        let head = File::open(&path)
            .map_err(|source| BundleError::Stream { act: "reading", source })
            .and_then(|file| bundle::manifest(&settings.appliance.owner.keys, file));
        (name, path, head)
    });
    let root = Path::new("/");
    let Chosen { fit, refused } = choose(heads.collect(), |bundle| fits(root, bundle, facts, settings), known);
    faults.extend(refused);
    let Some((_, newest)) = fit.first() else { return Ok(()) };
    if let Some(why) = window::waits(facts, settings) {
        log::info!("{} is on a stick, and fits; {why}", newest.words());
        return Ok(());
    }
    // The newest; where that is a delta which doesn't give what was signed, the same one whole.
    let mut same = fit.iter().take_while(|(_, bundle)| bundle.image == newest.image).peekable();
    while let Some((path, bundle)) = same.next() {
        log::info!("{} is on a stick, and fits", bundle.words());
        let file = File::open(path).map_err(|source| SysError::Read { path: path.clone(), source })?;
        match take(root, file, facts, settings, &|text| log::info!("{text}")) {
            Err(error) if bundle.base.is_some() && is_of_its_bytes(&error) && same.peek().is_some() => {
                log::warn!("{} failed: {}", bundle.words(), words(&error));
            }
            taken => return taken,
        }
    }
    Ok(())
}

/// Whether what is wrong lies in how a bundle's bytes came, and not in what they are.
fn is_of_its_bytes(error: &FirstbootError) -> bool {
    use FirstbootError::{BaseDiffers, Bundle, Sys};
    matches!(error, BaseDiffers(_) | Bundle(_) | Sys(SysError::Read { .. } | SysError::Write { .. }))
}

/// What comes of the bundles on a stick.
struct Chosen {
    /// Those that fit, the one to take first.
    fit: Vec<(PathBuf, Bundle)>,
    refused: Vec<Fault>,
}

/// Chooses what fits, the newest first; a system comes before apps, which may need it, and a delta before the same one
/// whole, as it is quicker. Of what is refused it is said why; but where one is taken or runs here, the stick has done what
/// it was plugged in for, and what else fits others is no fault. What would fit and has failed is one.
fn choose(
    heads: Vec<(String, PathBuf, Result<Bundle, BundleError>)>,
    fits: impl Fn(&Bundle) -> Result<(), String>,
    known: &Known,
) -> Chosen {
    let (mut chosen, mut unfit, mut runs) = (Chosen { fit: Vec::new(), refused: Vec::new() }, Vec::new(), false);
    for (name, path, head) in heads {
        let refused = |why: &str| Fault::new(Code::UpdateRefused, format!("the bundle {name} isn't taken: {why}"));
        let bundle = match head {
            Ok(bundle) => bundle,
            Err(error) => {
                chosen.refused.push(refused(&words(&error)));
                continue;
            }
        };
        match known.judge(&bundle, &fits) {
            Verdict::Runs => runs = true,
            Verdict::Refused(why) => unfit.push(refused(&why)),
            Verdict::Failed(why) => chosen.refused.push(refused(&why)),
            Verdict::Fits => chosen.fit.push((path, bundle)),
        }
    }
    chosen.fit.sort_by(|(_, one), (_, other)| order(one, other).reverse());
    if !runs && chosen.fit.is_empty() {
        chosen.refused.extend(unfit);
    }
    chosen
}

/// What is taken rather comes later.
fn order(one: &Bundle, other: &Bundle) -> Ordering {
    let is_system = other.is_apps().cmp(&one.is_apps());
    let is_newer = compare(&one.version, &other.version).then(one.time.cmp(&other.time));
    is_system.then(is_newer).then(one.image.cmp(&other.image)).then(one.base.is_some().cmp(&other.base.is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bakelite_spec::bundle::{APPS, Base};

    #[test]
    fn of_several_bundles_the_newest_that_fits_is_taken() {
        let known = Known { runs: vec!["own".into()], went_back: vec!["bad".into()], ..Known::default() };
        let head = |version: &str, image: &str| {
            let bundle = Bundle { version: version.into(), image: image.into(), ..Bundle::default() };
            (format!("{version}.bundle"), PathBuf::from(version), Ok(bundle))
        };
        let own = "own";
        let torn = ("x.bundle".to_string(), PathBuf::new(), Err(BundleError::Torn("manifest.json".into())));
        let heads = vec![head("1.9", "b"), head("1.10", "c"), head("2.0", "d"), head("1.0", own), torn];
        let fits = |bundle: &Bundle| if bundle.version == "2.0" { Err("too new".into()) } else { Ok(()) };
        let chosen = choose(heads, fits, &known);
        assert_eq!(chosen.fit[0].1.version, "1.10");
        let said = |chosen: &[Fault]| chosen.iter().map(|fault| fault.text.clone()).collect::<Vec<_>>().join("; ");
        assert_eq!(
            said(&chosen.refused),
            "the bundle x.bundle isn't taken: it is cut off within manifest.json; copy it again"
        );
        let alone = choose(vec![head("2.0", "d")], fits, &known);
        assert_eq!(said(&alone.refused), "the bundle 2.0.bundle isn't taken: too new");
        let done = choose(vec![head("2.0", "d"), head("1.0", own)], fits, &known);
        assert!(done.fit.is_empty() && done.refused.is_empty(), "what it was plugged in for is done");
        let apps = |version: &str, image: &str| {
            let (name, path, bundle) = head(version, image);
            (name, path, bundle.map(|bundle| Bundle { kind: APPS.into(), ..bundle }))
        };
        let both = choose(vec![head("1.9", "b"), apps("1.11", "a"), apps("1.12", "c")], fits, &known);
        assert_eq!(both.fit[0].1.version, "1.9", "a system comes first");
        let apps = choose(vec![apps("1.12", "bad"), apps("1.11", "a"), head("1.0", own)], fits, &known);
        assert_eq!(apps.fit[0].1.version, "1.11", "what went back isn't tried unasked");
    }

    #[test]
    fn only_what_came_badly_is_tried_once_more() {
        let torn = BundleError::Torn("system.squashfs".into());
        let unreadable = SysError::Read { path: "/dev/vda3".into(), source: std::io::ErrorKind::Other.into() };
        for error in [torn.into(), unreadable.into(), FirstbootError::BaseDiffers("system.squashfs".into())] {
            assert!(is_of_its_bytes(&error), "{error:?}");
        }
        assert!(!is_of_its_bytes(&FirstbootError::NotUpdated("its k3s was tried and ended".into())));
    }

    #[test]
    fn a_delta_that_fits_is_taken_before_the_same_one_whole() {
        let head = |name: &str, version: &str, base: Option<&str>| {
            let base = base.map(|image| Base { image: image.into(), ..Base::default() });
            let bundle = Bundle { version: version.into(), image: version.into(), base, ..Bundle::default() };
            (name.to_string(), PathBuf::from(name), Ok(bundle))
        };
        let heads = || {
            let deltas = [head("delta", "1.5", Some("runs")), head("other", "1.5", Some("older"))];
            deltas.into_iter().chain([head("whole", "1.5", None), head("before", "1.4", None)])
        };
        let fits = |bundle: &Bundle| match &bundle.base {
            Some(base) if base.image != "runs" => Err("it is a delta against another one".into()),
            _ => Ok(()),
        };
        let names = |heads: Vec<_>| {
            let chosen = choose(heads, fits, &Known::default());
            let names: Vec<_> = chosen.fit.iter().map(|(path, _)| path.display().to_string()).collect();
            (names.join(" "), chosen.refused.len())
        };
        assert_eq!(names(heads().collect()), ("delta whole before".into(), 0));
        assert_eq!(names(heads().rev().collect()), ("delta whole before".into(), 0));
        assert_eq!(names(heads().skip(1).collect()), ("whole before".into(), 0), "the whole one where no delta fits");
        assert_eq!(names(heads().skip(1).take(1).collect()), (String::new(), 1));
    }
}
