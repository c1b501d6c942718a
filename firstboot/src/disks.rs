//! Disks as facts: what sysfs says of them, whose they are, and what was found out about them in this pass.

use crate::sealing;
use bakelite_disk::data;
use bakelite_plan::disk::{Content, Data, Disk, Proof};
use bakelite_plan::restore::{FoundSet, Word};
use bakelite_plan::{cluster, home, seal};
use bakelite_spec::layout::SECTOR;
use bakelite_spec::status::paths;
use bakelite_sys::mount::{self, Mounted};
use bakelite_sys::{SysError, block, durable, names_in, read_text};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// What early left of its looks, for this boot.
const LOOKED: &str = "run/bakelite/looked.json";

/// What was looked at, as looking takes time: in this pass, or for settle in the last early one. It never permits a claim
/// but in the pass in which it was proved.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Looked {
    /// By the disk's key.
    pub proofs: BTreeMap<String, Proof>,
    /// By the partition's GUID.
    pub contents: BTreeMap<String, Content>,
    /// Why a partition can't be used, by its GUID.
    pub damaged: BTreeMap<String, String>,
    /// The first of the payload's files that is damaged, once they were looked at; empty if none is.
    pub payload: Option<String>,
    /// Whether the cluster's token was looked for in vain.
    #[serde(skip)]
    pub token_lost: bool,
    /// What came of climbing upon the damaged database; settle's own.
    #[serde(skip)]
    pub climbed: Option<String>,
    /// What came of copying the mirror of the database; settle's own.
    #[serde(skip)]
    pub mirrored: Option<String>,
    /// Sets, once they were looked for.
    pub sets: Option<Vec<FoundSet>>,
    /// Words of a person's on sticks, found by the way.
    #[serde(default)]
    pub words: Vec<Word>,
    /// Names in the cluster that aren't in its baseline; settle's own.
    #[serde(skip)]
    pub beyond_baseline: Option<Vec<String>>,
    /// Names of what went with a database that was moved aside; settle's own.
    #[serde(skip)]
    pub lost: Option<Vec<String>>,
    /// What is wrong with the database, once it was checked; empty if nothing is.
    pub database: Option<String>,
}

impl Looked {
    /// What early has seen; nothing where it hasn't come so far.
    pub fn by_early(root: &Path) -> Self {
        record(&root.join(LOOKED)).unwrap_or_default()
    }

    /// Leaves it for settle, which otherwise would wait for what is known.
    pub fn leave(&self, root: &Path) -> Result<(), SysError> {
        durable::replace(root.join(LOOKED), &serde_json::to_vec(self).unwrap_or_default(), 0o644)
    }
}

/// All disks with a medium.
pub fn all(root: &Path, looked: &Looked) -> Vec<Disk> {
    let boot = boot_disk(root);
    let mounts = mount::all();
    block::disks(root).into_iter().map(|disk| describe(root, &disk, &boot, &mounts, looked)).collect()
}

/// Whether the data disk is mounted from a device that isn't there any more.
pub fn has_vanished(disks: &[Disk]) -> bool {
    mount::all().iter().any(|mounted| mounted.point == paths::DATA_MOUNT)
        && !disks.iter().any(|disk| disk.data.as_ref().is_some_and(|data| data.attached))
}

/// The name of the disk that this machine was booted from.
pub fn boot_disk(root: &Path) -> String {
    let text = read_text(root.join(paths::MEDIUM.trim_start_matches('/'))).unwrap_or_default();
    let medium: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    medium["disk"].as_str().unwrap_or_default().into()
}

fn describe(root: &Path, disk: &block::Disk, boot: &str, mounts: &[Mounted], looked: &Looked) -> Disk {
    let is_boot = disk.name == boot;
    let mut found = Disk {
        name: disk.name.clone(),
        transport: disk.transport.clone(),
        size: disk.size,
        model: disk.model.clone(),
        serial: disk.serial.clone(),
        wwn: disk.wwn.clone(),
        rotational: disk.rotational,
        removable: disk.removable,
        read_only: disk.read_only,
        discards: disk.discards,
        sector: disk.sector,
        ails: disk.ails.clone(),
        boot: is_boot,
        ..Disk::default()
    };
    if is_boot {
        return found;
    }
    found.data = data_partition(root, disk, mounts, looked);
    found.proof = looked.proofs.get(&found.key()).cloned();
    if !found.data.as_ref().is_some_and(|data| data.attached) {
        found.used_by = used_by(disk, mounts);
    }
    found
}

fn used_by(disk: &block::Disk, mounts: &[Mounted]) -> Vec<String> {
    let numbers: Vec<&String> = disk.partitions.values().map(|part| &part.number).chain([&disk.number]).collect();
    let holders = disk.holders.iter().chain(disk.partitions.values().flat_map(|part| &part.holders)).cloned();
    let points =
        mounts.iter().filter(|mounted| numbers.contains(&&mounted.device)).map(|mounted| mounted.point.clone());
    holders.chain(points).collect()
}

fn data_partition(root: &Path, disk: &block::Disk, mounts: &[Mounted], looked: &Looked) -> Option<Data> {
    let (mut medium, length) = block::open(&disk.device(), false).ok()?;
    let found = data::find(&mut medium, length / SECTOR).ok()??;
    let guid = found.entry.guid.to_string();
    let number = disk.partitions.get(&found.number).map(|partition| partition.number.as_str());
    let attached =
        mounts.iter().any(|mounted| mounted.point == paths::DATA_MOUNT && Some(mounted.device.as_str()) == number);
    let content = if attached { Some(content(root, paths::DATA_MOUNT)) } else { looked.contents.get(&guid).cloned() };
    let damaged = looked.damaged.get(&guid).cloned();
    Some(Data { born: found.born, attached, content, damaged, guid })
}

/// Reads the records of a data partition from where it is mounted.
pub fn content(root: &Path, at: &str) -> Content {
    let place = |path: &str| {
        let inside = path.strip_prefix(paths::DATA_MOUNT).unwrap_or(path).trim_start_matches('/');
        root.join(at.trim_start_matches('/')).join(inside)
    };
    Content {
        seal: std::fs::read(place(seal::SEAL)).ok().and_then(|bytes| sealing::describe(&bytes)),
        home: record(&place(home::DISK_HOME)),
        cluster: record(&place(cluster::ON_DISK)),
        unused: names_in(place(paths::DATA_MOUNT))
            .iter()
            .all(|name| matches!(name.as_str(), "bakelite" | "lost+found")),
    }
}

fn record<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_early_has_seen_settle_knows_and_without_early_it_knows_nothing() {
        let root = tempfile::tempdir().unwrap();
        assert!(Looked::by_early(root.path()).proofs.is_empty());
        durable::make_folder(root.path().join("run/bakelite")).unwrap();
        let mut looked = Looked::default();
        looked.proofs.insert("S1".into(), Proof::Holds("LUKS".into()));
        looked.contents.insert("guid".into(), Content { unused: true, ..Content::default() });
        looked.leave(root.path()).unwrap();
        let known = Looked::by_early(root.path());
        assert_eq!((known.proofs, known.contents), (looked.proofs, looked.contents));
    }
}
