//! Unpacks packages into one tree: contents into layers of the cache, names and modes into memory.
//!
//! All processors decompress at once: a large package in the blocks that its .xz has, the small ones beside it. Nothing
//! of a package's choosing becomes a path on this machine. /usr is merged on the way; set-id bits are dropped; a package
//! that puts something where another has a file or a link is refused.

pub mod layer;
pub mod xz;

use crate::decide::root::merged;
use crate::derived::{Derived, Kind, Work};
use crate::error::{BuildError, io_error};
use crate::host::file;
use crate::parallel;
use crate::progress::{BuildEvent, Listen};
use crate::source::SourceError;
use crate::source::cache::Cache;
use crate::source::deb::{self, DATA_LIMIT, EntryKind};
use crate::source::digest::Hashing;
use crate::source::lock::{Lock, LockedPackage};
use crate::source::mirror::Mirrors;
use crate::tree::{Blob, Entry, Node, Tree};
use layer::{Chunk, Layer};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use tempfile::NamedTempFile;
use xz::{Block, Span};

/// What unpacking works with.
#[derive(Clone, Copy)]
pub struct Unpacking<'a> {
    /// The lock that names the packages.
    pub lock: &'a Lock,
    /// Where packages come from if they aren't in the cache.
    pub mirrors: Option<&'a Mirrors>,
    /// The cache.
    pub cache: &'a Cache,
    /// Where layers are kept.
    pub derived: &'a Derived,
    /// Where they are made.
    pub work: &'a Work,
    /// Who is told.
    pub listen: &'a dyn Listen,
}

impl Unpacking<'_> {
    /// Unpacks some packages of the lock.
    ///
    /// # Errors
    /// When a package can't be fetched, isn't what was locked, holds what it mustn't, or the cache is full.
    pub fn tree(&self, packages: &[LockedPackage]) -> Result<Tree, BuildError> {
        let items = packages.len() as u64;
        self.listen.event(&BuildEvent::PhaseStarted { phase: "unpack", items: Some(items), bytes: None });
        let mut layers = self.kept(packages)?;
        let missing: Vec<&LockedPackage> =
            packages.iter().zip(&layers).filter(|(_, layer)| layer.is_none()).map(|(package, _)| package).collect();
        let mut made = self.make(&missing)?.into_iter();
        let mut tree = Tree::default();
        for (package, layer) in packages.iter().zip(&mut layers) {
            let Some(layer) = layer.take().or_else(|| made.next()).map(Arc::new) else { continue };
            let archive = io::BufReader::with_capacity(1 << 16, layer.open(0, layer.length()));
            deb::read_data(archive, &package.name, &mut |entry| add(&mut tree, &layer, entry))?;
        }
        self.listen.event(&BuildEvent::PhaseFinished { phase: "unpack", items, bytes: tree.size() });
        Ok(tree)
    }

    /// The layers that the cache has, each checked; a damaged one is removed.
    fn kept(&self, packages: &[LockedPackage]) -> Result<Vec<Option<Layer>>, BuildError> {
        let mut layers: Vec<Option<Layer>> = packages
            .iter()
            .map(|package| {
                let file = self.derived.find(Kind::Layer, &package.sha256)?;
                Layer::new(&package.name, package.sha256, file)
            })
            .collect();
        let there: Vec<(usize, &Layer)> =
            layers.iter().enumerate().filter_map(|(number, layer)| Some((number, layer.as_ref()?))).collect();
        let damaged = layer::damaged(&there.iter().map(|(_, layer)| *layer).collect::<Vec<_>>());
        let damaged: Vec<usize> = damaged.into_iter().map(|place| there[place].0).collect();
        for number in damaged {
            layers[number] = None;
            self.derived.remove(Kind::Layer, &packages[number].sha256)?;
        }
        Ok(layers)
    }

    /// Makes the layers of some packages.
    fn make(&self, packages: &[&LockedPackage]) -> Result<Vec<Layer>, BuildError> {
        let mut open = Vec::new();
        let mut jobs = Vec::new();
        for (number, package) in packages.iter().enumerate() {
            let deb = self.cache.open_verified(&self.lock.wanted(package, self.mirrors), self.listen)?;
            let (one, chunks) = Making::begin(package, deb, self.work.path())?;
            jobs.extend(chunks.into_iter().map(|job| Job { package: number, ..job }));
            open.push(one);
        }
        // The longest first, so that no thread is left alone with one at the end.
        jobs.sort_by_key(|job| std::cmp::Reverse(job.weight));
        let mut sums: Vec<Vec<Option<Chunk>>> = vec![Vec::new(); open.len()];
        let decompress = |_: &mut (), job: &Job| {
            let chunk = open[job.package].decompress(job)?;
            Ok::<_, BuildError>((job.package, job.number, chunk))
        };
        parallel::ordered(
            parallel::threads(),
            &jobs,
            || Ok(()),
            decompress,
            |(package, number, chunk)| {
                let sums = &mut sums[package];
                sums.resize(sums.len().max(number + 1), None);
                sums[number] = Some(chunk);
                Ok(())
            },
        )?;
        let finished = open.into_iter().zip(sums).zip(packages);
        finished
            .map(|((making, sums), package)| {
                let chunks: Vec<Chunk> = sums.into_iter().flatten().collect();
                let path = making.output.path().to_path_buf();
                Layer::finish(making.output.as_file(), &chunks).map_err(io_error("writing", &path))?;
                let file = self.derived.keep(making.output, Kind::Layer, &package.sha256)?;
                Layer::new(&package.name, package.sha256, file)
                    .ok_or_else(|| io_error("reading back", path)(io::Error::other("it is not what was just written")))
            })
            .collect()
    }
}

