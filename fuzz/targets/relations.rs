//! Relations between packages, and versions.

#![no_main]

use bakelite_image::source::{relation, version};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(groups) = relation::parse_groups(text) {
        for need in groups.iter().flatten() {
            let _ = need.accepts("1:2.3-4~x");
        }
    }
    if let Some((left, right)) = text.split_once('\n') {
        assert_eq!(version::compare(left, right), version::compare(right, left).reverse());
    }
});
