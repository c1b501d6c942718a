//! A packaged Helm chart.

#![no_main]

use bakelite_image::user::chart::values;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = values(data);
});
