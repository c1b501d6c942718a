//! The ar archive that a .deb is.

#![no_main]

use bakelite_image::source::ar::Archive;
use std::io::Read;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(mut archive) = Archive::new(data) else { return };
    while let Ok(Some(_)) = archive.next_member() {
        let _ = archive.by_ref().read_to_end(&mut Vec::new());
    }
});
