//! Seed: what the flasher gave this one machine: a name, secrets, settings.
//!
//! Taken once: its secrets and settings go to the state partition, then what is on the boot partition is overwritten (law 3:
//! in place, noted before on state, so that a half overwritten one is never read as another seed). A seed that names
//! another node is refused, and nothing of it counts. One with `fresh: true` gives a machine that was another one a new life:
//! the wish for a reset is left first, then the word is overwritten; a cut between them empties a blank machine once more.

use crate::Settings;
use crate::action::Action;
use crate::facts::Facts;
use crate::reset::{self, Level, WISH};
use crate::step::{Decision, publish};
use crate::{data_disk, identity};
use bakelite_spec::account::Acknowledged;
use bakelite_spec::fault::{Code, Fault};
use bakelite_spec::status::paths;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// That the seed of this length is taken, and is being overwritten.
pub const SPENDING: &str = "/var/lib/bakelite/seed-spending.json";

/// What is to be seen of a seed on the boot partition. No secret is in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seed {
    /// One that wasn't taken yet.
    New(NewSeed),
    /// It was taken, and is overwritten in part.
    Spending,
    /// It isn't right: why.
    Refused(String),
}

/// A seed that wasn't taken yet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct NewSeed {
    /// The node that it is for, if it says so.
    pub node: Option<String>,
    /// By which the flasher knows again what it wrote.
    pub ticket: Option<String>,
    /// Where the flasher's line hears reports.
    pub pass: Option<SocketAddr>,
    /// What `{seed.NAME}` in a pattern stands for.
    pub values: BTreeMap<String, String>,
    /// Names of its secrets that state doesn't have yet with these values.
    pub secrets: Vec<String>,
    /// The appliance's keys that it sets.
    pub settings: Value,
    /// All that it sets by dotted names, of secrets too.
    pub keys: Vec<String>,
    /// Its length on the boot partition, in bytes.
    pub length: u64,
    /// Whether the machine is to forget all it was, and hasn't yet.
    pub fresh: bool,
}

/// What is kept of a seed; the file is a layer of settings besides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Kept {
    /// The node that it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// By which the flasher knows again what it wrote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// Where the flasher's line hears reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pass: Option<SocketAddr>,
    /// The keys that were taken from it, secrets by their names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub took: Vec<String>,
    /// What `{seed.NAME}` stands for.
    #[serde(flatten)]
    pub values: BTreeMap<String, String>,
}

/// The seed that counts: the new one, else the one that was taken.
pub fn of(facts: &Facts) -> Kept {
    match &facts.seed {
        Some(Seed::New(new)) => keep(new),
        _ => taken(facts).unwrap_or_default(),
    }
}

/// What is kept of the seed that was taken.
fn taken(facts: &Facts) -> Option<Kept> {
    kept_in(facts.file(paths::SEED)?)
}

/// What the file that is kept of a seed says of it.
pub fn kept_in(text: &str) -> Option<Kept> {
    let kept: Value = serde_json::from_str(text).ok()?;
    serde_json::from_value(kept.get("seed")?.clone()).ok()
}

fn keep(new: &NewSeed) -> Kept {
    let NewSeed { node, ticket, pass, values, keys, .. } = new.clone();
    Kept { node, ticket, pass, took: keys, values }
}

/// What the account of this machine says of its seed: whoever wrote it learns what came of it.
pub fn acknowledged(facts: &Facts) -> Option<Acknowledged> {
    let kept = taken(facts);
    let refused = match &facts.seed {
        Some(Seed::Refused(why)) => why.clone(),
        _ => conflict(facts).map(|fault| fault.text).unwrap_or_default(),
    };
    if kept.is_none() && refused.is_empty() {
        return None;
    }
    let kept = kept.unwrap_or_default();
    Some(Acknowledged { ticket: kept.ticket.unwrap_or_default(), took: kept.took, refused })
}

/// The node that this machine is by now, whoever says so.
fn node(facts: &Facts) -> Option<String> {
    let sealed = || Some(facts.attached()?.1.content.as_ref()?.seal.as_ref()?.node.clone());
    identity::of(facts).map(|identity| identity.node).or_else(sealed)
}

/// Why the seed isn't for this machine.
pub fn conflict(facts: &Facts) -> Option<Fault> {
    let (named, own) = (of(facts).node?, node(facts)?);
    // What begins anew is nobody by then.
    let is_new = matches!(&facts.seed, Some(Seed::New(new)) if !new.fresh && !facts.has(WISH));
    (is_new && named != own).then(|| {
        let text = format!("the seed on the boot partition is for {named}, and this machine is {own}");
        Fault::new(Code::SeedConflict, text)
    })
}

/// Gives the machine a new life, if it had one.
fn begin_anew(facts: &Facts, settings: &Settings) -> Decision {
    // A disk with the old life on it may still come.
    if let Decision::Wait(why, None) = data_disk::decide(facts, settings) {
        return Decision::Wait(why, None);
    }
    let Some(node) = node(facts) else {
        return Decision::Run("this machine was nobody before its seed".into(), vec![Action::MarkSeed]);
    };
    let wish = crate::home::json(&reset::wish(facts, &node, Level::Everything));
    let actions = publish(facts, WISH, wish, 0o600).into_iter().chain([Action::MarkSeed]).collect();
    Decision::Run(format!("the seed gives {node} a new life: all it ever wrote goes"), actions)
}

/// Decides about the seed.
pub fn decide(facts: &Facts, settings: &Settings) -> Decision {
    if !facts.state_is_durable {
        return Decision::Skip("without a state partition no seed is taken".into());
    }
    let spend = || {
        Decision::Run(
            "the seed is taken, and what is on the boot partition is overwritten".into(),
            vec![Action::SpendSeed],
        )
    };
    match &facts.seed {
        Some(Seed::Spending) => spend(),
        Some(Seed::Refused(why)) => Decision::Without(Fault::new(Code::SeedRefused, why.clone())),
        Some(Seed::New(new)) if new.fresh => begin_anew(facts, settings),
        Some(Seed::New(_)) if facts.has(WISH) => {
            Decision::Reboot("the seed gives this machine a new life: it is emptied first".into(), None)
        }
        Some(Seed::New(new)) => {
            if let Some(fault) = conflict(facts) {
                return Decision::Refuse(fault);
            }
            let mut actions = Vec::new();
            if !new.secrets.is_empty() {
                actions.push(Action::TakeSecrets { names: new.secrets.clone() });
            }
            actions.extend(publish(facts, paths::SEED, kept(new), 0o600));
            if actions.is_empty() {
                let text = format!("{{\"length\":{}}}\n", new.length);
                actions.extend(publish(facts, SPENDING, text, 0o600));
                actions.push(Action::SpendSeed);
            }
            let secrets = new.secrets.len();
            Decision::Run(format!("the seed is taken, with {secrets} secret(s) that are new"), actions)
        }
        None if facts.has(SPENDING) => {
            Decision::Run("the seed is taken".into(), vec![Action::Remove { path: SPENDING.into() }])
        }
        None if facts.has(paths::SEED) => Decision::Done("the seed was taken".into()),
        None => Decision::Skip("there is no seed".into()),
    }
}

/// What is kept of it: its settings, who it is for and its values.
fn kept(new: &NewSeed) -> String {
    let mut kept = new.settings.clone();
    if !kept.is_object() {
        kept = Value::Object(serde_json::Map::new());
    }
    kept["seed"] = serde_json::to_value(keep(new)).unwrap_or_default();
    serde_json::to_string(&kept).map_or_else(|_| String::new(), |text| text + "\n")
}

#[cfg(test)]
mod tests;
