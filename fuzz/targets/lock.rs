//! A lock.

#![no_main]

use bakelite_image::source::lock::Lock;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(lock) = Lock::parse(text) {
        let again = lock.to_text().expect("what was read can be written");
        assert_eq!(Lock::parse(&again).expect("and read again"), lock);
    }
});
