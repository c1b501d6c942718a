//! What the workshop bakes and the device reads: manifest, settings, units.

#![no_main]

use bakelite_spec::{layers::Effective, manifest::Manifest, unit::Unit};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = serde_json::from_slice::<Manifest>(data);
    let _ = serde_json::from_slice::<Vec<Unit>>(data);
    if let Ok(effective) = serde_json::from_slice::<Effective>(data) {
        let _ = bakelite_spec::appliance::Appliance::from_values(&effective.values);
    }
});
