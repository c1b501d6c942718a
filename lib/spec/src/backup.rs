//! Backups as an appliance words them: how often one is made, and which of them are kept.

use crate::quantity::Seconds;
use serde::{Deserialize, Serialize};
use std::fmt::{self, Display};
use std::str::FromStr;

/// The shortest time between two backups, in seconds: each reads all of the database.
const SHORTEST: u64 = 600;

/// How often a backup is made: `auto`, `off`, or a duration such as `6h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Every {
    /// Each hour onto a data disk; each day where there is only a card.
    Auto,
    /// Never.
    Off,
    /// Each so many seconds.
    Each(Seconds),
}

impl Every {
    /// Seconds between two backups; `None` for no backups.
    pub fn seconds(self, has_data_disk: bool) -> Option<u64> {
        match self {
            Self::Auto if has_data_disk => Some(3600),
            Self::Auto => Some(86_400),
            Self::Off => None,
            Self::Each(seconds) => Some(seconds.0),
        }
    }

    /// Seconds between two drills, where this is said of them; `None` for no drills.
    pub fn drill_seconds(self) -> Option<u64> {
        if self == Self::Auto { Some(7 * 86_400) } else { self.seconds(true) }
    }
}

impl FromStr for Every {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            other => Seconds::parse(other)
                .filter(|each| each.0 >= SHORTEST)
                .map(Self::Each)
                .ok_or_else(|| format!("`{text}` is not how often a backup is made")),
        }
    }
}

impl Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Off => f.write_str("off"),
            Self::Each(seconds) => write!(f, "{}s", seconds.0),
        }
    }
}

/// One kind of backups that are kept: the newest of each period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tier {
    /// The period's length in seconds.
    pub period: u64,
    /// Of how many periods.
    pub count: u64,
}

const PERIODS: &[(&str, u64)] = &[("hourly", 3600), ("daily", 86_400), ("weekly", 604_800)];

/// Which backups are kept: `24 hourly, 7 daily, 4 weekly`, a count such as `720`, or an age such as `7 days`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Keep {
    /// The newest of each hour, day and week.
    Tiers(Vec<Tier>),
    /// The newest ones.
    Newest(u64),
    /// Those that aren't older.
    Younger(Seconds),
}

impl FromStr for Keep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` doesn't say which backups are kept");
        let words = text.trim();
        if let Ok(count) = words.parse::<u64>() {
            return if count > 0 { Ok(Self::Newest(count)) } else { Err(wrong()) };
        }
        let days = words.strip_suffix("days").or_else(|| words.strip_suffix("day")).map(|number| number.trim_end());
        if let Some(age) = Seconds::parse(&days.map_or_else(|| words.to_string(), |number| format!("{number}d"))) {
            return if age.0 >= SHORTEST { Ok(Self::Younger(age)) } else { Err(wrong()) };
        }
        let tier = |part: &str| {
            let (count, name) = part.trim().split_once(' ')?;
            let (_, period) = PERIODS.iter().find(|(known, _)| *known == name.trim())?;
            Some(Tier { period: *period, count: count.parse().ok().filter(|count| *count > 0)? })
        };
        let tiers: Option<Vec<Tier>> = words.split(',').map(tier).collect();
        tiers.map(Self::Tiers).ok_or_else(wrong)
    }
}

impl Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest(count) => write!(f, "{count}"),
            Self::Younger(age) => write!(f, "{}s", age.0),
            Self::Tiers(tiers) => {
                let name = |period| PERIODS.iter().find(|(_, known)| *known == period).map_or("", |(name, _)| *name);
                let words: Vec<String> =
                    tiers.iter().map(|tier| format!("{} {}", tier.count, name(tier.period))).collect();
                f.write_str(&words.join(", "))
            }
        }
    }
}

macro_rules! as_text {
    ($kind:ty) => {
        impl TryFrom<String> for $kind {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$kind> for String {
            fn from(value: $kind) -> Self {
                value.to_string()
            }
        }
    };
}
as_text!(Every);
as_text!(Keep);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_comes_back() {
        for (text, shown) in [
            ("24 hourly, 7 daily, 4 weekly", "24 hourly, 7 daily, 4 weekly"),
            ("720", "720"),
            ("7 days", "604800s"),
            ("12h", "43200s"),
        ] {
            let keep: Keep = text.parse().unwrap();
            assert_eq!(keep.to_string(), shown);
            assert_eq!(keep.to_string().parse(), Ok(keep));
        }
        for wrong in ["", "0", "many", "7 yearly", "0 daily", "24 hourly,", "5 seconds", "-1"] {
            assert!(wrong.parse::<Keep>().is_err(), "{wrong}");
        }
        for (text, with, without) in
            [("auto", Some(3600), Some(86_400)), ("off", None, None), ("6h", Some(21_600), Some(21_600))]
        {
            let every: Every = text.parse().unwrap();
            assert_eq!((every.seconds(true), every.seconds(false)), (with, without));
            assert_eq!(every.drill_seconds(), if text == "auto" { Some(604_800) } else { with });
            assert_eq!(every.to_string().parse(), Ok(every));
        }
        for wrong in ["", "5m", "often", "-1h"] {
            assert!(wrong.parse::<Every>().is_err(), "{wrong}");
        }
    }
}
