//! The boot partition: what firmware starts, the kernel's arguments, kernel and initramfs of a slot.
//!
//! Each way of starting has a file of its own; what they have in common is here. The initramfs and the command line are
//! not covered by any signature. Where QEMU starts the kernel itself, it takes it from the same entry as UEFI's loader.

mod raspberry_pi;
mod uefi;

pub use raspberry_pi::contradictions;

use crate::config::Config;
use crate::tree::{Blob, Tree};
use bakelite_spec::board::Flow;
use bakelite_spec::cmdline::Cmdline;
use bakelite_spec::loader_entry::LoaderEntry;
use bakelite_spec::manifest::BootFile;
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
    let mut line = Cmdline::parse(&format!("bakelite.slot={slot}"));
    config.board.cmdline.iter().for_each(|text| line.add(text));
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
