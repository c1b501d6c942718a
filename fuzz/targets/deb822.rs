//! Stanzas of control fields.

#![no_main]

use bakelite_image::source::deb822::Stanzas;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut stanzas = Stanzas::new(data);
    while let Ok(Some(stanza)) = stanzas.next_stanza() {
        let _ = stanza.get("Package");
    }
});
