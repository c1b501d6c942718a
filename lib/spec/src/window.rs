//! A window of the day in which something may be done: `02:00-04:00`, in UTC, also over midnight.

use serde::{Deserialize, Serialize};
use std::fmt::{self, Display};
use std::str::FromStr;

const DAY: u64 = 86_400;
/// A shorter one would be missed between two looks, or by a machine that is busy for a moment.
const SHORTEST: u64 = 15 * 60;

/// A part of each day, in seconds since its midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Window {
    from: u64,
    to: u64,
}

impl Window {
    /// Its length in seconds.
    pub fn length(&self) -> u64 {
        (self.to + DAY - self.from) % DAY
    }

    /// Whether it is open at a time in seconds since 1970, where it opens so many seconds later than it says.
    pub fn is_open(&self, now: i64, later: u64) -> bool {
        self.open(now, later).is_some()
    }

    /// Since how many seconds it is open and for how many more it will be; `None` while it is closed.
    pub fn open(&self, now: i64, later: u64) -> Option<(u64, u64)> {
        let later = later.min(self.length());
        let since = (now.rem_euclid(DAY as i64).cast_unsigned() + 2 * DAY - self.from - later) % DAY;
        let left = (self.length() - later).checked_sub(since).filter(|left| *left > 0)?;
        Some((since, left))
    }

    /// When it opens, so many seconds later than it says, as people write it.
    pub fn opening(&self, later: u64) -> String {
        time_of_day(self.from + later)
    }
}

/// A time of the day from seconds since a midnight, as people write it.
pub(crate) fn time_of_day(seconds: u64) -> String {
    let minutes = seconds % DAY / 60;
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

/// Seconds since midnight from a time of the day such as `03:00`.
pub(crate) fn seconds_of_day(text: &str) -> Option<u64> {
    let is_two = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
    let two = |part: &str| is_two(part).then(|| part.parse::<u64>().ok())?;
    let (hour, minute) = text.trim().split_once(':')?;
    let (hour, minute) = (two(hour).filter(|hour| *hour < 24)?, two(minute).filter(|minute| *minute < 60)?);
    Some(hour * 3600 + minute * 60)
}

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (from, to) = text.split_once('-')?;
            let window = Self { from: seconds_of_day(from)?, to: seconds_of_day(to)? };
            (window.length() >= SHORTEST).then_some(window)
        };
        read().ok_or_else(|| format!("`{text}` is no window of the day"))
    }
}

impl Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", time_of_day(self.from), time_of_day(self.to))
    }
}

impl TryFrom<String> for Window {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Window> for String {
    fn from(window: Window) -> Self {
        window.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 20_000 * 86_400 + 12 * 3600;

    #[test]
    fn a_window_is_open_between_its_times_and_over_midnight() {
        let is_open = |text: &str, hour: i64, later| text.parse::<Window>().unwrap().is_open(NOON + hour * 3600, later);
        for (text, open) in
            [("11:00-13:00", true), ("12:00-13:00", true), ("10:00-12:00", false), ("22:00-13:00", true)]
        {
            assert_eq!(is_open(text, 0, 0), open, "{text}");
        }
        assert!(is_open("23:00-02:00", 13, 0) && is_open("23:00-02:00", 11, 0) && !is_open("23:00-02:00", 14, 0));
        assert!(!is_open("11:00-13:00", 0, 3601) && is_open("11:00-13:00", 0, 3600));
        assert!(!is_open("11:00-13:00", 0, 99_999), "never longer than it is");
        let open = |hour: i64, later| "23:00-02:00".parse::<Window>().unwrap().open(NOON + hour * 3600, later);
        assert_eq!(open(13, 1800), Some((5400, 3600)));
        assert_eq!((open(11, 0), open(14, 0), open(11, 1)), (Some((0, 3 * 3600)), None, None));
        assert_eq!("23:00-02:00".parse::<Window>().unwrap().opening(5400), "00:30");
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for bad in
            ["", "02:00", "2:00-4:00", "02:00-24:00", "02:60-04:00", "02:00-02:00", "02:00-02:10", "a-b", "+1:00-04:00"]
        {
            assert!(bad.parse::<Window>().is_err(), "{bad}");
        }
        assert_eq!("02:00-04:00".parse::<Window>().unwrap().to_string(), "02:00-04:00");
    }
}
