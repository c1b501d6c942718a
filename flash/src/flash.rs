//! One image onto several media at once: one stream for all of them, one thread and one outcome a medium.
//!
//! What is done with a medium, and in which order, is here; how it is done safely is the engine's (`disk::press`), and how
//! one bad medium doesn't hold up the others is the [`crate::hub`]'s.

use crate::error::FlashError;
use crate::hub::{End, Given, Hub, PATIENCE};
use crate::image::Image;
use crate::seed::SeedFile;
use bakelite_disk::press::{Piece, Press, Stamped, Target, stamp, wipe};
use bakelite_disk::{DiskError, Guid};
use bakelite_spec::causes::words;
use serde::Serialize;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A medium to be flashed.
pub struct Job<'a, M> {
    /// What it is called.
    pub name: String,
    /// The medium, opened for this program alone.
    pub medium: M,
    /// What is put onto it for its machine, and where the image has its boot partition.
    pub seed: Option<(SeedFile, (u64, u64))>,
    /// Whether its capacity is doubted.
    pub probe: bool,
    /// What has to be done before the medium becomes one that boots.
    pub before_last: Option<BeforeLast<'a>>,
}

/// Is called when all but the first MiB is written and read back; an error leaves the medium as one that doesn't boot.
pub type BeforeLast<'a> = Box<dyn FnOnce() -> Result<(), FlashError> + Send + 'a>;

impl<M: fmt::Debug> fmt::Debug for Job<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("name", &self.name).field("medium", &self.medium).finish()
    }
}

/// What is being done with a medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Finding out whether it holds what it says.
    Probing,
    /// Writing.
    Writing,
    /// Making zeros of what was there before.
    Clearing,
    /// Reading back.
    Verifying,
    /// Putting the seed onto it, and writing the first MiB.
    Finishing,
}

/// What happens.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", tag = "event")]
pub enum FlashEvent {
    /// Something begins.
    Phase {
        /// The medium.
        target: String,
        /// What.
        phase: Phase,
        /// The bytes that it is about; 0 where that isn't known.
        bytes: u64,
    },
    /// So many bytes of it are done.
    Progress {
        /// The medium.
        target: String,
        /// Since it began.
        done: u64,
    },
    /// It was too slow for the others, and goes on by itself.
    LetGo {
        /// The medium.
        target: String,
    },
}

/// Who is told.
pub trait Listen: Sync {
    /// Takes an event, from any thread.
    fn event(&self, event: &FlashEvent);
}

/// What was done with a medium.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Done {
    /// Bytes of the image that were written.
    pub written: u64,
    /// Bytes of something else that were made zeros.
    pub cleared: u64,
    /// Bytes that were read back.
    pub verified: u64,
    /// Seconds of writing.
    pub write_seconds: f64,
    /// Seconds of reading back.
    pub verify_seconds: f64,
    /// The disk's new GUID, where the image is a fresh one of ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<String>,
}

/// Flashes all media; an outcome for each, in their order.
pub fn flash<M: Target + Send>(
    image: &Image,
    jobs: Vec<Job<'_, M>>,
    listen: &dyn Listen,
) -> Vec<Result<Done, FlashError>> {
    flash_with(image, jobs, listen, PATIENCE)
}

fn flash_with<M: Target + Send>(
    image: &Image,
    jobs: Vec<Job<'_, M>>,
    listen: &dyn Listen,
    patience: Duration,
) -> Vec<Result<Done, FlashError>> {
    let hub = Hub::new(jobs.len(), patience);
    std::thread::scope(|threads| {
        let lanes: Vec<_> = (0..)
            .zip(jobs)
            .map(|(lane, mut job): (usize, Job<'_, M>)| {
                let hub = &hub;
                threads.spawn(move || {
                    let name = std::mem::take(&mut job.name);
                    let outcome = Run { image, hub, lane, name: &name, listen }.run(job);
                    hub.leave(lane);
                    outcome
                })
            })
            .collect();
        hub.end(stream(image, &hub));
        let joined = |lane: std::thread::ScopedJoinHandle<'_, _>| {
            lane.join().unwrap_or_else(|_| Err(FlashError::Stream("a thread of this program has died".into())))
        };
        lanes.into_iter().map(joined).collect()
    })
}

