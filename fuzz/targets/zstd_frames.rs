//! The frames of a zstd file.

#![no_main]

use bakelite_image::source::zstd_frames::largest_window;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = largest_window(std::io::Cursor::new(data));
});
