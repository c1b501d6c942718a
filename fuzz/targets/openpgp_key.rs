//! A repository's key, armored or binary.

#![no_main]

use bakelite_image::source::trust::TrustedKeys;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = TrustedKeys::from_file(data, "04B54C3CDCA79751B16BC6B5225629DF75B188BD");
});
