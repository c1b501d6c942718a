//! The proof that a disk holds nothing: read-only, and the only thing that permits taking a disk nobody has named.
//!
//! Read are the first and last 16 MiB, every place at which a known format has its magic (with the copies of ext4's
//! superblock), and 64 samples over the rest. All of it has to be 0x00 or 0xFF, which is what a disk from the shop or a
//! trimmed one shows. One other byte anywhere refuses.

use crate::{DiskError, ext4, read_at, signature};
use std::io::{Read, Seek};

const ENDS: u64 = 16 << 20;
const SAMPLES: u64 = 64;
const SAMPLE: u64 = 64 << 10;
const CHUNK: u64 = 1 << 20;
/// Bytes read at a place of a magic.
const PLACE: u64 = 4 << 10;

/// What the proof has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Nothing; so many bytes were read.
    Blank {
        /// Bytes.
        read: u64,
    },
    /// Something.
    Holds {
        /// The first byte of the piece in which it was seen.
        at: u64,
    },
}

/// Looks whether a medium of a length in bytes is blank.
///
/// # Errors
/// When it can't be read: then nothing is proved.
pub fn prove(medium: &mut (impl Read + Seek), length: u64) -> Result<Proof, DiskError> {
    let mut read = 0;
    let mut buffer = vec![0u8; CHUNK as usize];
    for (start, end) in pieces(length) {
        let mut at = start;
        while at < end {
            let size = (end - at).min(CHUNK);
            let bytes = &mut buffer[..size as usize];
            read_at(medium, at, bytes)?;
            // All the same where each byte is as the one before it: one comparison that runs at the speed of memory.
            let uniform = bytes[1..] == bytes[..bytes.len() - 1];
            if !uniform || !matches!(bytes[0], 0x00 | 0xff) {
                return Ok(Proof::Holds { at });
            }
            read += size;
            at += size;
        }
    }
    Ok(Proof::Blank { read })
}

/// The pieces to read, as first byte and end.
fn pieces(length: u64) -> Vec<(u64, u64)> {
    let piece = |at: u64, size: u64| (at.min(length), at.saturating_add(size).min(length));
    let mut pieces = vec![piece(0, ENDS), piece(length.saturating_sub(ENDS), ENDS)];
    let copies = ext4::superblocks(0, length).map(|(_, at)| at);
    pieces.extend(signature::places(length).chain(copies).map(|at| piece(at / PLACE * PLACE, PLACE)));
    let step = length / SAMPLES;
    pieces.extend((0..SAMPLES).map(|number| piece(number * step + step / 2, SAMPLE)));
    pieces.retain(|(start, end)| start < end);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::{self, SeekFrom};

    /// A medium of one byte everywhere but for a few.
    struct Sparse {
        length: u64,
        fill: u8,
        marks: Vec<(u64, u8)>,
        at: u64,
    }

    impl Read for Sparse {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let size = self.length.saturating_sub(self.at).min(buffer.len() as u64);
            buffer[..size as usize].fill(self.fill);
            for (at, byte) in &self.marks {
                if (self.at..self.at + size).contains(at) {
                    buffer[(at - self.at) as usize] = *byte;
                }
            }
            self.at += size;
            Ok(size as usize)
        }
    }

    impl Seek for Sparse {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            if let SeekFrom::Start(at) = to {
                self.at = at;
            }
            Ok(self.at)
        }
    }

    fn disk(length: u64, fill: u8, marks: &[(u64, u8)]) -> Sparse {
        Sparse { length, fill, marks: marks.to_vec(), at: 0 }
    }

    const SIZE: u64 = 500 << 30;

    #[test]
    fn zeros_and_trimmed_flash_are_blank_and_little_is_read() {
        for fill in [0x00, 0xff] {
            let Proof::Blank { read } = prove(&mut disk(SIZE, fill, &[]), SIZE).unwrap() else { panic!("{fill}") };
            assert!((36 << 20..48 << 20).contains(&read), "{read}");
        }
        assert!(matches!(prove(&mut disk(SIZE, 0x55, &[]), SIZE).unwrap(), Proof::Holds { at: 0 }));
        assert!(prove(&mut disk(SIZE / 2, 0, &[]), SIZE).is_err(), "what can't be read proves nothing");
    }

    #[test]
    fn every_known_place_is_looked_at() {
        let copies = ext4::superblocks(0, SIZE).map(|(_, at)| at + 56);
        let wiped_table_over_a_live_file_system = [1 << 20, (1 << 20) + 1080, (5 << 20) + 3];
        for at in signature::places(SIZE).chain(copies).chain(wiped_table_over_a_live_file_system) {
            assert!(matches!(prove(&mut disk(SIZE, 0, &[(at, 1)]), SIZE).unwrap(), Proof::Holds { .. }), "{at}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_byte_in_the_ends_is_always_seen(at in 0..ENDS, last: bool, length in (64u64 << 20)..(1 << 42), byte in 1u8..255) {
            let at = if last { length - 1 - at } else { at };
            let seen = prove(&mut disk(length, 0, &[(at, byte)]), length).unwrap();
            prop_assert!(matches!(seen, Proof::Holds { .. }), "{:?}", seen);
        }
    }
}
