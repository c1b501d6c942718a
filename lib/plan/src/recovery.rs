//! The medic's head: what is wrong with a machine that doesn't start, and what may be done about it from a stick.
//!
//! Read-only facts in, one finding a part out. Only what has one safe answer becomes an [`Action`]: a copy that is whole takes
//! the place of one that isn't, never the other way, and never another image than the machine says that it has. What the
//! machine does by itself as it starts is left to it. After each action the facts are collected anew (law 2), so that a cut
//! at any moment only means that the next run goes on from there.

mod bare;
pub mod export;
pub mod row;

pub use bare::Bare;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// All that is known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Facts {
    /// The stick's image.
    pub stick: Image,
    /// Disks that are, or were, a machine's boot medium.
    pub media: Vec<Medium>,
    /// Backups on the stick.
    pub sets: usize,
    /// What could become a boot medium, where there is none and the machine was started from the stick.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bare: Option<Bare>,
}

/// An image, as far as one is told from another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Image {
    /// Its id; empty where only its system is known.
    pub id: String,
    /// Its system's SHA-256 in hexadecimal digits.
    pub system: String,
}

/// A boot medium.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Medium {
    /// The disk's name.
    pub disk: String,
    /// Its partition table.
    pub table: Table,
    /// Its boot partition.
    pub boot: Boot,
    /// Its system partitions, by their letters.
    pub slots: BTreeMap<String, Slot>,
    /// Its state partition, and data disks of machines of this kind.
    pub volumes: BTreeMap<String, Volume>,
    /// k3s's database.
    pub database: Database,
}

/// A partition table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Table {
    /// All of it is whole.
    #[default]
    Whole,
    /// One of the two copies is.
    OneCopy,
    /// None is, and all partitions lie where this image has them.
    Places,
}

/// A boot partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Boot {
    /// It couldn't be looked at, as the table isn't whole.
    #[default]
    Unseen,
    /// It has no file system that can be mounted; why.
    Unreadable(String),
    /// It was looked at.
    Seen {
        /// What fsck.fat finds wrong with it; empty if nothing.
        disorder: String,
        /// The image that it says it is of.
        image: Option<Image>,
        /// Files that aren't what its image has.
        wrong: Vec<String>,
        /// Loader entries, or generations of arguments, that can be started from.
        sound: usize,
        /// Names of those that can't.
        broken: Vec<String>,
    },
}

/// A system partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Slot {
    /// Nothing was ever put there.
    Empty,
    /// Its bytes are those that its footer speaks of: the system's SHA-256.
    Whole(String),
    /// They aren't.
    Damaged(String),
    /// Its footer isn't whole; why.
    NoFooter(String),
}

/// An ext4.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Volume {
    /// The machine makes it as it starts.
    Unmade,
    /// Nothing is wrong.
    Sound,
    /// It was not unmounted: its journal is played as the machine starts, and until then nobody can tell.
    Journal,
    /// e2fsck finds something; its words.
    Damaged(String),
    /// No superblock of it can be read.
    Lost,
}

/// k3s's database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Database {
    /// It can't be looked at now; why.
    Unseen(String),
    /// There is none, and no cluster either.
    #[default]
    None,
    /// There was a cluster, and there is none.
    Missing,
    /// It is whole, and the token opens its keys.
    Sound,
    /// It is whole, and the token doesn't open it; why.
    Locked(String),
    /// It is damaged; how.
    Damaged(String),
}

/// Something to be done. Each can be done again after it was cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Write the partition table from its whole copy.
    CopyTable,
    /// Write the partition table that the image has.
    MakeTable,
    /// Have fsck.fat put the boot partition in order.
    MendBoot,
    /// Make the boot partition's file system anew, and all files in it.
    MakeBoot,
    /// Write these files of the boot partition from the stick.
    WriteFiles(Vec<String>),
    /// Write the first loader entry from the stick.
    WriteEntry,
    /// Remove loader entries that can't be started from.
    RemoveEntries(Vec<String>),
    /// Write what differs in a system partition from the stick, then its footer.
    WriteSlot(String),
    /// Have e2fsck repair a volume.
    MendVolume(String),
    /// Put the stick's system onto the disk that this names.
    Install(String),
}

/// What becomes of a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Remedy {
    /// Nothing has to be done.
    None,
    /// This is done now.
    Now(Action),
    /// The machine does it as it starts.
    Machine,
    /// A person has to.
    Person,
}

