//! A stream onto a device, from its first byte on, and back from the medium.
//!
//! Little of it is in memory at any time, of this program's or of the kernel's: what was written doesn't push the pages of what
//! runs out of it. Nothing here says what counts; whoever writes makes that the last word (law 3).

use crate::sum::{fill, pour};
use crate::{SysError, durable};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// Bytes that are held in memory.
const CHUNK: usize = 1 << 20;
/// Bytes after which what was written is on the medium, and what was written or read is out of memory.
pub const SYNC_EACH: u64 = 32 << 20;

/// Writes all of a stream, which has a name: how many bytes, and their SHA-256. All of it is on the medium then.
///
/// # Errors
/// When the stream can't be read, or the device be written.
pub fn put(device: &Path, name: &str, mut input: impl Read) -> Result<(u64, [u8; 32]), SysError> {
    let writing = |source| SysError::Write { path: device.into(), source };
    let mut medium = File::options().write(true).open(device).map_err(writing)?;
    let mut buffer = vec![0; CHUNK];
    let (mut hash, mut written, mut dirty) = (Sha256::new(), 0u64, 0u64);
    loop {
        let filled = fill(&mut input, &mut buffer).map_err(|source| SysError::Read { path: name.into(), source })?;
        hash.update(&buffer[..filled]);
        medium.write_all(&buffer[..filled]).map_err(writing)?;
        written += filled as u64;
        dirty += filled as u64;
        let is_last = filled < buffer.len();
        if dirty >= SYNC_EACH || is_last {
            medium.sync_data().map_err(writing)?;
            durable::forget_cached(device)?;
            dirty = 0;
        }
        if is_last {
            return Ok((written, hash.finalize().into()));
        }
    }
}

/// Reads so many bytes back from the medium: their SHA-256 in hexadecimal digits.
///
/// # Errors
/// When they can't be read.
pub fn back(path: &Path, length: u64) -> Result<String, SysError> {
    durable::forget_cached(path)?;
    let read = |source| SysError::Read { path: path.into(), source };
    let file = File::open(path).map_err(read)?;
    let (_, sum) = pour(file.take(length), io::sink()).map_err(read)?;
    durable::forget_cached(path)?;
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bakelite_spec::hexadecimal::hexadecimal;

    #[test]
    fn what_was_put_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("slot");
        durable::replace(&path, &[9; 5000], 0o600).unwrap();
        let bytes: Vec<u8> = (0..(CHUNK as u32 + 7)).map(|number| (number % 251) as u8).collect();
        let (length, sum) = put(&path, "it", &bytes[..]).unwrap();
        assert_eq!(length, bytes.len() as u64);
        assert_eq!(back(&path, length).unwrap(), hexadecimal(sum));
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        assert_ne!(back(&path, length - 1).unwrap(), hexadecimal(sum));
        assert!(put(&folder.path().join("none"), "it", &bytes[..]).is_err());
    }
}
