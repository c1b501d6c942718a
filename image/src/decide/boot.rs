//! The boot partition: what firmware starts, the kernel's arguments, kernel and initramfs of a slot.
//!
//! Each way of starting has a file of its own; what they have in common is here. The initramfs and the command line are
//! not covered by any signature. Where QEMU starts the kernel itself, it takes it from the same entry as UEFI's loader.

mod raspberry_pi;
mod uefi;

pub use raspberry_pi::contradictions;

use crate::config::Config;
use crate::error::BuildError;
use crate::tree::{Blob, Tree};
use bakelite_spec::board::{Board, Flow};
use bakelite_spec::cmdline::{self, Cmdline};
use bakelite_spec::layout::BOOT_CLUSTER;
use bakelite_spec::loader_entry::LoaderEntry;
use bakelite_spec::manifest::BootFile;
use bakelite_spec::quantity::Size;
use std::io;

/// A file that a package should have brought.
#[derive(Debug, thiserror::Error)]
#[error("the packages hold no {path}, which {needed_for}")]
pub struct MissingFile {
    /// Its path.
    pub path: String,
    /// What it is needed for.
    pub needed_for: String,
}

/// The kernel's arguments in a slot, and which of them the appliance set.
fn entry(config: &Config, slot: &str, head: &str) -> LoaderEntry {
    let mut line = Cmdline::parse(&format!("{}={slot}", cmdline::SLOT));
    config.board.cmdline.iter().for_each(|text| line.add(text));
    if !config.board.usb_quirks.is_empty() {
        line.add(&format!("usb-storage.quirks={}", config.board.usb_quirks.join(",")));
    }
    LoaderEntry::parse(&format!("{head}options {}\n", line.render())).setting(&config.appliance.kernel.line())
}

/// The kernel command line of a slot.
pub fn cmdline(config: &Config, slot: &str) -> String {
    entry(config, slot, "").options.render()
}

/// What the boot partition holds besides kernel, initramfs and what is changed on the device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loader {
    tree: Tree,
}

impl Loader {
    /// Its files.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }
}

/// Takes what firmware starts out of the packages' tree.
///
/// # Errors
/// When a package hasn't brought one of the files.
pub fn loader(config: &Config, packages: &Tree, release: &str) -> Result<Loader, MissingFile> {
    let tree = match config.board.boot.flow {
        Flow::Uefi => uefi::loader(&config.board, packages)?,
        Flow::Direct => Tree::default(),
        Flow::RaspberryPi => raspberry_pi::loader(config, packages, release, SLOT)?,
    };
    Ok(Loader { tree })
}

/// The kernel image in the packages' tree: where Debian's packages have had it, and where newer ones have it.
///
/// # Errors
/// When there is none for the release.
pub fn kernel<'a>(packages: &'a Tree, release: &str) -> Result<&'a Blob, MissingFile> {
    let path = format!("boot/vmlinuz-{release}");
    let found = packages.blob(&path).or_else(|| packages.blob(&format!("usr/lib/modules/{release}/vmlinuz")));
    found.ok_or_else(|| MissingFile { path, needed_for: "is the kernel".into() })
}

/// The folders of the packages' tree that only the boot partition is made of: device trees and the makers' firmware.
pub fn sources(board: &Board, release: &str) -> Vec<String> {
    let trees = board.kernel.device_trees.iter().map(|place| device_trees(place, release));
    trees.chain([raspberry_pi::FIRMWARE.into()]).collect()
}

/// A place of device trees, as a path in the packages' tree.
fn device_trees(place: &str, release: &str) -> String {
    place.replace("{release}", release).trim_matches('/').into()
}

/// The slot that an image brings.
const SLOT: &str = "a";

/// Where the kernel is on the boot partition.
fn kernel_path() -> String {
    format!("bakelite/{SLOT}/vmlinuz")
}

/// Where the initramfs is on the boot partition.
fn initramfs_path() -> String {
    format!("bakelite/{SLOT}/initrd")
}

/// What the manifest says of the boot partition. `programs` is the initramfs without the baked settings.
///
/// # Errors
/// When a file can't be read.
pub fn files(loader: &Loader, kernel: &Blob, programs: &Blob) -> io::Result<Vec<BootFile>> {
    let file = |path: String, blob: &Blob, continues| {
        Ok(BootFile { path, size: blob.length(), sha256: blob.sum()?.to_string(), continues })
    };
    let of_loader = loader.tree.entries().filter_map(|(path, _)| Some((path.to_string(), loader.tree.blob(path)?)));
    let mut files = of_loader.map(|(path, blob)| file(path, blob, false)).collect::<io::Result<Vec<_>>>()?;
    files.push(file(kernel_path(), kernel, false)?);
    files.push(file(initramfs_path(), programs, true)?);
    Ok(files)
}

/// The whole boot partition with slot A.
pub fn partition(loader: &Loader, config: &Config, version: &str, image: &str, kernel: Blob, initramfs: Blob) -> Tree {
    let mut tree = loader.tree.clone();
    match config.board.boot.flow {
        Flow::Uefi | Flow::Direct => uefi::add_entry(&mut tree, config, version, image, SLOT),
        Flow::RaspberryPi => raspberry_pi::add_generation(&mut tree, config, SLOT),
    }
    tree.file(&kernel_path(), 0o644, kernel);
    tree.file(&initramfs_path(), 0o644, initramfs);
    tree
}

/// What a slot takes besides its files, in clusters: its folder, and a further generation of the kernel's arguments.
pub const SPARE: u64 = 4;

/// Whether a boot partition of a size has room for all that is in it and for a second slot like the first.
///
/// # Errors
/// With what is needed.
pub fn check_room(tree: &Tree, room: Size) -> Result<(), BuildError> {
    let cluster = u64::from(BOOT_CLUSTER);
    let slot = format!("bakelite/{SLOT}/");
    let clusters = |of_slot: bool| -> u64 {
        let files = tree.entries().filter(|(path, _)| path.starts_with(&slot) == of_slot);
        files.filter_map(|(path, _)| tree.blob(path)).map(|blob| blob.length().div_ceil(cluster)).sum()
    };
    // Each cluster has an entry of four bytes in both tables.
    let needed = (clusters(false) + 2 * (clusters(true) + SPARE)) * (cluster + 8);
    if needed > room.0 { Err(BuildError::BootTooSmall { needed: Size(needed), room }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_the_boot_partition_needs_is_known() {
        let config = crate::config::read("a.yaml", "board: rpi4\n", "".into()).unwrap();
        let expected = ["usr/lib/linux-image-6.12", "usr/lib/modules/6.12/dtb", "usr/lib/raspi-firmware"];
        assert_eq!(sources(&config.board, "6.12"), expected);
    }

    #[test]
    fn a_partition_has_room_for_two_slots_or_is_refused() {
        let mut tree = Tree::default();
        tree.file("start4.elf", 0o644, vec![0; 3 << 20]);
        tree.file("bakelite/a/vmlinuz", 0o644, vec![0; 4 << 20]);
        assert!(check_room(&tree, Size(12 << 20)).is_ok());
        let error = check_room(&tree, Size(11 << 20)).unwrap_err().to_string();
        assert_eq!(error, "kernel and initramfs of two slots need 11.1 MiB, but the boot partition has 11 MiB");
    }
}
