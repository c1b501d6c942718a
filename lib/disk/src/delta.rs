//! A delta: how to make one run of bytes out of another, its base, as a stream of instructions.
//!
//! An instruction copies bytes of the base or brings bytes of its own; what they give is the result, from its first byte to its
//! last. Whoever follows one reads it as a stream and holds little of it in memory. Layout, little-endian: magic (8), then
//! instructions until the result is whole, and nothing behind them: copy (1), offset u64, length u32; insert (2), length
//! u32, so many bytes. It is foreign bytes: none may give nothing, reach over the base's end, or give more than the result has.

use std::io::{self, BufReader, Read, Seek, SeekFrom};

/// With what a delta begins.
pub const MAGIC: &[u8; 8] = b"BKLTDLT1";
const COPY: u8 = 1;
const INSERT: u8 = 2;
/// Bytes of a delta that are read at once, where an instruction brings none itself.
const CHUNK: usize = 1 << 16;

/// One instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// Bytes of the base.
    Copy {
        /// The first of them.
        at: u64,
        /// How many.
        length: u32,
    },
    /// The bytes behind the instruction.
    Insert {
        /// How many.
        length: u32,
    },
}

impl Instruction {
    /// As a delta has it; the bytes of an [`Instruction::Insert`] come behind it.
    pub fn encode(self) -> Vec<u8> {
        match self {
            Self::Copy { at, length } => [&[COPY][..], &at.to_le_bytes(), &length.to_le_bytes()].concat(),
            Self::Insert { length } => [&[INSERT][..], &length.to_le_bytes()].concat(),
        }
    }

    fn read(delta: &mut impl Read) -> io::Result<Self> {
        let mut kind = [0];
        delta.read_exact(&mut kind)?;
        let (mut at, mut length) = ([0; 8], [0; 4]);
        match kind[0] {
            COPY => {
                delta.read_exact(&mut at)?;
                delta.read_exact(&mut length)?;
                Ok(Self::Copy { at: u64::from_le_bytes(at), length: u32::from_le_bytes(length) })
            }
            INSERT => {
                delta.read_exact(&mut length)?;
                Ok(Self::Insert { length: u32::from_le_bytes(length) })
            }
            other => Err(problem(format!("there is no instruction {other}"))),
        }
    }
}

fn problem(problem: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the delta makes no sense: {problem}"))
}

/// Where the next bytes come from.
#[derive(Clone, Copy, Debug)]
enum From {
    Base { at: u64 },
    Delta,
}

/// What a delta gives, as a stream.
///
/// Reading fails as [`io::ErrorKind::InvalidData`] where an instruction makes no sense, and as
/// [`io::ErrorKind::UnexpectedEof`] where the delta ends before the result is whole.
#[derive(Debug)]
pub struct Followed<D, B> {
    delta: BufReader<D>,
    base: B,
    base_length: u64,
    /// What is left of the result.
    left: u64,
    /// What is left of the instruction that is being followed.
    doing: (From, u32),
}

impl<D: Read, B: Read + Seek> Followed<D, B> {
    /// Begins to follow a delta; so many bytes of the base count, and so many the result has.
    ///
    /// # Errors
    /// When it can't be read, or is none.
    pub fn new(delta: D, base: B, base_length: u64, length: u64) -> io::Result<Self> {
        let mut delta = BufReader::with_capacity(CHUNK, delta);
        let mut magic = [0; MAGIC.len()];
        delta.read_exact(&mut magic)?;
        if magic != *MAGIC {
            return Err(problem("it doesn't begin as one".into()));
        }
        Ok(Self { delta, base, base_length, left: length, doing: (From::Delta, 0) })
    }

    /// Takes up the next instruction.
    fn step(&mut self) -> io::Result<()> {
        let instruction = Instruction::read(&mut self.delta)?;
        let (from, length) = match instruction {
            Instruction::Copy { at, length } => (From::Base { at }, length),
            Instruction::Insert { length } => (From::Delta, length),
        };
        if length == 0 {
            return Err(problem("an instruction gives nothing".into()));
        }
        if u64::from(length) > self.left {
            return Err(problem(format!("it gives {length} bytes where {} are left", self.left)));
        }
        if let From::Base { at } = from {
            if at.checked_add(u64::from(length)).is_none_or(|end| end > self.base_length) {
                let has = self.base_length;
                return Err(problem(format!("it copies {length} bytes from byte {at} of a base that has {has}")));
            }
            self.base.seek(SeekFrom::Start(at)).map_err(|error| unreadable(at, &error))?;
        }
        self.doing = (from, length);
        Ok(())
    }
}

fn unreadable(at: u64, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("its base can't be read at byte {at}: {error}"))
}

