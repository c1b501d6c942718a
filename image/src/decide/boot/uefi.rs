//! UEFI: shim (signed by Microsoft) starts Debian's signed systemd-boot under the one name that shim looks for, and that
//! counts down `+3` of the slot's entry.

use super::{MissingFile, entry, initramfs_path, kernel_path};
use crate::config::Config;
use crate::tree::Tree;
use bakelite_spec::board::{Arch, Board};
use bakelite_spec::loader_entry::{EntryName, FIRST, FOLDER, TRIES};

/// The loader's files.
pub(super) fn loader(board: &Board, packages: &Tree) -> Result<Tree, MissingFile> {
    let mut tree = Tree::default();
    let suffix = match board.arch {
        Arch::X86_64 => "x64",
        Arch::Aarch64 => "aa64",
        Arch::Armv7 => "arm",
    };
    let files = [
        (format!("usr/lib/shim/shim{suffix}.efi.signed"), format!("EFI/BOOT/BOOT{}.EFI", suffix.to_uppercase())),
        (format!("usr/lib/shim/mm{suffix}.efi.signed"), format!("EFI/BOOT/mm{suffix}.efi")),
        // shim starts the file of this name, whatever loader is in it.
        (format!("usr/lib/systemd/boot/efi/systemd-boot{suffix}.efi.signed"), format!("EFI/BOOT/grub{suffix}.efi")),
    ];
    for (from, to) in files {
        let missing = || MissingFile { path: from.clone(), needed_for: "UEFI firmware starts".into() };
        let blob = packages.blob(&from).ok_or_else(missing)?;
        tree.file(&to, 0o644, blob.clone());
    }
    tree.file("loader/loader.conf", 0o644, "default bakelite-*\ntimeout 0\neditor no\n");
    tree.file("loader/entries.srel", 0o644, "type1\n");
    Ok(tree)
}

/// Adds the loader's entry of a slot.
pub(super) fn add_entry(tree: &mut Tree, config: &Config, version: &str, image: &str, slot: &str) {
    let head = format!(
        "title Bakelite {version} (slot {slot})\nsort-key bakelite\nversion {FIRST}.{image}\nlinux /{}\ninitrd /{}\n",
        kernel_path(),
        initramfs_path()
    );
    let name = EntryName { slot: slot.into(), generation: 1, tries: Some((TRIES, 0)) };
    tree.file(&format!("{FOLDER}/{}", name.text()), 0o644, entry(config, slot, &head).render());
}
