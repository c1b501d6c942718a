//! Wear: how much is written to each medium a day, how much of its life is used, and for how long it may last. Pure.
//!
//! Cards say nothing of their wear, so days left are an estimate for them: how often each cell of such a medium can be
//! written, as makers of cheap ones state it, against what is written to it. It is always called an estimate.

use bakelite_spec::fault::{Code, Fault};
use bakelite_sys::block::Disk;
use serde::Serialize;

const DAY: i64 = 86_400;
/// What is written a day is the mean of so many seconds.
const WINDOW: i64 = 7 * DAY;
/// Less of a history says nothing of a day.
const LEAST: i64 = 3600;
/// An alarm by the estimate needs a history of a whole window, and fewer days left than this.
const ALARM_DAYS: u64 = 180;
/// An alarm by what the medium says of itself, in percent of its life.
const ALARM_USED: u8 = 90;

/// How much was written to a medium up to a moment of a boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Which medium: its serial number.
    pub medium: String,
    /// When, in seconds since 1970.
    pub at: i64,
    /// The kernel's name for the boot.
    pub boot: String,
    /// Bytes since that boot.
    pub bytes: u64,
    /// Percent of its life, where it says so.
    pub used: Option<u8>,
}

/// What is known of a medium.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Medium {
    /// The kernel's name for it now.
    pub name: String,
    /// Maker and model.
    pub model: String,
    /// Its serial number.
    pub serial: String,
    /// How it is attached.
    pub transport: String,
    /// Its size in bytes.
    pub size: u64,
    /// Bytes since the machine was switched on.
    pub written: u64,
    /// Bytes a day, by the history.
    pub per_day: Option<u64>,
    /// Seconds that the history spans.
    pub span: i64,
    /// Percent of its life that are used, where it says so.
    pub used: Option<u8>,
    /// Estimate of the days that it lasts.
    pub days_left: Option<u64>,
    /// What it says of its own health, if that is bad.
    pub ails: String,
}

/// By what a medium is told from others: the serial number, and where it has none the model.
pub fn identity(disk: &Disk) -> String {
    [&disk.serial, &disk.wwn, &disk.model, &disk.name]
        .into_iter()
        .find(|text| !text.is_empty())
        .cloned()
        .unwrap_or_default()
}

/// How often a medium of this kind can be written in whole, as makers of cheap ones state it.
fn endurance(transport: &str) -> u64 {
    match transport {
        "sd" | "usb" => 500,
        "emmc" => 1_000,
        _ => 600,
    }
}

/// What a disk and its history say together. `history` is by time, and may be of other media as well.
pub fn medium(disk: &Disk, history: &[Sample], now: i64) -> Medium {
    let identity = identity(disk);
    let own: Vec<&Sample> = history.iter().filter(|sample| sample.medium == identity).collect();
    let recent: Vec<&Sample> = own.iter().copied().filter(|sample| now - sample.at <= WINDOW).collect();
    let span =
        |samples: &[&Sample]| samples.last().map_or(0, |last| last.at) - samples.first().map_or(0, |first| first.at);
    let per_day = (span(&recent) >= LEAST).then(|| {
        let bytes = u128::from(between(&recent)) * DAY.unsigned_abs() as u128;
        u64::try_from(bytes / span(&recent).unsigned_abs() as u128).unwrap_or(u64::MAX)
    });
    let whole = u128::from(disk.size) * u128::from(endurance(&disk.transport));
    let left = match disk.used {
        Some(used) => whole * u128::from(100 - used.min(100)) / 100,
        None => whole.saturating_sub(u128::from(between(&own))),
    };
    let days_left = per_day
        .filter(|per_day| *per_day > 0)
        .map(|per_day| u64::try_from(left / u128::from(per_day)).unwrap_or(u64::MAX));
    Medium {
        name: disk.name.clone(),
        model: disk.model.clone(),
        serial: disk.serial.clone(),
        transport: disk.transport.clone(),
        size: disk.size,
        written: disk.written,
        per_day,
        span: span(&own),
        used: disk.used,
        days_left,
        ails: disk.ails.clone(),
    }
}

/// Bytes between the first and the last sample: each boot begins at nothing.
fn between(samples: &[&Sample]) -> u64 {
    let steps = samples.windows(2).map(|pair| {
        let [before, after] = pair else { return 0 };
        if before.boot == after.boot { after.bytes.saturating_sub(before.bytes) } else { after.bytes }
    });
    steps.sum()
}

/// What is wrong with a medium.
pub fn fault(medium: &Medium) -> Option<Fault> {
    let name = if medium.model.is_empty() { &medium.name } else { &medium.model };
    let text = if !medium.ails.is_empty() {
        format!("{name} ({}): {}", medium.name, medium.ails)
    } else if let Some(used) = medium.used.filter(|used| *used >= ALARM_USED) {
        format!("{name} ({}) has used {used} % of its life", medium.name)
    } else if let Some(days) = medium.days_left.filter(|days| *days < ALARM_DAYS && medium.span >= WINDOW) {
        format!("{name} ({}) lasts some {days} days more, by an estimate from what is written to it", medium.name)
    } else {
        return None;
    };
    Some(Fault::new(Code::MediumWorn, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn card() -> Disk {
        Disk { name: "mmcblk0".into(), serial: "0x1".into(), transport: "sd".into(), size: 32 * GIB, ..Disk::default() }
    }

    fn sample(hour: i64, boot: &str, bytes: u64) -> Sample {
        Sample { medium: "0x1".into(), at: hour * 3600, boot: boot.into(), bytes, used: None }
    }

    #[test]
    fn each_boot_begins_at_nothing_and_time_off_counts() {
        let other = Sample { medium: "0x2".into(), ..sample(2, "a", 1 << 50) };
        // Two hours with a GiB each, off for eight, then one that wrote half a GiB by its second hour.
        let history = [sample(0, "a", GIB), other, sample(2, "a", 3 * GIB), sample(12, "b", GIB / 2)];
        let found = medium(&card(), &history, 12 * 3600);
        assert_eq!(found.per_day, Some(5 * GIB));
        assert_eq!(found.span, 12 * 3600);
        assert_eq!(found.days_left, Some((32 * 500 * GIB - 5 * GIB / 2) / (5 * GIB)));
        assert_eq!(medium(&card(), &history[..1], 0).per_day, None, "one look says nothing of a day");
        assert_eq!(medium(&card(), &[], 0).days_left, None);
        let long_ago = medium(&card(), &history, 12 * 3600 + 8 * DAY);
        assert_eq!(long_ago.per_day, None, "older than a week");
    }

    #[test]
    fn an_alarm_comes_from_the_medium_itself_or_from_a_week_of_history() {
        let worn = |used, ails: &str, days_left, span| {
            let medium = Medium { used, ails: ails.into(), days_left, span, ..Medium::default() };
            fault(&medium).is_some()
        };
        assert!(!worn(Some(80), "", Some(4_000), WINDOW));
        assert!(worn(Some(90), "", None, 0));
        assert!(worn(None, "it is near its end", None, 0));
        assert!(worn(None, "", Some(179), WINDOW));
        assert!(!worn(None, "", Some(1), WINDOW - 1), "a first day with all its images says nothing");
        let emmc = Disk { transport: "emmc".into(), used: Some(50), ..card() };
        let history = [sample(0, "a", 0), sample(24, "a", 16 * GIB)];
        assert_eq!(medium(&emmc, &history, DAY).days_left, Some(32 * 1_000 / 2 / 16));
    }
}
