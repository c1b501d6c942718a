//! From a checked configuration to an image: what `decide` says is done here, in order, and the last act is the rename.
//!
//! The image is written as `<output>.partial`, sparse, proved by lint's rules, and gets its name when all of it is
//! durable. Nothing is stamped with the hour of the build: the image's time is the newest Release date in its lock.

use crate::config::Config;
use crate::decide::{boot, units};
use crate::derived::{Derived, Work};
use crate::error::{BuildError, io_error};
use crate::lint::{self, Outcome};
use crate::opened::Opened;
use crate::outputs::{self, Outputs};
use crate::parallel;
use crate::prepare::{Inputs, Prepared, add_index};
use crate::progress::{BuildEvent, Listen};
use crate::sbom;
use crate::source::digest::{Hashing, Sha256 as Sha256Sum};
use crate::tree::{Blob, Tree};
use crate::unpack::xz::Span;
use crate::write::{bmap, cpio, fat, squashfs};
use bakelite_disk::footer::Footer;
use bakelite_disk::table::Table;
use bakelite_spec::hexadecimal::hexadecimal;
use bakelite_spec::layout::{self, Layout, RECORD, Role};
use bakelite_spec::manifest::{BootFile, FORMAT, Manifest, System};
use bakelite_spec::quantity::Size;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// What a build works with.
#[derive(Debug)]
pub struct Request<'a> {
    /// What the image is made from.
    pub inputs: Inputs<'a>,
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

/// Builds the image.
///
/// # Errors
/// Whatever stopped it; then there is no image, and an older one is as it was.
pub fn build(request: &Request<'_>, listen: &dyn Listen) -> Result<Built, BuildError> {
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
    let image = outputs.image();
    let writing = || io_error("writing", request.output);
    let scheme = config.board.boot.flow.scheme();
    // Where slot A begins doesn't depend on how large it will be.
    let start = layout::layout(scheme, Size(0)).partition(Role::SystemA).map_or(0, |slot| slot.start);
    let length = write_system(image, start, &mut prepared, time, &derived, &work)?;
    let sha256 = hash(image, start, length).map_err(writing())?;
    listen.event(&BuildEvent::PhaseFinished { phase: "squashfs", items, bytes: length });

    let system = System { length, sha256: hexadecimal(sha256), kernel: prepared.release.clone() };
    let programs = programs(&prepared, time, &work)?;
    let boot = boot::files(&prepared.loader, &prepared.kernel, &programs);
    let boot = boot.map_err(io_error("reading", "a file of the boot partition"))?;
    let manifest = manifest(&request.inputs, boot, system)?;
    let needed = length + RECORD;
    let slot = layout::slot_size(config.appliance.image.slot_size, needed);
    if slot.0 < needed {
        return Err(BuildError::SlotTooSmall { slot, needed: Size(layout::round_up(needed)) });
    }
    let layout = layout::layout(scheme, slot);

    listen.event(&BuildEvent::PhaseStarted { phase: "image", items: None, bytes: Some(layout.length) });
    let initramfs = initramfs(config, &manifest, &programs, time, &work)?;
    let kernel = prepared.kernel.clone();
    let boot = boot::partition(&prepared.loader, config, &manifest.version, &manifest.image, kernel, initramfs);
    boot::check_room(&boot, layout::BOOT_SIZE)?;
    image.set_len(layout.length).map_err(writing())?;
    write_boot(image, &layout, &boot, lock.time, &manifest.image).map_err(writing())?;
    write_footer(image, &layout, Footer { length, sha256 }).map_err(writing())?;
    Table::of_layout(&layout).write(image)?;
    listen.event(&BuildEvent::PhaseFinished { phase: "image", items: 1, bytes: layout.length });

    let opened = Opened::of(image.try_clone().map_err(writing())?).map_err(writing())?;
    proved(&opened, listen)?;
    let parts = sbom::text(&request.inputs, &prepared, &manifest)?;
    publish(outputs, &opened, &layout, Some(Footer { length, sha256 }), &parts, listen)?;
    derived.trim();
    Ok(Built { manifest, layout, root_bytes, missing_firmware: prepared.missing_firmware })
}