/// Gives the image's pieces to all media.
fn stream(image: &Image, hub: &Hub) -> End {
    let broken = |error: FlashError| End::Broken(words(&error).into());
    let mut pieces = match image.pieces(0) {
        Ok(pieces) => pieces,
        Err(error) => return broken(error),
    };
    loop {
        match pieces.next() {
            Ok(Some(piece)) => {
                if !hub.push(piece) {
                    // Nobody takes any more.
                    return End::Good(Arc::default());
                }
            }
            Ok(None) => return End::Good(Arc::new(pieces.holes())),
            Err(error) => return broken(error),
        }
    }
}

/// The flashing of one medium.
struct Run<'a> {
    image: &'a Image,
    hub: &'a Hub,
    lane: usize,
    name: &'a str,
    listen: &'a dyn Listen,
}

impl Run<'_> {
    fn phase(&self, phase: Phase, bytes: u64) {
        self.listen.event(&FlashEvent::Phase { target: self.name.into(), phase, bytes });
    }

    fn progress(&self, done: u64) {
        self.listen.event(&FlashEvent::Progress { target: self.name.into(), done });
    }

    fn run<M: Target>(&self, mut job: Job<'_, M>) -> Result<Done, FlashError> {
        let mut done = Done::default();
        let mut press = Press::begin(&mut job.medium, self.image.length)?;
        if job.probe {
            self.phase(Phase::Probing, 0);
            press.probe(fastrand::u64(..))?;
        }
        let mut head = self.image.head.clone();
        let stamped = match self.image.is_ours {
            true => stamp(&mut head, self.image.length, press.length(), &mut random_guid)?,
            false => None,
        };
        if let Some(stamped) = &stamped {
            press.leave_out_from(stamped.end);
            done.disk = Some(stamped.disk.to_string());
        }
        let begun = Instant::now();
        self.phase(Phase::Writing, self.image.to_write());
        let holes = self.write(&mut press, &mut done)?;
        self.clear(&mut press, &holes, &mut done)?;
        if let Some(Stamped { elsewhere, state, .. }) = stamped {
            if let Some((start, length)) = state {
                press.forget_file_system(start, length)?;
            }
            press.take_stamped(head, elsewhere);
        }
        press.make_durable()?;
        done.write_seconds = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        self.phase(Phase::Verifying, press.to_verify());
        press.verify(&mut |bytes| {
            done.verified += bytes;
            self.progress(done.verified);
        })?;
        done.verify_seconds = begun.elapsed().as_secs_f64();
        self.phase(Phase::Finishing, 0);
        if let Some((seed, boot)) = &job.seed {
            seed.put(press.target(), *boot)?;
        }
        if let Some(before_last) = job.before_last.take() {
            before_last()?;
        }
        if let Err(error) = press.publish() {
            return Err(if wipe(&mut job.medium).is_ok() {
                error.into()
            } else {
                FlashError::MayBoot(Box::new(error.into()))
            });
        }
        Ok(done)
    }

    /// Writes all pieces; what has to be zeros.
    fn write<M: Target>(&self, press: &mut Press<'_, M>, done: &mut Done) -> Result<Vec<(u64, u64)>, FlashError> {
        let mut at = 0;
        let mut put = |piece: &Piece, press: &mut Press<'_, M>| {
            press.write(piece)?;
            at = piece.at + piece.bytes.len() as u64;
            done.written += piece.bytes.len() as u64;
            self.progress(done.written);
            Ok::<_, DiskError>(at)
        };
        let mut from = 0;
        loop {
            match self.hub.pull(self.lane) {
                Given::Piece(piece) => from = put(&piece, press)?,
                Given::End(End::Good(holes)) => return Ok(holes.to_vec()),
                Given::End(End::Broken(why)) => return Err(FlashError::Stream(why.to_string())),
                Given::LetGo => break,
            }
        }
        self.listen.event(&FlashEvent::LetGo { target: self.name.into() });
        let mut pieces = self.image.pieces(from)?;
        while let Some(piece) = pieces.next()? {
            put(&piece, press)?;
        }
        Ok(pieces.holes())
    }

    /// Makes zeros where the image counts on them. With its map a fresh image of ours counts on none: what must be zero is mapped.
    fn clear<M: Target>(
        &self,
        press: &mut Press<'_, M>,
        holes: &[(u64, u64)],
        done: &mut Done,
    ) -> Result<(), FlashError> {
        if holes.is_empty() || self.image.is_ours && self.image.map.is_some() {
            return Ok(());
        }
        self.phase(Phase::Clearing, holes.iter().map(|(_, length)| length).sum());
        press.make_durable()?;
        let mut looked = 0;
        for (start, length) in holes {
            done.cleared += press.clear(*start, *length)?;
            looked += length;
            self.progress(looked);
        }
        Ok(())
    }
}

