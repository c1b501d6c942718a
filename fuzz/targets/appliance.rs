//! An appliance's YAML, to its typed form, with the places of all findings.

#![no_main]

use std::path::PathBuf;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = bakelite_image::config::read("fuzz.yaml", text, PathBuf::new());
    }
});
