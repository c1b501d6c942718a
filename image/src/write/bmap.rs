//! The block map of an image, as `bmaptool` reads it (format 2.0): what has to be written, with a sum for each range.
//!
//! Which blocks count is decided by the layout, not by the holes of a file: a used medium must also lose what would
//! mean something where the image has zeros (an old slot B, old tables). Equal images have equal maps.

use crate::source::digest::Sha256;
use bakelite_spec::layout::{ALIGNMENT, Layout, RECORD, Role, Scheme};

/// Bytes of a block.
const BLOCK: u64 = 4096;
/// The backup partition table at the end, in blocks.
const BACKUP: u64 = 5 * BLOCK;
/// What stands in the place of the map's own sum while that is made.
const NO_SUM: [u8; 64] = [b'0'; 64];

/// A part of an image: first byte and length, both whole blocks.
pub type Range = (u64, u64);

/// What has to be written of an image whose boot partition is used up to a byte, and whose system has a length.
pub fn ranges(layout: &Layout, boot_used: u64, system: u64) -> Vec<Range> {
    let mut ranges = vec![(0, ALIGNMENT)];
    for partition in &layout.partitions {
        let record = (partition.start + partition.length - RECORD, RECORD);
        match partition.role {
            Role::Boot => ranges.push((partition.start, boot_used.next_multiple_of(BLOCK).min(partition.length))),
            Role::SystemA => ranges.extend([(partition.start, system), record]),
            Role::SystemB => ranges.push(record),
            Role::BiosBoot | Role::State | Role::Data => {}
        }
    }
    if layout.scheme == Scheme::Gpt {
        ranges.push((layout.length - BACKUP, BACKUP));
    }
    ranges
}

/// The map's text for an image of a length, with the sum of each range.
pub fn text(length: u64, ranges: &[(Range, Sha256)]) -> String {
    let mapped: u64 = ranges.iter().map(|((_, length), _)| length / BLOCK).sum();
    let mut map = String::new();
    for ((start, length), sum) in ranges {
        let (first, last) = (start / BLOCK, (start + length) / BLOCK - 1);
        let blocks = if first == last { first.to_string() } else { format!("{first}-{last}") };
        map.push_str(&format!("        <Range chksum=\"{sum}\"> {blocks} </Range>\n"));
    }
    let text = format!(
        "<?xml version=\"1.0\" ?>\n\
         <bmap version=\"2.0\">\n    \
             <ImageSize> {length} </ImageSize>\n    \
             <BlockSize> {BLOCK} </BlockSize>\n    \
             <BlocksCount> {} </BlocksCount>\n    \
             <MappedBlocksCount> {mapped} </MappedBlocksCount>\n    \
             <ChecksumType> sha256 </ChecksumType>\n    \
             <BmapFileChecksum> {} </BmapFileChecksum>\n    \
             <BlockMap>\n{map}    </BlockMap>\n</bmap>\n",
        length.div_ceil(BLOCK),
        String::from_utf8_lossy(&NO_SUM),
    );
    // The sum is over the text with zeros in its place.
    text.replacen(&*String::from_utf8_lossy(&NO_SUM), &Sha256::of(text.as_bytes()).to_string(), 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bakelite_spec::layout::layout;
    use bakelite_spec::quantity::Size;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ranges_are_whole_blocks_in_order_and_never_overlap(slot in 1u64..2000, used in 1u64..(512 << 20), part in 0.0..1.0) {
            let system = ((((slot << 20) - RECORD) as f64 * part) as u64 / BLOCK) * BLOCK;
            for scheme in [Scheme::Gpt, Scheme::Mbr] {
                let layout = layout(scheme, Size(slot << 20));
                let mut end = 0;
                for (start, length) in ranges(&layout, used, system) {
                    prop_assert!(start >= end && start % BLOCK == 0 && length % BLOCK == 0);
                    end = start + length;
                }
                prop_assert_eq!(end, layout.length);
            }
        }
    }

    #[test]
    fn the_map_carries_its_own_sum() {
        let text = text(10 * BLOCK, &[((0, BLOCK), Sha256::of(b"a")), ((4 * BLOCK, 6 * BLOCK), Sha256::of(b"b"))]);
        assert!(text.contains("<MappedBlocksCount> 7 </MappedBlocksCount>"), "{text}");
        assert!(text.contains("> 0 </Range>") && text.contains("> 4-9 </Range>"), "{text}");
        let sum = text.split("<BmapFileChecksum> ").nth(1).unwrap()[..64].to_string();
        assert_eq!(Sha256::of(text.replace(&sum, &"0".repeat(64)).as_bytes()).to_string(), sum);
    }
}
