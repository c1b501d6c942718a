//! Replays a recording of all writes to two media up to many moments, as if the plug had been pulled there.
//!
//! The log is QEMU's blklogwrites (boot.md, section 6): one order over both media. Each second moment also loses some of
//! the writes since the last flush, as a disk's own cache may. A flush of one disk counts for both: what is lost then is
//! never more than real disks may lose. Only virtio disks are recorded, for which the kernel flushes: on NVMe it asks for
//! single writes to reach the medium at once (FUA), and a recording there had a journal that was marked empty before its
//! blocks were down. Whether that is QEMU's NVMe or the kernel isn't known.
//!
//! At each moment the media are repaired as at a boot and looked into: file systems clean, the database where the records
//! say that the cluster lives, whole, and not older than it was known to be; each backup that was there before is there,
//! and each that has a name opens. The disk may also be a stick that the keeper writes to.
//!
//! The control run loses writes from before flushes, which no disk does. If nothing is found wrong with that, the checks
//! are worth nothing, and the replay has failed.

use crate::door;
use crate::look::Volume;
use crate::media::Media;
use crate::steps::Replay;
use crate::stick;
use anyhow::{Context, Result, bail, ensure};
use bakelite_datastore::set::verify;
use bakelite_disk::signature;
use bakelite_spec::layout::Role;
use bakelite_spec::loader_entry::EntryName;
use bakelite_spec::set;
use bakelite_vm::media::{copy_part, copy_sparse};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const MAGIC: u64 = 0x6a_7366_7773_6872;
const SECTOR: u64 = 512;
const FLUSH: u64 = 1;
const DISCARD: u64 = 4;
/// Where sets lie on both media, by node.
const SETS: &str = "/bakelite/sets";
/// So many of the last writes may be lost in the control run, across flushes.
const CONTROL_WINDOW: usize = 200;

/// A write, or a flush without bytes.
struct Entry {
    at: u64,
    length: u64,
    flags: u64,
    /// Where its bytes are in the log.
    bytes: u64,
}

/// A recording.
struct Log {
    file: File,
    entries: Vec<Entry>,
}

impl Log {
    fn read(path: &Path) -> Result<Self> {
        let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        let head = words(&mut file, 0)?;
        ensure!(head[0] == MAGIC && head[1] == 1, "{} is no log of writes", path.display());
        let (count, sector) = (head[2], head[3] & 0xffff_ffff);
        ensure!(sector == SECTOR, "the log has sectors of {sector} bytes");
        let (mut entries, mut place) = (Vec::new(), SECTOR);
        for _ in 0..count {
            let [at, sectors, flags, _] = words(&mut file, place)?;
            let length = if flags & DISCARD == 0 { sectors * SECTOR } else { 0 };
            entries.push(Entry { at: at * SECTOR, length, flags, bytes: place + SECTOR });
            place += SECTOR + length;
        }
        Ok(Self { file, entries })
    }

    /// Does a write once more, on the medium that it was for.
    fn write(&self, entry: &Entry, media: &Copy) -> Result<()> {
        let mut bytes = vec![0; usize::try_from(entry.length)?];
        self.file.read_exact_at(&mut bytes, entry.bytes)?;
        let (file, at) = if entry.at < media.boot_length {
            (&media.boot, entry.at)
        } else {
            (&media.disk, entry.at - media.boot_length)
        };
        // Zeros where there were zeros stay holes: a copy of the media then stays cheap.
        const PIECE: usize = 4096;
        for (number, piece) in bytes.chunks(PIECE).enumerate() {
            let at = at + (number * PIECE) as u64;
            let mut there = vec![0; piece.len()];
            file.read_exact_at(&mut there, at)?;
            if there != piece {
                file.write_all_at(piece, at)?;
            }
        }
        Ok(())
    }
}

fn words(file: &mut File, at: u64) -> Result<[u64; 4]> {
    let mut bytes = [0; 32];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut bytes).context("the log of writes is too short")?;
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_le_bytes(bytes.try_into()?);
    }
    Ok(words)
}

/// Both media at a moment.
struct Copy {
    paths: [PathBuf; 2],
    boot: File,
    disk: File,
    boot_length: u64,
}

