//! A kernel module's section of facts, and the head of any program.

#![no_main]

use bakelite_image::{decide::modules::modinfo, elf};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = modinfo(data);
    let _ = elf::check(data, "amd64");
});
