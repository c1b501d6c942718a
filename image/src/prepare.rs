//! Between the inputs and the first byte of an image: packages unpacked, trees put together, loader and kernel found.
//!
//! What `bakelite plan` shows and what `apply` writes are the same value, made here. Must write nothing but the cache.

use crate::binaries::Binaries;
use crate::boards;
use crate::config::Config;
use crate::decide::modules::{Catalogue, Closure, ModuleError};
use crate::decide::{boot, microcode, root};
use crate::depmod;
use crate::derived::{Derived, Work};
use crate::error::{BuildError, io_error};
use crate::inspect::{PACKAGES, Package};
use crate::payload::Payload;
use crate::plain::{self, Names, Unpacked};
use crate::progress::{BuildEvent, Listen};
use crate::source::cache::Cache;
use crate::source::lock::{Lock, LockedPackage};
use crate::source::mirror::Mirrors;
use crate::tree::{Blob, Node, Tree};
use crate::unpack::Unpacking;
use crate::user::User;
use bakelite_spec::apps::{NOTHING, NOTHING_TEXT};
use std::collections::BTreeMap;

/// What an image is made from.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The checked appliance.
    pub config: &'a Config,
    /// The device's programs.
    pub binaries: &'a Binaries,
    /// All packages.
    pub lock: &'a Lock,
    /// Where packages come from if they aren't in the cache.
    pub mirrors: Option<&'a Mirrors>,
    /// The cache.
    pub cache: &'a Cache,
    /// The payload, checked against the lock.
    pub payload: &'a Payload,
    /// What the user adds.
    pub user: &'a User,
}

/// All that is decided before the first byte of an image is written.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The packages, as they were unpacked, the wanted modules plain.
    pub packages: Tree,
    /// What runs on this machine, where the device's architecture is another.
    foreign_tools: Option<Tree>,
    /// The root tree, without the index of its modules.
    pub root: Tree,
    /// The initramfs, without the index of its modules and without the baked settings.
    pub initramfs: Tree,
    /// What firmware starts.
    pub loader: boot::Loader,
    /// The kernel.
    pub kernel: Blob,
    /// The kernel's release.
    pub release: String,
    /// The root's modules and the firmware that they ask for.
    pub modules: Closure,
    /// Those of them that stay packed, by their paths, unpacked.
    packed: Vec<(String, Blob)>,
    /// Firmware that kernel modules ask for and that no package brought.
    pub missing_firmware: Vec<String>,
}

/// The files of an index of modules, by their paths.
pub type Index = Vec<(String, Blob)>;

impl Prepared {
    /// Unpacks the packages and decides about trees, loader and kernel.
    ///
    /// # Errors
    /// Whatever stopped it.
    pub fn new(inputs: &Inputs<'_>, derived: &Derived, work: &Work, listen: &dyn Listen) -> Result<Self, BuildError> {
        let Inputs { lock, mirrors, cache, .. } = *inputs;
        let unpacking = Unpacking { lock, mirrors, cache, derived, work, listen };
        let packages = unpacking.tree(&lock.packages)?;
        let foreign_tools = if lock.tools.is_empty() { None } else { Some(unpacking.tree(&lock.tools)?) };
        listen.event(&BuildEvent::PhaseStarted { phase: "root", items: None, bytes: None });
        let prepared = Self::of(inputs, packages, foreign_tools, derived, work)?;
        let items = prepared.root.entries().count() as u64;
        listen.event(&BuildEvent::PhaseFinished { phase: "root", items, bytes: prepared.root.size() });
        Ok(prepared)
    }