impl Copy {
    fn of(from: &[PathBuf; 2], folder: &Path, name: &str) -> Result<Self> {
        let paths = ["boot", "disk"].map(|medium| folder.join(format!("{name}-{medium}.img")));
        for (from, to) in from.iter().zip(&paths) {
            copy_sparse(from, to, 0)?;
        }
        let open = |path: &PathBuf| File::options().read(true).write(true).open(path);
        let (boot, disk) = (open(&paths[0])?, open(&paths[1])?);
        let boot_length = boot.metadata()?.len();
        Ok(Self { paths, boot, disk, boot_length })
    }
}

/// What is known to hold at each moment.
struct Known {
    revision: u64,
    token: Option<Vec<u8>>,
    /// The sets that there are from the start, by medium and path.
    sets: BTreeMap<(usize, String), Vec<u8>>,
    /// Those on the disk, where it is a stick that the keeper writes to; `None` where it is another one.
    stick: Option<BTreeMap<String, Vec<u8>>>,
    /// The revision of the mirror that there is from the start.
    mirror: Option<u64>,
}

/// How a replay went.
#[derive(Debug)]
pub struct Outcome {
    /// Entries of the log.
    pub entries: usize,
    /// Moments that were checked.
    pub moments: usize,
    /// Moments of the control run, and how many of them were found bad.
    pub control: (usize, usize),
    /// Media at some moments, to be booted.
    pub samples: Vec<[PathBuf; 2]>,
}

/// Replays a recording that began with these media; `disk` is the first disk's name.
pub fn replay(media: &Media, disk: &str, log: &Path, wanted: &Replay, seed: u64) -> Result<Outcome> {
    let log = Log::read(log)?;
    let from = [media.boot.clone(), media.disk(disk)];
    let known = Known {
        revision: media.revision,
        token: token(&media.boot)?,
        sets: sets_at_start(&from)?,
        stick: on_stick(&from[1])?,
        mirror: repaired(Volume::data(&from[1])?, &from[1])?.map_or(Ok(None), |data| data.revision_of_mirror())?,
    };
    let folder = tempfile::Builder::new().prefix("replay-").tempdir_in(media.folder())?;
    let mut random = fastrand::Rng::with_seed(seed);
    let place = wanted.writes_to.map(|role| partition(&media.boot, role)).transpose()?;
    let counts = |entry: &Entry| {
        let start = place.as_ref().map_or(0, |place| place.start);
        entry.length > 0
            && place
                .as_ref()
                .is_none_or(|place| place.contains(&entry.at) || (entry.at..entry.at + entry.length).contains(&start))
    };
    let writes: Vec<usize> = (0..log.entries.len()).filter(|number| counts(&log.entries[*number])).collect();
    // Of a few writes each is replayed several times, with others lost each time.
    let least = if place.is_some() { 10 } else { wanted.points };
    ensure!(writes.len() >= least, "only {} writes were recorded", writes.len());
    let point = |number: usize, of: usize| {
        if writes.len() < of {
            writes[number * writes.len() / of]
        } else {
            writes[(number + 1) * (writes.len() - 1) / of]
        }
    };

    let mut base = Base { copy: Copy::of(&from, folder.path(), "base")?, done: 0 };
    let mut samples = Vec::new();
    for number in 0..wanted.points {
        let end = point(number, wanted.points) + 1;
        let flushed = log.entries[..end].iter().rposition(|entry| entry.flags & FLUSH != 0).map_or(0, |at| at + 1);
        base.advance(&log, flushed.max(base.done))?;
        let lossy = number % 2 == 1;
        let mut keeps = |_: &Entry| !lossy || random.bool();
        let scratch = base.with(&log, end, folder.path(), &mut keeps)?;
        let kept = (number * wanted.boots) / wanted.points != ((number + 1) * wanted.boots) / wanted.points;
        if kept {
            let paths = ["boot", "disk"].map(|medium| media.folder().join(format!("sample-{number}-{medium}.img")));
            for (from, to) in scratch.paths.iter().zip(&paths) {
                copy_sparse(from, to, 0)?;
            }
            samples.push(paths);
        }
        inspect(&scratch, &known).with_context(|| format!("after write {end} of {}", log.entries.len()))?;
    }

    let mut base = Base { copy: Copy::of(&from, folder.path(), "base")?, done: 0 };
    let mut bad = 0;
    for number in 0..wanted.control {
        let end = point(number, wanted.control) + 1;
        base.advance(&log, end.saturating_sub(CONTROL_WINDOW).max(base.done))?;
        let scratch = base.with(&log, end, folder.path(), &mut |_| random.f64() >= 0.3)?;
        bad += usize::from(inspect(&scratch, &known).is_err());
    }
    ensure!(wanted.control == 0 || bad > 0, "{} broken media, and nothing was found wrong", wanted.control);
    Ok(Outcome { entries: log.entries.len(), moments: wanted.points, control: (wanted.control, bad), samples })
}

