//! Updates: whether a bundle fits this machine, and what each boot does about an update that is on its way.
//!
//! The record is durable before the new slot can be started at all, so a boot of it is a trial from its first moment: a try is
//! counted before anything else, and that the new k3s may write is noted before it may. The old slot, when it finds the
//! record, starts no k3s before it has either sent the machine into the trial or ended the update; and where the new k3s
//! may have written, the set that was taken before is put in place by the act of a restore, with its intent and epoch.
//! Where a boot loader counts tries, the new slot counts with it. A Raspberry Pi's firmware starts the new slot once for each
//! restart that asks for it: there the old slot, which comes between two tries, counts before it asks.

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
use bakelite_spec::update::{ARMED, Ended, LAST, PATH, TRIES, TRYBOOT, Update};

pub mod again;
pub(crate) mod judge;
pub mod rehearsal;
pub mod window;
pub use judge::judge;

/// That the way back was opened in this boot.
pub const GOING_BACK: &str = "/run/bakelite/update-going-back";

/// The update that is on.
pub fn of(facts: &Facts) -> Option<Update> {
    facts.file(PATH).and_then(Update::read)
}

/// The slot that runs.
pub fn slot(facts: &Facts) -> String {
    Cmdline::parse(&facts.cmdline).slot().unwrap_or_default().into()
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

fn tell(path: &str, text: &str) -> Action {
    Action::Tell { path: path.into(), text: text.into(), mode: 0o644 }
}

/// Whether what starts the machine starts the new slot without counting: it has proved itself, and a cut came before the
/// record went.
fn has_proved(facts: &Facts, update: &Update) -> bool {
    let names = entries(facts, &update.to.slot);
    names.iter().filter_map(|name| EntryName::parse(name)).any(|name| name.tries.is_none())
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
    if has_proved(facts, &update) {
        let ended = update.ended(facts.clock, false, &[]);
        let noted = publish(facts, LAST, json(&ended), 0o600);
        let gone = Action::Remove { path: PATH.into() };
        return Decision::Run(ended.words(), noted.into_iter().chain([gone]).collect());
    }
    if !update.failed.is_empty() {
        return leave(facts, &update);
    }
    if update.boot == facts.boot {
        return Decision::Done(format!("{} is tried; {} more tries are left", update.to.words(), update.tries));
    }
    if update.tries == 0 && !update.once {
        let why = exhausted();
        let actions = keep(facts, &update.failing(&why));
        return Decision::Run(why, actions);
    }
    let tries = if update.once { update.tries } else { update.tries - 1 };
    let counted = Update { tries, boot: facts.boot.clone(), ..update };
    let why = format!("{} is tried; {} more tries are left", counted.to.words(), counted.tries);
    Decision::Run(why, keep(facts, &counted))
}

fn exhausted() -> String {
    format!("it was started {TRIES} times, and no start came to a good end or a word of its own")
}

/// Takes the failed slot's entries away, such that the loader starts the old slot, and restarts. Where nothing else could
/// be started the machine stays up.
fn leave(facts: &Facts, update: &Update) -> Decision {
    let own = entries(facts, &update.to.slot);
    if facts.has(GOING_BACK) {
        return Decision::restart_for(fault(update));
    }
    if own.is_empty() || entries(facts, &update.from.slot).is_empty() {
        let text = format!("{}, and the boot loader has no way back", fault(update).text);
        return Decision::Without(Fault::new(Code::UpdateTakenBack, text));
    }
    let why = format!("{}: the boot loader forgets it", fault(update).text);
    Decision::Run(why, vec![Action::RemoveEntries { names: own }, tell(GOING_BACK, "")])
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
    let is_armed = facts.has(ARMED);
    let has_tries = if update.once { update.tries > 0 || is_armed } else { update.boot.is_empty() };
    if !has_tries || !update.failed.is_empty() {
        return go_back(facts, &update, &there);
    }
    if is_armed {
        return Decision::Reboot(format!("{} is started", update.to.words()), None);
    }
    if facts.payload_ran {
        return Decision::Done("an update waits for the restart".into());
    }
    if update.once || there.is_empty() {
        return arm(facts, update, &there);
    }
    go_back(facts, &update, &there)
}

/// Opens the way into the new slot, from the old one: what a cut has kept the update's command from, or one more try.
fn arm(facts: &Facts, update: Update, there: &[String]) -> Decision {
    let why = match update.boot.as_str() {
        "" => format!("{} was never started so far as to note it: that is made good", update.to.words()),
        _ => format!("{} is started once more, as no start of it came to a good end", update.to.words()),
    };
    let entry = Action::AddEntry { name: update.entry.name.clone(), text: update.entry.text.clone() };
    let added = there.is_empty().then_some(entry);
    if !update.once {
        return Decision::Run(why, added.into_iter().chain([tell(ARMED, "")]).collect());
    }
    // Counted first: nothing else would ever end it.
    let counted = Update { tries: update.tries - 1, ..update };
    let asked = [tell(ARMED, TRYBOOT)];
    Decision::Run(why, keep(facts, &counted).into_iter().chain(added).chain(asked).collect())
}

/// The old slot runs again.
fn go_back(facts: &Facts, update: &Update, there: &[String]) -> Decision {
    if update.failed.is_empty() {
        let given_up = there.iter().filter_map(|name| EntryName::parse(name)).any(|name| name.is_exhausted());
        let why = if update.once && update.boot.is_empty() {
            format!("the firmware was asked {TRIES} times to try it, and no start of it came so far as to note it")
        } else if update.once {
            exhausted()
        } else if given_up || there.is_empty() {
            "no start of it came to a good end or a word of its own".into()
        } else {
            "the boot loader started what ran before".into()
        };
        let actions = keep(facts, &update.clone().failing(&why));
        return Decision::Run(why, actions);
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
    let born = cluster::of(facts).filter(|_| is_put_back(facts, update));
    if let Some(born) = born.as_ref().filter(|_| facts.lost.is_none()) {
        let revision = restore::restored(facts).map_or(born.revision, |note| note.revision);
        let aside = restore::aside(born.epoch);
        let why = "what the new system had written is compared with the backup from before it";
        return Decision::Run(why.into(), vec![Action::CompareWithAside { aside, revision }]);
    }
    let lost = facts.lost.as_deref().unwrap_or_default();
    let ended = update.ended(facts.clock, born.is_some(), lost);
    let removed = (!there.is_empty()).then(|| Action::RemoveEntries { names: there.to_vec() });
    let noted = publish(facts, LAST, json(&ended), 0o600);
    let gone = Action::Remove { path: PATH.into() };
    Decision::Run(ended.words(), removed.into_iter().chain(noted).chain([gone]).collect())
}

/// Decides right before k3s is started.
pub fn hand_over(facts: &Facts, settings: &Settings) -> Decision {
    if let Some(gone) = rehearsal::leftovers(facts) {
        return Decision::Run("what a rehearsal of an update has left goes".into(), vec![gone]);
    }
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
