//! A delta's instructions, against a base that has what begins the input.

#![no_main]

use bakelite_disk::delta::{Followed, MAGIC};
use std::io::{Cursor, Read};

/// What the result may have.
const LENGTH: u64 = 1 << 16;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (base, delta) = data.split_at(data.len().min(64));
    let delta = [MAGIC, delta].concat();
    let Ok(followed) = Followed::new(&delta[..], Cursor::new(base), base.len() as u64, LENGTH) else { return };
    let mut result = Vec::new();
    let ended = followed.take(LENGTH * 2).read_to_end(&mut result);
    assert!(result.len() as u64 <= LENGTH && (ended.is_err() || result.len() as u64 == LENGTH));
});