/// The media with all writes up to one.
struct Base {
    copy: Copy,
    done: usize,
}

impl Base {
    fn advance(&mut self, log: &Log, to: usize) -> Result<()> {
        for entry in &log.entries[self.done..to] {
            log.write(entry, &self.copy)?;
        }
        self.done = to;
        Ok(())
    }

    /// A copy with those of the writes up to `end` that are kept.
    fn with(&self, log: &Log, end: usize, folder: &Path, keeps: &mut dyn FnMut(&Entry) -> bool) -> Result<Copy> {
        let scratch = Copy::of(&self.copy.paths, folder, "scratch")?;
        for entry in log.entries[self.done..end].iter().filter(|entry| keeps(entry)) {
            log.write(entry, &scratch)?;
        }
        Ok(scratch)
    }
}

/// Where a partition of a medium is, in bytes.
fn partition(medium: &Path, role: Role) -> Result<Range<u64>> {
    let entry = bakelite_vm::image::partition(medium, role)?;
    Ok(entry.start()..entry.start() + entry.length())
}

fn token(boot: &Path) -> Result<Option<Vec<u8>>> {
    let copy = boot.with_extension("state");
    let state = Volume::born_state(boot)?.map(|volume| volume.repaired(&copy)).transpose()?;
    state.map_or(Ok(None), |volume| volume.file("/bakelite/token"))
}

/// The backups on both media before the first write, as they are after a repair.
fn sets_at_start(media: &[PathBuf; 2]) -> Result<BTreeMap<(usize, String), Vec<u8>>> {
    let [boot, disk] = media;
    sets(&[repaired(Volume::born_state(boot)?, boot)?, repaired(Volume::data(disk)?, disk)?])
}

fn repaired(volume: Option<Volume>, medium: &Path) -> Result<Option<Volume>> {
    volume.map(|volume| volume.repaired(&medium.with_extension("volume"))).transpose()
}

/// The backups on a disk that is a FAT: a stick that the keeper writes to.
fn on_stick(disk: &Path) -> Result<Option<BTreeMap<String, Vec<u8>>>> {
    let (mut file, length) = (File::open(disk)?, std::fs::metadata(disk)?.len());
    let kinds = signature::recognise(&mut file, 0, length).context("reading the disk")?;
    if kinds.contains(&"FAT") { stick::sets_on(disk).map(Some) } else { Ok(None) }
}

/// All that has the name of a set, by medium and path.
fn sets(volumes: &[Option<Volume>; 2]) -> Result<BTreeMap<(usize, String), Vec<u8>>> {
    let mut found = BTreeMap::new();
    for (medium, volume) in volumes.iter().enumerate() {
        let Some(volume) = volume else { continue };
        for node in volume.names(SETS)? {
            let folder = format!("{SETS}/{node}");
            for name in volume.names(&folder)?.into_iter().filter(|name| set::number(name).is_some()) {
                let path = format!("{folder}/{name}");
                let bytes = volume.file(&path)?.with_context(|| format!("{path} can't be read"))?;
                found.insert((medium, path), bytes);
            }
        }
    }
    Ok(found)
}

/// Each set of before is as it was, and each that has come since opens with the machine's key.
fn sets_are_whole(volumes: &[Option<Volume>; 2], known: &Known) -> Result<()> {
    let found = sets(volumes)?;
    for (place, bytes) in &known.sets {
        ensure!(found.get(place) == Some(bytes), "the backup {} isn't as it was", place.1);
    }
    let [state, _] = volumes;
    for ((_, path), bytes) in found.iter().filter(|(place, _)| !known.sets.contains_key(*place)) {
        let key = stick::device_key(state.as_ref().context("there is no state partition")?)?;
        let folder = tempfile::tempdir()?;
        let copy = folder.path().join("set");
        File::create(&copy)?.write_all(bytes)?;
        verify(&copy, &[&key], folder.path()).with_context(|| format!("the backup {path}"))?;
    }
    Ok(())
}

