//! An archive of container images: tar, docker's and OCI's descriptions.

#![no_main]

use bakelite_image::user::archive::{images, members};
use bakelite_spec::board::Arch;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(members) = members(data) {
        for arch in [Arch::X86_64, Arch::Aarch64, Arch::Armv7] {
            let _ = images(&members, arch);
        }
    }
});
