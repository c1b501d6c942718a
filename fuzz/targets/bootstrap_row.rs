//! The row with the cluster's keys: a sealed one that the fuzzer made, its plain text, and the certificates in it.

#![no_main]

use bakelite_datastore::certificate::not_after;
use bakelite_datastore::token::{Keys, open, password, row_name, seal};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    assert!(open("fuzz", data).is_err(), "a row that nobody sealed opens");
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = (row_name(password(text)), not_after(text));
    }
    if let Ok(keys) = serde_json::from_slice::<Keys>(data) {
        let _ = keys.authority_until();
        assert!(open("fuzz", &seal("fuzz", &keys, [1; 8], [2; 12])) == Ok(keys), "what was sealed opens as another");
    }
});
