//! The archives of an initramfs, as lint and inspect read them.

#![no_main]

use bakelite_image::opened::read_cpio;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = read_cpio(data);
});
