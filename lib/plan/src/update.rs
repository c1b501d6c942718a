//! Updates: whether a bundle fits this machine, and what each boot does about an update that is on its way.
//!
//! The record is durable before the new slot can be started at all, so a boot of it is a trial from its first moment: a try is
//! counted before anything else, and that the new k3s may write is noted before it may. The old slot, when it finds the
//! record, starts no k3s before it has either sent the machine into the trial or ended the update; and where the new k3s
//! may have written, the set that was taken before is put in place by the act of a restore, with its intent and epoch.

use crate::Settings;
use crate::action::Action;
use crate::cluster;
use crate::facts::Facts;
use crate::home::json;
use crate::restore::{self, is_under_way};
use crate::step::{Decision, publish};
use bakelite_spec::cmdline::Cmdline;
use bakelite_spec::fault::{Code, Fault};
use bakelite_spec::loader_entry::EntryName;
use bakelite_spec::update::{Ended, LAST, PATH, TRIES, Update};

mod judge;
pub use judge::judge;

/// That the way into the new slot was opened in this boot.
pub const ARMED: &str = "/run/bakelite/update-armed";
/// That the way back was opened in this boot.
pub const GOING_BACK: &str = "/run/bakelite/update-going-back";

/// The update that is on.
pub fn of(facts: &Facts) -> Option<Update> {
    facts.file(PATH).and_then(Update::read)
}

/// The slot that runs.
pub fn slot(facts: &Facts) -> String {
    Cmdline::parse(&facts.cmdline).value("bakelite.slot").unwrap_or_default().into()
}

/// The update whose new slot is what runs.
pub fn trial(facts: &Facts, settings: &Settings) -> Option<Update> {
    of(facts).filter(|update| update.is_trial_of(&slot(facts), &settings.manifest.image))
}

/// The loader's entries of a slot, by their files' names.
fn entries(facts: &Facts, slot: &str) -> Vec<String> {
    let names = facts.loader.iter().flat_map(|loader| loader.entries.keys());
    names.filter(|name| EntryName::parse(name).is_some_and(|name| name.slot == slot)).cloned().collect()
}

fn keep(facts: &Facts, update: &Update) -> Vec<Action> {
    publish(facts, PATH, json(update), 0o600).into_iter().collect()
}

fn tell(path: &str) -> Action {
    Action::Tell { path: path.into(), text: String::new(), mode: 0o644 }
}

fn fault(update: &Update) -> Fault {
    Fault::new(Code::UpdateTakenBack, format!("{} goes back: {}", update.to.words(), update.failed))
}

/// Decides, before anything else of a boot: a try is counted, or one that failed is left.
pub fn decide_early(facts: &Facts, settings: &Settings) -> Decision {
    let Some(update) = of(facts) else { return Decision::Done("no update is on its way".into()) };
    if trial(facts, settings).is_none() {
        return Decision::Done("what ran before the update runs".into());
    }
    if !update.failed.is_empty() {
        return leave(facts, &update);
    }
    if update.boot == facts.boot {
        return Decision::Done(format!("{} is tried; {} more tries are left", update.to.words(), update.tries));
    }
    if update.tries == 0 {
        let why = format!("it was started {TRIES} times, and no start came to a good end or a word of its own");
        let actions = keep(facts, &update.failing(&why));
        return Decision::Run(why, actions);
    }
    let counted = Update { tries: update.tries - 1, boot: facts.boot.clone(), ..update };
    let why = format!("{} is tried; {} more tries are left", counted.to.words(), counted.tries);
    Decision::Run(why, keep(facts, &counted))
}

/// Takes the failed slot's entries away, such that the loader starts the old slot, and restarts. Where nothing else could
/// be started the machine stays up.
fn leave(facts: &Facts, update: &Update) -> Decision {
    let own = entries(facts, &update.to.slot);
    if facts.has(GOING_BACK) {
        return Decision::Reboot(fault(update));
    }
    if own.is_empty() || entries(facts, &update.from.slot).is_empty() {
        let text = format!("{}, and the boot loader has no way back", fault(update).text);
        return Decision::Without(Fault::new(Code::UpdateTakenBack, text));
    }
    let why = format!("{}: the boot loader forgets it", fault(update).text);
    Decision::Run(why, vec![Action::RemoveEntries { names: own }, tell(GOING_BACK)])
}

