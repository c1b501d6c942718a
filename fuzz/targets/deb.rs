//! A whole .deb: ar, control fields, tar members. No path that is given may leave the tree.

#![no_main]

use bakelite_image::source::{SourceError, deb};
use std::io::Read;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = deb::unpack(data, "x", &mut |entry| {
        let parts = entry.path.split('/');
        assert!(!entry.path.is_empty() && parts.clone().all(|part| !matches!(part, "" | "." | "..")), "{}", entry.path);
        let _ = entry.content.take(1 << 20).read_to_end(&mut Vec::new());
        Ok::<(), SourceError>(())
    });
});
