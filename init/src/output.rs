//! What units write: a bounded log in memory each, the last words of failed ones on the state partition.

use bakelite_spec::status::paths;
use bakelite_sys::{SysError, durable, names_in, words};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const FOLDER: &str = "/run/log/bakelite";
/// Bytes of a log before it becomes the older one of two.
const ROTATE: u64 = 1 << 20;
/// Bytes kept of a failed unit, and of each log at the end of a boot.
const LAST_WORDS: u64 = 64 << 10;
/// Bytes that are looked at for why the payload ended.
const CLASSIFIED: u64 = 16 << 10;
/// A unit that fails again and again writes its last words no more often than this: cards wear.
const KEEP_EACH: Duration = Duration::from_secs(600);

/// One unit's output.
pub struct Output {
    name: String,
    /// The reading end of its pipe, while its process or a child of it holds the other one.
    pub pipe: Option<OwnedFd>,
    log: Option<File>,
    length: u64,
    since_start: u64,
    kept: Option<Instant>,
}

impl Output {
    /// A unit that has written nothing yet.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), pipe: None, log: None, length: 0, since_start: 0, kept: None }
    }

    fn path(&self) -> PathBuf {
        Path::new(FOLDER).join(format!("{}.log", self.name))
    }

    /// Makes the pipe for a new process and returns the end that it writes to.
    ///
    /// # Errors
    /// Without free descriptors.
    pub fn begin(&mut self) -> Result<OwnedFd, SysError> {
        let failed = |source| SysError::System { act: "making a pipe", source };
        let (reader, writer) = std::io::pipe().map_err(failed)?;
        let reader = OwnedFd::from(reader);
        let flags = rustix::fs::fcntl_getfl(&reader).unwrap_or(rustix::fs::OFlags::empty());
        rustix::fs::fcntl_setfl(&reader, flags | rustix::fs::OFlags::NONBLOCK).map_err(|error| failed(error.into()))?;
        self.pipe = Some(reader);
        self.since_start = 0;
        Ok(OwnedFd::from(writer))
    }

    /// Takes what has been written; a closed pipe is let go.
    pub fn take(&mut self) {
        let mut bytes = [0u8; 4096];
        // A unit that writes without end must not keep the loop.
        for _ in 0..64 {
            let Some(pipe) = &self.pipe else { return };
            match rustix::io::read(pipe, &mut bytes) {
                Ok(0) => self.pipe = None,
                Ok(length) => self.append(&bytes[..length]),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                Err(_) => self.pipe = None,
            }
        }
    }

    fn append(&mut self, bytes: &[u8]) {
        if self.length >= ROTATE {
            self.log = None;
            let _ = durable::rename(&self.path(), &self.path().with_extension("log.1"));
        }
        if self.log.is_none() {
            self.log = OpenOptions::new().create(true).append(true).open(self.path()).ok();
            self.length = self.log.as_ref().and_then(|log| log.metadata().ok()).map_or(0, |meta| meta.len());
        }
        if let Some(log) = &mut self.log {
            let _ = log.write_all(bytes);
        }
        self.length += bytes.len() as u64;
        self.since_start += bytes.len() as u64;
    }

    /// The last words of the present or last process, for the classifier.
    pub fn last_words(&self) -> String {
        let bytes = tail(&self.path(), CLASSIFIED.min(self.since_start));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// All that the present process has said, as far as it is kept in one piece.
    pub fn said(&self) -> String {
        let bytes = tail(&self.path(), ROTATE.min(self.since_start));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Keeps the last words on the state partition.
    pub fn keep(&mut self) {
        if self.kept.is_some_and(|at| at.elapsed() < KEEP_EACH) {
            return;
        }
        self.kept = Some(Instant::now());
        let folder = Path::new(paths::STATE).join("last-words");
        let bytes = tail(&self.path(), LAST_WORDS);
        let kept = durable::make_folder(&folder)
            .and_then(|()| durable::write_durable(folder.join(format!("{}.log", self.name)), &bytes, 0o600));
        if let Err(error) = kept {
            log::warn!("{}", words(&error));
        }
    }
}

fn tail(path: &Path, length: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(mut file) = File::open(path) {
        let all = file.seek(SeekFrom::End(0)).unwrap_or(0);
        if file.seek(SeekFrom::Start(all.saturating_sub(length))).is_ok() {
            let _ = file.take(length).read_to_end(&mut bytes);
        }
    }
    bytes
}

/// Keeps the tails of all logs of this boot on the state partition, in the place of the last boot's.
///
/// # Errors
/// When the folder can't be written.
pub fn keep_boot() -> Result<(), SysError> {
    let folder = Path::new(paths::STATE).join("last-boot");
    durable::make_folder(&folder)?;
    for name in names_in(FOLDER) {
        let bytes = tail(&Path::new(FOLDER).join(&name), LAST_WORDS);
        durable::replace(folder.join(&name), &bytes, 0o600)?;
    }
    durable::sync_folder(&folder)
}
