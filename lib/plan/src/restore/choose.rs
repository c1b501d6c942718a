//! Choosing among the sets that were found: whom to believe, what fits, and which is the newest.
//!
//! Each set that isn't taken is told with why, and with what would make it fit.

use super::trial;
use crate::facts::Facts;
use crate::{Settings, cluster};
use bakelite_spec::fault::{Code, Fault};
use bakelite_spec::pattern::{fits, of_hostname};
use bakelite_spec::set::{self, Manifest};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The word for the newest set, where a person names one.
const NEWEST: &str = "newest";

/// Where a set lies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// On a stick or disk: the partition's name in this boot.
    Stick(String),
    /// On the card.
    Card,
    /// On the data disk.
    Disk,
}

/// Why a set would be believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trust {
    /// The machine's own key opens it, or it lies on its own medium.
    Own,
    /// An owner has granted it; whether the clock could prove that it hasn't expired.
    Granted {
        /// The clock was compared with the network's.
        clock: bool,
    },
    /// The grant was for other nodes.
    OtherNodes,
    /// The grant's time is over.
    Expired,
    /// Nobody whom this machine knows answers for it.
    Stranger,
}

/// A set as it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FoundSet {
    /// Where.
    pub source: Source,
    /// The node whose folder it lies in.
    pub node: String,
    /// Its file's name.
    pub file: String,
    /// Whether to believe it.
    pub trust: Trust,
    /// The sum that a grant gives for its file; empty where none does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sha256: String,
    /// What it says of itself, if it could be opened.
    #[serde(default)]
    pub manifest: Option<Manifest>,
    /// Why it can't be unpacked, once that was tried.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub torn: String,
}

impl FoundSet {
    /// What names it in an action and in the intent.
    pub fn key(&self) -> String {
        format!("{}/{}", self.node, self.file)
    }

    /// What names it for a person.
    pub fn words(&self) -> String {
        let place = match &self.source {
            Source::Stick(name) => format!("on {name}"),
            Source::Card => "on the card".into(),
            Source::Disk => "on the data disk".into(),
        };
        format!("the set {} {place}", self.key())
    }

    /// Whether it is newer than another of the same node. Of one that can't be read at all only its number tells.
    fn is_newer_than(&self, other: &Self) -> bool {
        match self.manifest {
            Some(_) => self.age() > other.age(),
            None => set::number(&self.file) > set::number(&other.file),
        }
    }

    /// The newest has the highest: the line of the database, its revision, the set's own number.
    fn age(&self) -> (u64, u64, u64) {
        let manifest = self.manifest.as_ref();
        let number = set::number(&self.file).unwrap_or(0);
        (manifest.map_or(0, |of| of.epoch), manifest.map_or(0, |of| of.revision), number)
    }
}

/// What comes of all sets.
#[derive(Debug)]
pub enum Choice<'a> {
    /// There is none to speak of.
    Nothing(String),
    /// This one; what was passed over that is newer.
    Set(&'a FoundSet, Vec<String>),
    /// There are some, and none is taken.
    Refused(Fault),
}

/// Which sets are asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// By a person: a set's name, or that it is the newest.
    pub name: Option<&'a str>,
    /// Only what lies there.
    pub source: Option<&'a Source>,
    /// Not what has this row and no higher revision: it is what is here already.
    pub newer_than: Option<(&'a str, u64)>,
    /// Only what is on sticks and disks that aren't this machine's.
    pub from_outside: bool,
}

impl Asked<'_> {
    fn is(&self, found: &FoundSet) -> bool {
        let is_news = |(row, revision): (&str, u64)| {
            found.manifest.as_ref().is_none_or(|manifest| manifest.row != row || manifest.revision > revision)
        };
        self.name.is_none_or(|name| name == NEWEST || name == found.file || name == found.key())
            && self.source.is_none_or(|source| *source == found.source)
            && self.newer_than.is_none_or(is_news)
            && (!self.from_outside || matches!(found.source, Source::Stick(_)))
    }

    /// Whether it is this very set: then it is tried even where it has failed.
    fn names(&self, found: &FoundSet) -> bool {
        self.name.is_some_and(|name| name == found.file || name == found.key())
    }
}

