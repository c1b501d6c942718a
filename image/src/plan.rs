//! The BuildPlan: all that is decided before the first byte of an image, for a person or a program to read.
//!
//! It is made of the very values that `apply` writes, so what it says is what is built. What only exists once the image
//! does (its id, sums, the packed length) isn't in it. No secret is in it: an appliance holds only references.

use crate::decide::modules::name_of;
use crate::decide::{boot, units};
use crate::prepare::{Inputs, Prepared};
use crate::source::lock::{LockedPackage, LockedSuite};
use crate::source::resolve::LeftOut;
use crate::tree::{Blob, Node, Tree};
use bakelite_spec::layers::{Effective, Layer};
use bakelite_spec::layout::{Layout, layout, slot_size};
use bakelite_spec::manifest::PayloadManifest;
use bakelite_spec::unit::Unit;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeSet;

/// What will be built.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Plan {
    /// Bakelite's version.
    pub version: String,
    /// The board's name.
    pub board: String,
    /// The image's time in seconds since 1970.
    pub time: u64,
    /// The suites that the packages come from.
    pub suites: Vec<LockedSuite>,
    /// The packages.
    pub packages: Vec<LockedPackage>,
    /// Recommended or wanted packages that were left out.
    pub left_out: Vec<LeftOut>,
    /// The kernel's release.
    pub kernel: String,
    /// The kernel's command line.
    pub cmdline: String,
    /// Its modules.
    pub modules: Modules,
    /// The payload.
    pub payload: PayloadManifest,
    /// The root tree.
    pub root: Vec<Entry>,
    /// What the packages bring and the root tree doesn't have.
    pub dropped: Vec<Entry>,
    /// The initramfs, the baked settings apart.
    pub initramfs: Vec<Entry>,
    /// The boot partition, kernel and initramfs apart.
    pub boot: Vec<Entry>,
    /// The partitions; the device adds the state partition.
    pub partitions: Vec<Partition>,
    /// Whether slots become larger than said where twice the packed system is.
    pub slots_grow: bool,
    /// What init keeps running.
    pub units: Vec<Unit>,
    /// The settings.
    pub settings: Vec<Setting>,
}

/// Kernel modules by their names, and firmware by its path below the firmware folder.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Modules {
    /// In the root tree.
    pub root: Vec<String>,
    /// In the initramfs.
    pub initramfs: Vec<String>,
    /// Firmware that they ask for.
    pub firmware: Vec<String>,
    /// Firmware of these that no package brings.
    pub missing_firmware: Vec<String>,
}

/// An entry of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Entry {
    /// Its path without a slash in front.
    pub path: String,
    /// `folder`, `file` or `link`.
    pub kind: &'static str,
    /// Permission bits, in octal digits.
    pub mode: String,
    /// The owner's number.
    pub owner: u32,
    /// The group's number.
    pub group: u32,
    /// A file's length in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// A link's target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Where a file comes from: a package's name, `kernel modules`, `file` for one of this machine, `bakelite`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// A partition.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Partition {
    /// Its label.
    pub name: &'static str,
    /// Its type.
    pub type_guid: &'static str,
    /// Its first byte.
    pub start: u64,
    /// Its length in bytes.
    pub length: u64,
}

/// A setting.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Setting {
    /// Its dotted key.
    pub key: String,
    /// Its value.
    pub value: Value,
    /// Who set it.
    pub set_by: Layer,
}

/// Puts a plan together; the trees have their indices.
pub fn plan(inputs: &Inputs<'_>, prepared: &Prepared) -> Plan {
    let Inputs { config, lock, payload, .. } = *inputs;
    let wanted = config.appliance.image.slot_size;
    let names = |tree: &Tree| -> Vec<String> {
        let modules = tree.entries().filter_map(|(path, _)| name_of(path));
        modules.collect::<BTreeSet<_>>().into_iter().collect()
    };
    let root = entries(&prepared.root);
    let dropped = entries(&prepared.packages).into_iter().filter(|entry| prepared.root.get(&entry.path).is_none());
    Plan {
        version: env!("CARGO_PKG_VERSION").into(),
        board: config.board_name.clone(),
        time: lock.time,
        suites: lock.suites.clone(),
        packages: lock.packages.clone(),
        left_out: lock.left_out.clone(),
        kernel: prepared.release.clone(),
        cmdline: boot::cmdline(config, "a"),
        modules: Modules {
            root: names(&prepared.root),
            initramfs: names(&prepared.initramfs),
            firmware: prepared.modules.firmware.iter().cloned().collect(),
            missing_firmware: prepared.missing_firmware.clone(),
        },
        payload: payload.manifest.clone(),
        dropped: dropped.collect(),
        root,
        initramfs: entries(&prepared.initramfs),
        boot: entries(prepared.loader.tree()),
        partitions: partitions(&layout(config.board.boot.flow.scheme(), slot_size(wanted, 0))),
        slots_grow: wanted.is_none(),
        units: units::units(&config.appliance, &config.board, &payload.manifest),
        settings: settings(&config.effective),
    }
}

fn partitions(layout: &Layout) -> Vec<Partition> {
    let one = |partition: &bakelite_spec::layout::Partition| Partition {
        name: partition.role.label(),
        type_guid: partition.role.type_guid(),
        start: partition.start,
        length: partition.length,
    };
    layout.partitions.iter().map(one).collect()
}

/// The settings of a merged tree with who set each.
pub fn settings(effective: &Effective) -> Vec<Setting> {
    let value = |key: &str| bakelite_spec::check::value_at(&effective.values, key).cloned();
    let one =
        |(key, set_by): (&String, &Layer)| Some(Setting { key: key.clone(), value: value(key)?, set_by: *set_by });
    effective.set_by.iter().filter_map(one).collect()
}

fn entries(tree: &Tree) -> Vec<Entry> {
    tree.entries().map(|(path, entry)| of(path, entry)).collect()
}

fn of(path: &str, entry: &crate::tree::Entry) -> Entry {
    let (kind, size, target, from) = match &entry.node {
        Node::Folder => ("folder", None, None, None),
        Node::Link(target) => ("link", None, Some(target.clone()), None),
        Node::File(blob) => {
            let from = match blob {
                Blob::Part { layer, .. } => layer.package.clone(),
                Blob::File { .. } => "file".into(),
                Blob::Bytes(_) => "bakelite".into(),
            };
            ("file", Some(blob.length()), None, Some(from))
        }
    };
    let mode = format!("{:04o}", entry.mode);
    Entry { path: path.into(), kind, mode, owner: entry.owner, group: entry.group, size, target, from }
}
