//! `bakelite build --recovery`: a stick with which a machine of this appliance is diagnosed and repaired; `--installer`: the same
//! one, which also puts its system onto machines that never had one.
//!
//! The system is written as for an image, and laid onto a FAT beside kernel, initramfs and what firmware starts: the stick
//! boots where the board can, and is found by a machine's own initramfs where it can't. An owner signs the sums of all of it.
//! The same inputs and key give the same bytes. Sets and grants may be put onto the same FAT later (`bakelite stick`).

use crate::apply::{self, Built, Request};
use crate::config::Config;
use crate::decide::boot;
use crate::derived::{Derived, Work};
use crate::error::{BuildError, io_error};
use crate::opened::Opened;
use crate::outputs::{self, Outputs};
use crate::prepare::{Inputs, Prepared};
use crate::progress::{BuildEvent, Listen};
use crate::sbom;
use crate::tree::{Blob, Tree};
use bakelite_disk::Guid;
use bakelite_disk::table::Table;
use bakelite_spec::cmdline::FROM_STICK;
use bakelite_spec::hexadecimal::hexadecimal;
use bakelite_spec::installer::{ROWS, Rows};
use bakelite_spec::layout::{self, RECORD};
use bakelite_spec::loader_entry::{EntryName, FOLDER, STICK};
use bakelite_spec::manifest::System;
use bakelite_spec::pi;
use bakelite_trust::keys::OwnerKeys;
use bakelite_trust::recovery::{BOOT, FORMAT, MANIFEST, Manifest, SYSTEM, StickFile};
use bakelite_trust::signature;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io;
use std::path::Path;

/// What makes a stick an installer.
#[derive(Clone, Debug, Default)]
pub struct Installer {
    /// Its table of machines, if there is one.
    pub rows: Option<Rows>,
    /// The id of the image that its line has, if it is a line's.
    pub image: Option<String>,
}

/// Reads an owner's key file whose public half an appliance's machines know.
///
/// # Errors
/// When it can't be read, is none, or is another owner's.
pub fn owner(path: &Path, config: &Config) -> Result<OwnerKeys, BuildError> {
    let text = std::fs::read_to_string(path).map_err(io_error("reading the key", path))?;
    let keys = OwnerKeys::parse(&text).map_err(|source| BuildError::OwnerKey { path: path.into(), source })?;
    let public = keys.owner_key();
    if config.appliance.owner.keys.contains(&public) {
        Ok(keys)
    } else {
        Err(BuildError::NotOwner { path: path.into(), public })
    }
}

/// Builds the stick.
///
/// # Errors
/// Whatever stopped it; then there is no stick, and an older one is as it was.
pub fn build(
    request: &Request<'_>,
    keys: &OwnerKeys,
    installer: Option<&Installer>,
    listen: &dyn Listen,
) -> Result<Built, BuildError> {
    outputs::check(request.output, request.force)?;
    let Inputs { config, lock, cache, .. } = request.inputs;
    let derived = Derived::open(cache.folder())?;
    let work = derived.work()?;
    let mut outputs = Outputs::begin(request.output, &work)?;
    let time = u32::try_from(lock.time).unwrap_or(u32::MAX);
    let mut prepared = Prepared::new(&request.inputs, &derived, &work, listen)?;

    let items = prepared.root.entries().count() as u64;
    let root_bytes = prepared.root.size();
    listen.event(&BuildEvent::PhaseStarted { phase: "squashfs", items: Some(items), bytes: Some(root_bytes) });
    let (system, blob) = system(&mut prepared, time, &derived, &work)?;
    listen.event(&BuildEvent::PhaseFinished { phase: "squashfs", items, bytes: system.length });

    let slot = layout::slot_size(config.appliance.image.slot_size, system.length + RECORD);
    let programs = apply::programs(&prepared, time, &work)?;
    let reading = || io_error("reading", "a file of the boot partition");
    let files = boot::files(&prepared.loader, &prepared.kernel, &programs).map_err(reading())?;
    let image = apply::manifest(&request.inputs, files, system)?;
    if let Some(wanted) =
        installer.and_then(|installer| installer.image.as_ref()).filter(|wanted| **wanted != image.image)
    {
        return Err(BuildError::OtherImage { wanted: wanted.clone(), made: image.image });
    }
    let initramfs = apply::initramfs(config, &image, &programs, time, &work)?;
    let of = |config: &Config| {
        let (kernel, initramfs) = (prepared.kernel.clone(), initramfs.clone());
        boot::partition(&prepared.loader, config, &image.version, &image.image, kernel, initramfs)
    };
    let mut tree = started(config, &of);
    let mut files = vec![file(SYSTEM, None, &blob).map_err(reading())?];
    files.extend(of_machine(&of(config), &mut tree).map_err(reading())?);
    tree.file(SYSTEM, 0o644, blob);
    if let Some(rows) = installer.and_then(|installer| installer.rows.as_ref()) {
        let rows = serde_json::to_vec(rows).map_err(|error| reading()(error.into()))?;
        tree.file(ROWS, 0o600, rows);
        files.extend(tree.blob(ROWS).map(|blob| file(ROWS, None, blob)).transpose().map_err(reading())?);
    }
    let installs = installer.is_some();
    let (bytes, signed) = Manifest { format: FORMAT, image: image.clone(), slot: slot.0, installs, files }.sign(keys);
    tree.file(MANIFEST, 0o644, bytes);
    tree.file(&format!("{MANIFEST}{}", signature::ENDING), 0o644, signed.into_bytes());

    let layout = layout::stick(tree.size());
    listen.event(&BuildEvent::PhaseStarted { phase: "image", items: None, bytes: Some(layout.length) });
    let writing = || io_error("writing", request.output);
    let output = outputs.image();
    output.set_len(layout.length).map_err(writing())?;
    apply::write_boot(output, &layout, &tree, lock.time, &image.image).map_err(writing())?;
    table(&layout, &image.image).write(output)?;
    listen.event(&BuildEvent::PhaseFinished { phase: "image", items: 1, bytes: layout.length });

    let opened = Opened::of(output.try_clone().map_err(writing())?).map_err(writing())?;
    apply::proved(&opened, listen)?;
    let parts = sbom::text(&request.inputs, &prepared, &image)?;
    apply::publish(outputs, &opened, &layout, None, &parts, listen)?;
    derived.trim();
    Ok(Built { manifest: image, layout, root_bytes, missing_firmware: prepared.missing_firmware })
}

