//! From a checked configuration to an image: what `decide` says is done here, in order, and the last act is the rename.
//!
//! The image is written as `<output>.partial`, sparse, and gets its name when all of it is durable. Nothing is stamped
//! with the hour of the build: the image's time is the newest Release date in its lock.

use crate::binaries::Binaries;
use crate::boards;
use crate::config::Config;
use crate::decide::modules::{Catalogue, Closure, plain_path};
use crate::decide::{boot, root, units};
use crate::depmod;
use crate::error::{BuildError, io_error};
use crate::host::file;
use crate::payload::Payload;
use crate::progress::{BuildEvent, Listen};
use crate::source::cache::Cache;
use crate::source::lock::Lock;
use crate::source::mirror::Mirrors;
use crate::tree::{Blob, Tree};
use crate::unpack::unpack;
use crate::user::User;
use crate::write::{cpio, fat, squashfs};
use bakelite_disk::footer::Footer;
use bakelite_disk::gpt::{Entry, Table};

use bakelite_spec::layout::{self, Layout, RECORD, Role, SECTOR, UNSTAMPED_DISK};
use bakelite_spec::manifest::{FORMAT, Manifest, System};
use bakelite_spec::quantity::Size;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// What a build works with.
#[derive(Debug)]
pub struct Request<'a> {
    /// The checked appliance.
    pub config: &'a Config,
    /// The device's programs.
    pub binaries: &'a Binaries,
    /// All inputs.
    pub lock: &'a Lock,
    /// Where packages come from if they aren't in the cache.
    pub mirrors: Option<&'a Mirrors>,
    /// The cache.
    pub cache: &'a Cache,
    /// The payload, checked against the lock.
    pub payload: &'a Payload,
    /// What the user adds.
    pub user: &'a User,
    /// The image to write.
    pub output: &'a Path,
    /// Whether an image that is there is replaced.
    pub force: bool,
}

/// What was built.
#[derive(Clone, Debug)]
pub struct Built {
    /// What is in the image.
    pub manifest: Manifest,
    /// Its partitions.
    pub layout: Layout,
    /// The bytes of the root tree, unpacked.
    pub root_bytes: u64,
    /// Firmware that kernel modules ask for and that no package brought.
    pub missing_firmware: Vec<String>,
}

/// Refuses an output that mustn't be written, before any work is done.
///
/// # Errors
/// When it is a device or a folder, or is there already and `force` isn't given.
pub fn check_output(output: &Path, force: bool) -> Result<(), BuildError> {
    match std::fs::metadata(output) {
        Ok(found) if found.file_type().is_block_device() || found.file_type().is_char_device() => {
            Err(BuildError::OutputIsDevice(output.into()))
        }
        Ok(found) if !found.is_file() => Err(BuildError::OutputIsNoFile(output.into())),
        Ok(_) if !force => Err(BuildError::OutputExists(output.into())),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_error("looking at", output)(error)),
    }
}

