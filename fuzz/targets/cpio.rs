//! The archives of an initramfs.

#![no_main]

use bakelite_disk::cpio::{last, members};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = members(data);
    let _ = last(data, "bakelite/manifest.json");
});
