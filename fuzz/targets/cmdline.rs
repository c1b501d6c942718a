//! A kernel command line.

#![no_main]

use bakelite_spec::cmdline::Cmdline;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        let line = Cmdline::parse(text);
        let _ = line.with_prefix("bakelite.").count();
    }
});
