//! What is in a set, each byte the fuzzer's: it is refused or proved, and nothing appears outside the scratch folder.

#![no_main]

use bakelite_datastore::set::{manifest, members, verify};
use bakelite_sys::{durable, names_in};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(folder) = tempfile::tempdir() else { return };
    let (set, scratch) = (folder.path().join("set"), folder.path().join("scratch"));
    let packed = zstd::encode_all(data, 1).unwrap_or_default();
    if durable::replace(&set, &packed, 0o600).and_then(|()| durable::make_folder(&scratch)).is_err() {
        return;
    }
    let _ = manifest(&set, &[]);
    let _ = members(&set, &[], &["token"]);
    let _ = verify(&set, &[], &scratch);
    assert_eq!(names_in(&scratch), [""; 0], "something is left");
    assert_eq!(names_in(folder.path()), ["scratch", "set"], "something came to lie outside");
});
