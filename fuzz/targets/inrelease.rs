//! A clear-signed InRelease: OpenPGP packets, armor and the text in it. Nothing that a fuzzer writes is ever trusted.

#![no_main]

use bakelite_image::source::release::verify;
use bakelite_image::source::trust::TrustedKeys;
use std::sync::LazyLock;

static KEYS: LazyLock<TrustedKeys> = LazyLock::new(|| TrustedKeys::debian().expect("built-in keys"));

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = verify(data, "trixie", &KEYS, 1_795_262_400);
});
