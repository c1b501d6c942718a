//! A set's manifest: what is read of one is written and read again as the same, and whether it fits never panics.

#![no_main]

use bakelite_spec::set::{Manifest, is_member_path};
use std::collections::BTreeMap;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(manifest) = serde_json::from_slice::<Manifest>(data) else { return };
    let again = serde_json::to_vec(&manifest).ok().and_then(|text| serde_json::from_slice(&text).ok());
    assert_eq!(again.as_ref(), Some(&manifest));
    let _ = manifest.fits("v1.36.2+k3s1", &BTreeMap::new(), &[("cluster-cidr", "10.42.0.0/16")]);
    for member in &manifest.members {
        let climbs = member.path.starts_with('/') || member.path.split('/').any(|part| part == "..");
        assert!(!(climbs && is_member_path(&member.path)), "{} is taken", member.path);
    }
});