/// An image with a rule that isn't proved isn't published, whatever the reason.
pub(crate) fn proved(opened: &Opened, listen: &dyn Listen) -> Result<(), BuildError> {
    let rules = lint::needed(opened);
    let items = rules.len() as u64;
    listen.event(&BuildEvent::PhaseStarted { phase: "lint", items: Some(items), bytes: None });
    let verdicts = lint::prove(opened, &rules);
    let broken = verdicts.iter().filter_map(|verdict| match &verdict.outcome {
        Outcome::Proved => None,
        Outcome::Failed(found) => Some(format!("{}: {}", verdict.rule, found.join(", "))),
        Outcome::Unknown(why) => Some(format!("{}: {why}", verdict.rule)),
    });
    let broken: Vec<String> = broken.collect();
    if !broken.is_empty() {
        return Err(BuildError::Unproved(broken));
    }
    listen.event(&BuildEvent::PhaseFinished { phase: "lint", items, bytes: opened.length });
    Ok(())
}

/// Makes the block map and gives all files their names.
pub(crate) fn publish(
    outputs: Outputs<'_>,
    opened: &Opened,
    layout: &Layout,
    system: Option<Footer>,
    parts: &[u8],
    listen: &dyn Listen,
) -> Result<(), BuildError> {
    listen.event(&BuildEvent::PhaseStarted { phase: "publish", items: None, bytes: Some(layout.length) });
    let map = map(opened, layout, system).map_err(io_error("reading", "the finished image"))?;
    outputs.publish(layout.length, &map, parts)?;
    listen.event(&BuildEvent::PhaseFinished { phase: "publish", items: 3, bytes: layout.length });
    Ok(())
}

/// The image's block map. The system's sum is known, and is most of the work.
fn map(image: &Opened, layout: &Layout, system: Option<Footer>) -> io::Result<String> {
    let used = image.boot.as_ref().map_or(layout::BOOT_SIZE.0, |volume| volume.used_to);
    let ranges = bmap::ranges(layout, used, system.map_or(0, |system| system.length));
    let start = layout.partition(Role::SystemA).map(|slot| slot.start);
    let sum = |_: &mut (), (at, length): &(u64, u64)| {
        let known = system.filter(|system| Some(*at) == start && *length == system.length);
        known.map_or_else(|| hash(&image.file, *at, *length), |system| Ok(system.sha256))
    };
    let mut sums = Vec::new();
    let take = |sum: [u8; 32]| {
        sums.push(Sha256Sum::from(sum));
        Ok(())
    };
    parallel::ordered(parallel::threads(), &ranges, || Ok(()), sum, take)?;
    Ok(bmap::text(layout.length, &ranges.into_iter().zip(sums).collect::<Vec<_>>()))
}

/// Writes the system partition while depmod looks at the modules: its index is the last that is written.
pub(crate) fn write_system(
    image: &mut File,
    start: u64,
    prepared: &mut Prepared,
    time: u32,
    derived: &Derived,
    work: &Work,
) -> Result<u64, BuildError> {
    image.seek(SeekFrom::Start(start)).map_err(io_error("writing", "the system partition"))?;
    let output = io::BufWriter::with_capacity(1 << 20, image);
    let mut writer = squashfs::Writer::new(output, Some((derived, work)), parallel::threads())?;
    let (root_index, initramfs_index) = std::thread::scope(|scope| {
        let indices = scope.spawn(|| prepared.indices(derived, work));
        let written = writer.groups(&prepared.groups());
        // A panic of the other thread goes on in this one.
        let indices = indices.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        written.and(indices)
    })?;
    writer.groups(&[root_index.iter().map(|(_, blob)| blob).collect()])?;
    add_index(&mut prepared.root, root_index);
    add_index(&mut prepared.initramfs, initramfs_index);
    writer.finish(&prepared.root, time)
}