/// Chooses.
pub fn choose<'a>(facts: &Facts, sets: &'a [FoundSet], settings: &Settings, asked: Asked<'_>) -> Choice<'a> {
    let considered: Vec<&FoundSet> = sets.iter().filter(|found| asked.is(found)).collect();
    if considered.is_empty() {
        return match asked.name {
            Some(name) => refused(format!("there is no set {name} here")),
            None => Choice::Nothing("there is no backup to restore".into()),
        };
    }
    let taken_back = trial::rolled_back(facts).sets;
    let has_failed = |found: &FoundSet| {
        let words = taken_back.get(&found.key()).filter(|_| !asked.names(found))?;
        let key = found.key();
        Some(format!(
            "k3s couldn't live with it, and it was taken back ({words}); `bakelite restore {key}` tries it again"
        ))
    };
    let (mut good, mut passed_over): (Vec<&FoundSet>, Vec<(&FoundSet, String)>) = (Vec::new(), Vec::new());
    for found in considered {
        match obstacle(found, settings).or_else(|| has_failed(found)) {
            None => good.push(found),
            Some(why) => passed_over.push((found, format!("{}: {why}", found.words()))),
        }
    }
    let nodes: BTreeSet<&str> = good.iter().map(|found| found.node.as_str()).collect();
    if nodes.len() > 1 {
        let nodes: Vec<&str> = nodes.into_iter().collect();
        let text = format!(
            "there are backups of {}, and this machine can be any of them; write `restore: {{node: {}}}`, or another of them",
            nodes.join(", "),
            nodes[0]
        );
        return Choice::Refused(Fault::new(Code::RestoreAmbiguous, text));
    }
    match good.into_iter().max_by_key(|found| found.age()) {
        Some(best) => {
            let newer =
                passed_over.into_iter().filter(|(found, _)| found.node == best.node && found.is_newer_than(best));
            Choice::Set(best, newer.map(|(_, why)| why).collect())
        }
        None => {
            // The newest of each node is enough to read.
            passed_over.sort_by_key(|(found, _)| (found.node.clone(), std::cmp::Reverse(found.age())));
            passed_over.dedup_by(|one, other| one.0.node == other.0.node);
            let each: Vec<String> = passed_over.into_iter().map(|(_, why)| why).collect();
            refused(each.join(". "))
        }
    }
}

fn refused(text: String) -> Choice<'static> {
    Choice::Refused(Fault::new(Code::RestoreRefused, text))
}

/// Why a set isn't taken, and what would make it fit.
fn obstacle(found: &FoundSet, settings: &Settings) -> Option<String> {
    let appliance = &settings.appliance;
    let by_name = match &appliance.restore.node {
        Some(node) if *node != found.node => Some(format!("`restore.node` is {node}")),
        Some(_) => None,
        None if fits(&of_hostname(&appliance.hostname), &found.node) => None,
        None => {
            let (node, hostname) = (&found.node, &appliance.hostname);
            Some(format!("{node} isn't a name by `hostname: {hostname}`; `restore: {{node: {node}}}` would take it"))
        }
    };
    let by_trust = match found.trust {
        Trust::Own | Trust::Granted { .. } => None,
        Trust::OtherNodes => Some("its grant is for other nodes".to_string()),
        Trust::Expired => Some("its grant has expired; `bakelite stick` makes a new one".into()),
        Trust::Stranger => Some(
            "neither this machine's key opens it nor has one of `owner.keys` granted it; `bakelite stick` puts it on a \
             stick with a grant"
                .into(),
        ),
    };
    let torn = || (!found.torn.is_empty()).then(|| format!("it can't be unpacked: {}", found.torn));
    let unread = || found.manifest.is_none().then(|| "it can't be opened".to_string());
    // Of what can't be read nobody can tell whose it is.
    by_name.or_else(torn).or(by_trust).or_else(|| misfit(found, settings)).or_else(unread)
}

/// The newest set of a node on this machine's own media that can be restored.
pub fn newest_of<'a>(facts: &'a Facts, node: &str, sources: &[Source], settings: &Settings) -> Option<&'a FoundSet> {
    let taken_back = trial::rolled_back(facts).sets;
    let own = |found: &&FoundSet| {
        let is_own = sources.contains(&found.source) && found.trust == Trust::Own && found.node == node;
        let is_whole = found.manifest.is_some() && found.torn.is_empty() && !taken_back.contains_key(&found.key());
        is_own && is_whole && misfit(found, settings).is_none()
    };
    facts.sets.iter().flatten().filter(own).max_by_key(|found| found.age())
}

/// Why a set's database can't be given to what is installed.
fn misfit(found: &FoundSet, settings: &Settings) -> Option<String> {
    let manifest = found.manifest.as_ref()?;
    if manifest.node != found.node {
        return Some(format!("it says that it is of {}", manifest.node));
    }
    let keys = cluster::immutable_keys(settings);
    let version = &settings.manifest.payload.version;
    manifest.fits(version, &keys, cluster::IMMUTABLE).err().map(|misfit| misfit.to_string())
}
