//! The tables of a squashfs: inodes, folders, fragments, owners, and the superblock that points at them.
//!
//! Pure: a tree and the places of its files' contents in, bytes out. Tables are cut into blocks of 8 KiB, each
//! compressed by itself, and a reference is a block's place and an offset in it.

use super::{BLOCK, LEVEL, Place, SUPERBLOCK};
use crate::tree::{Entry, Node, Tree};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use zstd::bulk::Compressor;

const MAGIC: u32 = 0x7371_7368;
const ZSTD: u16 = 6;
/// Content that is equal is there once; there are no extended attributes.
const FLAGS: u16 = 0x0040 | 0x0200;
/// "There is no such table", or no fragment.
const NONE: u64 = u64::MAX;
/// Bytes of a table's block, unpacked, and the bit of its size that says: not compressed.
const METADATA: usize = 8192;
const METADATA_RAW: u16 = 0x8000;
/// The most entries behind one header of a folder's list.
const MOST_ENTRIES: usize = 256;

/// Kinds as folders name them; inodes of the longer form have seven more.
const FOLDER: u16 = 1;
const FILE: u16 = 2;
const LINK: u16 = 3;
const LONGER: u16 = 7;

/// A table in the making.
struct Table {
    done: Vec<u8>,
    open: Vec<u8>,
    compressor: Compressor<'static>,
}

impl Table {
    fn new() -> io::Result<Self> {
        Ok(Self { done: Vec::new(), open: Vec::new(), compressor: Compressor::new(LEVEL)? })
    }

    /// Where the next byte will be: its block's place, and the offset in it.
    fn place(&self) -> (u32, u16) {
        (self.done.len() as u32, self.open.len() as u16)
    }

    fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.open.extend_from_slice(bytes);
        while self.open.len() >= METADATA {
            let rest = self.open.split_off(METADATA);
            let block = std::mem::replace(&mut self.open, rest);
            self.close(&block)?;
        }
        Ok(())
    }

    fn close(&mut self, block: &[u8]) -> io::Result<()> {
        let packed = self.compressor.compress(block)?;
        let (size, bytes) = if packed.len() < block.len() {
            (packed.len() as u16, &packed[..])
        } else {
            (block.len() as u16 | METADATA_RAW, block)
        };
        self.done.extend(size.to_le_bytes());
        self.done.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(mut self) -> io::Result<Vec<u8>> {
        let rest = std::mem::take(&mut self.open);
        if !rest.is_empty() {
            self.close(&rest)?;
        }
        Ok(self.done)
    }
}

/// What folders need to know of what is in them.
struct Child {
    name: String,
    kind: u16,
    number: u32,
    inode: (u32, u16),
}

struct Encoder<'a> {
    children: BTreeMap<&'a str, Vec<(&'a str, &'a Entry)>>,
    numbers: HashMap<&'a str, u32>,
    owners: Vec<u32>,
    places: &'a HashMap<&'a str, &'a Place>,
    time: u32,
    inodes: Table,
    folders: Table,
}

/// Gives the superblock, and the tables for the byte `at` of the file system.
///
/// # Errors
/// When zstd has no memory, or something is larger than the format can say.
pub fn encode(
    tree: &Tree,
    places: &HashMap<&str, &Place>,
    fragments: &[(u64, u32)],
    time: u32,
    at: u64,
) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut children: BTreeMap<&str, Vec<(&str, &Entry)>> = BTreeMap::new();
    let mut numbers = HashMap::new();
    let mut owners = BTreeSet::from([0]);
    for (number, (path, entry)) in (1..).zip(tree.entries()) {
        children.entry(path.rsplit_once('/').map_or("", |(folder, _)| folder)).or_default().push((path, entry));
        numbers.insert(path, number);
        owners.extend([entry.owner, entry.group]);
    }
    let count = numbers.len() as u32 + 1;
    numbers.insert("", count);
    let owners: Vec<u32> = owners.into_iter().collect();
    let mut encoder =
        Encoder { children, numbers, owners, places, time, inodes: Table::new()?, folders: Table::new()? };
    let root = Entry { mode: 0o755, owner: 0, group: 0, node: Node::Folder };
    // The root's parent is a number that nothing has.
    let root = encoder.folder("", &root, count + 1)?;
    let Encoder { owners, inodes, folders, .. } = encoder;

    let mut bytes = inodes.finish()?;
    let folders_at = at + bytes.len() as u64;
    bytes.extend(folders.finish()?);
    let records =
        fragments.iter().flat_map(|(start, size)| [&start.to_le_bytes()[..], &size.to_le_bytes(), &[0; 4]].concat());
    let fragments_at = indexed(&mut bytes, at, &records.collect::<Vec<u8>>())?;
    let owners_at = indexed(&mut bytes, at, &owners.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>())?;

    let mut superblock = Vec::with_capacity(SUPERBLOCK as usize);
    for word in [MAGIC, count, time, BLOCK as u32, fragments.len() as u32] {
        superblock.extend(word.to_le_bytes());
    }
    for half in [ZSTD, BLOCK.ilog2() as u16, FLAGS, owners.len() as u16, 4, 0] {
        superblock.extend(half.to_le_bytes());
    }
    let (block, offset) = root.inode;
    let length = at + bytes.len() as u64;
    let root = u64::from(block) << 16 | u64::from(offset);
    for word in [root, length, owners_at, NONE, at, folders_at, fragments_at, NONE] {
        superblock.extend(word.to_le_bytes());
    }
    Ok((superblock, bytes))
}

