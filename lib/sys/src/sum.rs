//! Sums of streams: what passes by is hashed, so that nothing has to be read twice.

use bakelite_spec::hexadecimal::hexadecimal;
use sha2::{Digest, Sha256};
use std::io::{self, Read, Write};

/// Bytes that are read at once.
const CHUNK: usize = 1 << 16;

/// Copies all of a stream: how many bytes, and their SHA-256 in hexadecimal digits. [`io::sink`] for the sum alone.
///
/// # Errors
/// When reading or writing fails.
pub fn pour(mut from: impl Read, mut to: impl Write) -> io::Result<(u64, String)> {
    let (mut hash, mut buffer, mut length) = (Sha256::new(), vec![0u8; CHUNK], 0);
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok((length, hexadecimal(hash.finalize()))),
            read => {
                hash.update(&buffer[..read]);
                to.write_all(&buffer[..read])?;
                length += read as u64;
            }
        }
    }
}

/// Fills a buffer as far as a stream goes: less than its length is the end.
///
/// # Errors
/// When reading fails.
pub fn fill(mut from: impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_is_the_same_and_has_its_sum() {
        let bytes = vec![7u8; CHUNK + 1];
        let mut copied = Vec::new();
        let (length, sum) = pour(&bytes[..], &mut copied).unwrap();
        assert_eq!((length, copied), (bytes.len() as u64, bytes));
        assert_eq!(sum.len(), 64);
        // NIST's sum of nothing.
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(pour(io::empty(), io::sink()).unwrap(), (0, empty.into()));
    }
}