/// Builds the image.
///
/// # Errors
/// Whatever stopped it; then there is no image, and an older one is as it was.
pub fn build(request: &Request<'_>, listen: &dyn Listen) -> Result<Built, BuildError> {
    check_output(request.output, request.force)?;
    let mut partial = file::begin_as(request.output)?;
    let work = tempfile::tempdir().map_err(io_error("making a working folder in", std::env::temp_dir()))?;
    let work = work.path();
    let (config, lock) = (request.config, request.lock);
    let time = u32::try_from(lock.time).unwrap_or(u32::MAX);

    let packages = unpack(lock, &lock.packages, request.mirrors, request.cache, &work.join("packages"), listen)?;
    let foreign_tools = if lock.tools.is_empty() {
        None
    } else {
        Some(unpack(lock, &lock.tools, request.mirrors, request.cache, &work.join("tools"), listen)?)
    };
    let tools = foreign_tools.as_ref().unwrap_or(&packages);

    listen.event(&BuildEvent::PhaseStarted { phase: "root", items: None, bytes: None });
    let trees = trees(request, &packages, tools, work)?;
    let entries = trees.root.entries().count() as u64;
    let root_bytes = trees.root.size();
    listen.event(&BuildEvent::PhaseFinished { phase: "root", items: entries, bytes: root_bytes });

    listen.event(&BuildEvent::PhaseStarted { phase: "squashfs", items: Some(entries), bytes: Some(root_bytes) });
    let system_path = work.join("system");
    let system_file = File::create(&system_path).map_err(io_error("making", &system_path))?;
    let length = squashfs::write(&trees.root, time, io::BufWriter::new(system_file))?;
    let sha256 = hash(&system_path)?;
    listen.event(&BuildEvent::PhaseFinished { phase: "squashfs", items: entries, bytes: length });

    let system = System { length, sha256: hexadecimal(&sha256), kernel: trees.release.clone() };
    let manifest = manifest(request, system, &trees)?;
    let needed = length + RECORD;
    let slot = layout::slot_size(config.appliance.image.slot_size, needed);
    if slot.0 < needed {
        return Err(BuildError::SlotTooSmall { slot, needed: Size(layout::round_up(needed)) });
    }
    let layout = layout::layout(slot);

    listen.event(&BuildEvent::PhaseStarted { phase: "image", items: None, bytes: Some(layout.length) });
    let initramfs = initramfs(config, &manifest, &trees, time)?;
    let boot =
        boot::partition(&trees.loader, &config.board, &manifest.version, &manifest.image, trees.kernel, initramfs);
    if boot.size() * 2 > layout::BOOT_SIZE.0 {
        return Err(BuildError::BootTooSmall { needed: Size(boot.size() * 2), room: layout::BOOT_SIZE });
    }
    let image = partial.as_file_mut();
    let writing = || io_error("writing", request.output);
    image.set_len(layout.length).map_err(writing())?;
    write_boot(image, &layout, &boot, lock.time, &manifest.image).map_err(writing())?;
    write_system(image, &layout, &system_path, Footer { length, sha256 }).map_err(writing())?;
    table(&layout).write(image)?;
    file::publish(partial, request.output)?;
    listen.event(&BuildEvent::PhaseFinished { phase: "image", items: 1, bytes: layout.length });
    Ok(Built { manifest, layout, root_bytes, missing_firmware: trees.missing_firmware })
}

/// All that is decided before the first byte of an image.
struct Trees {
    root: Tree,
    initramfs: Tree,
    loader: boot::Loader,
    kernel: Blob,
    release: String,
    missing_firmware: Vec<String>,
}

fn trees(request: &Request<'_>, packages: &Tree, tools: &Tree, work: &Path) -> Result<Trees, BuildError> {
    let board = &request.config.board;
    let sets = |sets: &[String]| boards::modules_of(sets).map_err(|findings| BuildError::Config { findings });
    let catalogue = Catalogue::new(packages)?;
    let (early, all) = (sets(&board.modules.initramfs)?, sets(&board.modules.root)?);
    let mut early_closure = catalogue.closure(&early)?;
    let mut closure = catalogue.closure(&[early, all].concat())?;
    let release = catalogue.release.clone();
    let packages = &plain_modules(&catalogue, packages, &closure, &work.join("modules"))?;
    early_closure.made_plain();
    closure.made_plain();
    let loader = boot::loader(board, packages)?;
    let kernel = boot::kernel(packages, &release)?.clone();

    let mut root = packages.clone();
    let certificates = root::certificates(&root);
    let keeps_shared = !request.config.appliance.packages.is_empty();
    let missing_firmware = root::prune(&mut root, &closure, keeps_shared);
    root::complete(&mut root, &certificates, env!("CARGO_PKG_VERSION"))
        .map_err(io_error("reading", "the CA certificates"))?;
    depmod::index(&mut root, &release, tools, &work.join("depmod-root"))?;
    root.file("usr/lib/bakelite/init", 0o755, request.binaries.init.clone());
    root.file("usr/lib/bakelite/firstboot", 0o755, request.binaries.firstboot.clone());
    root::add_payload(&mut root, &request.payload.manifest, &request.payload.blobs);
    request.user.add_to(&mut root, request.config)?;

    let mut initramfs = packages.clone();
    let sources = format!("usr/lib/modules/{release}/modules.");
    initramfs.retain(|path, _| early_closure.paths.contains(path) || path.starts_with(&sources));
    depmod::index(&mut initramfs, &release, tools, &work.join("depmod-initramfs"))?;
    initramfs.file("init", 0o755, request.binaries.init.clone());
    for folder in ["dev", "proc", "run", "sys", "root"] {
        initramfs.folder(folder);
    }
    initramfs.link("lib", "usr/lib");
    Ok(Trees { root, initramfs, loader, kernel, release, missing_firmware })
}

