//! Updates on the device: a bundle is read once, as a stream, into the slot that doesn't run; then the machine is sent
//! into it. What a bundle of apps brings goes beside k3s's data instead ([`apps`]).
//!
//! The order is: signature, judgement, room; the loader forgets the other slot; kernel and initramfs onto the boot
//! partition; the system into its slot, read back, its footer last; a rehearsal of its k3s on a copy of the database; a
//! verified backup; the record; the loader's entry; restart. Up to the record nothing of it counts, and the machine is as
//! it was but for a slot that it doesn't use. What each boot does about the record is decided in the plan.

pub mod address;
mod apps;
mod attempt;
mod delta;
mod rehearsal;
mod slot;
pub mod stage;
pub mod stick;
mod unasked;

use attempt::Attempt;

use crate::disks::Looked;
use crate::error::FirstbootError;
use crate::relocate::LIMIT;
use crate::{layers, loader, probe};
use bakelite_datastore::workloads;
use bakelite_plan::facts::Facts;
use bakelite_plan::home::json;
use bakelite_plan::update::{judge, slot as running_slot};
use bakelite_plan::{Settings, cluster};
use bakelite_spec::answer::Answer;
use bakelite_spec::board::Tries;
use bakelite_spec::bundle::{Bundle, INITRAMFS, KERNEL, Part, ROOT};
use bakelite_spec::layout::RECORD;
use bakelite_spec::loader_entry::{EntryName, LoaderEntry, TRIES};
use bakelite_spec::quantity::Size;
use bakelite_spec::records::Datastore;
use bakelite_spec::status::paths;
use bakelite_spec::update::{self, ARMED, Armed, FORMAT, PATH, Side, TRYBOOT, Update};
use bakelite_sys::{SysError, durable, socket, terminal};
use bakelite_trust::bundle;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Whom it is told to.
type Tell<'a> = &'a dyn Fn(&str);

/// `bakelite update [FILE] [--dry-run]`; `-` is the standard input, and without a file it is what `update.from` names.
///
/// # Errors
/// When the words mean nothing, the bundle isn't taken, or something can't be written.
pub fn run(answer: Answer, words: &[&str]) -> Result<(), FirstbootError> {
    let (file, dry_run) = match words {
        [] => (None, false),
        ["--dry-run"] => (None, true),
        [file] if !file.starts_with("--") => (Some(*file), false),
        [file, "--dry-run"] | ["--dry-run", file] => (Some(*file), true),
        _ => return Err(FirstbootError::UnknownWords(format!("update {}", words.join(" ")))),
    };
    let tell = |text: &str| {
        terminal::print(&answer.said(text));
    };
    let root = Path::new("/");
    let (facts, settings) = (probe::facts(root, &Looked::by_early(root), 0), layers::settings(root)?);
    let act = |input: &mut dyn Read| match dry_run {
        true => read_only(input, &facts, &settings, &tell),
        false => take(root, input, &facts, &settings, &tell),
    };
    match file {
        None => {
            let missing = "`update.from` names no address; give a file: `bakelite update FILE`";
            let from = settings.appliance.update.from.as_ref();
            let from = from.ok_or_else(|| FirstbootError::NotUpdated(missing.into()))?;
            let mut coming = address::Coming::begin(from, address::LONGEST)?;
            if dry_run {
                let acted = act(&mut coming);
                return coming.or_why(acted);
            }
            address::take_it(root, &mut coming, Vec::new(), &facts, &settings, &tell)
        }
        Some("-") => act(&mut io::stdin().lock()),
        Some(path) => act(&mut File::open(path).map_err(|source| SysError::Read { path: path.into(), source })?),
    }
}

