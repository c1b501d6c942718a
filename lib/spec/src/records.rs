//! Small records about the cluster and where it lives, the same on state and on the data disk.
//!
//! Where two copies differ, [`ClusterBorn::ruling`] says which one counts; nothing else may. None of them holds a
//! secret, so that they can be shown to anybody.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The format of all records here.
pub const FORMAT: u32 = 1;

/// Where the cluster lives, as the state partition says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Home {
    /// [`FORMAT`].
    pub format: u32,
    /// On the card or on a data disk.
    pub place: Place,
    /// The disk that the cluster is just moving to: from now on it may live there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moving: Option<DiskName>,
    /// The line of the database.
    pub epoch: u64,
}

/// A medium that the cluster can live on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// The state partition.
    Card,
    /// A data disk.
    Disk(DiskName),
}

/// A data disk by what never changes, and by what a person can read on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DiskName {
    /// The partition's GUID.
    pub guid: String,
    /// Model, serial number and size.
    pub words: String,
}

impl Home {
    /// The disk without which the cluster can't be started: its home, or where it was moving to.
    pub fn needs(&self) -> Option<&DiskName> {
        match (&self.moving, &self.place) {
            (Some(disk), _) | (None, Place::Disk(disk)) => Some(disk),
            (None, Place::Card) => None,
        }
    }
}

/// That the cluster lives on the data disk that holds this record, or that it has left it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DiskHome {
    /// [`FORMAT`].
    pub format: u32,
    /// The node.
    pub node: String,
    /// The line of the database.
    pub epoch: u64,
    /// The cluster moved back to a card, which has this epoch; what is here is older.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub left: bool,
}

/// That a card still holds what moved from it to a data disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OldCopy {
    /// [`FORMAT`].
    pub format: u32,
    /// The partition that it moved to.
    pub disk: String,
    /// The epoch of that move.
    pub epoch: u64,
    /// The first boot that was good on the new home, by the kernel's id of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good_in: Option<String>,
}

/// What keeps a cluster's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Datastore {
    /// kine on SQLite.
    Sqlite,
    /// Embedded etcd.
    Etcd,
    /// A database elsewhere.
    External,
    /// An agent keeps none.
    None,
}

/// That this machine has had a cluster, and which one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ClusterBorn {
    /// [`FORMAT`].
    pub format: u32,
    /// How often the line of the database was changed on purpose.
    pub epoch: u64,
    /// The node.
    pub node: String,
    /// What keeps its data.
    pub datastore: Datastore,
    /// The name of the bootstrap row; empty where there is none.
    pub row: String,
    /// A revision that was on the medium: the database is never older.
    pub revision: u64,
    /// The k3s version that it ran with last.
    pub k3s: String,
    /// The keys of k3s's configuration that can't be changed any more, as JSON, where they are set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keys: BTreeMap<String, String>,
}

impl ClusterBorn {
    /// Of two copies the one with the higher epoch, then the higher revision.
    pub fn ruling<'a>(one: Option<&'a Self>, other: Option<&'a Self>) -> Option<&'a Self> {
        [one, other].into_iter().flatten().max_by_key(|born| (born.epoch, born.revision))
    }
}

/// An act that changes the line of the database and isn't finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Intent {
    /// [`FORMAT`].
    pub format: u32,
    /// What is done.
    pub act: Act,
    /// The epoch before.
    pub from_epoch: u64,
    /// The partition of the data disk that it is about.
    pub disk: String,
    /// The revision of the database that it is made from.
    pub revision: u64,
    /// The set that is restored, or taken away again.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub set: String,
    /// Of a restore that can be taken back: who the machine was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Before>,
}

/// The acts that change the line of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// A set takes the place of what was there.
    Restore,
    /// A set is put onto a blank disk in place of a lost one, which [`Intent::disk`] names.
    Replacement,
    /// A restored set is taken away again, and what was there before it comes back.
    RollBack,
    /// The cluster moves from one medium to the other.
    #[serde(untagged)]
    Move(Move),
}

/// The acts that carry the cluster's data from one medium to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Move {
    /// From the card to a data disk.
    Promotion,
    /// From a data disk back to the card.
    Demotion,
}

impl Act {
    /// The move that it is, if it is one.
    pub fn as_move(self) -> Option<Move> {
        match self {
            Self::Move(way) => Some(way),
            Self::Restore | Self::Replacement | Self::RollBack => None,
        }
    }
}

/// Who a machine was before a set was restored onto it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Before {
    /// The node; empty where it had no name yet.
    pub node: String,
    /// Its cluster, if it had one.
    pub cluster: Option<ClusterBorn>,
}