/// A layer in the making.
struct Making {
    package: String,
    deb: File,
    data: deb::DataPart,
    output: NamedTempFile,
}

/// One thread's share of a layer.
#[derive(Clone, Copy)]
struct Job {
    package: usize,
    number: usize,
    /// The block, or the whole part where it has none.
    block: Option<Block>,
    /// Where in the layer it goes.
    to: u64,
    /// About how long it takes.
    weight: u64,
}

impl Making {
    fn begin(package: &LockedPackage, deb: File, folder: &Path) -> Result<(Self, Vec<Job>), BuildError> {
        let (_, data) = deb::locate(io::BufReader::new(&deb), &package.name)?;
        let blocks = if data.name.ends_with(".xz") {
            xz::blocks(&deb, data.offset, data.size).map_err(|error| deb::broken(&package.name, &error))?
        } else {
            Vec::new()
        };
        let mut to = 0u64;
        let mut jobs = Vec::new();
        for (number, block) in blocks.into_iter().enumerate() {
            jobs.push(Job { package: 0, number, block: Some(block), to, weight: block.length });
            to = to.saturating_add(block.length);
        }
        if to > DATA_LIMIT {
            let reason = "data.tar: it unpacks to more than a package may".to_owned();
            return Err(SourceError::Unpack { package: package.name.clone(), reason }.into());
        }
        if jobs.is_empty() {
            jobs.push(Job { package: 0, number: 0, block: None, to, weight: data.size });
        }
        Ok((Self { package: package.name.clone(), deb, data, output: file::begin(folder)? }, jobs))
    }

    fn decompress(&self, job: &Job) -> Result<Chunk, BuildError> {
        let broken = |error: io::Error| deb::broken(&self.package, &error);
        let data = Span { file: &self.deb, at: self.data.offset, left: self.data.size };
        let reader: Box<dyn Read + '_> = match &job.block {
            Some(block) => Box::new(block.open(&self.deb).map_err(broken)?),
            None => deb::decompress(&self.data.name, data).map_err(broken)?,
        };
        let mut hashing = Hashing::new(reader);
        let mut to = job.to;
        let mut failed = None;
        let copied = copy(&mut hashing, |bytes| {
            self.output.as_file().write_all_at(bytes, to).map_err(|error| {
                failed = Some(io_error("writing", self.output.path())(error));
                io::ErrorKind::Other
            })?;
            to += bytes.len() as u64;
            // A block that unpacks to more than its index says would run into the next one.
            match &job.block {
                Some(block) if to > job.to + block.length => Err(io::Error::other("it is longer than its index says")),
                _ => Ok(()),
            }
        });
        if let Some(error) = failed {
            return Err(error);
        }
        copied.map_err(broken)?;
        let (sha256, length) = hashing.finish();
        if job.block.is_some_and(|block| block.length != length) {
            return Err(broken(io::Error::other("it is shorter than its index says")).into());
        }
        Ok(Chunk { length, sha256: *sha256.bytes() })
    }
}

/// Reads to the end in large pieces.
fn copy(reader: &mut impl Read, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 18];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(()),
            count => each(&buffer[..count])?,
        }
    }
}

fn add(tree: &mut Tree, layer: &Arc<Layer>, entry: deb::Entry<'_>) -> Result<(), BuildError> {
    let path = merged(&entry.path);
    let clash = || BuildError::Clash { package: layer.package.clone(), path: path.clone() };
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
        EntryKind::File { size } => Node::File(Blob::Part { layer: layer.clone(), offset: entry.offset, length: size }),
    };
    if tree.get(&path).is_some_and(|there| there.node == Node::Folder) && node != Node::Folder {
        return Err(clash());
    }
    let id = |number: u64| u32::try_from(number).unwrap_or(0);
    tree.put(&path, Entry { mode: (entry.mode & 0o777) as u16, owner: id(entry.uid), group: id(entry.gid), node });
    Ok(())
}
