//! A container image's name: what is printed reads the same.

#![no_main]

use bakelite_image::user::reference::Reference;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(reference) = Reference::parse(text) {
        assert_eq!(Reference::parse(&reference.to_string()), Some(reference), "{text}");
    }
});