/// Reads a bundle to its end and changes nothing.
fn read_only(input: impl Read, facts: &Facts, settings: &Settings, tell: Tell<'_>) -> Result<(), FirstbootError> {
    let root = Path::new("/");
    let running = running_slot(facts);
    let judged = |bundle: &Bundle| {
        fits(root, bundle, facts, settings).map_err(|why| refused(bundle, &why))?;
        if bundle.is_apps() {
            apps::keeps_by_its_word(bundle, facts, settings)?;
            apps::room(root, bundle)
        } else {
            room(bundle, root, &other(&running), settings)
        }
    };
    let passes = |_: &Bundle, part: &Part, input: &mut dyn Read| match part.name.as_str() {
        name if part.delta.is_some() && Bundle::is_boot_file(name) => slot::try_boot_file(root, &running, part, input),
        _ => delta::is_it(part, &mut *delta::system(root, &running, part, input)?),
    };
    let bundle = bundle::read::<FirstbootError>(&settings.appliance.owner.keys, input, judged, passes)?;
    tell(&format!("{} is whole, signed by an owner, and would be taken. Nothing was done.", bundle.words()));
    Ok(())
}

/// Takes a bundle, and has the machine restart into it.
fn take(
    root: &Path,
    input: impl Read,
    facts: &Facts,
    settings: &Settings,
    tell: Tell<'_>,
) -> Result<(), FirstbootError> {
    let attempt = Attempt::new(root)?;
    let went = take_in(&attempt, input, facts, settings, tell);
    attempt.end(went)
}

/// The same within an attempt, which says how it went.
fn take_in(
    attempt: &Attempt,
    input: impl Read,
    facts: &Facts,
    settings: &Settings,
    tell: Tell<'_>,
) -> Result<(), FirstbootError> {
    let root = attempt.root.as_path();
    let running = running_slot(facts);
    let slot = other(&running);
    let begin = |bundle: &Bundle| {
        fits(root, bundle, facts, settings).map_err(|why| refused(bundle, &why))?;
        if bundle.is_apps() {
            apps::begin(root, bundle, facts, settings, tell)?;
            return attempt.begin(bundle, facts, settings);
        }
        room(bundle, root, &slot, settings)?;
        attempt.begin(bundle, facts, settings)?;
        tell(&format!("{} is signed by an owner and fits; it is written into slot {slot}.", bundle.words()));
        slot::forget(root, &slot)
    };
    let part = |bundle: &Bundle, part: &Part, input: &mut dyn Read| match part.name.as_str() {
        _ if bundle.is_apps() => apps::put(root, part, input),
        ROOT => slot::put_system(root, &slot, part, &mut *delta::system(root, &running, part, input)?),
        name if Bundle::is_boot_file(name) => slot::put_boot_file(root, [&running, &slot], part, input),
        // Signed, and yet not known: a later format would have said so.
        _ => Err(bundle::BundleError::Malformed.into()),
    };
    let bundle = bundle::read::<FirstbootError>(&settings.appliance.owner.keys, input, begin, part)?;
    if bundle.is_apps() {
        return apps::commit(attempt, &bundle, settings, tell);
    }
    if let Some(missing) = [KERNEL, INITRAMFS, ROOT].into_iter().find(|name| bundle.part(name).is_none()) {
        return Err(FirstbootError::NotUpdated(format!("the bundle has no {missing}")));
    }
    tell("All of it is written and was read back.");
    rehearsal::hold(root, &bundle, &slot, settings, tell)?;
    arm(root, &bundle, &slot, settings, tell)?;
    attempt.succeed()?;
    tell("The machine restarts into it now; `bakelite status` says whether it has proved itself.");
    Ok(socket::ask(Path::new(paths::CONTROL), "reboot", LIMIT)?)
}

