//! The kernel's arguments: what this board's kernel needs for k3s and what the appliance adds, in the loader's entry.
//!
//! Law 3: an entry is never changed. Other arguments make a new generation, which is added whole and counts by sorting
//! before the old one; the old one stays, and the loader falls back to it when the new one doesn't come up three times.
//! Where nothing counts tries (a Raspberry Pi), the new generation is committed when it is added, the old one stays
//! beside it, and a person can commit that again. Law 10: the machine restarts once for it. A boot that comes up
//! without them all the same is told, never tried again.

use crate::Settings;
use crate::action::Action;
use crate::facts::{Facts, Loader};
use crate::home::json;
use crate::step::{Decision, publish};
use bakelite_spec::appliance::Payload;
use bakelite_spec::cmdline::{Cmdline, FROM_STICK};
use bakelite_spec::fault::{Code, Fault};
use bakelite_spec::loader_entry::{EntryName, LoaderEntry, TRIES};
use bakelite_spec::records::{USB_QUIRKS, UsbQuirks};
use bakelite_spec::status::paths;
use serde::{Deserialize, Serialize};

/// That the machine was restarted for arguments.
pub const RECORD: &str = "/var/lib/bakelite/cmdline.json";
/// Where systems that aren't ours keep the arguments of a Raspberry Pi's kernel.
pub const BY_HAND: [&str; 2] = ["/boot/firmware/cmdline.txt", "/boot/cmdline.txt"];
/// The argument that says how USB bridges are driven.
pub const QUIRKS: &str = "usb-storage.quirks";
/// The cgroup controllers without which k3s ends at once (k3s.md 2.4).
const CONTROLLERS: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];

/// For which arguments the machine was restarted, and in which boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    options: String,
    boot: String,
}

/// An entry with its name.
struct Named {
    name: EntryName,
    file: String,
    entry: LoaderEntry,
}

/// Decides about the kernel's arguments.
pub fn decide(facts: &Facts, settings: &Settings) -> Decision {
    let wanted = wanted(facts, settings);
    let running = Cmdline::parse(&facts.cmdline);
    if running.value(FROM_STICK).is_some() {
        return Decision::Done("a stick has started the kernel, with the arguments of its own entry".into());
    }
    let Some(loader) = &facts.loader else { return without_loader(facts, settings, &wanted, &running) };
    let entries = entries(loader);
    let selected = EntryName::parse(&loader.selected);
    let Some(own) = selected.and_then(|name| entries.iter().find(|other| other.name.is_same(&name))) else {
        let text = format!("the entry that was started ({}) isn't on the boot partition", loader.selected);
        return Decision::Warn(Fault::new(Code::KernelArguments, text));
    };
    let target = own.entry.setting(&wanted);
    if own.entry.options.is_like(&target.options) {
        return started(facts, settings, (own, &entries), &wanted, &running);
    }
    let options = target.options.render();
    let change = words(&own.entry.options, &target.options);
    let same = entries.iter().find(|other| {
        other.name.slot == own.name.slot
            && other.name.generation > own.name.generation
            && other.entry.options.is_like(&target.options)
    });
    let record = facts.file(RECORD).and_then(|text| serde_json::from_str::<Record>(text).ok());
    let asked = record.filter(|record| record.options == options);
    let in_vain = asked.as_ref().is_some_and(|record| record.boot != facts.boot);
    match same {
        _ if in_vain => failed(facts, settings, &change),
        Some(same) if same.name.is_exhausted() => failed(facts, settings, &change),
        // Settings that are only tried are undone by a restart; and nobody expects one of a machine that works.
        _ if facts.payload_ran && !is_urgent(facts, &wanted, &running) || facts.has(paths::TRIAL) => {
            Decision::Done(format!("the kernel's other arguments come at the next start: {change}"))
        }
        None => {
            let highest = entries.iter().map(|other| other.name.generation).max().unwrap_or(1);
            let tries = settings.manifest.board.boot.flow.counts_tries().then_some((TRIES, 0));
            let name = EntryName { generation: highest + 1, tries, ..own.name.clone() };
            let text = target.generation(name.generation).render();
            let why = format!("the kernel gets other arguments with a new entry of the loader: {change}");
            Decision::Run(why, vec![Action::AddEntry { name: name.text(), text }])
        }
        Some(_) if asked.is_some() => {
            Decision::Reboot(format!("the kernel's other arguments count from the next start on: {change}"), None)
        }
        Some(_) => {
            let record = Record { options, boot: facts.boot.clone() };
            let actions = publish(facts, RECORD, json(&record), 0o600).into_iter().collect();
            Decision::Run(format!("the machine restarts once for the kernel's other arguments: {change}"), actions)
        }
    }
}

/// A bridge that is reset again and again makes nobody happy with going on: a disk behind it may be lost any moment.
fn is_urgent(facts: &Facts, wanted: &Cmdline, running: &Cmdline) -> bool {
    facts.has(USB_QUIRKS) && running.value(QUIRKS) != wanted.value(QUIRKS)
}

