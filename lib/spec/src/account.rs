//! The account of a machine: `report.json` on its boot partition, for whoever has the card in a laptop.
//!
//! What was done and why, what is wrong and who must act, where the cluster is. No secrets. It is written anew only where
//! it says something else but other times.

use crate::apps::{self, Apps};
use crate::fault::Fault;
use crate::status::StepReport;
use crate::update::Ended;
use serde::{Deserialize, Serialize};

/// The file's name.
pub const NAME: &str = "report.json";
/// That a boot was good, by init.
pub const GOOD: &str = "/var/lib/bakelite/good.json";
/// That all workloads of the image were available, by the keeper.
pub const AVAILABLE: &str = "/var/lib/bakelite/available.json";
/// The format of this file.
pub const FORMAT: u32 = 1;

/// The account.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Account {
    /// [`FORMAT`].
    pub format: u32,
    /// When it was written, in seconds since 1970 by the machine's clock.
    pub written: i64,
    /// Bakelite's version.
    pub version: String,
    /// The image's id.
    pub image: String,
    /// The slot that runs.
    pub slot: String,
    /// The node's name; empty before it has one.
    pub node: String,
    /// The maker's serial number of the board; empty where it has none worth the name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub serial: String,
    /// Which cluster it is: the node, the name of the bootstrap row and the epoch. Empty before there is one.
    pub cluster: String,
    /// Where the cluster lives, in words.
    pub home: String,
    /// The payload with its version.
    pub payload: String,
    /// The disks in words.
    pub disks: Vec<String>,
    /// What is wrong.
    pub faults: Vec<FaultReport>,
    /// What a person should know although nothing is wrong.
    pub warnings: Vec<String>,
    /// What was done, and why.
    pub steps: Vec<StepReport>,
    /// What became of the seed that the medium was flashed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<Acknowledged>,
    /// The last good boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_good: Option<GoodBoot>,
    /// That the node was ready and all workloads were available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available: Option<Available>,
    /// What became of the last update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_update: Option<Ended>,
    /// What is laid over the image's apps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apps: Option<Apps>,
    /// What became of the last bundle of apps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_apps: Option<apps::Ended>,
}

/// What became of a seed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Acknowledged {
    /// The ticket of the seed that was taken; empty where it had none.
    pub ticket: String,
    /// The keys that were taken, secrets by their names.
    pub took: Vec<String>,
    /// Why the seed on the boot partition is refused; empty where it isn't.
    pub refused: String,
}

/// A fault, for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FaultReport {
    /// The stable code, which is also the name of its page.
    pub code: String,
    /// Who must act.
    pub who: String,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub hint: String,
}

impl From<&Fault> for FaultReport {
    fn from(fault: &Fault) -> Self {
        Self {
            code: fault.code.name().into(),
            who: fault.who.words().into(),
            what: fault.text.clone(),
            hint: fault.hint.clone(),
        }
    }
}

/// A boot that was good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct GoodBoot {
    /// When, in seconds since 1970.
    pub at: i64,
    /// The image that ran.
    pub image: String,
    /// The slot that it ran from.
    pub slot: String,
}

impl GoodBoot {
    /// Whether it says the same as another one, but for a time within the same day.
    pub fn is_as(&self, other: &Self) -> bool {
        const DAY: i64 = 24 * 3600;
        (&self.image, &self.slot) == (&other.image, &other.slot) && (self.at - other.at).abs() < DAY
    }
}

/// When the node was first ready with all workloads available: those that are baked into the image, and those that charts and
/// k3s itself have made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Available {
    /// When, in seconds since 1970.
    pub at: i64,
    /// The image that ran.
    pub image: String,
    /// The workloads, such as `deployments/default/till`; none where there is no database here that could tell of them.
    pub workloads: Vec<String>,
}

impl Account {
    /// What is compared: without times, and without the words of what had to be left as it was, which name revisions.
    fn essence(&self) -> Self {
        let mut essence = Self { written: 0, ..self.clone() };
        essence.last_good.iter_mut().for_each(|good| good.at = 0);
        for step in essence.steps.iter_mut().filter(|step| matches!(step.decision.as_str(), "done" | "skip")) {
            step.why.clear();
        }
        essence
    }

    /// Whether it says something else than an earlier one.
    pub fn says_more_than(&self, earlier: Option<&Self>) -> bool {
        earlier.map(Self::essence) != Some(self.essence())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_revisions_are_no_news_and_everything_else_is() {
        let step = |decision: &str, why: &str| StepReport {
            step: "integrity".into(),
            decision: decision.into(),
            why: why.into(),
        };
        let good = GoodBoot { at: 5, image: "i".into(), slot: "a".into() };
        let before = Account {
            written: 1,
            steps: vec![step("done", "revision 400")],
            last_good: Some(good.clone()),
            ..Account::default()
        };
        let after = Account {
            written: 2,
            steps: vec![step("done", "revision 500")],
            last_good: Some(GoodBoot { at: 9, ..good }),
            ..before.clone()
        };
        assert!(!after.says_more_than(Some(&before)));
        assert!(after.says_more_than(None));
        assert!(Account { node: "n".into(), ..after.clone() }.says_more_than(Some(&before)));
        assert!(Account { steps: vec![step("refuse", "revision 500")], ..after.clone() }.says_more_than(Some(&after)));
        let read: Account = serde_json::from_str(&serde_json::to_string(&after).unwrap()).unwrap();
        assert_eq!(read, after);
    }
}
