//! The disks of this host, as sysfs shows them: what they are, where they are plugged in, what is on them and who uses them.
//!
//! The root folder is a parameter, so that tests use trees. Nothing is opened for writing here; what may be overwritten is
//! decided in [`choose`], purely, and the last word is the kernel's when the disk is opened for this program alone.

pub mod choose;
mod users;

use bakelite_disk::signature;
use bakelite_disk::table::Table;
use bakelite_spec::layout::SECTOR;
use bakelite_spec::quantity::Size;
use serde::Serialize;
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Bytes of the sectors that sysfs counts in, whatever the disk's own are.
const SYSFS_SECTOR: u64 = 512;
/// What isn't a medium that anybody could mean.
const NONE: [&str; 9] = ["ram", "zram", "dm-", "sr", "fd", "md", "nbd", "mtdblock", "rbd"];

/// One disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Disk {
    /// The kernel's name, such as `sdb`.
    pub name: String,
    /// Its size in bytes; 0 for a reader without a card.
    pub size: u64,
    /// The maker's and model's name.
    pub model: String,
    /// Its serial number; a card reader has its own, never the card's.
    pub serial: String,
    /// How it is attached: `usb`, `sd`, `emmc`, `nvme`, `sata`, `virtio`, `loop`; empty where unknown.
    pub transport: String,
    /// The port it is plugged in at, as the names in /dev/disk/by-path have it.
    pub port: String,
    /// Whether the medium can be taken out: the medium itself, or what it is in.
    pub removable: bool,
    /// Whether it can't be written.
    pub read_only: bool,
    /// Bytes of its own sectors.
    pub sector: u64,
    /// A number that no other attachment of a disk has since this host was started.
    pub attachment: u64,
    /// What is on it, in words.
    pub holds: Vec<String>,
    /// Who uses it, in words.
    pub users: Vec<String>,
    /// Whether this host's own system is on it.
    pub system: bool,
}

impl Disk {
    /// The device file.
    pub fn device(&self) -> PathBuf {
        Path::new("/dev").join(&self.name)
    }

    /// What it is, for a person.
    pub fn words(&self) -> String {
        let size = if self.size == 0 { "no medium".into() } else { Size(self.size).human() };
        let parts = [self.model.as_str(), &size, &self.transport].into_iter().filter(|part| !part.is_empty());
        parts.collect::<Vec<_>>().join(", ")
    }

    /// Whether another look at a disk, under whatever name, is at the same one as before.
    pub fn is_again(&self, now: &Self) -> bool {
        let same = |one: &str, other: &str| !one.is_empty() && one == other;
        let is_same = same(&self.serial, &now.serial) || same(&self.port, &now.port);
        is_same && self.size == now.size && self.attachment != now.attachment
    }
}

/// All disks that could be meant, by name; `root` is `/` but in tests. Loop devices are there only where they have a file.
pub fn disks(root: &Path) -> Vec<Disk> {
    let names = names_in(&root.join("sys/block"));
    let own_areas = |name: &str| name.starts_with("mmcblk") && (name.contains("boot") || name.contains("rpmb"));
    let names =
        names.into_iter().filter(|name| !NONE.iter().any(|prefix| name.starts_with(prefix)) && !own_areas(name));
    let mut disks: Vec<Disk> = names.filter_map(|name| read(root, &name)).collect();
    let ports = links(&root.join("dev/disk/by-path"));
    for disk in &mut disks {
        let port = ports.iter().find(|(_, name)| *name == disk.name);
        disk.port = port.map(|(port, _)| port.clone()).unwrap_or_default();
        users::find(root, disk);
        if disk.size > 0 {
            disk.holds = holds(&root.join("dev").join(&disk.name), disk.size);
        }
    }
    disks
}

