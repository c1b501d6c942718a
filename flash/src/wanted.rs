//! What somebody wants flashed onto what: words are turned into disks and files, each permitted and opened, none written yet.
//!
//! All is checked before the first byte: image, map, seeds, disks. One bad word, and nothing is done.

use crate::baked::Baked;
use crate::disks::choose::{self, Named, again, candidates, named, permit, resolve};
use crate::disks::{Disk, disks};
use crate::error::{FlashError, io_error};
use crate::flash::{Done, Job, Listen, flash, is_gone};
use crate::image::Image;
use crate::seed::SeedFile;
use crate::table::Table;
use bakelite_disk::press::OpenMedium;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a disk that has vanished is looked for under another name.
const COMES_BACK: Duration = Duration::from_secs(4);

/// What is wanted.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The image.
    pub image: PathBuf,
    /// Its block map; without one it is looked for beside the image.
    pub map: Option<PathBuf>,
    /// Disks and files, as they were named.
    pub targets: Vec<String>,
    /// A seed.
    pub seed: Option<PathBuf>,
    /// Keys with values, on top.
    pub sets: Vec<(String, String)>,
    /// A table of rows, and which row each target gets.
    pub rows: Option<(PathBuf, Vec<String>)>,
}

/// A target that may be written.
pub struct Opened {
    /// What it is called.
    pub name: String,
    medium: OpenMedium,
    /// What is known of it; nothing of a file.
    disk: Option<Disk>,
    seed: Option<SeedFile>,
}

/// Everything, checked and opened.
pub struct Ready {
    /// The image.
    pub image: Image,
    /// The targets.
    pub targets: Vec<Opened>,
    boot: (u64, u64),
}

/// What came of a target.
pub struct Outcome {
    /// What it is called.
    pub name: String,
    /// What its seed has set, secrets hidden.
    pub seed: Vec<(String, String)>,
    /// What was done.
    pub result: Result<Done, FlashError>,
}

/// Opens an image, and lists the disks that it fits onto.
///
/// # Errors
/// When the image can't be read.
pub fn offered(wanted: &Wanted) -> Result<Vec<Disk>, FlashError> {
    let image = Image::open(&wanted.image, wanted.map.as_deref())?;
    let all = disks(Path::new("/"));
    Ok(candidates(&all, image.length).into_iter().cloned().collect())
}

/// Checks everything and opens the targets.
///
/// # Errors
/// The first thing that is wrong; then nothing was written.
pub fn prepare(wanted: &Wanted) -> Result<Ready, FlashError> {
    let image = Image::open(&wanted.image, wanted.map.as_deref())?;
    let seeds = seeds(wanted)?;
    let mut boot = (0, 0);
    if seeds.iter().any(Option::is_some) {
        let baked = Baked::read(&image)?;
        seeds.iter().flatten().try_for_each(|seed| seed.check(&baked.effective, &baked.manifest.board))?;
        boot = baked.boot;
    }
    let all = disks(Path::new("/"));
    let mut targets: Vec<Opened> = Vec::new();
    for (word, seed) in wanted.targets.iter().zip(seeds) {
        let opened = open(word, &all, image.length)?;
        if targets.iter().any(|other| other.name == opened.name) {
            return Err(FlashError::Refused { device: word.clone(), why: "it is named twice".into() });
        }
        targets.push(Opened { seed, ..opened });
    }
    Ok(Ready { image, targets, boot })
}

/// A seed for each target, if there are any.
fn seeds(wanted: &Wanted) -> Result<Vec<Option<SeedFile>>, FlashError> {
    let base = wanted.seed.as_ref().map(|path| std::fs::read_to_string(path).map_err(io_error("reading", path)));
    let base = base.transpose()?;
    let count = wanted.targets.len();
    if let Some((path, keys)) = &wanted.rows {
        let table = Table::read(path)?;
        if keys.len() != count {
            let problem = format!("{count} media need as many rows: give --row once for each");
            return Err(FlashError::Table { path: path.clone(), problem });
        }
        let one = |key: &String| {
            let row = table.find(key)?;
            let sets: Vec<_> = row.sets.iter().chain(&wanted.sets).cloned().collect();
            SeedFile::make(base.as_deref(), &sets).map(Some)
        };
        return keys.iter().map(one).collect();
    }
    if base.is_none() && wanted.sets.is_empty() {
        return Ok((0..count).map(|_| None).collect());
    }
    let make = || SeedFile::make(base.as_deref(), &wanted.sets);
    if count > 1 && make()?.is_one_machines() {
        let why = "this seed names one machine, and there are several media; give a table of rows (--table, --row)";
        return Err(FlashError::Seed(why.into()));
    }
    (0..count).map(|_| make().map(Some)).collect()
}

