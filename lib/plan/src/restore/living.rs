//! Living: a machine that has a cluster. It stays, but for a word that names it, and for a stick where it is blank.
//!
//! While it lives nothing here withholds it: what can't be followed is said, and k3s starts upon what is there.

use super::choose::{Asked, Choice, choose};
use super::{Note, REKEYED, Word, asks, asks_rekey, blank, gone, intend, look, note, take, tidy, trial, word};
use crate::Settings;
use crate::action::Action;
use crate::data_disk;
use crate::facts::Facts;
use crate::home::json;
use crate::identity::TOKEN;
use crate::step::Decision;
use bakelite_spec::fault::{Code, Fault};
use bakelite_spec::records::ClusterBorn;

/// Decides about a machine whose cluster this is. Without a token k3s must not be started: it would make keys of its own
/// beside the database.
pub(super) fn decide(facts: &Facts, settings: &Settings, born: &ClusterBorn) -> Decision {
    let decision = decided(facts, settings, born);
    let goes_on = matches!(decision, Decision::Done(_) | Decision::Warn(_) | Decision::Without(_));
    if goes_on && !facts.has(TOKEN) && asks(facts, settings) {
        let text = format!("the token of {}'s cluster is lost; {}", born.node, decision.why());
        return Decision::Refuse(Fault::new(Code::K3sWrongToken, text));
    }
    decision
}

fn decided(facts: &Facts, settings: &Settings, born: &ClusterBorn) -> Decision {
    const STAYS: &str = "this machine has a cluster";
    if facts.payload_ran {
        return tidy(facts, STAYS.into());
    }
    if asks_rekey(facts, settings) {
        return rekey(facts, born);
    }
    let word = word::of(facts, settings);
    let may_be_blank = blank::may_be(facts, born);
    let is_visited = facts.disks.iter().any(|disk| !disk.boot && disk.data.is_none());
    let Some(sets) = &facts.sets else {
        let looks = word.is_some() || is_visited || may_be_blank && word::of_nobody(facts, settings).is_some();
        return if looks { look() } else { tidy(facts, STAYS.into()) };
    };
    if let Some(word) = word {
        return named(facts, settings, sets, &word);
    }
    if !may_be_blank {
        return tidy(facts, STAYS.into());
    }
    let by_nobody = word::of_nobody(facts, settings);
    let revision = facts.database.as_ref().map_or(0, |database| database.revision);
    let asked = by_nobody.as_ref().map_or_else(Asked::default, Word::asks);
    let asked = Asked { newer_than: Some((&born.row, revision)), from_outside: by_nobody.is_none(), ..asked };
    let (found, passed_over) = match choose(facts, sets, settings, asked) {
        Choice::Set(found, passed_over) => (found, passed_over),
        Choice::Nothing(_) => return tidy(facts, STAYS.into()),
        Choice::Refused(fault) => return tidy(facts, format!("{STAYS}; no backup takes its place: {}", fault.text)),
    };
    match blank::objects(facts) {
        None => {
            let why =
                format!("{}; looking whether anything of somebody's is in the cluster that is here", found.words());
            Decision::Run(why, vec![Action::CompareWithBaseline { baseline: blank::BASELINE.into() }])
        }
        Some(objects) if objects.is_empty() => take(facts, found, &passed_over),
        Some(objects) => {
            let id = crate::cluster::id(born);
            let why = format!(
                "{STAYS}, with objects of somebody's ({objects}); {} takes its place by `restore: {{set: newest, replaces: {id}}}`",
                found.words()
            );
            tidy(facts, why)
        }
    }
}

/// A person has named the cluster that is here.
fn named(facts: &Facts, settings: &Settings, sets: &[super::FoundSet], word: &Word) -> Decision {
    match choose(facts, sets, settings, word.asks()) {
        Choice::Set(found, passed_over) => take(facts, found, &passed_over),
        Choice::Nothing(why) => tidy(facts, why),
        // Its stick may still come.
        Choice::Refused(fault) => data_disk::unsettled(facts, &settings.appliance.storage).unwrap_or_else(|| {
            // The word of the operator's command is good for one try.
            let dropped: Vec<Action> = gone(facts, super::WORD).filter(|_| facts.has(TOKEN)).into_iter().collect();
            let why = format!("the cluster stays, as the word can't be followed: {}", fault.text);
            let hint = "The cluster runs on. Bring the set that the word names, or take the word away.".into();
            if dropped.is_empty() { Decision::Without(Fault { hint, ..fault }) } else { Decision::Run(why, dropped) }
        }),
    }
}

/// A person wants the cluster's keys sealed with a new token.
fn rekey(facts: &Facts, born: &ClusterBorn) -> Decision {
    if let Some(found) = note(facts).filter(|note| note.set == REKEYED) {
        let why = "the database with a new token is whole, and takes the place of what is there";
        return Decision::Run(why.into(), intend(facts, &found, Some(trial::before(facts))).into_iter().collect());
    }
    match &facts.climbed {
        None => {
            let blank = Note::of_own(REKEYED, born);
            Decision::Run(
                "the cluster's keys are sealed with a new token, in a copy of its database".into(),
                vec![Action::Rekey { note: json(&blank), known: born.revision }],
            )
        }
        Some(why) => {
            let fault = Fault::new(Code::K3sWrongToken, format!("no new token can be made for the cluster: {why}"));
            match gone(facts, super::WORD).filter(|_| facts.has(TOKEN)) {
                Some(action) => Decision::Run(fault.text, vec![action]),
                None => Decision::Without(fault),
            }
        }
    }
}
