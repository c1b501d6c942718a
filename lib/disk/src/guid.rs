//! GUIDs as GPT writes them: the first three groups little-endian (UEFI 2.10, appendix A).

use std::fmt;
use std::str::FromStr;

/// A GUID in the byte order of the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Guid(pub [u8; 16]);

/// The places of the text's hexadecimal pairs in the sixteen bytes.
const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];

impl Guid {
    /// Makes a version 4 GUID of sixteen random bytes (RFC 9562).
    pub fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[7] = (bytes[7] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Self(bytes)
    }

    /// Whether it is all zeros, which GPT uses for an empty entry.
    pub fn is_nil(self) -> bool {
        self.0 == [0; 16]
    }
}

/// The text is no GUID.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a GUID")]
pub struct NotAGuid;

impl FromStr for Guid {
    type Err = NotAGuid;

    fn from_str(text: &str) -> Result<Self, NotAGuid> {
        let groups: Vec<&str> = text.split('-').collect();
        if groups.iter().map(|group| group.len()).collect::<Vec<_>>() != [8, 4, 4, 4, 12] || !text.is_ascii() {
            return Err(NotAGuid);
        }
        let digits = groups.concat();
        let mut bytes = [0; 16];
        for (number, place) in ORDER.into_iter().enumerate() {
            bytes[place] = u8::from_str_radix(&digits[number * 2..number * 2 + 2], 16).map_err(|_| NotAGuid)?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, place) in ORDER.into_iter().enumerate() {
            if matches!(number, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{:02x}", self.0[place])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_as_the_specification_shows_them() {
        let esp: Guid = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b".parse().unwrap();
        assert_eq!(esp.0[..4], [0x28, 0x73, 0x2a, 0xc1]);
        assert_eq!(esp.to_string(), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
        for text in ["", "c12a7328", "c12a7328-f81f-11d2-ba4b-00a0c93ec93", "g12a7328-f81f-11d2-ba4b-00a0c93ec93b"] {
            assert_eq!(text.parse::<Guid>(), Err(NotAGuid), "{text}");
        }
    }
}
