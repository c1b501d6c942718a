//! The boot partition: what firmware starts, the loader's entries, kernel and initramfs of a slot.
//!
//! UEFI: shim (signed by Microsoft) starts Debian's signed systemd-boot under the one name that shim looks for, and
//! that counts down `+3` of slot A's entry. The initramfs and the command line are not covered by any signature. Where
//! QEMU starts the kernel itself, it takes it from the same entry.

use crate::config::Config;
use crate::tree::{Blob, Tree};
use bakelite_spec::board::{Arch, Board, Flow};
use bakelite_spec::cmdline::Cmdline;
use bakelite_spec::loader_entry::{EntryName, FOLDER, LoaderEntry, TRIES};
use bakelite_spec::manifest::BootFile;
use std::io;

/// A file that a package should have brought.
#[derive(Debug, thiserror::Error)]
#[error("the packages hold no {path}, which {needed_for}")]
pub struct MissingFile {
    /// Its path.
    pub path: String,
    /// What it is needed for.
    pub needed_for: &'static str,
}

/// The loader's entry of a slot.
fn entry(config: &Config, version: &str, image: &str, slot: &str) -> LoaderEntry {
    let mut line = Cmdline::parse(&format!("bakelite.slot={slot}"));
    config.board.cmdline.iter().for_each(|text| line.add(text));
    let entry = format!(
        "title Bakelite {version} (slot {slot})\nsort-key bakelite\nversion {image}\nlinux /bakelite/{slot}/vmlinuz\ninitrd /bakelite/{slot}/initrd\noptions {}\n",
        line.render()
    );
    LoaderEntry::parse(&entry).setting(&config.appliance.kernel.line())
}

/// The kernel command line of a slot.
pub fn cmdline(config: &Config, slot: &str) -> String {
    entry(config, "", "", slot).options.render()
}

/// What the boot partition holds besides kernel and initramfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loader {
    tree: Tree,
}

impl Loader {
    /// Its files.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }
}

/// Takes the loader's files out of the packages' tree.
///
/// # Errors
/// When a package hasn't brought one.
pub fn loader(board: &Board, packages: &Tree) -> Result<Loader, MissingFile> {
    let mut tree = Tree::default();
    match board.boot.flow {
        Flow::Direct => {}
        Flow::Uefi => {
            let suffix = match board.arch {
                Arch::X86_64 => "x64",
                Arch::Aarch64 => "aa64",
                Arch::Armv7 => "arm",
            };
            let files = [
                (
                    format!("usr/lib/shim/shim{suffix}.efi.signed"),
                    format!("EFI/BOOT/BOOT{}.EFI", suffix.to_uppercase()),
                ),
                (format!("usr/lib/shim/mm{suffix}.efi.signed"), format!("EFI/BOOT/mm{suffix}.efi")),
                // shim starts the file of this name, whatever loader is in it.
                (
                    format!("usr/lib/systemd/boot/efi/systemd-boot{suffix}.efi.signed"),
                    format!("EFI/BOOT/grub{suffix}.efi"),
                ),
            ];
            for (from, to) in files {
                let blob =
                    packages.blob(&from).ok_or(MissingFile { path: from, needed_for: "UEFI firmware starts" })?;
                tree.file(&to, 0o644, blob.clone());
            }
            tree.file("loader/loader.conf", 0o644, "default bakelite-*\ntimeout 0\neditor no\n");
            tree.file("loader/entries.srel", 0o644, "type1\n");
        }
    }
    Ok(Loader { tree })
}

/// The kernel image in the packages' tree.
///
/// # Errors
/// When there is none for the release.
pub fn kernel<'a>(packages: &'a Tree, release: &str) -> Result<&'a Blob, MissingFile> {
    let path = format!("boot/vmlinuz-{release}");
    packages.blob(&path).ok_or(MissingFile { path, needed_for: "is the kernel" })
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
    let name = EntryName { slot: SLOT.into(), generation: 1, tries: Some((TRIES, 0)) };
    tree.file(&format!("{FOLDER}/{}", name.text()), 0o644, entry(config, version, image, SLOT).render());
    tree.file(&kernel_path(), 0o644, kernel);
    tree.file(&initramfs_path(), 0o644, initramfs);
    tree
}