/// Decides, once it is clear where the cluster lives, whether k3s may be started on this side of an update.
pub fn decide(facts: &Facts, settings: &Settings) -> Decision {
    let Some(update) = of(facts) else { return Decision::Done("no update is on its way".into()) };
    if trial(facts, settings).is_some() {
        return if update.failed.is_empty() {
            Decision::Done(format!("{} is tried", update.to.words()))
        } else {
            Decision::Refuse(fault(&update))
        };
    }
    if slot(facts) != update.from.slot {
        let why = "the record of an update is of another system than this, and goes".into();
        return Decision::Run(why, vec![Action::Remove { path: PATH.into() }]);
    }
    let there = entries(facts, &update.to.slot);
    let untried = update.boot.is_empty() && update.failed.is_empty();
    if untried && facts.has(ARMED) {
        let text = format!("{} is started", update.to.words());
        return Decision::Reboot(Fault::new(Code::UpdateTakenBack, text));
    }
    if untried && facts.payload_ran {
        return Decision::Done("an update waits for the restart".into());
    }
    if untried && there.is_empty() {
        let why = format!("the power went before {} could be started: that is made good", update.to.words());
        let entry = Action::AddEntry { name: update.entry.name.clone(), text: update.entry.text.clone() };
        return Decision::Run(why, vec![entry, tell(ARMED)]);
    }
    go_back(facts, &update, &there)
}

/// The old slot runs again.
fn go_back(facts: &Facts, update: &Update, there: &[String]) -> Decision {
    if update.failed.is_empty() {
        let exhausted = there.iter().filter_map(|name| EntryName::parse(name)).any(|name| name.is_exhausted());
        let why = if exhausted || there.is_empty() {
            "no start of it came to a good end or a word of its own"
        } else {
            "the boot loader started what ran before"
        };
        return Decision::Run(why.into(), keep(facts, &update.clone().failing(why)));
    }
    if is_under_way(facts) {
        return Decision::Done(format!("{}; the backup from before it comes back", fault(update).text));
    }
    if update.started && !update.set.is_empty() && !is_put_back(facts, update) {
        return restore::put_set_back(facts, &update.set, &fault(update).text);
    }
    end(facts, update, there)
}

/// Whether the line of the database is another one than before the update: the set is in place.
fn is_put_back(facts: &Facts, update: &Update) -> bool {
    cluster::of(facts).is_some_and(|born| born.epoch > update.epoch)
}

/// What became of it is noted, and the record goes last.
fn end(facts: &Facts, update: &Update, there: &[String]) -> Decision {
    let ended = update.ended(facts.clock, is_put_back(facts, update));
    let removed = (!there.is_empty()).then(|| Action::RemoveEntries { names: there.to_vec() });
    let noted = publish(facts, LAST, json(&ended), 0o600);
    let gone = Action::Remove { path: PATH.into() };
    Decision::Run(ended.words(), removed.into_iter().chain(noted).chain([gone]).collect())
}

/// Decides right before k3s is started.
pub fn hand_over(facts: &Facts, settings: &Settings) -> Decision {
    let Some(update) = of(facts) else { return last(facts) };
    if trial(facts, settings).is_some() {
        if update.started {
            return Decision::Done("the new system may write to the cluster's data".into());
        }
        let why = "from now on the new system may write to the cluster's data";
        return Decision::Run(why.into(), keep(facts, &Update { started: true, ..update }));
    }
    if !update.failed.is_empty() && is_put_back(facts, &update) {
        return end(facts, &update, &entries(facts, &update.to.slot));
    }
    Decision::Done("what ran before the update runs".into())
}

/// What a person should see until the next update, or until it was read.
fn last(facts: &Facts) -> Decision {
    let ended = facts.file(LAST).and_then(|text| serde_json::from_str::<Ended>(text).ok());
    match ended {
        Some(ended) if !ended.why.is_empty() => Decision::Without(Fault::new(Code::UpdateTakenBack, ended.words())),
        _ => Decision::Done("no update is on its way".into()),
    }
}
