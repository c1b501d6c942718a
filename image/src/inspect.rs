//! What is in an image: partitions, manifest, versions, who set what, trees and sizes.
//!
//! Looks with the same eyes as lint and judges nothing: what can't be read is told in the place of what it would say.
//! Must not change an image, and must not show a secret: an image holds none.

use crate::error::BuildError;
use crate::firmware::{self, ModelStart};
use crate::opened::{Opened, Seen};
use crate::plan::{Setting, settings};
use crate::source::digest::Hashing;
use backhand::{InnerNode, Node, SquashfsFileReader};
use bakelite_spec::layers::Effective;
use bakelite_spec::layout::Role;
use bakelite_spec::manifest::Manifest;
use bakelite_spec::unit::Unit;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;

/// Which of an image's trees a path is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// Slot A's system partition.
    System,
    /// The boot partition.
    Boot,
    /// Slot A's initramfs.
    Initramfs,
}

impl Place {
    /// Reads `boot:/loader`, `initramfs:/init`, `/usr/bin`: the place, and the path without slashes around it.
    pub fn of(path: &str) -> (Self, &str) {
        let (place, path) = match path.split_once(':') {
            Some(("boot", path)) => (Self::Boot, path),
            Some(("initramfs", path)) => (Self::Initramfs, path),
            Some(("system", path)) => (Self::System, path),
            _ => (Self::System, path),
        };
        (place, path.trim_matches('/'))
    }
}

/// An image as it is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Inspected {
    /// Its length in bytes, unpacked.
    pub length: u64,
    /// Its partitions by their numbers, or why there are none.
    pub partitions: Told<Vec<Partition>>,
    /// Slot A's manifest.
    pub manifest: Told<Manifest>,
    /// The packages in slot A.
    pub packages: Told<Vec<Package>>,
    /// The baked settings with who set each.
    pub settings: Told<Vec<Setting>>,
    /// What init keeps running.
    pub units: Told<Vec<Unit>>,
    /// The files of the boot partition.
    pub boot: Told<Vec<Entry>>,
    /// What the firmware of each of a Raspberry Pi's models would load.
    pub starts: Told<Vec<ModelStart>>,
    /// The bytes of slot A's files by the folder at the top, unpacked.
    pub folders: Told<BTreeMap<String, u64>>,
}

/// A part of an image, or why it couldn't be read.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Told<T> {
    /// What is there.
    Is(T),
    /// Why it isn't known.
    Unreadable(String),
}

impl<T> From<Seen<T>> for Told<T> {
    fn from(seen: Seen<T>) -> Self {
        match seen {
            Ok(value) => Self::Is(value),
            Err(why) => Self::Unreadable(why),
        }
    }
}

/// A partition.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Partition {
    /// Its number.
    pub number: u32,
    /// Its label.
    pub name: String,
    /// Its type.
    pub type_guid: String,
    /// Its own GUID.
    pub guid: String,
    /// Its first byte.
    pub start: u64,
    /// Its length in bytes.
    pub length: u64,
    /// The bytes of it that are used, where that can be told.
    pub used: Option<u64>,
}

/// A package of an image, as the workshop wrote it down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture, or "all".
    pub architecture: String,
}

/// Something at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Entry {
    /// The path, with a slash in front.
    pub path: String,
    /// `folder`, `file`, `link` or `other`.
    pub kind: &'static str,
    /// Permission bits in octal digits; FAT has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// The owner's number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<u32>,
    /// The group's number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<u32>,
    /// The bytes of a file, or of all files below a folder.
    pub size: u64,
    /// A link's target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// A file's sum, where it was asked for by its own path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// Looks at a whole image.