/// What has to be there: what the board's kernel needs for k3s, what the appliance says, and the USB bridges that this
/// machine has found to need another driver.
fn wanted(facts: &Facts, settings: &Settings) -> Cmdline {
    let mut wanted = Cmdline::default();
    let board = &settings.manifest.board;
    board.cgroup_arguments().for_each(|text| wanted.add(text));
    wanted.merge(&settings.appliance.kernel.line());
    let found = UsbQuirks::parse(facts.file(USB_QUIRKS).unwrap_or_default());
    if !found.quirks.is_empty() {
        let of_board = board.usb_quirks.join(",");
        let asked = found.beside(wanted.value(QUIRKS).unwrap_or(&of_board));
        wanted.merge(&Cmdline::parse(&format!("{QUIRKS}={asked}")));
    }
    wanted
}

fn entries(loader: &Loader) -> Vec<Named> {
    let named = |(file, text): (&String, &String)| {
        let entry = LoaderEntry::parse(text);
        Some(Named { name: EntryName::parse(file)?, file: file.clone(), entry })
    };
    loader.entries.iter().filter_map(named).filter(|named| !named.entry.options.is_empty()).collect()
}

/// What comes and what goes.
fn words(now: &Cmdline, then: &Cmdline) -> String {
    let (comes, goes) = (now.lacks(then).render(), then.lacks(now).render());
    match (comes.is_empty(), goes.is_empty()) {
        (false, true) => format!("with `{comes}`"),
        (true, false) => format!("without `{goes}`"),
        _ => format!("with `{comes}`, without `{goes}`"),
    }
}

/// The entry with the right arguments was started.
fn started(
    facts: &Facts,
    settings: &Settings,
    (own, entries): (&Named, &[Named]),
    wanted: &Cmdline,
    running: &Cmdline,
) -> Decision {
    if let Some(refusal) = without_cgroups(facts, settings) {
        return refusal;
    }
    let lacks = running.lacks(wanted);
    if !lacks.is_empty() {
        let text = format!("the loader's entry has `{}`, and the kernel was started without", lacks.render());
        return Decision::Warn(Fault::new(Code::KernelArguments, text));
    }
    let (mut actions, mut go) = (Vec::new(), "");
    // It has proved itself: what is older than the one before it goes, and so does what never came up.
    if own.name.tries.is_none() {
        let of_slot =
            || entries.iter().filter(|other| other.name.slot == own.name.slot && !other.name.is_same(&own.name));
        let before =
            of_slot().filter(|other| other.name.generation < own.name.generation && !other.name.is_exhausted());
        let before = before.map(|other| other.name.generation).max();
        let stale = of_slot().filter(|other| Some(other.name.generation) != before && own.name.generation > 1);
        let names: Vec<String> = stale.map(|other| other.file.clone()).collect();
        go = if names.is_empty() { "" } else { ": older entries of the loader go" };
        if !names.is_empty() {
            actions.push(Action::RemoveEntries { names });
        }
        if facts.has(RECORD) {
            actions.push(Action::Remove { path: RECORD.into() });
        }
    }
    let done = match wanted.keys().count() {
        0 => "the kernel needs no arguments besides the board's".into(),
        _ => format!("the kernel was started with `{}`", wanted.render()),
    };
    Decision::of(actions, done, format!("the kernel's arguments have proved themselves{go}"))
}

/// The machine was restarted for them, and came up without.
fn failed(facts: &Facts, settings: &Settings, change: &str) -> Decision {
    if let Some(refusal) = without_cgroups(facts, settings) {
        return refusal;
    }
    let text = format!("the kernel didn't come up with its other arguments ({change}); it runs with those of before");
    Decision::Without(Fault::new(Code::KernelArguments, text))
}

/// k3s would end at once.
fn without_cgroups(facts: &Facts, settings: &Settings) -> Option<Decision> {
    let is_there = |name: &&str| facts.controllers.iter().any(|controller| controller == name);
    let missing: Vec<&str> = CONTROLLERS.into_iter().filter(|name| !is_there(name)).collect();
    let matters = settings.manifest.payload.kind != Payload::None && !facts.controllers.is_empty();
    (matters && !missing.is_empty()).then(|| {
        let tried = match wanted(facts, settings).render() {
            none if none.is_empty() => "and this board knows no argument for it".into(),
            some => format!("although `{some}` was asked for"),
        };
        let text = format!("the kernel gives no cgroup controller {}, {tried}", missing.join(", "));
        Decision::Refuse(Fault::new(Code::K3sNoCgroup, text))
    })
}

/// Something else has started this kernel: nothing of it is changed, and a person is told what to write.
fn without_loader(facts: &Facts, settings: &Settings, wanted: &Cmdline, running: &Cmdline) -> Decision {
    let lacks = running.lacks(wanted);
    if lacks.is_empty() {
        let done = || Decision::Skip("no entry of a boot loader of ours was started, and nothing lacks".into());
        return without_cgroups(facts, settings).unwrap_or_else(done);
    }
    let lacks = lacks.render();
    let by_hand = BY_HAND.into_iter().find_map(|path| Some((path, facts.file(path)?)));
    let text = match by_hand {
        Some((path, text)) => {
            let mut line = Cmdline::parse(text);
            line.merge(wanted);
            format!("the kernel lacks `{lacks}`. Write this as the only line of {path}, and restart: {}", line.render())
        }
        None => format!("the kernel lacks `{lacks}`, and what has started it isn't a loader that can be changed here"),
    };
    Decision::Warn(Fault::new(Code::KernelArguments, text))
}

#[cfg(test)]
mod tests;
