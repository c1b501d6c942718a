//! Listening to k3s: what its log says again and again, counted over the last hour.
//!
//! init keeps the log in memory in two files, and moves the newer one aside when it is long. Only what is new is read.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// For how long, in seconds, a complaint counts.
const SLOW_FOR: i64 = 3600;
const FULL_FOR: i64 = 900;
/// So much is read at a time: a k3s that writes without end must not keep the watch.
const MOST: u64 = 4 << 20;
/// kine's word for a statement that took longer than a second (kine pkg/drivers/generic), and SQLite's for the other two.
const SLOW: &str = "Slow SQL";
const FULL: &str = "database or disk is full";
const DAMAGED: &str = "database disk image is malformed";

/// One log, and what it has said.
#[derive(Debug, Default)]
pub struct Listener {
    path: PathBuf,
    /// Which file was read, and how far.
    read: (u64, u64),
    slow: Vec<i64>,
    full: Vec<i64>,
    damaged: usize,
}

impl Listener {
    /// Begins to listen to a log, from its beginning.
    pub fn to(path: &Path) -> Self {
        Self { path: path.into(), ..Self::default() }
    }

    /// Hears what is new. A log that isn't there says nothing.
    pub fn hear(&mut self, now: i64) {
        let heard = self.take(now);
        if let Err(error) = heard {
            log::info!("{}: {error}", self.path.display());
        }
        self.slow.retain(|at| now - at < SLOW_FOR);
        self.full.retain(|at| now - at < FULL_FOR);
    }

    fn take(&mut self, now: i64) -> std::io::Result<()> {
        let Ok(mut file) = File::open(&self.path) else { return Ok(()) };
        let meta = file.metadata()?;
        let (inode, from) = self.read;
        // Another file, or one that was begun again.
        let from = if inode == meta.ino() && from <= meta.len() { from } else { 0 };
        // What was skipped is old news.
        let from = from.max(meta.len().saturating_sub(MOST));
        file.seek(SeekFrom::Start(from))?;
        let (mut lines, mut line, mut at) = (BufReader::new(file), Vec::new(), from);
        loop {
            line.clear();
            let length = lines.read_until(b'\n', &mut line)?;
            // Half a line is read again when the rest of it is there.
            if !line.ends_with(b"\n") {
                break;
            }
            at += length as u64;
            let text = String::from_utf8_lossy(&line);
            if text.contains(SLOW) {
                self.slow.push(now);
            }
            if text.contains(FULL) {
                self.full.push(now);
            }
            self.damaged += usize::from(text.contains(DAMAGED));
        }
        self.read = (meta.ino(), at);
        Ok(())
    }

    /// Slow statements of the last hour.
    pub fn slow(&self) -> usize {
        self.slow.len()
    }

    /// Failed writes of the last quarter of an hour.
    pub fn full(&self) -> usize {
        self.full.len()
    }

    /// Complaints of damage since the start.
    pub fn damaged(&self) -> usize {
        self.damaged
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bakelite_sys::durable;

    #[test]
    fn what_is_new_is_counted_once_and_for_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k3s.log");
        let mut listener = Listener::to(&path);
        listener.hear(0);
        let mut text = String::from("level=info msg=\"Slow SQL (started: x) (total time: 1.2s)\"\nlevel=info\nSlow S");
        durable::replace(&path, text.as_bytes(), 0o600).unwrap();
        listener.hear(100);
        listener.hear(200);
        assert_eq!((listener.slow(), listener.full()), (1, 0));
        text.push_str("QL again\nerr: database or disk is full\n");
        bakelite_sys::durable::write_plain(&path, &text).unwrap();
        listener.hear(300);
        assert_eq!((listener.slow(), listener.full(), listener.damaged()), (2, 1, 0));
        // init has begun a new file.
        durable::replace(&path, b"VACUUM failed: database disk image is malformed\n", 0o600).unwrap();
        listener.hear(1300);
        assert_eq!((listener.slow(), listener.full(), listener.damaged()), (2, 0, 1));
        listener.hear(3800);
        assert_eq!(listener.slow(), 1);
    }
}