fn random_guid() -> Guid {
    Guid::from_random(fastrand::u128(..).to_le_bytes())
}

/// Whether an error says that the device is gone.
pub fn is_gone(error: &FlashError) -> bool {
    const GONE: [i32; 4] = [5, 6, 19, 123]; // EIO, ENXIO, ENODEV, ENOMEDIUM
    let told = |error: &io::Error| error.raw_os_error().is_some_and(|number| GONE.contains(&number));
    match error {
        FlashError::Medium(DiskError::Read { source, .. } | DiskError::Write { source, .. }) => told(source),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::io_error;
    use bakelite_disk::press::testing::{Fault, Faulty};
    use std::io::Write;
    use std::sync::{Condvar, Mutex};

    const MIB: u64 = 1 << 20;

    struct Quiet;
    impl Listen for Quiet {
        fn event(&self, _: &FlashEvent) {}
    }

    fn image(folder: &tempfile::TempDir, packed: bool) -> (Image, Vec<u8>) {
        let mut bytes: Vec<u8> =
            (0..12 * MIB as u32 / 4).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        bytes[5 * MIB as usize..7 * MIB as usize].fill(0);
        let path = folder.path().join(if packed { "a.img.zst" } else { "a.img" });
        let content = if packed { packed_with_sum(&bytes) } else { bytes.clone() };
        std::fs::File::create(&path).map_err(io_error("making", &path)).unwrap().write_all(&content).unwrap();
        (Image::open(&path, None).unwrap(), bytes)
    }

    fn packed_with_sum(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn bad_media_fail_by_themselves_and_the_good_ones_are_whole() {
        let folder = tempfile::tempdir().unwrap();
        for packed in [false, true] {
            let (image, bytes) = image(&folder, packed);
            let faults = [
                Fault::None,
                Fault::Vanishes(6 * MIB),
                Fault::Short(9 * MIB),
                Fault::Slow(Duration::from_millis(30)),
                Fault::Wraps(8 * MIB),
                Fault::Flips(10 * MIB),
                Fault::None,
            ];
            let mut media: Vec<Faulty> = faults.iter().map(|fault| Faulty::new(16 * MIB, 0xa5, *fault)).collect();
            let jobs = media
                .iter_mut()
                .map(|medium| Job { name: "card".into(), medium, seed: None, probe: true, before_last: None })
                .collect();
            let outcomes = flash_with(&image, jobs, &Quiet, Duration::from_millis(50));
            let good: Vec<bool> = outcomes.iter().map(Result::is_ok).collect();
            assert_eq!(good, [true, false, false, true, false, false, true], "{outcomes:?}");
            for (medium, good) in media.iter().zip(good) {
                let on_it = &medium.inner.get_ref()[..bytes.len()];
                // A counterfeit may have a mark there.
                assert!(if good {
                    on_it == bytes
                } else {
                    on_it[..512] != bytes[..512] && on_it[..512] != [0xa5; 512]
                });
            }
            assert!(is_gone(outcomes[1].as_ref().unwrap_err()) && !is_gone(outcomes[2].as_ref().unwrap_err()));
            assert_eq!(outcomes[0].as_ref().unwrap().cleared, 2 * MIB);
        }
    }

    /// Lets a medium get on only when all others have come as far but for one step.
    struct Abreast {
        steps: Mutex<[usize; 4]>,
        changed: Condvar,
    }

    impl Listen for Abreast {
        fn event(&self, event: &FlashEvent) {
            let FlashEvent::Progress { target, .. } = event else { return };
            let mut steps = self.steps.lock().unwrap();
            let own = &mut steps[target.parse::<usize>().unwrap()];
            *own += 1;
            let own = *own;
            self.changed.notify_all();
            let others = |steps: &mut [usize; 4]| steps.iter().any(|step| step + 1 < own);
            let waited = self.changed.wait_timeout_while(steps, Duration::from_secs(60), others).unwrap();
            assert!(
                !waited.1.timed_out(),
                "{target} has come {own} steps far, and another waits for it: {:?}",
                waited.0
            );
        }
    }

    #[test]
    fn four_media_are_written_and_read_back_at_the_same_time() {
        let folder = tempfile::tempdir().unwrap();
        let (image, bytes) = image(&folder, true);
        let mut media: Vec<Faulty> = (0..4).map(|_| Faulty::new(16 * MIB, 0xa5, Fault::None)).collect();
        let job =
            |(number, medium)| Job { name: format!("{number}"), medium, seed: None, probe: false, before_last: None };
        let abreast = Abreast { steps: Mutex::default(), changed: Condvar::new() };
        let outcomes = flash(&image, media.iter_mut().enumerate().map(job).collect(), &abreast);
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        assert!(abreast.steps.lock().unwrap().iter().all(|steps| *steps > 20), "{:?}", abreast.steps);
        assert!(media.iter().all(|medium| medium.inner.get_ref()[..bytes.len()] == bytes));
    }

    #[test]
    fn an_image_that_breaks_off_leaves_nothing_that_boots() {
        let folder = tempfile::tempdir().unwrap();
        let (image, _) = image(&folder, true);
        let content = std::fs::read(&image.path).unwrap();
        let path = folder.path().join("torn.img.zst");
        // Only its checksum, the last four bytes, is wrong: that comes out at the end.
        let mut torn = content.clone();
        let end = torn.len() - 1;
        torn[end] ^= 0x55;
        std::fs::File::create(&path).unwrap().write_all(&torn).unwrap();
        // It doesn't say how long it is, so that it is read once to know; another one has to be in its place afterwards.
        assert!(Image::open(&path, None).is_err());
        let map = folder.path().join("torn.bmap");
        let text = "<bmap version=\"2.0\"><ImageSize>12582912</ImageSize><BlockSize>4096</BlockSize><BlockMap>\
                    <Range>0-3071</Range></BlockMap></bmap>";
        std::fs::File::create(&map).unwrap().write_all(text.as_bytes()).unwrap();
        let torn = Image::open(&path, Some(&map)).unwrap();
        let mut medium = Faulty::new(16 * MIB, 0xa5, Fault::None);
        let jobs = vec![Job { name: "card".into(), medium: &mut medium, seed: None, probe: false, before_last: None }];
        let outcome = flash(&torn, jobs, &Quiet).remove(0);
        assert!(outcome.is_err());
        assert!(medium.inner.get_ref()[..512].iter().all(|byte| *byte == 0));
    }
}
