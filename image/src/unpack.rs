//! Unpacks packages into one tree: contents into numbered files of a working folder, names and modes into memory.
//!
//! Nothing of a package's choosing becomes a path on this machine. /usr is merged on the way; set-id bits are dropped;
//! a package that puts something where another has a file or a link is refused.

use crate::decide::root::merged;
use crate::error::{BuildError, io_error};
use crate::progress::{BuildEvent, Listen};
use crate::source::cache::Cache;
use crate::source::deb::{self, EntryKind};
use crate::source::lock::{Lock, LockedPackage};
use crate::source::mirror::Mirrors;
use crate::tree::{Blob, Entry, Node, Tree};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Files up to this length stay in memory.
const SMALL: u64 = 4096;

/// Unpacks some packages of a lock.
///
/// # Errors
/// When a package can't be fetched, isn't what was locked, holds what it mustn't, or the working folder is full.
pub fn unpack(
    lock: &Lock,
    packages: &[LockedPackage],
    mirrors: Option<&Mirrors>,
    cache: &Cache,
    folder: &Path,
    listen: &dyn Listen,
) -> Result<Tree, BuildError> {
    listen.event(&BuildEvent::PhaseStarted { phase: "unpack", items: Some(packages.len() as u64), bytes: None });
    std::fs::create_dir_all(folder).map_err(io_error("making", folder))?;
    let mut store = Store { folder: folder.into(), count: 0 };
    let mut tree = Tree::default();
    for package in packages {
        let file = cache.open_verified(&lock.wanted(package, mirrors), listen)?;
        deb::unpack(file, &package.name, &mut |entry| add(&mut tree, &mut store, &package.name, entry))?;
    }
    listen.event(&BuildEvent::PhaseFinished { phase: "unpack", items: packages.len() as u64, bytes: tree.size() });
    Ok(tree)
}

fn add(tree: &mut Tree, store: &mut Store, package: &str, entry: deb::Entry<'_>) -> Result<(), BuildError> {
    let path = merged(&entry.path);
    let clash = || BuildError::Clash { package: package.into(), path: path.clone() };
    let below_no_folder =
        path.match_indices('/').any(|(at, _)| tree.get(&path[..at]).is_some_and(|above| above.node != Node::Folder));
    if below_no_folder {
        return Err(clash());
    }
    let node = match entry.kind {
        EntryKind::Folder => match tree.get(&path) {
            Some(there) if there.node != Node::Folder => return Err(clash()),
            Some(_) => return Ok(()),
            None => Node::Folder,
        },
        EntryKind::Symlink { target } => Node::Link(target),
        EntryKind::Hardlink { target } => Node::File(tree.blob(&merged(&target)).cloned().ok_or_else(clash)?),
        EntryKind::File { size } => Node::File(store.keep(entry.content, size)?),
    };
    if tree.get(&path).is_some_and(|there| there.node == Node::Folder) && node != Node::Folder {
        return Err(clash());
    }
    let id = |number: u64| u32::try_from(number).unwrap_or(0);
    tree.put(&path, Entry { mode: (entry.mode & 0o777) as u16, owner: id(entry.uid), group: id(entry.gid), node });
    Ok(())
}

/// Numbered files in a folder.
struct Store {
    folder: PathBuf,
    count: u64,
}

impl Store {
    fn keep(&mut self, content: &mut dyn io::Read, size: u64) -> Result<Blob, BuildError> {
        if size <= SMALL {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes).map_err(io_error("reading a package for", &self.folder))?;
            return Ok(bytes.into());
        }
        self.count += 1;
        let path = self.folder.join(format!("{:06}", self.count));
        let mut file = File::create_new(&path).map_err(io_error("making", &path))?;
        let length = io::copy(content, &mut file).map_err(io_error("writing", &path))?;
        Ok(Blob::File { path, length })
    }
}
