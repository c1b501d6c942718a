//! A tree of files in memory: paths, modes and where each file's bytes are. What a squashfs or a cpio is made of.
//!
//! Packages are unpacked into it without ever making their paths on the build host: no privileges, no umask, no
//! case-folding file system and no climbing path can spoil it. Times are not kept: an image has one time for all.

use crate::source::digest::{Hashing, Sha256};
use crate::unpack::layer::Layer;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

/// More links in a row than any path needs (the kernel's own limit is 40).
const LINKS: usize = 16;

/// A file's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blob {
    /// In memory: what the workshop itself writes, and small things.
    Bytes(Arc<[u8]>),
    /// A part of a package's layer.
    Part {
        /// The layer.
        layer: Arc<Layer>,
        /// Where it begins there.
        offset: u64,
        /// Its length in bytes.
        length: u64,
    },
    /// In a file of the build's working folder or of the user.
    File {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        length: u64,
        /// Its sum.
        sha256: Sha256,
    },
}

impl Blob {
    /// A file as it is now.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn file(path: PathBuf) -> io::Result<Self> {
        let mut hashing = Hashing::new(std::fs::File::open(&path)?);
        io::copy(&mut hashing, &mut io::sink())?;
        let (sha256, length) = hashing.finish();
        Ok(Self::File { path, length, sha256 })
    }

    /// The length in bytes.
    pub fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Part { length, .. } | Self::File { length, .. } => *length,
        }
    }

    /// Opens the bytes for reading.
    ///
    /// # Errors
    /// When the file behind it can't be opened.
    pub fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        match self {
            Self::Bytes(bytes) => Ok(Box::new(&bytes[..])),
            Self::Part { layer, offset, length } => Ok(Box::new(layer.open(*offset, *length))),
            Self::File { path, .. } => Ok(Box::new(std::fs::File::open(path)?)),
        }
    }

    /// Reads some of the bytes, from one of them on.
    ///
    /// # Errors
    /// When the file behind it can't be read or has become shorter.
    pub fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        match self {
            Self::Bytes(all) => {
                let part = usize::try_from(at).ok().and_then(|at| all.get(at..)?.get(..bytes.len()));
                bytes.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
            Self::Part { layer, offset, .. } => layer.read_at(bytes, offset + at),
            Self::File { path, .. } => std::fs::File::open(path)?.read_exact_at(bytes, at),
        }
    }

    /// A sum that stands for the content: of the content itself, or of the place in a package whose own sum is known.
    pub fn key(&self) -> Sha256 {
        match self {
            Self::Bytes(bytes) => Sha256::of(bytes),
            Self::Part { layer, offset, length } => {
                let numbers = [*offset, *length].map(u64::to_le_bytes).concat();
                Sha256::of(&[layer.sha256.bytes(), &numbers[..]].concat())
            }
            Self::File { sha256, .. } => *sha256,
        }
    }

    /// The content's own sum.
    ///
    /// # Errors
    /// When the file behind it can't be read.
    pub fn sum(&self) -> io::Result<Sha256> {
        match self {
            Self::Bytes(bytes) => Ok(Sha256::of(bytes)),
            Self::Part { .. } => {
                let mut hashing = Hashing::new(self.open()?);
                io::copy(&mut hashing, &mut io::sink())?;
                Ok(hashing.finish().0)
            }
            Self::File { sha256, .. } => Ok(*sha256),
        }
    }

    /// All bytes.
    ///
    /// # Errors
    /// When the file behind it can't be read.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open()?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

impl<B: Into<Vec<u8>>> From<B> for Blob {
    fn from(bytes: B) -> Self {
        Self::Bytes(bytes.into().into())
    }
}

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A folder.
    Folder,
    /// A file.
    File(Blob),
    /// A symbolic link to a target.
    Link(String),
}

/// One entry of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Permission bits; set-id bits are never kept.
    pub mode: u16,
    /// The owner's number.
    pub owner: u32,
    /// The group's number.
    pub group: u32,
    /// What it is.
    pub node: Node,
}

/// A tree: entries by their path relative to the root, `usr/bin/busybox`. Parents come before their children.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree(BTreeMap<String, Entry>);

impl Tree {
    /// All entries, sorted by path.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.0.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    /// The entry at a path.
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.0.get(path)
    }

    /// The file's bytes at a path, if a file is there.
    pub fn blob(&self, path: &str) -> Option<&Blob> {
        match &self.0.get(path)?.node {
            Node::File(blob) => Some(blob),
            _ => None,
        }
    }

    /// The path that a path leads to through links, as the device goes it; `None` where it leads nowhere.
    pub fn resolve(&self, path: &str) -> Option<String> {
        let (mut done, mut links) = (Vec::<String>::new(), 0);
        let mut open: Vec<String> = path.split('/').rev().map(String::from).collect();
        while let Some(part) = open.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    done.pop();
                    continue;
                }
                _ => done.push(part),
            }
            if let Node::Link(target) = &self.get(&done.join("/"))?.node {
                links += 1;
                (links <= LINKS).then_some(())?;
                if target.starts_with('/') {
                    done.clear();
                } else {
                    done.pop();
                }
                open.extend(target.split('/').rev().map(String::from));
            }
        }
        Some(done.join("/"))
    }

    /// Puts an entry at a path, in place of what was there, with the folders above it.
    pub fn put(&mut self, path: &str, entry: Entry) {
        self.parents(path);
        self.0.insert(path.into(), entry);
    }

    /// A folder, mode 0755; one that is there stays as it is.
    pub fn folder(&mut self, path: &str) {
        self.parents(path);
        self.0.entry(path.into()).or_insert(Entry { mode: 0o755, owner: 0, group: 0, node: Node::Folder });
    }

    /// A file of root's.
    pub fn file(&mut self, path: &str, mode: u16, blob: impl Into<Blob>) {
        self.put(path, Entry { mode, owner: 0, group: 0, node: Node::File(blob.into()) });
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        self.put(path, Entry { mode: 0o777, owner: 0, group: 0, node: Node::Link(target.into()) });
    }

    /// Keeps only the entries that are wanted, and the folders above them.
    pub fn retain(&mut self, wanted: impl Fn(&str, &Entry) -> bool) {
        self.0.retain(|path, entry| wanted(path, entry));
        let kept: Vec<String> = self.0.keys().cloned().collect();
        for path in kept {
            self.parents(&path);
        }
    }

    /// The bytes of all files.
    pub fn size(&self) -> u64 {
        self.0.values().map(|entry| if let Node::File(blob) = &entry.node { blob.length() } else { 0 }).sum()
    }

    fn parents(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            self.0.entry(path[..at].into()).or_insert(Entry { mode: 0o755, owner: 0, group: 0, node: Node::Folder });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_above_come_with_their_children_and_before_them() {
        let mut tree = Tree::default();
        tree.file("usr/bin/true", 0o755, b"x".to_vec());
        tree.link("bin", "usr/bin");
        let paths: Vec<_> = tree.entries().map(|(path, _)| path).collect();
        assert_eq!(paths, ["bin", "usr", "usr/bin", "usr/bin/true"]);
        tree.retain(|path, _| path.ends_with("true"));
        let paths: Vec<_> = tree.entries().map(|(path, _)| path).collect();
        assert_eq!(paths, ["usr", "usr/bin", "usr/bin/true"]);
        assert_eq!(tree.size(), 1);
    }
}
