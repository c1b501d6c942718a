//! Memory whose first byte is aligned as transfers past the page cache want it.

use std::fmt;
use std::ops::{Deref, DerefMut};

/// What is aligned: a page, and no disk has larger sectors.
pub const ALIGNED: usize = 4096;

/// Some bytes, aligned at [`ALIGNED`].
pub struct Buffer {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl Buffer {
    /// Zeros.
    pub fn new(length: usize) -> Self {
        let memory = vec![0; length + ALIGNED];
        let start = memory.as_ptr().align_offset(ALIGNED).min(ALIGNED);
        Self { memory, start, length }
    }

    /// Uses only so many of the bytes that there were at first.
    pub fn set_length(&mut self, length: usize) {
        self.length = length.min(self.memory.len() - ALIGNED);
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.length]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.length]
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.length)
    }
}
