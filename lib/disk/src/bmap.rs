//! A block map (`bmaptool`'s format, 1.x and 2.0): which ranges of an image have to be written, with a sum for each.
//!
//! Takes anybody's map: a range that isn't in order or isn't inside the image is refused, and so is a map whose own sum
//! doesn't fit. What the ranges mean for the rest of the medium isn't said here.

use crate::DiskError;
use bakelite_spec::hexadecimal;
use roxmltree::{Document, Node};
use sha2::{Digest, Sha256};

/// The most that a map may be, in bytes: some hundred thousand ranges.
pub const LIMIT: u64 = 32 << 20;

/// A range of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Its first byte.
    pub start: u64,
    /// Its bytes.
    pub length: u64,
    /// The SHA-256 of what is in it, where the map says.
    pub sum: Option<[u8; 32]>,
}

impl Range {
    /// The first byte behind it.
    pub fn end(&self) -> u64 {
        self.start + self.length
    }
}

/// What has to be written of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map {
    /// The image's length in bytes.
    pub length: u64,
    /// Its ranges, in order; they never overlap.
    pub ranges: Vec<Range>,
}

impl Map {
    /// A map of all of an image.
    pub fn whole(length: u64) -> Self {
        Self { length, ranges: vec![Range { start: 0, length, sum: None }] }
    }

    /// Bytes that have to be written.
    pub fn mapped(&self) -> u64 {
        self.ranges.iter().map(|range| range.length).sum()
    }

    /// Whether each range has a sum.
    pub fn is_summed(&self) -> bool {
        self.ranges.iter().all(|range| range.sum.is_some())
    }

    /// What is between the ranges, as first byte and length.
    pub fn holes(&self) -> Vec<(u64, u64)> {
        let mut holes = Vec::new();
        let mut at = 0;
        for range in &self.ranges {
            if range.start > at {
                holes.push((at, range.start - at));
            }
            at = range.end();
        }
        if self.length > at {
            holes.push((at, self.length - at));
        }
        holes
    }

    /// Reads a map.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, DiskError> {
        let wrong = |problem: String| DiskError::Map { problem };
        let document = Document::parse(text).map_err(|error| wrong(format!("it is no XML: {error}")))?;
        let root = document.root_element();
        let version = root.attribute("version").unwrap_or_default();
        if root.tag_name().name() != "bmap" || !matches!(version.split('.').next(), Some("1" | "2")) {
            return Err(wrong(format!("it is no block map of version 1 or 2, but `{version}`")));
        }
        let field = |name: &str| child(root, name).ok_or_else(|| wrong(format!("it has no {name}")));
        let number =
            |name: &str| field(name)?.parse::<u64>().map_err(|_| wrong(format!("its {name} is no number of bytes")));
        let (length, block) = (number("ImageSize")?, number("BlockSize")?);
        if !block.is_power_of_two() || !(512..=1 << 30).contains(&block) {
            return Err(wrong(format!("its blocks have {block} bytes")));
        }
        let has_sums = child(root, "ChecksumType").is_some_and(|kind| kind == "sha256");
        if let Some(own) = child(root, "BmapFileChecksum").filter(|_| has_sums) {
            // The sum is over the text with zeros in its place.
            let zeroed = text.replacen(own, &"0".repeat(own.len()), 1);
            if digest(own) != Some(Sha256::digest(zeroed.as_bytes()).into()) {
                return Err(wrong("it was changed since it was made: its own sum doesn't fit".into()));
            }
        }
        let map = root.children().find(|node| node.has_tag_name("BlockMap"));
        let map = map.ok_or_else(|| wrong("it has no BlockMap".into()))?;
        let mut ranges: Vec<Range> = Vec::new();
        for node in map.children().filter(|node| node.has_tag_name("Range")) {
            let words = node.text().unwrap_or_default().trim();
            let (first, last) = words.split_once('-').unwrap_or((words, words));
            let bounds = first.trim().parse::<u64>().ok().zip(last.trim().parse::<u64>().ok());
            let bounds = bounds.filter(|(first, last)| first <= last);
            let (first, last) = bounds.ok_or_else(|| wrong(format!("`{words}` is no range of blocks")))?;
            let start = first.saturating_mul(block);
            let end = last.saturating_add(1).saturating_mul(block).min(length);
            if start >= end || ranges.last().is_some_and(|before| start < before.end()) {
                return Err(wrong(format!("the blocks {words} are out of order or outside the image")));
            }
            let sum = match node.attribute("chksum").filter(|_| has_sums) {
                Some(text) => Some(digest(text).ok_or_else(|| wrong(format!("the blocks {words} have no SHA-256")))?),
                None => None,
            };
            ranges.push(Range { start, length: end - start, sum });
        }
        Ok(Self { length, ranges })
    }
}

