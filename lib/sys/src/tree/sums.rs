//! Sums of the files that are copied, made beside the copying on another processor and written down one after the other.
//!
//! A chunk is read once and given to both: whoever writes it to the copy and whoever sums it. Few chunks are under way at
//! a time, so memory stays small whatever is copied.

use crate::SysError;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Chunks that may wait to be summed.
const WAITING: usize = 4;

/// A part of a file.
#[derive(Clone)]
pub struct Chunk {
    /// Its bytes, and room behind them.
    pub buffer: Arc<Vec<u8>>,
    /// How many bytes are its own.
    pub length: usize,
}

enum Message {
    Begin,
    Add(Chunk),
    End,
}

/// The sums of one copy.
pub struct Sums {
    path: PathBuf,
    sender: SyncSender<Message>,
    thread: JoinHandle<std::io::Result<()>>,
    buffers: Vec<Arc<Vec<u8>>>,
}

impl Sums {
    pub fn start(path: &Path) -> Result<Self, SysError> {
        let failed = |source| SysError::Write { path: path.into(), source };
        let file = File::create(path).map_err(failed)?;
        let (sender, receiver) = sync_channel(WAITING);
        let thread = std::thread::Builder::new().spawn(move || sum(&receiver, BufWriter::new(file))).map_err(failed)?;
        Ok(Self { path: path.into(), sender, thread, buffers: Vec::new() })
    }

    /// Reads the next chunk of a file, of at most so many bytes; an empty one at the file's end.
    pub fn read(&mut self, source: &mut File, most: u64) -> std::io::Result<Chunk> {
        let room = super::CHUNK.min(usize::try_from(most).unwrap_or(super::CHUNK));
        let free = self.buffers.iter_mut().position(|buffer| Arc::get_mut(buffer).is_some());
        let mut buffer = free.map_or_else(|| Arc::new(vec![0; super::CHUNK]), |at| self.buffers.swap_remove(at));
        let bytes = Arc::make_mut(&mut buffer);
        let length = source.read(&mut bytes[..room])?;
        self.buffers.push(buffer.clone());
        Ok(Chunk { buffer, length })
    }

    pub fn begin(&self) -> Result<(), SysError> {
        self.send(Message::Begin)
    }

    pub fn add(&self, chunk: Chunk) -> Result<(), SysError> {
        self.send(Message::Add(chunk))
    }

    pub fn end(&self) -> Result<(), SysError> {
        self.send(Message::End)
    }

    fn send(&self, message: Message) -> Result<(), SysError> {
        // Whoever sums hangs up only when the sums can't be written; `finish` has its words.
        self.sender.send(message).map_err(|_| self.failed(std::io::ErrorKind::BrokenPipe.into()))
    }

    fn failed(&self, source: std::io::Error) -> SysError {
        SysError::Write { path: self.path.clone(), source }
    }

    pub fn finish(self) -> Result<(), SysError> {
        drop(self.sender);
        let ended = self.thread.join().unwrap_or_else(|_| Err(std::io::ErrorKind::Other.into()));
        ended.map_err(|source| SysError::Write { path: self.path, source })
    }
}

fn sum(messages: &Receiver<Message>, mut to: BufWriter<File>) -> std::io::Result<()> {
    let mut digest = Sha256::new();
    for message in messages {
        match message {
            Message::Begin => digest = Sha256::new(),
            Message::Add(chunk) => digest.update(&chunk.buffer[..chunk.length]),
            Message::End => to.write_all(&std::mem::take(&mut digest).finalize())?,
        }
    }
    to.flush()
}