fn read(root: &Path, name: &str) -> Option<Disk> {
    let folder = root.join("sys/block").join(name);
    let text =
        |path: &str| std::fs::read_to_string(folder.join(path)).map(|text| text.trim().to_string()).unwrap_or_default();
    let number = |path: &str| text(path).parse::<u64>().unwrap_or(0);
    let size = number("size") * SYSFS_SECTOR;
    if name.starts_with("loop") && size == 0 {
        return None;
    }
    let place = std::fs::canonicalize(&folder).unwrap_or_else(|_| folder.clone());
    let transport = transport(name, &place.to_string_lossy(), &text("device/type"));
    let usb = usb_device(&place);
    let of_usb = |file: &str| {
        let text = usb.as_ref().and_then(|folder| std::fs::read_to_string(folder.join(file)).ok());
        text.map(|text| text.trim().to_string()).unwrap_or_default()
    };
    let first = |candidates: [String; 3]| candidates.into_iter().find(|text| !text.is_empty()).unwrap_or_default();
    let maker = text("device/vendor");
    let maker = if maker.starts_with("0x") { String::new() } else { maker };
    let model = first([text("device/model"), text("device/name"), text("loop/backing_file")]);
    Some(Disk {
        name: name.into(),
        size,
        model: format!("{maker} {model}").split_whitespace().collect::<Vec<_>>().join(" "),
        serial: first([text("device/serial"), text("serial"), of_usb("serial")]),
        removable: number("removable") == 1 || matches!(transport, "usb" | "sd"),
        transport: transport.into(),
        port: String::new(),
        read_only: number("ro") == 1,
        sector: number("queue/logical_block_size"),
        attachment: number("diskseq"),
        ..Disk::default()
    })
}

/// How a disk is attached, by its name and its place among the devices.
fn transport(name: &str, place: &str, kind: &str) -> &'static str {
    match name {
        _ if name.starts_with("loop") => "loop",
        _ if place.contains("/usb") => "usb",
        _ if name.starts_with("mmcblk") => match kind {
            "SD" => "sd",
            _ => "emmc",
        },
        _ if name.starts_with("nvme") => "nvme",
        _ if place.contains("/virtio") => "virtio",
        _ if place.contains("/ata") => "sata",
        _ => "",
    }
}

/// The folder of the USB device that a disk is part of: the nearest one that names its maker.
fn usb_device(place: &Path) -> Option<PathBuf> {
    place.ancestors().find(|folder| folder.join("idVendor").is_file()).map(Path::to_path_buf)
}

/// What is on a medium, in words; what can't be looked at is told as that.
fn holds(device: &Path, size: u64) -> Vec<String> {
    let Ok(mut file) = File::open(device) else { return vec!["something that only root can look at".into()] };
    if file.seek(SeekFrom::End(0)).is_ok_and(|length| length != size) {
        return Vec::new();
    }
    if let Ok(table) = Table::read(&mut file, size / SECTOR) {
        let mut found: Vec<String> = Vec::new();
        for entry in table.entries.values() {
            let kinds = signature::recognise(&mut file, entry.start(), entry.length()).unwrap_or_default();
            let name = if entry.name.is_empty() { "a partition".into() } else { entry.name.clone() };
            let label = kinds.first().and_then(|kind| signature::label(&mut file, entry.start(), kind).ok());
            let label = label.filter(|label| !label.is_empty() && *label != name);
            let kind = kinds.first().map_or(String::new(), |kind| format!(" ({kind}{})", labelled(label)));
            found.push(format!("{name}{kind}"));
        }
        return found;
    }
    let kinds = signature::recognise(&mut file, 0, size).unwrap_or_default();
    let of_kind = |kind: &&str| {
        let label = signature::label(&mut &file, 0, kind).ok().filter(|label| !label.is_empty());
        format!("{kind}{}", labelled(label))
    };
    kinds.iter().map(of_kind).collect()
}

fn labelled(label: Option<String>) -> String {
    label.map_or_else(String::new, |label| format!(" \"{label}\""))
}

/// Names in a folder, sorted; none where it isn't there.
fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The links in a folder, with the last part of what each leads to.
fn links(folder: &Path) -> Vec<(String, String)> {
    let target = |name: String| {
        let target = std::fs::read_link(folder.join(&name)).ok()?;
        Some((name, target.file_name()?.to_string_lossy().into_owned()))
    };
    names_in(folder).into_iter().filter_map(target).collect()
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
