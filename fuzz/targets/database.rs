//! A database file: checked, looked into, and brought up the ladder. It stays as it is, and what is called healed is whole.

#![no_main]

use bakelite_datastore::check::{self, Depth};
use bakelite_datastore::ladder::{Patient, climb};
use bakelite_datastore::token::Keys;
use bakelite_sys::durable;
use std::collections::BTreeMap;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(folder) = tempfile::tempdir() else { return };
    let (database, scratch) = (folder.path().join("state.db"), folder.path().join("scratch"));
    if durable::replace(&database, data, 0o600).and_then(|()| durable::make_folder(&scratch)).is_err() {
        return;
    }
    let _ = check::copy(&database, Depth::Full, 1);
    let _ = bakelite_datastore::prove(&database, "fuzz");
    // With k3s's own files at hand a database without its row of keys can be healed, too.
    let (keys, fresh) = (Keys(BTreeMap::new()), ([1; 8], [2; 12]));
    let patient = Patient { database: &database, scratch: &scratch, known: 1, token: "fuzz", keys: Some(&keys), fresh };
    if let Ok(Ok(healed)) = climb(&patient) {
        let found = check::copy(&healed.path, Depth::Full, 1);
        assert!(matches!(&found, Ok(Ok(contents)) if *contents == healed.contents), "{healed:?} is {found:?}");
    }
    assert!(std::fs::read(&database).is_ok_and(|bytes| bytes == data), "the evidence was changed");
});