/// Opens a disk or a file by a word.
///
/// # Errors
/// When it may not be overwritten, is too small, or can't be had for this program alone.
pub fn open(word: &str, all: &[Disk], image: u64) -> Result<Opened, FlashError> {
    let is_disk = word.starts_with("serial:")
        || word.starts_with("port:")
        || word.starts_with("/dev/")
        || resolve(word).is_some();
    if !is_disk {
        let medium = OpenMedium::file(Path::new(word), image).map_err(io_error("opening", word))?;
        return Ok(Opened { name: word.into(), medium, disk: None, seed: None });
    }
    let chosen = named(word, all, &resolve)?;
    permit(&chosen, image)?;
    let device = chosen.disk.device();
    let medium = OpenMedium::device(&device).map_err(|source| match source.raw_os_error() {
        Some(16) => FlashError::Refused {
            device: device.display().to_string(),
            why: "something holds it that isn't seen here (ZFS, another program); free it first".into(),
        },
        _ => io_error("opening", &device)(source),
    })?;
    // Between the look and the opening another disk may have got the name.
    let now = disks(Path::new("/"));
    let same = now.iter().find(|disk| disk.name == chosen.disk.name);
    match same.filter(|disk| (disk.attachment, disk.size) == (chosen.disk.attachment, chosen.disk.size)) {
        Some(disk) => permit(&Named { disk, surely: chosen.surely }, image)?,
        None => return Err(FlashError::NoSuchDisk(word.into())),
    }
    Ok(Opened { name: device.display().to_string(), medium, disk: Some(chosen.disk.clone()), seed: None })
}

impl Opened {
    /// What it is and what is on it, for a person.
    pub fn words(&self) -> String {
        self.disk.as_ref().map_or_else(
            || "a file".into(),
            |disk| {
                let holds = if disk.holds.is_empty() { "nothing that is known".into() } else { disk.holds.join(", ") };
                format!("{}; on it: {holds}", disk.words())
            },
        )
    }
}

impl Ready {
    /// Flashes all targets.
    pub fn flash(self, probe: bool, listen: &dyn Listen) -> Vec<Outcome> {
        let Self { image, targets, boot } = self;
        let (mut jobs, mut told) = (Vec::new(), Vec::new());
        for Opened { name, medium, disk, seed } in targets {
            told.push((name.clone(), disk.clone(), seed.as_ref().map(SeedFile::shown).unwrap_or_default()));
            // A file holds what it says.
            let probe = probe && disk.is_some();
            let seed = seed.map(|seed| (seed, boot));
            jobs.push(Job { name, medium, seed, probe, before_last: None });
        }
        let results = flash(&image, jobs, listen);
        let outcome = |((name, disk, seed), result): ((String, Option<Disk>, _), Result<Done, FlashError>)| {
            let result = result.map_err(|error| vanished(&name, disk.as_ref(), error));
            Outcome { name, seed, result }
        };
        told.into_iter().zip(results).map(outcome).collect()
    }
}

/// An error that may be a disk's vanishing.
pub fn vanished(name: &str, disk: Option<&Disk>, error: FlashError) -> FlashError {
    let Some(disk) = disk.filter(|_| is_gone(&error)) else { return error };
    let begun = Instant::now();
    loop {
        let now = disks(Path::new("/"));
        let is_here =
            now.iter().any(|other| other.name == disk.name && other.attachment == disk.attachment && other.size > 0);
        let came_back = again(disk, &now).map(|disk| disk.device().display().to_string());
        if is_here {
            return error;
        }
        if came_back.is_some() || begun.elapsed() > COMES_BACK {
            return FlashError::Vanished { name: name.into(), came_back };
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Why each disk that isn't offered isn't.
pub fn not_offered(all: &[Disk]) -> Vec<(String, String)> {
    let why = |disk: &Disk| choose::barred(disk).or_else(|| choose::doubted(disk));
    let shown = all.iter().filter(|disk| disk.transport != "loop" && disk.size > 0);
    shown.filter_map(|disk| Some((format!("{} ({})", disk.device().display(), disk.words()), why(disk)?))).collect()
}
