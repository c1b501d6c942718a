//! The index of an .xz file.

#![no_main]

use bakelite_image::unpack::xz::read_index;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((end, index)) = data.split_first() else { return };
    if let Some(blocks) = read_index(index, [0, 4], 0, u64::from(*end) * 4) {
        assert!(blocks.iter().all(|block| block.at <= u64::from(*end) * 4));
    }
});
