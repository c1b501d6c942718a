//! Disks as decisions see them: what they are, what they hold, and what was found out about them in this pass.
//!
//! Looking at what a disk holds takes time, so it is an action like any other: what isn't known yet is `None` here, and
//! a step that needs it asks for it.

use bakelite_spec::quantity::Size;
use bakelite_spec::records::{ClusterBorn, DiskHome, DiskName};
use serde::{Deserialize, Serialize};

/// A disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Disk {
    /// The kernel's name in this boot, for words only.
    pub name: String,
    /// How it is attached: `usb` (mass storage), `uas`, `nvme`, `sd`, `emmc`, `sata`, `virtio`, `scsi`.
    pub transport: String,
    /// Its size in bytes.
    pub size: u64,
    /// Maker and model.
    pub model: String,
    /// The serial number.
    pub serial: String,
    /// The world-wide name.
    pub wwn: String,
    /// Whether it has spinning platters.
    pub rotational: bool,
    /// Whether its medium can be taken out.
    pub removable: bool,
    /// Whether it can't be written.
    pub read_only: bool,
    /// Whether it takes discards: word of what holds nothing.
    pub discards: bool,
    /// Bytes of its own sectors; 0 stands for 512.
    pub sector: u64,
    /// What is bad about its health by its own words; empty where nothing is.
    pub ails: String,
    /// Whether this machine was booted from it.
    pub boot: bool,
    /// What uses it besides us: devices built upon it, mounts.
    pub used_by: Vec<String>,
    /// Its partition of our type.
    pub data: Option<Data>,
    /// What is on it, as far as it was looked at.
    pub proof: Option<Proof>,
}

/// What a look at a disk has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    /// Nothing at all.
    Blank,
    /// One file system without a user's file: its kind.
    EmptyFilesystem(String),
    /// A stick of Bakelite's, by its label or its folder: for backups, grants, updates, recovery.
    Stick,
    /// Half a system: a stick has begun to put one onto it, and is to go on.
    Begun,
    /// Something: in words.
    Holds(String),
    /// It can't be read: why not.
    Unreadable(String),
}

/// A partition of our type.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Data {
    /// The partition's GUID.
    pub guid: String,
    /// Whether its making came to an end.
    pub born: bool,
    /// Whether it is in use as the data disk.
    pub attached: bool,
    /// What is in it, as far as it was looked into.
    pub content: Option<Content>,
    /// Why it can't be looked into or used.
    pub damaged: Option<String>,
}

/// What is in a data partition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Content {
    /// The sealed identity, if there is a whole one.
    pub seal: Option<Seal>,
    /// That the cluster lives there.
    pub home: Option<DiskHome>,
    /// Which cluster.
    pub cluster: Option<ClusterBorn>,
    /// Whether there is nothing else in it: it was made, and the power went.
    pub unused: bool,
}

impl Content {
    /// Whether nothing at all is in it.
    pub fn is_empty(&self) -> bool {
        self.unused && self.seal.is_none() && self.home.is_none() && self.cluster.is_none()
    }
}

/// A sealed identity, without its secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// The node that it is of.
    pub node: String,
    /// Counts how often it was written.
    pub generation: u64,
    /// A hash over all that is sealed.
    pub digest: String,
}

impl Disk {
    /// What names it in an action, whatever the kernel calls it in the next boot.
    pub fn key(&self) -> String {
        [&self.wwn, &self.serial].into_iter().find(|text| !text.is_empty()).unwrap_or(&self.name).clone()
    }

    /// Name, model, serial number and size, for a person who stands before the machine.
    pub fn words(&self) -> String {
        let mut words = vec![self.model.trim().to_string()];
        if !self.serial.is_empty() {
            words.push(format!("serial {}", self.serial));
        }
        words.push(Size(self.size).human());
        words.retain(|word| !word.is_empty());
        format!("{} ({})", self.name, words.join(", "))
    }

    /// How a record names its data partition.
    pub fn data_name(&self, data: &Data) -> DiskName {
        let words = self.words();
        let words = words.split_once(" (").map_or(words.as_str(), |(_, rest)| rest.trim_end_matches(')'));
        DiskName { guid: data.guid.clone(), words: words.into() }
    }

    /// Its kind, in the words of `storage.prefer`.
    pub fn kind(&self) -> &str {
        match self.transport.as_str() {
            "uas" => "usb",
            "scsi" => "sata",
            other => other,
        }
    }

    /// Whether a person means this disk by a serial number or world-wide name.
    pub fn is_named(&self, name: &str) -> bool {
        [&self.serial, &self.wwn].into_iter().any(|text| !text.is_empty() && text.eq_ignore_ascii_case(name.trim()))
    }
}