/// The packages' tree with the wanted modules unpacked beside the packed ones. The kernel takes most of a boot's time for unpacking xz on one
/// core; squashfs packs them again, to nearly the same size, with what unpacks ten times as fast.
fn plain_modules(
    catalogue: &Catalogue<'_>,
    packages: &Tree,
    closure: &Closure,
    folder: &Path,
) -> Result<Tree, BuildError> {
    let mut tree = packages.clone();
    std::fs::create_dir_all(folder).map_err(io_error("making", folder))?;
    for (number, path) in closure.paths.iter().enumerate().filter(|(_, path)| plain_path(path) != path.as_str()) {
        let module = catalogue.plain(path)?;
        let file = folder.join(number.to_string());
        let blob = Blob::File { path: file.clone(), length: module.len() as u64 };
        File::create(&file).and_then(|mut made| made.write_all(&module)).map_err(io_error("writing", &file))?;
        tree.file(plain_path(path), 0o644, blob);
    }
    Ok(tree)
}

fn manifest(request: &Request<'_>, system: System, trees: &Trees) -> Result<Manifest, BuildError> {
    let (config, lock, payload) = (request.config, request.lock, request.payload);
    let mut manifest = Manifest {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").into(),
        image: String::new(),
        time: i64::try_from(lock.time).unwrap_or(i64::MAX),
        board_name: config.board_name.clone(),
        board: config.board.clone(),
        system,
        payload: payload.manifest.clone(),
        user: request.user.manifest.clone(),
    };
    // The id stands for all that makes one image another: the system, the settings, and what starts them.
    let mut hasher = Sha256::new();
    hasher.update(json(&manifest)?);
    hasher.update(json(&config.effective)?);
    hasher.update(json(&units::units(&config.appliance, &config.board, &payload.manifest))?);
    for blob in [&trees.kernel, trees.initramfs.blob("init").unwrap_or(&trees.kernel)] {
        hasher.update(blob.read().map_err(io_error("reading", "the kernel"))?);
    }
    manifest.image = hexadecimal(&hasher.finalize())[..16].to_string();
    Ok(manifest)
}

/// The initramfs: modules and init, then the baked settings as the last archive, so that a changed setting changes just that.
fn initramfs(config: &Config, manifest: &Manifest, trees: &Trees, time: u32) -> Result<Blob, BuildError> {
    let mut baked = Tree::default();
    baked.file("bakelite/manifest.json", 0o600, json(manifest)?);
    baked.file("bakelite/appliance.json", 0o600, json(&config.effective)?);
    let units = units::units(&config.appliance, &config.board, &manifest.payload);
    baked.file("bakelite/units.json", 0o600, json(&units)?);
    let mut bytes = Vec::new();
    let failed = || io_error("writing", "the initramfs");
    cpio::write(&trees.initramfs, time, &mut bytes).map_err(failed())?;
    cpio::write(&baked, time, &mut bytes).map_err(failed())?;
    Ok(bytes.into())
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, BuildError> {
    serde_json::to_vec(value).map_err(|error| io_error("writing", "the baked settings")(error.into()))
}

fn write_boot(image: &mut File, layout: &Layout, boot: &Tree, time: u64, id: &str) -> io::Result<()> {
    let Some(partition) = layout.partition(Role::Boot) else { return Ok(()) };
    let volume_id = u32::from_str_radix(&id[..8], 16).unwrap_or_default();
    let time = i64::try_from(time).unwrap_or(i64::MAX);
    let window = fat::Window::new(image, partition.start, partition.length);
    fat::write(boot, time, volume_id, partition.length, window)
}

fn write_system(image: &mut File, layout: &Layout, system: &Path, footer: Footer) -> io::Result<()> {
    let Some(partition) = layout.partition(Role::SystemA) else { return Ok(()) };
    image.seek(SeekFrom::Start(partition.start))?;
    io::copy(&mut File::open(system)?, image)?;
    image.seek(SeekFrom::Start(partition.start + partition.length - RECORD))?;
    image.write_all(&footer.encode())
}

fn table(layout: &Layout) -> Table {
    let guid = |text: &str| text.parse().unwrap_or_default();
    let mut table = Table::new(guid(UNSTAMPED_DISK), layout.length / SECTOR);
    for partition in &layout.partitions {
        let entry = Entry {
            type_guid: guid(partition.role.type_guid()),
            guid: guid(&partition.role.unstamped_guid()),
            first: partition.start / SECTOR,
            last: (partition.start + partition.length) / SECTOR - 1,
            attributes: 0,
            name: partition.role.label().into(),
        };
        table.entries.insert(partition.role.number(), entry);
    }
    table
}

fn hash(path: &Path) -> Result<[u8; 32], BuildError> {
    let mut file = File::open(path).map_err(io_error("opening", path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer).map_err(io_error("reading", path))?;
        if count == 0 {
            return Ok(hasher.finalize().into());
        }
        hasher.update(&buffer[..count]);
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
