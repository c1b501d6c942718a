//! Who uses a disk: mounts, swap, and what is built upon it (device mapper, RAID, LVM, encryption), through all layers.

use super::{Disk, names_in};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Mount points that make a disk this host's own.
const SYSTEM: [&str; 6] = ["/", "/boot", "/boot/efi", "/boot/firmware", "/usr", "/var"];

/// Finds them, all of them, each named.
pub fn find(root: &Path, disk: &mut Disk) {
    let own = devices_upon(root, &disk.name);
    let numbers: BTreeSet<&str> = own.iter().map(|device| device.number.as_str()).collect();
    let names: BTreeSet<&str> = own.iter().map(|device| device.name.as_str()).collect();
    let is_own = |path: &str| {
        // A mapped device's file is a link to dm-N.
        let real =
            std::fs::canonicalize(root.join(path.trim_start_matches('/'))).unwrap_or_else(|_| PathBuf::from(path));
        real.file_name().is_some_and(|name| names.contains(name.to_string_lossy().as_ref()))
    };
    let text = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    for line in text("proc/self/mountinfo").lines() {
        let Some((number, point, source)) = mount(line) else { continue };
        // Btrfs over several disks has a number of its own; its source is one of them.
        if numbers.contains(number) || source.starts_with("/dev/") && is_own(source) {
            let point = unescape(point);
            disk.system |= SYSTEM.contains(&point.as_str());
            disk.users.push(format!("mounted at {point}"));
        }
    }
    for line in text("proc/swaps").lines().skip(1) {
        if let Some(path) = line.split_whitespace().next().filter(|path| is_own(path)) {
            disk.system = true;
            disk.users.push(format!("swap on {}", path.rsplit('/').next().unwrap_or(path)));
        }
    }
    for device in own.iter().filter(|device| !device.held_by.is_empty()) {
        disk.users.push(format!("{} is part of {}", device.name, device.held_by.join(", ")));
    }
    disk.users.sort();
    disk.users.dedup();
}

/// A disk, a partition of it, or something built upon them.
struct Device {
    name: String,
    /// `major:minor`.
    number: String,
    held_by: Vec<String>,
}

fn devices_upon(root: &Path, disk: &str) -> Vec<Device> {
    let block = root.join("sys/block");
    let folder = block.join(disk);
    let mut waiting = vec![(disk.to_string(), folder.clone())];
    let partitions = names_in(&folder).into_iter().filter(|name| folder.join(name).join("partition").is_file());
    waiting.extend(partitions.map(|name| (name.clone(), folder.join(name))));
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    while let Some((name, folder)) = waiting.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        let number = std::fs::read_to_string(folder.join("dev")).unwrap_or_default().trim().to_string();
        let holders = names_in(&folder.join("holders"));
        waiting.extend(holders.iter().map(|holder| (holder.clone(), block.join(holder))));
        let told = |holder: &String| {
            let name = std::fs::read_to_string(block.join(holder).join("dm/name")).unwrap_or_default();
            if name.trim().is_empty() { holder.clone() } else { format!("{holder} ({})", name.trim()) }
        };
        found.push(Device { held_by: holders.iter().map(told).collect(), name, number });
    }
    found
}

/// A line of mountinfo (proc(5)): the device's number, the mount point, the source.
fn mount(line: &str) -> Option<(&str, &str, &str)> {
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ');
    let (number, point) = (fields.nth(2)?, fields.nth(1)?);
    Some((number, point, after.split(' ').nth(1)?))
}

/// Spaces and their like stand as octal numbers there.
fn unescape(text: &str) -> String {
    ["\\040 ", "\\011\t", "\\012\n", "\\134\\"].iter().fold(text.to_string(), |text, pair| {
        let (code, character) = pair.split_at(4);
        text.replace(code, character)
    })
}
