//! The members of a package, each byte of their heads the fuzzer's.

#![no_main]

use bakelite_image::source::{SourceError, deb};

/// A control part with one file, as small as one can be.
const CONTROL: &[u8] = include_bytes!("../control.tar");

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut archive = b"!<arch>\n".to_vec();
    for (name, content) in [("debian-binary", &b"2.0\n"[..]), ("control.tar", CONTROL), ("data.tar", data)] {
        archive.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, content.len()).bytes());
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(2), b'\n');
    }
    let _ = deb::unpack(&archive[..], "x", &mut |entry| {
        assert!(!entry.path.starts_with('/') && !entry.path.split('/').any(|part| part == ".."), "{}", entry.path);
        Ok::<(), SourceError>(())
    });
});