    fn of(
        inputs: &Inputs<'_>,
        packages: Tree,
        foreign_tools: Option<Tree>,
        derived: &Derived,
        work: &Work,
    ) -> Result<Self, BuildError> {
        let Inputs { config, lock, payload, user, binaries, .. } = *inputs;
        let board = &config.board;
        let sets =
            |sets: &[String]| boards::modules_of(sets, board.arch).map_err(|findings| BuildError::Config { findings });
        let (early, own) = (sets(&board.modules.initramfs)?, sets(&board.modules.root)?);
        let (own, added) = ([&early[..], &own].concat(), sets(&config.appliance.modules)?);
        let names = Names { own: &own, added: &added };
        let Unpacked { tree: packages, modules, packed } = plain::unpack(&packages, names, derived, work)
            .map_err(|error| cant_drive(error, &own, &board.kernel.package))?;
        let catalogue = Catalogue::new(&packages)?;
        let early_closure = catalogue.closure(&early)?;
        let release = catalogue.release.clone();
        let loader = boot::loader(config, &packages, &release)?;
        let kernel = boot::kernel(&packages, &release)?.clone();

        let mut root = packages.clone();
        let certificates = root::certificates(&root);
        let keeps_shared = !config.appliance.packages.is_empty();
        let missing_firmware = root::prune(&mut root, &modules, keeps_shared, &boot::sources(board, &release));
        root::complete(&mut root, &certificates, env!("CARGO_PKG_VERSION"))
            .map_err(io_error("reading", "the CA certificates"))?;
        root.file("usr/lib/bakelite/init", 0o755, binaries.init.clone());
        root.file("usr/lib/bakelite/firstboot", 0o755, binaries.firstboot.clone());
        root.file(NOTHING.trim_start_matches('/'), 0o644, NOTHING_TEXT.as_bytes().to_vec());
        root::add_payload(&mut root, &payload.manifest, &payload.blobs);
        root.file(PACKAGES, 0o644, packages_of(lock)?);
        user.add_to(&mut root, config)?;

        let mut initramfs = packages.clone();
        let sources = format!("usr/lib/modules/{release}/modules.");
        initramfs.retain(|path, _| early_closure.paths.contains(path) || path.starts_with(&sources));
        initramfs.file("init", 0o755, binaries.init.clone());
        for (path, blob) in microcode::files(&packages).map_err(io_error("reading", "the processors' microcode"))? {
            initramfs.file(path, 0o644, blob);
        }
        for folder in ["dev", "proc", "run", "sys", "root"] {
            initramfs.folder(folder);
        }
        initramfs.link("lib", "usr/lib");
        Ok(Self {
            packages,
            foreign_tools,
            root,
            initramfs,
            loader,
            kernel,
            release,
            modules,
            packed,
            missing_firmware,
        })
    }

    /// Has Debian's depmod make the indices of the root's and of the initramfs's modules.
    ///
    /// # Errors
    /// When it fails, or the cache can't be written.
    pub fn indices(&self, derived: &Derived, work: &Work) -> Result<(Index, Index), BuildError> {
        let tools = self.foreign_tools.as_ref().unwrap_or(&self.packages);
        let index = |tree| depmod::index(tree, &self.release, tools, derived, work);
        // depmod tells by a file's first bytes whether it is packed: the name stays, and it needn't unpack.
        let mut readable = self.root.clone();
        for (path, blob) in &self.packed {
            readable.file(path, 0o644, blob.clone());
        }
        Ok((index(&readable)?, index(&self.initramfs)?))
    }

    /// The root's files in the groups that are written one after the other: each package's, each file of the workshop
    /// and the payload by itself, and last what the workshop makes in memory. A change in one group leaves the others.
    pub fn groups(&self) -> Vec<Vec<&Blob>> {
        let mut groups: BTreeMap<(u8, &str), Vec<&Blob>> = BTreeMap::new();
        for (path, entry) in self.root.entries() {
            if let Node::File(blob) = &entry.node {
                let group = match blob {
                    Blob::Part { layer, .. } => (0, layer.package.as_str()),
                    Blob::File { .. } => (1, path),
                    Blob::Bytes(_) => (2, ""),
                };
                groups.entry(group).or_default().push(blob);
            }
        }
        groups.into_values().collect()
    }
}

/// A kernel without modules of the board's own sets is the wrong kernel; of a person's own modules, it's their slip.
fn cant_drive(error: BuildError, own: &[String], package: &str) -> BuildError {
    match error {
        BuildError::Modules(ModuleError::Unknown { release, mut names })
            if names.iter().all(|name| own.contains(name)) =>
        {
            // Sets of the initramfs are sets of the system, too.
            names.sort();
            names.dedup();
            BuildError::Modules(ModuleError::CantDrive { package: package.into(), release, names })
        }
        other => other,
    }
}

/// The packages of an image, for whoever asks the image itself: it has no dpkg.
fn packages_of(lock: &Lock) -> Result<Vec<u8>, BuildError> {
    let package = |package: &LockedPackage| Package {
        name: package.name.clone(),
        version: package.version.clone(),
        architecture: package.architecture.clone(),
    };
    let packages: Vec<Package> = lock.packages.iter().map(package).collect();
    serde_json::to_vec(&packages).map_err(|error| io_error("writing", PACKAGES)(error.into()))
}

/// Puts an index into a tree.
pub fn add_index(tree: &mut Tree, index: Index) {
    for (path, blob) in index {
        tree.file(&path, 0o644, blob);
    }
}
