//! A medium that does to its owner what real ones do: loses writes, tells wrong sizes, vanishes, is slow.

use super::Target;
use crate::Medium;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
use std::time::Duration;

/// Linux's number for a device that isn't there any more.
pub const NO_SUCH_DEVICE: i32 = 19;

/// What is wrong with a medium.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// It holds only so many bytes, and addresses behind them wrap around.
    Wraps(u64),
    /// It holds only so many bytes, and keeps nothing behind them.
    Drops(u64),
    /// Of each write that reaches this byte it keeps only the first half, and says that it has all.
    Short(u64),
    /// What is read of this byte isn't what was written.
    Flips(u64),
    /// After so many written bytes it is gone.
    Vanishes(u64),
    /// Each write takes so long.
    Slow(Duration),
}

/// A medium with something wrong.
#[derive(Debug)]
pub struct Faulty<T = Cursor<Vec<u8>>> {
    /// What is really on it.
    pub inner: T,
    /// What is wrong.
    pub fault: Fault,
    /// Bytes that were written to it.
    pub written: u64,
    at: u64,
}

impl Faulty {
    /// A medium in memory of a length that is full of a byte.
    pub fn new(length: u64, filled: u8, fault: Fault) -> Self {
        let bytes = vec![filled; usize::try_from(length).unwrap_or_default()];
        Self::of(Cursor::new(bytes), fault)
    }
}

impl<T> Faulty<T> {
    /// Has something go wrong with a medium.
    pub fn of(inner: T, fault: Fault) -> Self {
        Self { inner, fault, written: 0, at: 0 }
    }

    fn place(&self, at: u64) -> u64 {
        match self.fault {
            Fault::Wraps(real) => at % real,
            _ => at,
        }
    }

    /// What is kept of a write.
    fn kept<'a>(&mut self, at: u64, bytes: &'a [u8]) -> io::Result<&'a [u8]> {
        self.written += bytes.len() as u64;
        Ok(match self.fault {
            Fault::Vanishes(after) if self.written > after => return Err(io::Error::from_raw_os_error(NO_SUCH_DEVICE)),
            Fault::Drops(real) if at >= real => &[],
            Fault::Short(byte) if (at..at + bytes.len() as u64).contains(&byte) => &bytes[..bytes.len() / 2],
            Fault::Slow(time) => {
                std::thread::sleep(time);
                bytes
            }
            _ => bytes,
        })
    }

    fn spoil(&self, at: u64, bytes: &mut [u8]) {
        if let Fault::Flips(byte) = self.fault
            && let Some(spot) = byte.checked_sub(at).and_then(|inside| bytes.get_mut(usize::try_from(inside).ok()?))
        {
            *spot ^= 1;
        }
    }
}

impl<T: Target> Read for Faulty<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.seek(SeekFrom::Start(self.place(self.at)))?;
        let count = self.inner.read(buffer)?;
        self.spoil(self.at, &mut buffer[..count]);
        self.at += count as u64;
        Ok(count)
    }
}

impl<T: Target> Write for Faulty<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let at = self.at;
        Target::write_at(self, at, bytes)?;
        self.at = at + bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Target> Seek for Faulty<T> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::Current(by) => self.at.saturating_add_signed(by),
            SeekFrom::End(by) => self.inner.length()?.saturating_add_signed(by),
        };
        Ok(self.at)
    }
}

impl<T: Target> Medium for Faulty<T> {
    fn make_durable(&mut self) -> io::Result<()> {
        self.inner.make_durable()
    }
}

impl<T: Target> Target for Faulty<T> {
    fn length(&mut self) -> io::Result<u64> {
        self.inner.length()
    }

    fn read_back(&mut self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.inner.read_back(self.place(at), bytes)?;
        self.spoil(at, bytes);
        Ok(())
    }

    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let kept = self.kept(at, bytes)?;
        self.inner.write_at(self.place(at), kept)
    }

    fn zero(&mut self, at: u64, length: u64) -> io::Result<()> {
        let zeros = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        Target::write_at(self, at, &zeros)
    }

    fn is_hole(&mut self, at: u64, length: u64) -> bool {
        self.inner.is_hole(at, length)
    }
}