impl<D: Read, B: Read + Seek> Read for Followed<D, B> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        if self.left == 0 {
            return match self.delta.read(&mut [0])? {
                0 => Ok(0),
                _ => Err(problem("it goes on where the result is whole".into())),
            };
        }
        if self.doing.1 == 0 {
            self.step()?;
        }
        let (from, length) = self.doing;
        let most = bytes.len().min(usize::try_from(length).unwrap_or(usize::MAX));
        let read = match from {
            From::Delta => self.delta.read(&mut bytes[..most])?,
            From::Base { at } => self.base.read(&mut bytes[..most]).map_err(|error| unreadable(at, &error))?,
        };
        match (read, from) {
            (0, From::Delta) => return Err(io::ErrorKind::UnexpectedEof.into()),
            (0, From::Base { at }) => return Err(unreadable(at, &io::ErrorKind::UnexpectedEof.into())),
            _ => {}
        }
        // Never more than `length`, which is a u32.
        self.doing.1 -= u32::try_from(read).unwrap_or(length);
        self.left -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;

    const BASE: &[u8] = b"The quick brown fox jumps over the lazy dog";

    fn delta(instructions: &[(Instruction, &[u8])]) -> Vec<u8> {
        let parts = instructions.iter().map(|(instruction, bytes)| [&instruction.encode(), *bytes].concat());
        [MAGIC.to_vec()].into_iter().chain(parts).collect::<Vec<_>>().concat()
    }

    fn follow(delta: &[u8], length: u64) -> io::Result<Vec<u8>> {
        let mut result = Vec::new();
        Followed::new(delta, Cursor::new(BASE), BASE.len() as u64, length)?.read_to_end(&mut result)?;
        Ok(result)
    }

    fn copy(at: u64, length: u32) -> (Instruction, &'static [u8]) {
        (Instruction::Copy { at, length }, b"")
    }

    fn insert(bytes: &[u8]) -> (Instruction, &[u8]) {
        (Instruction::Insert { length: bytes.len() as u32 }, bytes)
    }

    #[test]
    fn it_gives_what_its_instructions_say() {
        let made = delta(&[copy(4, 6), insert(b"red "), copy(16, 4), copy(0, 3)]);
        assert_eq!(follow(&made, 17).unwrap(), b"quick red fox The");
        assert_eq!(follow(&delta(&[copy(0, BASE.len() as u32)]), BASE.len() as u64).unwrap(), BASE);
        assert_eq!(follow(&delta(&[]), 0).unwrap(), b"");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let most = BASE.len() as u64;
        let none = delta(&[]);
        let unknown = [&none[..], &[3]].concat();
        for (made, length, why) in [
            (delta(&[copy(most - 2, 3)]), 3, "of a base that has 43"),
            (delta(&[copy(u64::MAX, 2)]), 2, "of a base that has 43"),
            (delta(&[copy(0, 9)]), 8, "it gives 9 bytes where 8 are left"),
            (delta(&[insert(b"123"), insert(b"456")]), 5, "it gives 3 bytes where 2 are left"),
            (delta(&[copy(0, 4), copy(0, 0)]), 8, "an instruction gives nothing"),
            (delta(&[insert(b"")]), 8, "an instruction gives nothing"),
            (delta(&[copy(0, 8), copy(0, 1)]), 8, "it goes on where the result is whole"),
            (unknown, 8, "there is no instruction 3"),
            (b"BKLTDLT2\x01".to_vec(), 8, "it doesn't begin as one"),
        ] {
            let error = follow(&made, length).unwrap_err();
            assert!(error.kind() == io::ErrorKind::InvalidData && error.to_string().contains(why), "{why}: {error}");
        }
    }

    #[test]
    fn one_that_is_cut_off_is_known_as_such_wherever() {
        let made = delta(&[copy(4, 6), insert(b"red "), copy(16, 4)]);
        for length in 0..made.len() {
            let error = follow(&made[..length], 14).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{length}");
        }
    }

    #[test]
    fn a_base_that_ends_early_is_named() {
        let made = delta(&[copy(40, 8)]);
        let error = Followed::new(&made[..], Cursor::new(BASE), 100, 8).unwrap().read_to_end(&mut Vec::new());
        let error = error.unwrap_err().to_string();
        assert!(error.contains("its base can't be read at byte 40"), "{error}");
    }

    proptest! {
        #[test]
        fn whatever_its_bytes_it_never_gives_more_than_the_result_has(bytes: Vec<u8>, length in 0u64..4096) {
            let mut result = Vec::new();
            let made = [MAGIC, &bytes[..]].concat();
            let followed = Followed::new(&made[..], Cursor::new(BASE), BASE.len() as u64, length).unwrap();
            let ended = followed.take(1 << 20).read_to_end(&mut result);
            prop_assert!(result.len() as u64 <= length);
            prop_assert!(ended.is_err() || result.len() as u64 == length);
        }
    }
}
