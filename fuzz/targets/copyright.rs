//! A package's machine-readable copyright file.

#![no_main]

use bakelite_image::sbom::licence;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = licence::read("x", data);
});