/// A verified backup, the record, the entry: from here on it counts.
fn arm(root: &Path, bundle: &Bundle, slot: &str, settings: &Settings, tell: Tell<'_>) -> Result<(), FirstbootError> {
    let set = backup(settings)?;
    if !set.is_empty() {
        tell(&format!("The cluster was backed up before it: {set}."));
    }
    // Looked at anew: minutes have passed.
    let facts = probe::facts(root, &Looked::by_early(root), 0);
    judge(bundle, &facts, settings).map_err(|why| refused(bundle, &why))?;
    let entries = facts.loader.iter().flat_map(|loader| loader.entries.values());
    let rank = entries.map(|text| LoaderEntry::parse(text).rank()).max().unwrap_or(0) + 1;
    let once = settings.manifest.board.tries() == Some(Tries::Once);
    let name = EntryName { slot: slot.into(), generation: 1, tries: Some((if once { 1 } else { TRIES }, 0)) };
    let text = LoaderEntry::parse(&bundle.entry).for_slot(slot, rank).render();
    let image = &settings.appliance.image;
    let record = Update {
        format: FORMAT,
        from: Side {
            slot: running_slot(&facts),
            image: settings.manifest.image.clone(),
            version: image.version.clone().unwrap_or_default(),
            k3s: settings.manifest.payload.version.clone(),
        },
        to: Side {
            slot: slot.into(),
            image: bundle.image.clone(),
            version: bundle.version.clone(),
            k3s: bundle.k3s.clone(),
        },
        epoch: cluster::of(&facts).map_or(0, |born| born.epoch),
        set,
        workloads: workloads(settings, &facts)?,
        entry: Armed { name: name.text(), text: text.clone() },
        once,
        // Where a restart asks for each try, this command's own asks for the first one.
        tries: update::TRIES - u32::from(once),
        patience: settings.appliance.update.patience.0,
        ..Update::default()
    };
    durable::write_durable(PATH, json(&record).as_bytes(), 0o600)?;
    if let Err(error) = loader::add(root, &record.entry.name, &text) {
        durable::remove_file(PATH)?;
        return Err(error);
    }
    let asked = if once { TRYBOOT } else { "" };
    Ok(durable::replace(ARMED, asked.as_bytes(), 0o644)?)
}

/// The workloads that are available now, and have to be so again.
fn workloads(settings: &Settings, facts: &Facts) -> Result<Vec<String>, FirstbootError> {
    if cluster::datastore(settings) != Datastore::Sqlite || cluster::of(facts).is_none() {
        return Ok(Vec::new());
    }
    let seen = workloads::look(Path::new(cluster::DATABASE), &facts.boot)?;
    Ok(seen.of_available().collect())
}

/// A verified set of the cluster that is here; its key, or nothing where there is no database to come back to.
fn backup(settings: &Settings) -> Result<String, FirstbootError> {
    if cluster::datastore(settings) != Datastore::Sqlite {
        return Ok(String::new());
    }
    let made = bakelite_keeper::make_one(settings)?;
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(made.map_or_else(String::new, |path| {
        let node = path.parent().map(name).unwrap_or_default();
        format!("{node}/{}", name(&path))
    }))
}

/// Why a bundle isn't taken: by what it says of itself, and by what is in the slot that runs.
fn fits(root: &Path, bundle: &Bundle, facts: &Facts, settings: &Settings) -> Result<(), String> {
    judge(bundle, facts, settings)?;
    delta::fits(root, &running_slot(facts), bundle)
}

fn refused(bundle: &Bundle, why: &str) -> FirstbootError {
    FirstbootError::NotUpdated(format!("{} isn't taken: {why}", bundle.words()))
}

/// Whether all of it has room, and the backup before it.
fn room(bundle: &Bundle, root: &Path, slot: &str, settings: &Settings) -> Result<(), FirstbootError> {
    let needed = bundle.part(ROOT).map_or(0, |part| part.size) + RECORD;
    let length = slot::length(root, slot)?;
    if needed > length {
        let (needed, length) = (Size(needed).human(), Size(length).human());
        let why =
            format!("its system takes {needed}, and slot {slot} has {length}, which can't grow; flash the card anew");
        return Err(refused(bundle, &why));
    }
    if cluster::datastore(settings) != Datastore::Sqlite {
        return Ok(());
    }
    let why = |error| format!("there is no room for the backup before it: {}", bakelite_sys::words(&error));
    bakelite_keeper::has_room_for_one(settings).map_err(|error| refused(bundle, &why(error)))
}

/// The slot that doesn't run.
fn other(slot: &str) -> String {
    if slot == "b" { "a" } else { "b" }.into()
}
