//! Replays a recording of all writes to two media up to many moments, as if the plug had been pulled there.
//!
//! The log is QEMU's blklogwrites (boot.md, section 6): one order over both media. Each second moment also loses some of
//! the writes since the last flush, as a disk's own cache may. A flush of one disk counts for both: what is lost then is
//! never more than real disks may lose. Only virtio disks are recorded, for which the kernel flushes: on NVMe it asks for
//! single writes to reach the medium at once (FUA), and a recording there had a journal that was marked empty before its
//! blocks were down. Whether that is QEMU's NVMe or the kernel isn't known.
//!
//! At each moment the media are repaired as at a boot and looked into: what the boot loader could take is whole, file systems
//! are clean, the database where the records say that the cluster lives, whole, and not older than it was known to be; each
//! backup that was there before is there, and each that has a name opens. The disk may also be a stick that the keeper writes
//! to. Of an update its records say which entries there may be, and which database.
//!
//! The control run loses writes from before flushes, which no disk does. If nothing is found wrong with that, the checks
//! are worth nothing, and the replay has failed.

mod boot;
mod inspect;
mod log;
mod update;

use crate::media::Media;
use crate::steps::Replay;
use anyhow::{Context, Result, ensure};
use bakelite_spec::layout::Role;
use bakelite_vm::media::copy_sparse;
use inspect::{Known, inspect};
use log::{Entry, Log};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// So many of the last writes may be lost in the control run, across flushes.
const CONTROL_WINDOW: usize = 200;

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

    /// Does a write of the log once more, on the medium that it was for.
    fn write(&self, log: &Log, entry: &Entry) -> Result<()> {
        let (file, at) = if entry.at < self.boot_length {
            (&self.boot, entry.at)
        } else {
            (&self.disk, entry.at - self.boot_length)
        };
        // Zeros where there were zeros stay holes: a copy of the media then stays cheap.
        const PIECE: usize = 4096;
        for (number, piece) in log.bytes(entry)?.chunks(PIECE).enumerate() {
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

/// How a replay went.
pub struct Outcome {
    /// Entries of the log.
    pub entries: usize,
    /// Moments that were checked.
    pub moments: usize,
    /// Moments of the control run, and how many of them were found bad.
    pub control: (usize, usize),
    /// Media at some moments, to be booted.
    pub samples: Vec<[PathBuf; 2]>,
    known: Known,
}

impl Outcome {
    /// What must hold of a sample that was booted until its update had come to an end.
    pub fn is_over(&self, media: &[PathBuf; 2]) -> Result<()> {
        self.known.is_over(media)
    }
}

/// Replays a recording that began with these media; `disk` is the first disk's name.
pub fn replay(media: &Media, disk: &str, log: &Path, wanted: &Replay, seed: u64) -> Result<Outcome> {
    let log = Log::read(log)?;
    let from = [media.boot.clone(), media.disk(disk)];
    let folder = tempfile::Builder::new().prefix("replay-").tempdir_in(media.folder())?;
    let mut random = fastrand::Rng::with_seed(seed);
    let moments = moments(&log, wanted, &media.boot)?;

    let mut base = Base { copy: Copy::of(&from, folder.path(), "base")?, done: 0 };
    let mut known = Known::at_start(media.revision, &from)?;
    if let Some(to) = &wanted.update {
        base.advance(&log, log.entries.len())?;
        known.expect_update(&media.image_of(to), &base.copy.paths)?;
        base = Base { copy: Copy::of(&from, folder.path(), "base")?, done: 0 };
    }
    let mut samples = Vec::new();
    for (number, end) in moments.iter().enumerate() {
        base.advance(&log, log.flushed(*end).max(base.done))?;
        let lossy = number % 2 == 1;
        let mut keeps = |_: &Entry| !lossy || random.bool();
        let scratch = base.with(&log, *end, folder.path(), &mut keeps)?;
        let kept = (number * wanted.boots) / moments.len() != ((number + 1) * wanted.boots) / moments.len();
        if kept {
            let paths = ["boot", "disk"].map(|medium| media.folder().join(format!("sample-{number}-{medium}.img")));
            for (from, to) in scratch.paths.iter().zip(&paths) {
                copy_sparse(from, to, 0)?;
            }
            samples.push(paths);
        }
        inspect(&scratch.paths, &known).with_context(|| format!("after write {end} of {}", log.entries.len()))?;
    }

    let mut base = Base { copy: Copy::of(&from, folder.path(), "base")?, done: 0 };
    let mut bad = 0;
    for end in spread(moments.len(), wanted.control).map(|number| moments[number]) {
        base.advance(&log, end.saturating_sub(CONTROL_WINDOW).max(base.done))?;
        let scratch = base.with(&log, end, folder.path(), &mut |_| random.f64() >= 0.3)?;
        bad += usize::from(inspect(&scratch.paths, &known).is_err());
    }
    ensure!(wanted.control == 0 || bad > 0, "{} broken media, and nothing was found wrong", wanted.control);
    let control = (wanted.control, bad);
    Ok(Outcome { entries: log.entries.len(), moments: moments.len(), control, samples, known })
}

/// The moments that are looked at, each as how many entries of the log come before it, in their order: so many of each span.
fn moments(log: &Log, wanted: &Replay, boot: &Path) -> Result<Vec<usize>> {
    let mut moments = Vec::new();
    for span in &wanted.spans {
        let writes = log.span(span, boot)?;
        // Of a few writes each is replayed several times, with others lost each time.
        let least = if span.writes_to.is_some() { 10 } else { wanted.points };
        ensure!(writes.len() >= least, "only {} writes were recorded of {span:?}", writes.len());
        moments.extend(spread(writes.len(), wanted.points).map(|number| writes[number] + 1));
    }
    moments.sort_unstable();
    Ok(moments)
}

/// So many of the numbers below a count, evenly; where there are fewer, some twice.
fn spread(count: usize, points: usize) -> impl Iterator<Item = usize> {
    (0..points).map(
        move |number| {
            if count < points { number * count / points } else { (number + 1) * (count - 1) / points }
        },
    )
}

/// The media with all writes up to one.
struct Base {
    copy: Copy,
    done: usize,
}

impl Base {
    fn advance(&mut self, log: &Log, to: usize) -> Result<()> {
        for entry in &log.entries[self.done..to] {
            self.copy.write(log, entry)?;
        }
        self.done = to;
        Ok(())
    }

    /// A copy with those of the writes up to `end` that are kept.
    fn with(&self, log: &Log, end: usize, folder: &Path, keeps: &mut dyn FnMut(&Entry) -> bool) -> Result<Copy> {
        let scratch = Copy::of(&self.copy.paths, folder, "scratch")?;
        for entry in log.entries[self.done..end].iter().filter(|entry| keeps(entry)) {
            scratch.write(log, entry)?;
        }
        Ok(scratch)
    }
}

/// Where a partition of a medium is, in bytes.
fn partition(medium: &Path, role: Role) -> Result<Range<u64>> {
    let entry = bakelite_vm::image::partition(medium, role)?;
    Ok(entry.start()..entry.start() + entry.length())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_spread_evenly_and_of_few_writes_each_is_taken_often() {
        assert_eq!(spread(1000, 4).collect::<Vec<_>>(), [249, 499, 749, 999]);
        assert_eq!(spread(3, 6).collect::<Vec<_>>(), [0, 0, 1, 1, 2, 2]);
        assert_eq!(spread(9, 9).last(), Some(8));
    }
}
