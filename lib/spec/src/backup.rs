//! Backups as an appliance words them: how often one is made, and which of them are kept.

use crate::quantity::Seconds;
use crate::window;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt::{self, Display};
use std::str::FromStr;

/// The shortest time between two backups, in seconds: each reads all of the database.
const SHORTEST: u64 = 600;
const DAY: u64 = 86_400;
const WEEK: u64 = 7 * DAY;
/// The days of the week, from the one that 1970 began with.
const DAYS: [&str; 7] = ["thursday", "friday", "saturday", "sunday", "monday", "tuesday", "wednesday"];

/// How often a backup is made: `auto`, `off`, a duration such as `6h`, or at which hours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Every {
    /// Each hour onto a data disk; each day where there is only a card.
    Auto,
    /// Never.
    Off,
    /// Each so many seconds.
    Each(Seconds),
    /// At these hours.
    At(Hours),
}

/// When something is due again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rhythm {
    /// Once in so many seconds.
    Each(u64),
    /// At these hours.
    At(Hours),
}

impl Every {
    /// How often a backup is made; `None` for no backups.
    pub fn rhythm(&self, has_data_disk: bool) -> Option<Rhythm> {
        match self {
            Self::Auto if has_data_disk => Some(Rhythm::Each(3600)),
            Self::Auto => Some(Rhythm::Each(DAY)),
            Self::Off => None,
            Self::Each(seconds) => Some(Rhythm::Each(seconds.0)),
            Self::At(hours) => Some(Rhythm::At(hours.clone())),
        }
    }

    /// How often a drill is held, where this is said of them; `None` for no drills.
    pub fn drill_rhythm(&self) -> Option<Rhythm> {
        if *self == Self::Auto { Some(Rhythm::Each(WEEK)) } else { self.rhythm(true) }
    }
}

impl FromStr for Every {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not how often a backup is made");
        match text.trim() {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            hours if hours.contains(':') => Hours::read(hours).map(Self::At).ok_or_else(wrong),
            other => Seconds::parse(other).filter(|each| each.0 >= SHORTEST).map(Self::Each).ok_or_else(wrong),
        }
    }
}

impl Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Off => f.write_str("off"),
            Self::Each(seconds) => write!(f, "{}s", seconds.0),
            Self::At(hours) => write!(f, "{hours}"),
        }
    }
}

/// Hours of the day or of the week, in UTC: `03:00`, `03:00, 15:00`, or `sunday 03:00`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hours(BTreeSet<Hour>);

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Hour {
    /// The day by its place in [`DAYS`]; each day where there is none.
    day: Option<u64>,
    /// Seconds since midnight.
    time: u64,
}

impl Hours {
    fn read(text: &str) -> Option<Self> {
        let hours = Self(text.split(',').map(|part| Hour::read(part.trim())).collect::<Option<_>>()?);
        let moments = hours.moments();
        let next = moments.iter().skip(1).copied().chain(moments.first().map(|first| first + WEEK));
        moments.iter().zip(next).all(|(one, next)| next - one >= SHORTEST).then_some(hours)
    }

    /// The newest of these moments up to a time, each so many seconds later than it says; both in seconds since 1970.
    pub fn newest(&self, now: i64, later: u64) -> i64 {
        let now = now.saturating_sub_unsigned(later);
        let week = now.div_euclid(WEEK.cast_signed()) * WEEK.cast_signed();
        let moments = self.moments();
        let passed = moments.iter().rev().map(|moment| week.saturating_add_unsigned(*moment)).find(|at| *at <= now);
        // Before the first of a week it's the last one of the week before.
        let last = moments.last().map_or(0, |last| week.saturating_add_unsigned(*last) - WEEK.cast_signed());
        passed.unwrap_or(last).saturating_add_unsigned(later)
    }

    /// Seconds after which they begin again.
    pub fn period(&self) -> u64 {
        if self.0.iter().all(|hour| hour.day.is_none()) { DAY } else { WEEK }
    }

    /// The moments of a week, in seconds since its beginning.
    fn moments(&self) -> BTreeSet<u64> {
        let days = |hour: &Hour| hour.day.map_or(0..7, |day| day..day + 1);
        self.0.iter().flat_map(|hour| days(hour).map(|day| day * DAY + hour.time)).collect()
    }
}

