//! Facts: what the machine is, as far as decisions need it. Plain data, so that a file can hold a machine.

use crate::disk::{Data, Disk};
use crate::restore::{FoundSet, Word};
use bakelite_spec::status::{LastStart, paths};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Facts {
    /// The maker's serial number; empty where there is none worth the name.
    pub serial: String,
    /// The machine id, made at random once and kept on state; empty before there is one.
    pub machine_id: String,
    /// Wired links, by name.
    pub links: Vec<Link>,
    /// The default address and its link, the stand-in's own apart.
    pub address: Option<(String, IpAddr)>,
    /// The networks that its wired links are in.
    pub networks: Vec<String>,
    /// Whether there is a default route, the stand-in's own apart. A network without a gateway has none.
    pub default_route: bool,
    /// Whether the stand-in for a network is up.
    pub dummy: Option<Dummy>,
    /// Whether what is written to state outlives this boot.
    pub state_is_durable: bool,
    /// The files that steps read, by path; absent ones aren't in it.
    pub files: BTreeMap<String, String>,
    /// Paths that are there, whatever is in them: secrets, whose content is nobody's business here.
    pub present: Vec<String>,
    /// Links below the folder of container images, with their targets.
    pub image_links: BTreeMap<String, String>,
    /// For each file that the image brings for another place, by that place: whether it is as it has to be.
    pub placed: BTreeMap<String, PlacedState>,
    /// The files in the store of apps, by their paths in it: their bytes.
    pub stored: BTreeMap<String, u64>,
    /// Files that are empty, or of zeros alone, in the places that [`crate::debris`] names.
    pub hollow: Vec<String>,
    /// Whether the boot before this one was not ended in order.
    pub unclean: bool,
    /// What became of comparing the payload's files with their hashes in this pass: empty, or the first that differs.
    pub payload_checked: Option<String>,
    /// What is to be seen of the container runtime's store.
    pub store: Store,
    /// The memory that the kernel has, in bytes.
    pub memory: u64,
    /// The wall clock, in seconds since 1970.
    pub clock: i64,
    /// The kernel's id of this boot.
    pub boot: String,
    /// Whether the clock was compared with the network's in this boot.
    pub clock_is_set: bool,
    /// k3s's data lies on an SD card, an eMMC or something behind USB.
    pub slow_medium: bool,
    /// How long this pass has waited for an address, in seconds.
    pub waited: u64,
    /// How long this pass has waited for the network's time, in seconds.
    pub waited_for_time: u64,
    /// All disks with a medium, the boot medium included.
    pub disks: Vec<Disk>,
    /// Whether the disk behind the data disk's mount isn't there any more.
    pub vanished: bool,
    /// Seconds since the kernel started.
    pub uptime: u64,
    /// The seed on the boot partition.
    pub seed: Option<crate::seed::Seed>,
    /// The boot loader of ours that has started this machine.
    pub loader: Option<Loader>,
    /// The command line with which the kernel was started.
    pub cmdline: String,
    /// The cgroup controllers that the kernel gives.
    pub controllers: Vec<String>,
    /// A hash over what is to be sealed, as it is on state now; empty before there is an identity.
    pub to_seal: String,
    /// Folders that are shown at the places of k3s's data, by place.
    pub shown: BTreeMap<String, String>,
    /// What the card holds in those places.
    pub on_card: Option<Amount>,
    /// What the data disk holds in them; only where a move is possible.
    pub on_disk: Option<Amount>,
    /// Bytes that are free on the data disk.
    pub free_on_disk: u64,
    /// Bytes that are free on the card.
    pub free_on_card: u64,
    /// k3s's database, where it is to be read from now.
    pub database: Option<Database>,
    /// Sets of this and other machines, once they were looked for.
    pub sets: Option<Vec<FoundSet>>,
    /// Words of a person's on sticks, once sets were looked for.
    pub words: Vec<Word>,
    /// Names in the cluster beyond those that were there by themselves, once they were compared.
    pub beyond_baseline: Option<Vec<String>>,
    /// Names of what went with the database that an act has moved aside, once they were compared.
    pub lost: Option<Vec<String>>,
    /// What acts have moved aside, in bytes, by the line that they began; only in a boot that counts as good.
    pub asides: BTreeMap<u64, u64>,
    /// Bytes that are free beside k3s's data; only in such a boot.
    pub free_beside_data: u64,
    /// Whether the cluster's token was looked for in vain.
    pub token_lost: bool,
    /// What came of climbing upon the damaged database: empty, or why nothing can be made of it; `None` before it was tried.
    pub climbed: Option<String>,
    /// What came of copying the mirror of the database: empty, or why it isn't used; `None` before it was tried.
    pub mirrored: Option<String>,
    /// Whether the supply's voltage was found too low since the start.
    pub power_is_low: bool,
    /// Whether the machine lives on a battery now.
    pub on_battery: bool,
    /// Whether k3s has run since the machine was switched on.
    pub payload_ran: bool,
}

/// The boot loader's entries of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loader {
    /// The one that was started, without its counter.
    pub selected: String,
    /// All of them: their texts by the files' names.
    pub entries: BTreeMap<String, String>,
}

/// The container runtime's store of images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Store {
    /// There is none.
    #[default]
    Absent,
    /// Its index can be read.
    Whole,
    /// Its index can't be read.
    Damaged,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Amount {
    /// Bytes that it takes on the medium.
    pub bytes: u64,
    /// Files, links and folders.
    pub files: u64,
}

/// What is known of a database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// Its revision; 0 for an empty one.
    #[serde(default)]
    pub revision: u64,
    /// The name of its bootstrap row.
    #[serde(default)]
    pub row: String,
    /// Why it can't be used, as far as was looked; empty where nothing is known against it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub damage: String,
    /// Whether SQLite has checked all of it in this pass.
    #[serde(default)]
    pub checked: bool,
}

/// The state of a placed file. A secret's value is no fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlacedState {
    /// It is there as it has to be.
    Same,
    /// It is absent or another.
    Differs,
    /// Secrets of these names are missing, without which it can't be made.
    Lacks(Vec<String>),
}

/// A wired link.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// The kernel's name.
    pub name: String,
    /// The MAC address, lower case with colons.
    pub mac: String,
    /// The place of its device below /sys/devices.
    pub path: String,
    /// Whether something is at the other end.
    pub carrier: bool,
}

/// The stand-in for a network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dummy {
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

impl Facts {
    /// How the payload's last start went, if there was one in this boot.
    pub fn last_start(&self) -> Option<LastStart> {
        serde_json::from_str(self.file(paths::LAST_START)?).ok()
    }

    /// The data disk in use.
    pub fn attached(&self) -> Option<(&Disk, &Data)> {
        self.data_partitions().find(|(_, data)| data.attached)
    }

    /// All partitions of our type, those of the boot medium apart.
    pub fn data_partitions(&self) -> impl Iterator<Item = (&Disk, &Data)> {
        self.disks.iter().filter(|disk| !disk.boot).filter_map(|disk| Some((disk, disk.data.as_ref()?)))
    }

    /// A file's text, if it is there.
    pub fn file(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Whether a path is there.
    pub fn has(&self, path: &str) -> bool {
        self.present.iter().any(|present| present == path) || self.files.contains_key(path)
    }
}
