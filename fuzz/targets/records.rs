//! A slot's footer and the record at the end of a partition.

#![no_main]

use bakelite_disk::{born::Born, footer::Footer};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let length = data.len() as u64;
    let _ = Footer::read(&mut std::io::Cursor::new(data), 0, length);
    let _ = Born::read(&mut std::io::Cursor::new(data), 0, length);
});
