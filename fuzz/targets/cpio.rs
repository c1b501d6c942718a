//! The last archive of an initramfs.

#![no_main]

use bakelite_vm::newc::last_member;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = last_member(data, "bakelite/manifest.json");
});