fn child<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    node.children().find(|child| child.has_tag_name(name))?.text().map(str::trim)
}

fn digest(text: &str) -> Option<[u8; 32]> {
    hexadecimal::bytes(text)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(size: u64, ranges: &str) -> String {
        format!(
            "<?xml version=\"1.0\" ?>\n<!-- A comment, as bmaptool writes them -->\n<bmap version=\"2.0\">\n\
             <ImageSize> {size} </ImageSize>\n<BlockSize> 4096 </BlockSize>\n<ChecksumType> sha256 </ChecksumType>\n\
             <BlockMap>\n{ranges}</BlockMap>\n</bmap>\n"
        )
    }

    #[test]
    fn ranges_are_bytes_and_the_last_ends_with_the_image() {
        let sum = "ab".repeat(32);
        let text = map(40_000, &format!("<Range chksum=\"{sum}\"> 0 </Range>\n<Range> 2-9 </Range>\n"));
        let map = Map::parse(&text).unwrap();
        assert_eq!(map.ranges[0], Range { start: 0, length: 4096, sum: Some([0xab; 32]) });
        assert_eq!((map.ranges[1].start, map.ranges[1].end(), map.mapped()), (8192, 40_000, 4096 + 31_808));
        assert_eq!(map.holes(), [(4096, 4096)]);
        assert!(!map.is_summed());
        assert_eq!(Map::whole(7).holes(), []);
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_words() {
        for (text, words) in [
            (map(40_960, "<Range> 3-1 </Range>"), "`3-1` is no range"),
            (map(40_960, "<Range> 3 </Range><Range> 2 </Range>"), "out of order"),
            (map(40_960, "<Range> 3-5 </Range><Range> 5 </Range>"), "out of order"),
            (map(40_960, "<Range> 10 </Range>"), "outside the image"),
            (map(40_960, "<Range> 18446744073709551615 </Range>"), "outside the image"),
            (map(40_960, "<Range chksum=\"abc\"> 1 </Range>"), "no SHA-256"),
            (map(40_960, "").replace("4096 ", "4097 "), "4097 bytes"),
            (map(40_960, "").replace("2.0", "3.0"), "`3.0`"),
            ("<bmap".into(), "no XML"),
            ("<html version=\"2.0\"/>".into(), "no block map"),
        ] {
            let error = Map::parse(&text).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_map_that_was_changed_is_refused() {
        let with_sum = map(40_960, "<Range> 1 </Range>")
            .replace("<BlockMap>", &format!("<BmapFileChecksum> {} </BmapFileChecksum>\n<BlockMap>", "0".repeat(64)));
        let sum: String = Sha256::digest(with_sum.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        let good = with_sum.replace(&"0".repeat(64), &sum);
        assert_eq!(Map::parse(&good).unwrap().ranges.len(), 1);
        let error = Map::parse(&good.replace("<Range> 1 ", "<Range> 2 ")).unwrap_err();
        assert!(error.to_string().contains("own sum"), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_ends_in_a_map_or_in_words(text in "(<bmap version=\"2.0\">|<Range>|</Range>|<BlockMap>|[0-9-]{1,20}|<|>|</bmap>){0,20}") {
            let _ = Map::parse(&text);
        }

        #[test]
        fn holes_and_ranges_fill_the_image(cuts in proptest::collection::btree_set(0u64..1000, 0..20)) {
            let cuts: Vec<u64> = cuts.into_iter().collect();
            let ranges = cuts.chunks_exact(2).map(|two| Range { start: two[0], length: two[1] - two[0], sum: None });
            let map = Map { length: 1000, ranges: ranges.collect() };
            let holes: u64 = map.holes().iter().map(|(_, length)| length).sum();
            prop_assert_eq!(holes + map.mapped(), 1000);
        }
    }
}