/// A restored set upon which k3s hasn't proved itself yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RestoreTrial {
    /// [`FORMAT`].
    pub format: u32,
    /// The line of the database that the restore began; once there is another one, the trial is over.
    pub epoch: u64,
    /// The set.
    pub set: String,
    /// Who the machine was.
    pub before: Before,
}

/// Restored sets that were taken away again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RolledBack {
    /// [`FORMAT`].
    pub format: u32,
    /// The line of the database after the last time: no later one has a lower number.
    pub epoch: u64,
    /// The sets, with k3s's last words on each. None of them is tried again unasked.
    pub sets: BTreeMap<String, String>,
}

/// A k3s version as numbers: `v1.36.2+k3s1` is 1, 36, 2, 1. `None` for what isn't a release, such as a stand-in's.
pub fn k3s_version(text: &str) -> Option<[u64; 4]> {
    let (release, revision) = text.strip_prefix('v')?.split_once("+k3s")?;
    let mut numbers = release.split('.').map(|part| part.parse().ok());
    let version = [numbers.next()??, numbers.next()??, numbers.next()??, revision.parse().ok()?];
    numbers.next().is_none().then_some(version)
}

/// Where [`UsbQuirks`] is.
pub const USB_QUIRKS: &str = "/var/lib/bakelite/usb-quirks.json";

/// The USB bridges that this machine has found to need the kernel's special treatment. Each is noted once and for ever: what
/// doesn't help isn't tried twice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct UsbQuirks {
    /// [`FORMAT`].
    pub format: u32,
    /// Entries of `usb-storage.quirks`, such as `152d:0578:u`.
    pub quirks: BTreeSet<String>,
}

impl UsbQuirks {
    /// Reads the record; what can't be read is empty.
    pub fn parse(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    /// The argument's value with these quirks behind those that are asked for already; a bridge that is named there stays
    /// as it is named there.
    pub fn beside(&self, asked: &str) -> String {
        let bridge = |entry: &str| entry.rsplit_once(':').map_or(entry, |(bridge, _)| bridge).to_lowercase();
        let named: Vec<String> = asked.split(',').map(bridge).collect();
        let own = self.quirks.iter().filter(|entry| !named.contains(&bridge(entry)));
        asked.split(',').filter(|entry| !entry.is_empty()).chain(own.map(String::as_str)).collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn born(epoch: u64, revision: u64) -> ClusterBorn {
        ClusterBorn {
            format: FORMAT,
            epoch,
            node: "n".into(),
            datastore: Datastore::Sqlite,
            row: String::new(),
            revision,
            k3s: "v1.36.2+k3s1".into(),
            keys: BTreeMap::new(),
        }
    }

    #[test]
    fn the_epoch_rules_then_the_revision() {
        let (old, new, restored) = (born(0, 10), born(0, 20), born(1, 5));
        assert_eq!(ClusterBorn::ruling(Some(&old), Some(&new)), Some(&new));
        assert_eq!(ClusterBorn::ruling(Some(&restored), Some(&new)), Some(&restored));
        assert_eq!(ClusterBorn::ruling(None, Some(&old)), Some(&old));
        assert_eq!(ClusterBorn::ruling(None, None), None);
    }

    #[test]
    fn an_act_is_one_word() {
        for (act, word) in [
            (Act::Move(Move::Promotion), "promotion"),
            (Act::Move(Move::Demotion), "demotion"),
            (Act::Restore, "restore"),
            (Act::RollBack, "roll-back"),
        ] {
            assert_eq!(serde_json::to_value(act).unwrap(), word);
            assert_eq!(serde_json::from_value::<Act>(word.into()).unwrap(), act);
        }
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(k3s_version("v1.36.10+k3s1") > k3s_version("v1.36.9+k3s2"));
        assert_eq!(k3s_version("v1.36.2+k3s1"), Some([1, 36, 2, 1]));
        for text in ["rehearsal", "1.36.2+k3s1", "v1.36.2", "v1.36+k3s1", "v1.36.2.1+k3s1", "v1.36.x+k3s1"] {
            assert_eq!(k3s_version(text), None, "{text}");
        }
    }

    #[test]
    fn while_it_moves_the_new_disk_is_needed() {
        let disk = DiskName { guid: "g".into(), words: "w".into() };
        let card = Home { format: FORMAT, place: Place::Card, moving: None, epoch: 0 };
        assert_eq!(card.needs(), None);
        assert_eq!(Home { moving: Some(disk.clone()), ..card.clone() }.needs(), Some(&disk));
        let text = serde_json::to_string(&Home { place: Place::Disk(disk), ..card }).unwrap();
        assert_eq!(text, r#"{"format":1,"place":{"disk":{"guid":"g","words":"w"}},"epoch":0}"#);
    }
}
