//! What an initramfs says of the image that it is of: its last archive holds the manifest.
//!
//! Reads newc archives that aren't packed, as the workshop writes them, and nothing of a file but its name; foreign bytes end
//! the look, they never panic.

use bakelite_spec::manifest::Manifest;

const HEAD: usize = 110;
const MAGIC: &[u8] = b"070701";
const NAME: &[u8] = b"bakelite/manifest.json";

/// The manifest in an initramfs; `None` where there is none that can be read.
pub fn manifest(bytes: &[u8]) -> Option<Manifest> {
    let (mut at, mut found) = (0, None);
    while let Some(head) = bytes.get(at..at + HEAD).filter(|head| head.starts_with(MAGIC)) {
        let field = |number: usize| {
            let digits = std::str::from_utf8(head.get(6 + number * 8..14 + number * 8)?).ok()?;
            usize::try_from(u32::from_str_radix(digits, 16).ok()?).ok()
        };
        let (length, name_length) = (field(6)?, field(11)?);
        let name = bytes.get(at + HEAD..(at + HEAD + name_length).saturating_sub(1))?;
        let content_at = (at + HEAD + name_length).next_multiple_of(4);
        if name == NAME {
            found = bytes.get(content_at..content_at + length);
        }
        at = (content_at + length).next_multiple_of(4);
    }
    // What is behind the last member was written by nobody of ours.
    (at >= bytes.len()).then_some(())?;
    serde_json::from_slice(found?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), length in any::<u32>(), name in any::<u32>()) {
            let _ = manifest(&bytes);
            let mut member = format!("070701{:0>48}{length:08x}{:0>32}{name:08x}{:08}", "", "", 0).into_bytes();
            member.extend(bytes);
            prop_assert!(manifest(&member).is_none());
        }
    }
}