/// Appends a table of records with the list of its blocks behind it; gives the list's place.
fn indexed(bytes: &mut Vec<u8>, at: u64, records: &[u8]) -> io::Result<u64> {
    let (start, mut list) = (at + bytes.len() as u64, Vec::new());
    let mut table = Table::new()?;
    for block in records.chunks(METADATA) {
        list.extend((start + table.done.len() as u64).to_le_bytes());
        table.push(block)?;
        let rest = std::mem::take(&mut table.open);
        if !rest.is_empty() {
            table.close(&rest)?;
        }
    }
    bytes.extend(table.finish()?);
    let list_at = at + bytes.len() as u64;
    bytes.extend(list);
    Ok(list_at)
}

impl<'a> Encoder<'a> {
    fn folder(&mut self, path: &'a str, entry: &Entry, parent: u32) -> io::Result<Child> {
        let number = self.numbers[path];
        let mut children = Vec::new();
        let mut folders = 0;
        for (path, entry) in self.children.remove(path).unwrap_or_default() {
            children.push(match &entry.node {
                Node::Folder => {
                    folders += 1;
                    self.folder(path, entry, number)?
                }
                Node::File(blob) => self.file(path, entry, blob.length())?,
                Node::Link(target) => self.link(path, entry, target)?,
            });
        }
        // Paths are sorted with their slashes; names are wanted sorted by themselves.
        children.sort_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
        let (block, offset) = self.folders.place();
        let list = list(&children)?;
        self.folders.push(&list)?;
        // The size counts the entries . and .., which aren't there, as three bytes.
        let size = list.len() as u32 + 3;
        let links = folders + 2;
        let mut body = Vec::new();
        let kind = if let Ok(size) = u16::try_from(size) {
            body.extend([block, links].iter().flat_map(|word| word.to_le_bytes()));
            body.extend([size, offset].iter().flat_map(|half| half.to_le_bytes()));
            body.extend(parent.to_le_bytes());
            FOLDER
        } else {
            body.extend([links, size, block, parent].iter().flat_map(|word| word.to_le_bytes()));
            body.extend([0, offset].iter().flat_map(|half| half.to_le_bytes()));
            body.extend(u32::MAX.to_le_bytes());
            FOLDER + LONGER
        };
        self.inode(path, entry, kind, &body)
    }

    fn file(&mut self, path: &'a str, entry: &Entry, length: u64) -> io::Result<Child> {
        let nowhere = Place::default();
        let place = self.places.get(path).copied().unwrap_or(&nowhere);
        let (fragment, offset) = place.fragment.unwrap_or((u32::MAX, 0));
        let mut body = Vec::new();
        let kind = if let (Ok(start), Ok(length)) = (u32::try_from(place.start), u32::try_from(length)) {
            body.extend([start, fragment, offset, length].iter().flat_map(|word| word.to_le_bytes()));
            FILE
        } else {
            body.extend([place.start, length, 0].iter().flat_map(|word| word.to_le_bytes()));
            body.extend([1, fragment, offset, u32::MAX].iter().flat_map(|word| word.to_le_bytes()));
            FILE + LONGER
        };
        body.extend(place.sizes.iter().flat_map(|size| size.to_le_bytes()));
        self.inode(path, entry, kind, &body)
    }

    fn link(&mut self, path: &'a str, entry: &Entry, target: &str) -> io::Result<Child> {
        let mut body = [1, target.len() as u32].iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        body.extend(target.as_bytes());
        self.inode(path, entry, LINK, &body)
    }

    fn inode(&mut self, path: &str, entry: &Entry, kind: u16, body: &[u8]) -> io::Result<Child> {
        let (inode, number) = (self.inodes.place(), self.numbers[path]);
        let owner = |id: u32| self.owners.iter().position(|owner| *owner == id).unwrap_or(0) as u16;
        let mut bytes = Vec::with_capacity(16 + body.len());
        for half in [kind, entry.mode, owner(entry.owner), owner(entry.group)] {
            bytes.extend(half.to_le_bytes());
        }
        bytes.extend(self.time.to_le_bytes());
        bytes.extend(number.to_le_bytes());
        bytes.extend_from_slice(body);
        self.inodes.push(&bytes)?;
        let name = path.rsplit('/').next().unwrap_or_default().to_string();
        Ok(Child { name, kind: if kind > LONGER { kind - LONGER } else { kind }, number, inode })
    }
}

/// A folder's list: headers, each with the entries whose inodes are in one block and near each other by number.
fn list(children: &[Child]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = children;
    while let Some(first) = rest.first() {
        let near = |child: &&Child| {
            child.inode.0 == first.inode.0 && i16::try_from(i64::from(child.number) - i64::from(first.number)).is_ok()
        };
        let count = rest.iter().take(MOST_ENTRIES).take_while(near).count();
        let (run, behind) = rest.split_at(count);
        for word in [count as u32 - 1, first.inode.0, first.number] {
            bytes.extend(word.to_le_bytes());
        }
        for child in run {
            let longest = || io::Error::other(format!("{} is too long a name", child.name));
            let length = child.name.len().checked_sub(1).filter(|length| *length < 256).ok_or_else(longest)?;
            let nearby = (i64::from(child.number) - i64::from(first.number)) as i16;
            bytes.extend(child.inode.1.to_le_bytes());
            bytes.extend(nearby.to_le_bytes());
            bytes.extend(child.kind.to_le_bytes());
            bytes.extend((length as u16).to_le_bytes());
            bytes.extend(child.name.as_bytes());
        }
        rest = behind;
    }
    Ok(bytes)
}
