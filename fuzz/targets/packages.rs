//! An index of packages, with the relations and versions in it.

#![no_main]

use bakelite_image::source::packages::Index;
use bakelite_image::source::resolve::resolve;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut index = Index::default();
    if index.add(data, 0, "amd64").is_ok() {
        let _ = resolve(&index, &["a".into(), "kmod".into()], &["b".into()]);
    }
});