/// One line of the page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    /// Which part.
    pub part: String,
    /// How it is, and what is done about it.
    pub text: String,
    /// What becomes of it.
    pub remedy: Remedy,
}

fn finding(part: &str, remedy: Remedy, text: impl Into<String>) -> Finding {
    Finding { part: part.into(), text: text.into(), remedy }
}

fn sound(part: &str) -> Finding {
    finding(part, Remedy::None, "good")
}

/// All findings, in the order in which they are told and cured.
pub fn decide(facts: &Facts) -> Vec<Finding> {
    if let (true, Some(bare)) = (facts.media.is_empty(), &facts.bare) {
        return vec![bare::decide(bare, facts.sets)];
    }
    match &facts.media[..] {
        [] => vec![finding(
            "machine",
            Remedy::Person,
            "no disk here is a boot medium of this kind of machine; nothing was written",
        )],
        [medium] => of_medium(medium, &facts.stick, facts.sets),
        several => {
            let names: Vec<&str> = several.iter().map(|medium| medium.disk.as_str()).collect();
            let text = format!(
                "{} are boot media of such machines; nothing was written. Leave one of them in the machine",
                names.join(" and ")
            );
            vec![finding("machine", Remedy::Person, text)]
        }
    }
}

/// What is done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing more can be done.
    Nothing,
    /// This.
    Do(Action),
    /// This would be, and was done in this run already: it doesn't hold.
    DoesntHold(Action),
}

/// The first thing that is to be done now, after those that were `done` in this run.
pub fn next(findings: &[Finding], done: &[Action]) -> Next {
    let wanted = findings.iter().find_map(|finding| match &finding.remedy {
        Remedy::Now(action) => Some(action.clone()),
        _ => None,
    });
    let action = match wanted {
        // What fsck.fat can't put in order is made anew.
        Some(Action::MendBoot) if done.contains(&Action::MendBoot) => Action::MakeBoot,
        Some(action) => action,
        None => return Next::Nothing,
    };
    if done.contains(&action) { Next::DoesntHold(action) } else { Next::Do(action) }
}

fn of_medium(medium: &Medium, stick: &Image, sets: usize) -> Vec<Finding> {
    let mut findings = vec![of_table(&medium.table)];
    // Nothing behind a table that isn't whole can be told.
    if medium.table != Table::Whole {
        return findings;
    }
    let other = other_image(medium, stick);
    findings.extend(of_boot(&medium.boot, other.as_deref()));
    findings.extend(medium.slots.iter().map(|(letter, slot)| of_slot(letter, slot, medium, stick, other.as_deref())));
    findings.extend(medium.volumes.iter().map(|(name, volume)| of_volume(name, volume)));
    findings.push(of_database(&medium.database, sets));
    findings
}

fn of_table(table: &Table) -> Finding {
    const PART: &str = "partition table";
    match table {
        Table::Whole => sound(PART),
        Table::OneCopy => {
            finding(PART, Remedy::Now(Action::CopyTable), "one of its two copies is damaged; written from the other")
        }
        Table::Places => finding(
            PART,
            Remedy::Now(Action::MakeTable),
            "both copies are damaged, all partitions are in their places; written anew",
        ),
    }
}

/// What says that the machine has another image than the stick. Where nothing can be read, nothing does.
fn other_image(medium: &Medium, stick: &Image) -> Option<String> {
    if let Boot::Seen { image: Some(image), .. } = &medium.boot
        && (&image.system, &image.id) != (&stick.system, &stick.id)
    {
        return Some(format!("image {}", image.id));
    }
    let of_slot = |slot: &Slot| match slot {
        Slot::Whole(system) | Slot::Damaged(system) => Some(system.clone()),
        Slot::Empty | Slot::NoFooter(_) => None,
    };
    let systems: Vec<String> = medium.slots.values().filter_map(of_slot).collect();
    let is_other = !systems.is_empty() && !systems.contains(&stick.system);
    is_other.then(|| format!("system {}", systems[0].get(..12).unwrap_or_default()))
}

/// What the stick has takes the place of what is damaged, unless the machine has another image.
fn from_stick(part: &str, other: Option<&str>, is: String, action: Action) -> Finding {
    match other {
        None => finding(part, Remedy::Now(action), format!("{is}; written from the stick")),
        Some(other) => {
            let text = format!("{is}, and this machine has another image than the stick ({other}): build its stick");
            finding(part, Remedy::Person, text)
        }
    }
}

