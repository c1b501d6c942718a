//! References to secrets in a text, and what they become.

#![no_main]

use bakelite_spec::secret::{Quoting, count, references, render};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let rendered = render(text, Quoting::Json, |_| Some(String::new()));
    assert!(rendered.is_ok(), "each reference has a value");
    assert_eq!(references(text).is_empty(), count(text) == 0);
});
