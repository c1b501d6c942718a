//! A compressed image: zstd frames one after the other, each with its length and a checksum, as any tool reads them.
//!
//! Each frame is a part of the image by itself, so all processors compress, memory stays small, and neither their number
//! nor the moment changes a byte. Level 3: the system is compressed already, and higher levels gain nothing (perf.md B).

use crate::parallel;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

/// Bytes of the image in one frame.
const FRAME: u64 = 1 << 20;
const LEVEL: i32 = 3;

/// Compresses an image of a length.
///
/// # Errors
/// When the image can't be read, or the output can't be written.
pub fn write(image: &File, length: u64, threads: usize, mut output: impl Write) -> io::Result<()> {
    let frames: Vec<u64> = (0..length.div_ceil(FRAME)).map(|number| number * FRAME).collect();
    let prepare = || {
        let mut compressor = Compressor::new(LEVEL)?;
        compressor.set_parameter(CParameter::ChecksumFlag(true))?;
        Ok((compressor, vec![0; FRAME as usize]))
    };
    let work = |(compressor, buffer): &mut (Compressor<'static>, Vec<u8>), at: &u64| {
        let part = &mut buffer[..FRAME.min(length - at) as usize];
        image.read_exact_at(part, *at)?;
        compressor.compress(part)
    };
    parallel::ordered(threads, &frames, prepare, work, |frame| output.write_all(&frame))?;
    output.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_unpacks_to_the_same_and_threads_change_nothing() {
        let mut content: Vec<u8> = (0..700_000u32).flat_map(|number| (number / 3).to_le_bytes()).collect();
        content.extend(vec![0; 3 << 20]);
        content.extend(b"end");
        let mut image = tempfile::tempfile().unwrap();
        image.write_all(&content).unwrap();
        let [one, four] = [1, 4].map(|threads| {
            let mut packed = Vec::new();
            write(&image, content.len() as u64, threads, &mut packed).unwrap();
            packed
        });
        assert_eq!(one, four);
        assert_eq!(zstd::decode_all(&one[..]).unwrap(), content);
        assert!(one.len() < content.len() / 2);
    }
}
