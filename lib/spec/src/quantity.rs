//! Quantities as a person writes them: `512MiB`, `20G`, `90s`, `2h`.
//!
//! A size without a unit is bytes, a duration without one is seconds. `K M G T` are powers of 1024, as disk tools
//! print them; `KB MB GB TB` are powers of 1000, as disks are sold.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A number of seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(pub u64);

const SIZE_UNITS: &[(&str, u64)] = &[
    ("", 1),
    ("B", 1),
    ("K", 1 << 10),
    ("KiB", 1 << 10),
    ("KB", 1000),
    ("M", 1 << 20),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("G", 1 << 30),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("T", 1 << 40),
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
];

const DURATION_UNITS: &[(&str, u64)] = &[("", 1), ("s", 1), ("m", 60), ("min", 60), ("h", 3600), ("d", 86_400)];

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit.trim()))?.1;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

impl Size {
    /// Parses `20G`, `512MiB`, `4096`; `None` for anything else, negative and overflowing numbers included.
    pub fn parse(text: &str) -> Option<Self> {
        parse(text, SIZE_UNITS).map(Self)
    }

    /// For people: `1.5 GiB`, `512 MiB`, `12 KiB`.
    pub fn human(self) -> String {
        let units = [("TiB", 1u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        match units.iter().find(|(_, factor)| self.0 >= *factor) {
            Some((name, factor)) if self.0.is_multiple_of(*factor) => format!("{} {name}", self.0 / factor),
            Some((name, factor)) => format!("{:.1} {name}", self.0 as f64 / *factor as f64),
            None => format!("{} B", self.0),
        }
    }
}

impl Seconds {
    /// Parses `90s`, `15m`, `2h`, `30`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        parse(text, DURATION_UNITS).map(Self)
    }
}

/// Reads what a person may write for a quantity: a number, or a number with a unit.
fn deserialize_quantity<'de, D: Deserializer<'de>>(deserializer: D, units: &[(&str, u64)]) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(u64),
        Text(String),
    }
    match Written::deserialize(deserializer)? {
        Written::Number(number) => Ok(number),
        Written::Text(text) => parse(&text, units).ok_or_else(|| D::Error::custom(format!("{text} is not a quantity"))),
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_quantity(deserializer, SIZE_UNITS).map(Self)
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_quantity(deserializer, DURATION_UNITS).map(Self)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_as_people_write_them() {
        for (text, bytes) in
            [("4096", 4096), ("20G", 20 << 30), ("1 GiB", 1 << 30), ("32GB", 32_000_000_000), ("512mib", 512 << 20)]
        {
            assert_eq!(Size::parse(text), Some(Size(bytes)), "{text}");
        }
        for (text, seconds) in [("15", 15), ("90s", 90), ("2 h", 7200), ("15min", 900)] {
            assert_eq!(Seconds::parse(text), Some(Seconds(seconds)), "{text}");
        }
        for text in ["", "G", "-1", "1.5G", "12 parsecs", "99999999999999999999", "99999999999T"] {
            assert_eq!(Size::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_size_for_people() {
        assert_eq!(Size(512 << 20).human(), "512 MiB");
        assert_eq!(Size(1_610_612_736).human(), "1.5 GiB");
        assert_eq!(Size(17).human(), "17 B");
    }
}