fn of_boot(boot: &Boot, other: Option<&str>) -> Vec<Finding> {
    const PART: &str = "boot partition";
    let (disorder, wrong, sound_entries, broken) = match boot {
        Boot::Unseen => return vec![finding(PART, Remedy::Person, "the partition table has none")],
        Boot::Unreadable(why) => {
            return vec![from_stick(PART, other, format!("its file system can't be read ({why})"), Action::MakeBoot)];
        }
        Boot::Seen { disorder, wrong, sound, broken, .. } => (disorder, wrong, *sound, broken),
    };
    let first = match disorder.as_str() {
        "" => sound(PART),
        words => finding(PART, Remedy::Now(Action::MendBoot), format!("in disorder ({words}); put in order")),
    };
    let files = match wrong.as_slice() {
        [] => sound("boot files"),
        names => {
            let action = Action::WriteFiles(names.to_vec());
            from_stick("boot files", other, format!("damaged or missing: {}", names.join(", ")), action)
        }
    };
    let entries = match (sound_entries, broken.as_slice()) {
        (1.., []) => sound("boot entry"),
        (1.., names) => {
            let text = format!("can't be started from: {}; removed, the one before it counts", names.join(", "));
            finding("boot entry", Remedy::Now(Action::RemoveEntries(names.to_vec())), text)
        }
        (0, _) => from_stick("boot entry", other, "there is none to start from".into(), Action::WriteEntry),
    };
    vec![first, files, entries]
}

fn of_slot(letter: &str, slot: &Slot, medium: &Medium, stick: &Image, other: Option<&str>) -> Finding {
    let part = format!("system {letter}");
    let write = Action::WriteSlot(letter.into());
    let holds_one = medium.slots.values().any(|slot| matches!(slot, Slot::Whole(_)));
    match slot {
        Slot::Whole(_) => sound(&part),
        Slot::Empty if letter == "b" => finding(&part, Remedy::None, "empty, as it may be"),
        Slot::Damaged(system) if *system == stick.system => from_stick(&part, None, "damaged".into(), write),
        // One whole system is what a machine needs; the other one is for its update to write.
        Slot::Damaged(_) | Slot::NoFooter(_) | Slot::Empty if holds_one && letter == "b" => {
            finding(&part, Remedy::Machine, "isn't whole; the next update writes it")
        }
        Slot::Damaged(_) => from_stick(&part, other.or(Some("its footer")), "damaged".into(), write),
        Slot::NoFooter(why) => from_stick(&part, other, format!("damaged ({why})"), write),
        Slot::Empty => from_stick(&part, other, "empty".into(), write),
    }
}

fn of_volume(name: &str, volume: &Volume) -> Finding {
    match volume {
        Volume::Sound => sound(name),
        Volume::Unmade => finding(name, Remedy::Machine, "isn't there yet; the machine makes it as it starts"),
        Volume::Journal => {
            finding(name, Remedy::Machine, "was not unmounted; the machine puts it in order as it starts")
        }
        Volume::Damaged(words) => {
            let text = format!("damaged ({words}); repaired by e2fsck");
            finding(name, Remedy::Now(Action::MendVolume(name.into())), text)
        }
        Volume::Lost => {
            let text = "all its superblocks are lost, and nothing was written: copy the medium before anything else";
            finding(name, Remedy::Person, text)
        }
    }
}

fn of_database(database: &Database, sets: usize) -> Finding {
    const PART: &str = "cluster";
    let backups = match sets {
        0 => "its own backups".to_string(),
        1 => "its own backups or the one on the stick".into(),
        more => format!("its own backups or the {more} on the stick"),
    };
    match database {
        Database::None => finding(PART, Remedy::None, "there was none yet"),
        Database::Sound => finding(PART, Remedy::None, "its database is whole, and the token opens it"),
        Database::Unseen(why) => finding(PART, Remedy::Machine, format!("not looked at: {why}")),
        Database::Damaged(how) => {
            let text =
                format!("its database is damaged ({how}); the machine heals it as it starts, or takes {backups}");
            finding(PART, Remedy::Machine, text)
        }
        Database::Locked(why) => {
            let text = format!("its token doesn't open its database ({why}); the machine seeks another as it starts");
            finding(PART, Remedy::Machine, text)
        }
        Database::Missing => {
            finding(PART, Remedy::Machine, format!("its database is gone; the machine takes {backups} as it starts"))
        }
    }
}

#[cfg(test)]
mod tests;