impl Hour {
    fn read(text: &str) -> Option<Self> {
        let (day, time) = match text.rsplit_once(' ') {
            Some((day, time)) => (Some(day_of_week(day.trim())?), time),
            None => (None, text),
        };
        Some(Self { day, time: window::seconds_of_day(time)? })
    }
}

/// A day's place in [`DAYS`], by its name or the first three letters of it.
fn day_of_week(text: &str) -> Option<u64> {
    let text = text.to_ascii_lowercase();
    (0..).zip(DAYS).find(|(_, name)| *name == text || name[..3] == text).map(|(place, _)| place)
}

impl Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |hour: &Hour| {
            let day = hour.day.and_then(|day| DAYS.get(usize::try_from(day).ok()?)).map(|day| format!("{day} "));
            format!("{}{}", day.unwrap_or_default(), window::time_of_day(hour.time))
        };
        f.write_str(&self.0.iter().map(word).collect::<Vec<_>>().join(", "))
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

const PERIODS: &[(&str, u64)] = &[("hourly", 3600), ("daily", DAY), ("weekly", WEEK)];

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
            let rhythm = |seconds: Option<u64>| seconds.map(Rhythm::Each);
            assert_eq!((every.rhythm(true), every.rhythm(false)), (rhythm(with), rhythm(without)));
            assert_eq!(every.drill_rhythm(), if text == "auto" { Some(Rhythm::Each(604_800)) } else { rhythm(with) });
            assert_eq!(every.to_string().parse(), Ok(every));
        }
        for wrong in ["", "5m", "often", "-1h"] {
            assert!(wrong.parse::<Every>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn hours_are_read_in_any_order_and_come_back() {
        for (text, shown) in [
            ("03:00", "03:00"),
            ("15:00,03:00", "03:00, 15:00"),
            (" Sunday 03:00 ", "sunday 03:00"),
            ("Mon 22:30, thu 22:30", "thursday 22:30, monday 22:30"),
            ("12:00, sun 00:00", "12:00, sunday 00:00"),
        ] {
            let every: Every = text.parse().unwrap();
            assert_eq!(every.to_string(), shown);
            assert_eq!(every.to_string().parse(), Ok(every.clone()));
            assert!(matches!(every.rhythm(false), Some(Rhythm::At(_))) && every.drill_rhythm() == every.rhythm(true));
        }
        let wrong = ["3:00", "24:00", "03:60", "03:00,", "03:00 15:00", "someday 03:00", "su 03:00", "03:00-04:00"];
        let close = ["03:00, 03:09", "23:55, 00:00", "03:00, sunday 03:05", "wednesday 23:55, thursday 00:00"];
        for wrong in wrong.iter().chain(&close) {
            assert!(wrong.parse::<Every>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_newest_of_the_hours_is_found_over_midnight_and_the_week() {
        let newest = |text: &str, now, later| {
            let Ok(Every::At(hours)) = text.parse() else { panic!("{text}") };
            hours.newest(now, later)
        };
        let hour = 3600;
        let day = 24 * hour;
        assert_eq!(newest("03:00", 5 * day + 3 * hour, 0), 5 * day + 3 * hour);
        assert_eq!(newest("03:00", 5 * day + 3 * hour - 1, 0), 4 * day + 3 * hour);
        assert_eq!(newest("03:00", 2 * hour, 0), 3 * hour - day, "before the first of all");
        assert_eq!(newest("03:00, 15:00", 7 * day, 0), 6 * day + 15 * hour);
        // 1970 began with a Thursday: its first Sunday was day 3.
        assert_eq!(newest("sunday 03:00", 10 * day, 0), 3 * day + 3 * hour);
        assert_eq!(newest("sunday 03:00", 10 * day + 3 * hour, 0), 10 * day + 3 * hour);
        assert_eq!(newest("sunday 03:00", 10 * day + 3 * hour, 1), 3 * day + 3 * hour + 1);
        assert_eq!(newest("23:59", 6 * day + 100, 600), 4 * day + day - 60 + 600, "later than the next midnight");
        assert_eq!(newest("23:59", 6 * day + 600, 600), 6 * day - 60 + 600);
        let period = |text: &str| {
            let Ok(Every::At(hours)) = text.parse() else { panic!("{text}") };
            hours.period()
        };
        assert_eq!((period("03:00, 15:00"), period("03:00, sunday 15:00")), (86_400, 604_800));
    }
}
