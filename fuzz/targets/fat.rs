//! A FAT32 volume, as lint and inspect read it.

#![no_main]

use bakelite_image::opened::fat;
use std::io;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let read_at = |at: u64, bytes: &mut [u8]| -> io::Result<()> {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let part = data.get(at..).and_then(|rest| rest.get(..bytes.len())).ok_or(io::ErrorKind::UnexpectedEof)?;
        bytes.copy_from_slice(part);
        Ok(())
    };
    if let Ok(volume) = fat::read(&read_at, data.len() as u64) {
        for path in volume.files.keys() {
            let _ = volume.content(&read_at, path);
        }
    }
});
