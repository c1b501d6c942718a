//! A bundle of certificates.

#![no_main]

use bakelite_image::user::trust::certificates;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = certificates(data, 1_795_262_400);
});
