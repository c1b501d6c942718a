//! The windows of a zstd file, by walking its frames and blocks (RFC 8878, section 3.1) without decompressing.
//!
//! k3s refuses windows above 32 MiB, and only when it imports the images on the device; this finds out before an image
//! is made. Finds truncation as well. Must not judge: it reports the largest window.

use std::io::{self, Read, Seek, SeekFrom};

const FRAME: u32 = 0xFD2F_B528;
const SKIPPABLE: std::ops::RangeInclusive<u32> = 0x184D_2A50..=0x184D_2A5F;

/// What a file says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frames {
    /// The largest window of any frame, in bytes.
    pub window: u64,
    /// The bytes that it unpacks to; `None` where a frame doesn't tell.
    pub content: Option<u64>,
}

/// The largest window of any frame, in bytes. A file that is no zstd or ends early is an error of kind `InvalidData`.
pub fn largest_window(file: impl Read + Seek) -> io::Result<u64> {
    walk(file).map(|frames| frames.window)
}

/// Walks all frames. A file that is no zstd or ends early is an error of kind `InvalidData`.
pub fn walk(mut file: impl Read + Seek) -> io::Result<Frames> {
    let length = file.seek(SeekFrom::End(0))?;
    file.rewind()?;
    let mut found: Option<Frames> = None;
    while file.stream_position()? < length {
        let magic = number(&mut file, 4)?;
        if SKIPPABLE.contains(&u32::try_from(magic).unwrap_or(0)) {
            let size = number(&mut file, 4)?;
            skip(&mut file, size, length)?;
        } else if magic == u64::from(FRAME) {
            let (window, checksum, content) = read_frame_header(&mut file)?;
            let before = found.unwrap_or(Frames { window: 0, content: Some(0) });
            let content = before.content.zip(content).and_then(|(before, more)| before.checked_add(more));
            found = Some(Frames { window: before.window.max(window), content });
            skip_blocks(&mut file, length)?;
            skip(&mut file, checksum, length)?;
        } else {
            return Err(bad("it is not compressed with zstd"));
        }
    }
    found.ok_or_else(|| bad("it is empty"))
}

/// The window in bytes, how many bytes of checksum follow the blocks, and what the frame unpacks to if it tells.
fn read_frame_header(file: &mut impl Read) -> io::Result<(u64, u64, Option<u64>)> {
    let descriptor = number(file, 1)?;
    let single_segment = descriptor & 0x20 != 0;
    let mut window = 0;
    if !single_segment {
        let byte = number(file, 1)?;
        let base = 1u64 << (10 + (byte >> 3));
        window = base + base / 8 * (byte & 7);
    }
    number(file, [0, 1, 2, 4][(descriptor & 3) as usize])?;
    let size_bytes = match descriptor >> 6 {
        0 => usize::from(single_segment),
        1 => 2,
        2 => 4,
        _ => 8,
    };
    let size = number(file, size_bytes)?;
    // A content size of two bytes starts counting at 256.
    let size = if size_bytes == 2 { size + 256 } else { size };
    if single_segment {
        window = size;
    }
    Ok((window, if descriptor & 0x04 != 0 { 4 } else { 0 }, (size_bytes > 0).then_some(size)))
}

fn skip_blocks(file: &mut (impl Read + Seek), length: u64) -> io::Result<()> {
    loop {
        let header = number(file, 3)?;
        let size = match header >> 1 & 3 {
            0 | 2 => header >> 3,
            1 => 1,
            _ => return Err(bad("it is damaged")),
        };
        skip(file, size, length)?;
        if header & 1 == 1 {
            return Ok(());
        }
    }
}

fn skip(file: &mut impl Seek, bytes: u64, length: u64) -> io::Result<()> {
    let end = file.stream_position()?.saturating_add(bytes);
    if end > length {
        return Err(bad("it ends early"));
    }
    file.seek(SeekFrom::Start(end)).map(|_| ())
}

/// A little-endian number of up to eight bytes.
fn number(file: &mut impl Read, bytes: usize) -> io::Result<u64> {
    let mut buffer = [0; 8];
    file.read_exact(&mut buffer[..bytes]).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => bad("it ends early"),
        _ => error,
    })?;
    Ok(u64::from_le_bytes(buffer))
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use proptest::prelude::*;

    use super::*;

    fn window(bytes: &[u8]) -> io::Result<u64> {
        largest_window(Cursor::new(bytes))
    }

    /// Compressed as a stream of unknown size, so that the frame names its window.
    pub(crate) fn compress(content: &[u8], window_log: u32) -> Vec<u8> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.set_parameter(zstd::zstd_safe::CParameter::WindowLog(window_log)).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn windows_of_real_frames() {
        let content: Vec<u8> = (0..600_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        assert_eq!(window(&compress(&content, 25)).unwrap(), 32 << 20);
        let two = [compress(&content, 20), compress(&content, 26)].concat();
        assert_eq!(window(&two).unwrap(), 64 << 20);
        let small = zstd::bulk::compress(b"a few bytes", 19).unwrap();
        assert_eq!(window(&small).unwrap(), 11);
        let skippable = [&[0x50, 0x2A, 0x4D, 0x18, 2, 0, 0, 0, 9, 9][..], &small].concat();
        assert_eq!(window(&skippable).unwrap(), 11);
    }

    #[test]
    fn every_truncation_is_an_error() {
        let frame = compress(&[7; 300], 20);
        for length in 0..frame.len() {
            assert!(window(&frame[..length]).is_err(), "{length}");
        }
        assert!(window(b"no zstd at all").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_end_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = window(&[&FRAME.to_le_bytes(), bytes.as_slice()].concat());
            let _ = window(&bytes);
        }
    }
}