///
/// # Errors
/// When the image itself can't be opened.
pub fn inspect(path: &Path) -> Result<Inspected, BuildError> {
    let image = Opened::new(path)?;
    let baked = |name: &str| baked::<Effective>(&image, name).map(|effective| settings(&effective));
    Ok(Inspected {
        length: image.length,
        partitions: partitions(&image).into(),
        manifest: image.manifest.clone().into(),
        packages: packages(&image).into(),
        settings: baked("bakelite/appliance.json").into(),
        units: self::baked::<Vec<Unit>>(&image, "bakelite/units.json").into(),
        boot: everything(&image, Place::Boot).into(),
        starts: firmware::starts(&image).into(),
        folders: folders(&image).into(),
    })
}

fn baked<T: DeserializeOwned>(image: &Opened, name: &str) -> Seen<T> {
    let members = image.initramfs.as_ref().map_err(Clone::clone)?;
    let member = members.get(name).ok_or_else(|| format!("the initramfs holds no {name}"))?;
    serde_json::from_slice(&member.content).map_err(|error| format!("{name}: {error}"))
}

fn packages(image: &Opened) -> Seen<Vec<Package>> {
    let mut text = String::new();
    image.on_system(PACKAGES)?.take(1 << 20).read_to_string(&mut text).map_err(|error| error.to_string())?;
    serde_json::from_str(&text).map_err(|error| format!("/{PACKAGES}: {error}"))
}

/// Where the workshop writes down the packages of an image.
pub const PACKAGES: &str = "usr/lib/bakelite/packages.json";

fn partitions(image: &Opened) -> Seen<Vec<Partition>> {
    let table = image.table.as_ref().map_err(Clone::clone)?;
    let used = |role: Option<Role>| match role? {
        Role::SystemA => image.footer.as_ref().ok().map(|footer| footer.length),
        Role::Boot => image.boot.as_ref().ok().map(|volume| volume.files.values().map(|file| file.size).sum()),
        _ => None,
    };
    let one = |(number, entry): (&u32, &bakelite_disk::table::Entry)| {
        let role = Role::ALL.into_iter().find(|role| role.type_guid().parse() == Ok(entry.type_guid));
        Partition {
            number: *number,
            name: entry.name.clone(),
            type_guid: entry.type_guid.to_string(),
            guid: entry.guid.to_string(),
            start: entry.start(),
            length: entry.length(),
            used: used(role),
        }
    };
    Ok(table.entries.iter().map(one).collect())
}

fn folders(image: &Opened) -> Seen<BTreeMap<String, u64>> {
    let mut folders = BTreeMap::new();
    for entry in everything(image, Place::System)?.into_iter().filter(|entry| entry.kind == "file") {
        let parts: Vec<&str> = entry.path.split('/').filter(|part| !part.is_empty()).collect();
        let deep = parts.len().saturating_sub(1).min(if parts[0] == "usr" { 3 } else { 1 });
        *folders.entry(format!("/{}", parts[..deep].join("/"))).or_insert(0) += entry.size;
    }
    Ok(folders)
}

/// What is at a path, and if that is a folder what is in it; folders carry the sizes of what is below them.
///
/// # Errors
/// When the image can't be opened.
pub fn look(path: &Path, at: &str) -> Result<Seen<Vec<Entry>>, BuildError> {
    let image = Opened::new(path)?;
    let (place, wanted) = Place::of(at);
    Ok(entries_at(&image, place, wanted))
}

fn entries_at(image: &Opened, place: Place, wanted: &str) -> Seen<Vec<Entry>> {
    let path = if wanted.is_empty() { String::new() } else { format!("/{wanted}") };
    let below = format!("{path}/");
    let mut itself = None;
    let mut found: BTreeMap<String, Entry> = BTreeMap::new();
    for entry in everything(image, place)? {
        if entry.path == path {
            itself = Some(entry);
        } else if let Some(rest) = entry.path.strip_prefix(&below).filter(|rest| !rest.is_empty()) {
            let name = rest.split('/').next().unwrap_or(rest);
            let shown = format!("{below}{name}");
            let is_child = name.len() == rest.len();
            let child = found.entry(shown.clone()).or_insert_with(|| folder(shown));
            let size = child.size + entry.size;
            if is_child {
                *child = entry;
            }
            child.size = size;
        }
    }
    if !found.is_empty() {
        return Ok(found.into_values().collect());
    }
    let mut entry = itself.ok_or_else(|| format!("/{wanted} is not there"))?;
    if entry.kind == "file" {
        let mut hashing = Hashing::new(open(image, place, wanted)?);
        std::io::copy(&mut hashing, &mut std::io::sink()).map_err(|error| error.to_string())?;
        entry.sha256 = Some(hashing.finish().0.to_string());
    }
    Ok(vec![entry])
}