/// The boot loader always finds a whole entry, and it is the one that it takes: as the medium is, and when it was put in
/// order before the next write.
fn boots(medium: &Path) -> Result<()> {
    let chosen = |file: &Path, start: u64, length: u64| -> Result<()> {
        let entries = bakelite_vm::image::loader_entries(file, start, length)?;
        // systemd-boot passes over what names no kernel; then by tries left and version (its config_entry_compare).
        let known = entries.iter().filter(|entry| entry.text.lines().any(|line| line.starts_with("linux ")));
        let ranked = known.filter_map(|entry| {
            let generation = EntryName::parse(&entry.name)?;
            Some(((generation.is_exhausted(), std::cmp::Reverse(generation.generation)), entry))
        });
        let (_, entry) = ranked.min_by_key(|(rank, _)| *rank).with_context(|| format!("no entry in {entries:?}"))?;
        let whole = entry.has_files && entry.text.ends_with('\n') && entry.text.contains("\noptions bakelite.slot=");
        ensure!(whole, "the entry that is taken isn't whole: {entry:?}");
        Ok(())
    };
    let place = partition(medium, Role::Boot)?;
    let length = place.end - place.start;
    chosen(medium, place.start, length)?;
    let copy = medium.with_extension("fat");
    copy_part(medium, place.start, length, &copy)?;
    let target = copy.display().to_string();
    // 1: something was repaired, if only the mark that it wasn't unmounted.
    let (status, said) = door::end_of("fsck.fat", &["-a", "-w", &target])?;
    ensure!(matches!(status, 0 | 1), "fsck.fat can't repair it: {said}");
    let (status, said) = door::end_of("fsck.fat", &["-n", &target])?;
    ensure!(status == 0, "fsck.fat still finds something after its repair: {said}");
    chosen(&copy, 0, length).context("after its repair")
}

/// What must hold whenever the plug is pulled.
fn inspect(media: &Copy, known: &Known) -> Result<()> {
    let whole = |volume: Option<Volume>, medium: &Path| -> Result<Option<Volume>> {
        let Some(volume) = volume else { return Ok(None) };
        let volume = volume.repaired(&medium.with_extension("volume"))?;
        volume.is_clean()?;
        Ok(Some(volume))
    };
    let [boot, disk] = &media.paths;
    boots(boot).context("the boot partition")?;
    let state = Volume::born_state(boot).and_then(|volume| whole(volume, boot)).context("the card")?;
    let data = Volume::data(disk).and_then(|volume| whole(volume, disk)).context("the disk")?;
    let Some(state) = state else {
        ensure!(known.token.is_none(), "the state partition isn't born any more");
        return Ok(());
    };
    let record = |volume: &Volume, name: &str| -> Result<Value> {
        let bytes = volume.file(&format!("/bakelite/{name}.json"))?;
        bytes.map_or(Ok(Value::Null), |bytes| serde_json::from_slice(&bytes).with_context(|| format!("{name}.json")))
    };
    if let Some(token) = &known.token {
        ensure!(state.file("/bakelite/token")?.as_ref() == Some(token), "the token isn't the same");
    }
    let (card, there) = (record(&state, "home")?, data.as_ref().map_or(Ok(Value::Null), |data| record(data, "home"))?);
    let epoch = |home: &Value| home["epoch"].as_u64();
    let said_there = card["place"].get("disk").is_some();
    let home = match &data {
        Some(data) if said_there || epoch(&there) > epoch(&card) => data,
        _ if said_there => bail!("the cluster lives on a disk that isn't one"),
        _ => &state,
    };
    let intent = record(&state, "intent")?;
    if intent["act"] == "restore" {
        let staged = home.file("/rancher/bakelite/staged/staged.json")?;
        ensure!(staged.is_some() || home.revision()?.is_some(), "neither the old one nor the backup is there");
    }
    let born = [Some(&state), data.as_ref()].into_iter().flatten().map(|volume| record(volume, "cluster"));
    let born: Vec<Value> = born.collect::<Result<_>>()?;
    let least = born.iter().filter_map(|born| born["revision"].as_u64()).max().unwrap_or(0).max(known.revision);
    let revision = home.revision()?.unwrap_or(0);
    ensure!(revision >= least, "the database has revision {revision}, and {least} was durable");
    let mirror = data.as_ref().map_or(Ok(None), Volume::revision_of_mirror).context("the mirror")?;
    ensure!(mirror >= known.mirror, "the mirror has revision {mirror:?}, and had {:?}", known.mirror);
    if let Some(before) = &known.stick {
        stick::sets_are_whole(disk, &stick::device_key(&state)?, before).context("the stick")?;
    }
    sets_are_whole(&[Some(state), data], known)
}
