//! A grant that an owner has signed, whatever is in it: read or refused, and its words about a node never panic.

#![no_main]

use bakelite_trust::grant::Grant;
use bakelite_trust::keys::OwnerKeys;
use bakelite_trust::signature;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let owner = OwnerKeys::generate([7; 32]);
    let signed = signature::sign(&owner, "grant", data);
    let Ok(grant) = Grant::read(&[owner.owner_key()], data, &signed) else { return };
    let _ = grant.verdict("shop-17", 0);
    for set in &grant.sets {
        assert!(grant.set(&set.sha256).is_some());
        let _ = set.file_key();
    }
    let unsigned = Grant::read(&[], data, &signed);
    assert!(unsigned.is_err(), "a grant without an owner");
});