/// Writes the content of a file of an image.
///
/// # Errors
/// When the image can't be opened; within, when there is no such file, or it can't be read or written.
pub fn content(path: &Path, at: &str, output: &mut dyn Write) -> Result<Seen<()>, BuildError> {
    let image = Opened::new(path)?;
    let (place, wanted) = Place::of(at);
    let copy = open(&image, place, wanted)
        .and_then(|mut reader| std::io::copy(&mut reader, output).map_err(|error| error.to_string()));
    Ok(copy.map(drop))
}

fn open<'a>(image: &'a Opened, place: Place, path: &str) -> Seen<Box<dyn Read + 'a>> {
    match place {
        Place::System => image.on_system(path),
        Place::Boot => image.on_boot(path).map(|bytes| Box::new(std::io::Cursor::new(bytes)) as Box<dyn Read>),
        Place::Initramfs => {
            let members = image.initramfs.as_ref().map_err(Clone::clone)?;
            let member = members.get(path).ok_or_else(|| format!("/{path} is not there"))?;
            Ok(Box::new(&member.content[..]))
        }
    }
}

/// All entries of a place.
fn everything(image: &Opened, place: Place) -> Seen<Vec<Entry>> {
    match place {
        Place::System => {
            let system = image.system.as_ref().map_err(Clone::clone)?;
            Ok(system.files().map(of_system).collect())
        }
        Place::Boot => {
            let volume = image.boot.as_ref().map_err(Clone::clone)?;
            let one = |(path, file): (&String, &crate::opened::fat::FatFile)| Entry {
                kind: "file",
                mode: None,
                owner: None,
                group: None,
                size: file.size,
                ..folder(format!("/{path}"))
            };
            Ok(volume.files.iter().map(one).collect())
        }
        Place::Initramfs => {
            let members = image.initramfs.as_ref().map_err(Clone::clone)?;
            let one = |(path, member): (&String, &crate::opened::Member)| {
                let kind = match member.mode & 0o170_000 {
                    0o040_000 => "folder",
                    0o100_000 => "file",
                    0o120_000 => "link",
                    _ => "other",
                };
                let target = (kind == "link").then(|| String::from_utf8_lossy(&member.content).into_owned());
                let size = if kind == "file" { member.content.len() as u64 } else { 0 };
                let mode = Some(format!("{:04o}", member.mode & 0o7777));
                Entry { kind, mode, size, target, ..folder(format!("/{path}")) }
            };
            Ok(members.iter().map(one).collect())
        }
    }
}

fn of_system(node: &Node<SquashfsFileReader>) -> Entry {
    let (kind, size, target) = match &node.inner {
        InnerNode::File(file) => ("file", file.file_len() as u64, None),
        InnerNode::Dir(_) => ("folder", 0, None),
        InnerNode::Symlink(link) => ("link", 0, Some(link.link.to_string_lossy().into_owned())),
        _ => ("other", 0, None),
    };
    Entry {
        kind,
        mode: Some(format!("{:04o}", node.header.permissions)),
        owner: Some(node.header.uid),
        group: Some(node.header.gid),
        size,
        target,
        ..folder(node.fullpath.to_string_lossy().into_owned())
    }
}

/// A folder that has no entry of its own.
fn folder(path: String) -> Entry {
    Entry { path, kind: "folder", mode: None, owner: None, group: None, size: 0, target: None, sha256: None }
}