pub(crate) fn manifest(inputs: &Inputs<'_>, boot: Vec<BootFile>, system: System) -> Result<Manifest, BuildError> {
    let Inputs { config, lock, payload, user, .. } = *inputs;
    let mut manifest = Manifest {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").into(),
        image: String::new(),
        appliance: config.appliance.image.version.clone().unwrap_or_default(),
        time: i64::try_from(lock.time).unwrap_or(i64::MAX),
        board_name: config.board_name.clone(),
        board: config.board.clone(),
        boot,
        system,
        payload: payload.manifest.clone(),
        user: user.manifest.clone(),
    };
    // The id stands for all that makes one image another: what starts the system, the system, and the settings.
    let mut hasher = Sha256::new();
    hasher.update(json(&manifest)?);
    hasher.update(json(&config.effective)?);
    hasher.update(json(&units::units(&config.appliance, &config.board, &payload.manifest))?);
    manifest.image = hexadecimal(hasher.finalize())[..16].to_string();
    Ok(manifest)
}

/// The first archive of the initramfs: init and modules.
pub(crate) fn programs(prepared: &Prepared, time: u32, work: &Work) -> Result<Blob, BuildError> {
    let path = work.path().join("initramfs.programs");
    let write = || -> io::Result<Blob> {
        let mut output = io::BufWriter::new(File::create(&path)?);
        cpio::write(&prepared.initramfs, time, &mut output)?;
        output.flush()?;
        Blob::file(path.clone())
    };
    write().map_err(io_error("writing", &path))
}

/// The initramfs: its programs, then the baked settings as the last archive, so that a changed setting changes just that.
pub(crate) fn initramfs(
    config: &Config,
    manifest: &Manifest,
    programs: &Blob,
    time: u32,
    work: &Work,
) -> Result<Blob, BuildError> {
    let mut baked = Tree::default();
    baked.file("bakelite/manifest.json", 0o600, json(manifest)?);
    baked.file("bakelite/appliance.json", 0o600, json(&config.effective)?);
    let units = units::units(&config.appliance, &config.board, &manifest.payload);
    baked.file("bakelite/units.json", 0o600, json(&units)?);
    let path = work.path().join("initramfs");
    let write = || -> io::Result<Blob> {
        let mut output = io::BufWriter::new(File::create(&path)?);
        io::copy(&mut programs.open()?, &mut output)?;
        cpio::write(&baked, time, &mut output)?;
        output.flush()?;
        Blob::file(path.clone())
    };
    write().map_err(io_error("writing", &path))
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, BuildError> {
    serde_json::to_vec(value).map_err(|error| io_error("writing", "the baked settings")(error.into()))
}

pub(crate) fn write_boot(image: &mut File, layout: &Layout, boot: &Tree, time: u64, id: &str) -> io::Result<()> {
    let Some(partition) = layout.partition(Role::Boot) else { return Ok(()) };
    let volume_id = u32::from_str_radix(&id[..8], 16).unwrap_or_default();
    let time = i64::try_from(time).unwrap_or(i64::MAX);
    let window = fat::Window::new(image, partition.start, partition.length);
    fat::write(boot, time, volume_id, partition.length, window)
}

fn write_footer(image: &mut File, layout: &Layout, footer: Footer) -> io::Result<()> {
    let Some(partition) = layout.partition(Role::SystemA) else { return Ok(()) };
    image.seek(SeekFrom::Start(partition.start + partition.length - RECORD))?;
    image.write_all(&footer.encode())
}

pub(crate) fn hash(image: &File, start: u64, length: u64) -> io::Result<[u8; 32]> {
    let mut hashing = Hashing::new(Span { file: image, at: start, left: length });
    let mut buffer = vec![0; 1 << 20];
    while hashing.read(&mut buffer)? > 0 {}
    Ok(*hashing.finish().0.bytes())
}