/// The system as a file of its own.
fn system(prepared: &mut Prepared, time: u32, derived: &Derived, work: &Work) -> Result<(System, Blob), BuildError> {
    let path = work.path().join("system.squashfs");
    let failed = || io_error("writing", &path);
    let mut output = File::options().read(true).write(true).create_new(true).open(&path).map_err(failed())?;
    let length = apply::write_system(&mut output, 0, prepared, time, derived, work)?;
    output.set_len(length).map_err(failed())?;
    let sha256 = apply::hash(&output, 0, length).map_err(failed())?;
    let system = System { length, sha256: hexadecimal(sha256), kernel: prepared.release.clone() };
    Ok((system, Blob::file(path.clone()).map_err(failed())?))
}

/// What the stick itself is started by: as a machine is, but that its kernel is told so.
fn started(config: &Config, of: &impl Fn(&Config) -> Tree) -> Tree {
    let mut told = config.clone();
    told.board.cmdline.push(FROM_STICK.into());
    let mut tree = of(&told);
    let entries: Vec<String> = tree
        .entries()
        .filter(|(path, _)| path.starts_with(FOLDER) && is_first(path))
        .map(|(path, _)| path.into())
        .collect();
    for path in entries {
        let Some(entry) = tree.blob(&path).cloned() else { continue };
        tree.retain(|other, _| other != path);
        tree.file(&format!("{FOLDER}/{STICK}"), 0o644, entry);
    }
    tree
}

/// Whether a file of a boot partition is a first generation, which a machine goes on from.
fn is_first(path: &str) -> bool {
    match path.rsplit_once('/') {
        Some((FOLDER, name)) => EntryName::parse(name).is_some(),
        Some((_, name)) => pi::generation_of(name).is_some() || name.ends_with(".set"),
        None => [pi::COMMIT, pi::TRY_COMMIT].contains(&path),
    }
}

/// What a machine's boot partition holds, by where it lies on the stick; what the stick doesn't have is added.
fn of_machine(machine: &Tree, stick: &mut Tree) -> io::Result<Vec<StickFile>> {
    let mut files = Vec::new();
    let paths: Vec<String> = machine.entries().map(|(path, _)| path.into()).collect();
    for path in paths {
        let Some(blob) = machine.blob(&path) else { continue };
        let is_same = stick.blob(&path) == Some(blob);
        let place = if is_same { path.clone() } else { format!("{BOOT}/{path}") };
        if !is_same {
            stick.file(&place, 0o644, blob.clone());
        }
        files.push(file(&place, Some(path), blob)?);
    }
    Ok(files)
}

fn file(path: &str, boot: Option<String>, blob: &Blob) -> io::Result<StickFile> {
    let first = boot.as_deref().is_some_and(is_first);
    Ok(StickFile { path: path.into(), boot, first, size: blob.length(), sha256: blob.sum()?.to_string() })
}

/// The stick's table. Its GUIDs follow from the image's id: they mustn't be those of an image that nobody has booted yet, for
/// which the machine would take the stick.
fn table(layout: &layout::Layout, image: &str) -> Table {
    let mut table = Table::of_layout(layout);
    let mut number = 0u8;
    table.restamp(&mut || {
        number += 1;
        let sum = Sha256::digest(format!("{image} recovery {number}"));
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&sum[..16]);
        Guid::from_random(bytes)
    });
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stick_starts_by_an_entry_of_its_own_and_has_the_machines_first_one() {
        let config = crate::config::read("a.yaml", "board: qemu-x86_64\n", "".into()).unwrap();
        let of = |config: &Config| {
            boot::partition(&boot::Loader::default(), config, "0", "0", "kernel".into(), "initramfs".into())
        };
        let mut stick = started(&config, &of);
        let files = of_machine(&of(&config), &mut stick).unwrap();
        let text = |path: &str| String::from_utf8(stick.blob(path).unwrap().read().unwrap()).unwrap();
        assert!(text("loader/entries/bakelite-recovery.conf").contains(" bakelite.recovery"));
        let first = files.iter().find(|file| file.first).unwrap();
        assert_eq!(first.boot.as_deref(), Some("loader/entries/bakelite-a+3.conf"));
        assert_eq!(first.path, "recovery/boot/loader/entries/bakelite-a+3.conf");
        assert!(!text(&first.path).contains("recovery"));
        let kernel = files.iter().find(|file| file.path == "bakelite/a/vmlinuz").unwrap();
        assert_eq!((kernel.boot.as_deref(), kernel.first), (Some("bakelite/a/vmlinuz"), false));
        assert_eq!(stick.entries().filter(|(path, _)| path.ends_with(".conf")).count(), 2);
    }

    #[test]
    fn a_stick_is_never_taken_for_a_machines_medium() {
        let (one, other) = (table(&layout::stick(1), "a"), table(&layout::stick(1), "b"));
        assert!(!one.is_unstamped() && one.disk != other.disk);
        let guids: Vec<_> = one.entries.values().map(|entry| entry.guid).collect();
        assert!(guids.len() == 1 && guids[0] != one.disk);
    }
}
