//! Metrics: what the watch knows, as a Prometheus text file that a node exporter's textfile collector reads by a hostPath.
//!
//! In memory, replaced in one step; nothing in it names more than media and the node's own sizes.

use crate::look::Looks;
use crate::wear::Medium;
use bakelite_spec::status::Watch;
use bakelite_sys::{SysError, durable, read_text};
use std::fmt::Write;
use std::path::Path;

/// The folder to give to the collector.
const FOLDER: &str = "/run/bakelite/metrics";
const NAME: &str = "bakelite.prom";

/// Writes the metrics where they have changed.
///
/// # Errors
/// When they can't be written.
pub fn write(watch: &Watch, looks: &Looks) -> Result<(), SysError> {
    let path = Path::new(FOLDER).join(NAME);
    let text = text(watch, looks);
    if read_text(&path).is_ok_and(|before| before == text.trim_end()) {
        return Ok(());
    }
    durable::make_folder(FOLDER)?;
    durable::replace(path, text.as_bytes(), 0o644)
}

/// One metric: its name, what it means, and its values with their labels.
type Metric<'a> = (&'a str, &'a str, Vec<(String, f64)>);

fn text(watch: &Watch, looks: &Looks) -> String {
    let one = |value: Option<f64>| value.map(|value| (String::new(), value)).into_iter().collect::<Vec<_>>();
    let of_media = |value: &dyn Fn(&Medium) -> Option<f64>| -> Vec<(String, f64)> {
        looks.media.iter().filter_map(|medium| Some((label(medium), value(medium)?))).collect()
    };
    let (backup, drill, database) = (watch.backup.as_ref(), watch.drill.as_ref(), watch.database.as_ref());
    let (update, apps) = (looks.update.as_ref(), looks.apps.as_ref());
    let metrics: [Metric<'_>; 20] = [
        (
            "backup_last_success_timestamp_seconds",
            "When the newest verified backup was made.",
            one(backup.map(|b| b.made as f64)),
        ),
        ("backup_last_bytes", "Its size.", one(backup.map(|b| b.bytes as f64))),
        ("backup_last_revision", "The revision of the database in it.", one(backup.map(|b| b.revision as f64))),
        (
            "drill_last_success_timestamp_seconds",
            "When a drill last went well.",
            one(drill.and_then(|d| d.last_good).map(|at| at as f64)),
        ),
        ("update_last_timestamp_seconds", "When the last update ended.", one(update.map(|update| update.at as f64))),
        (
            "update_last_good",
            "Whether it proved itself; 0: it went back.",
            one(update.map(|update| f64::from(update.why.is_empty()))),
        ),
        ("apps_last_timestamp_seconds", "When the last bundle of apps ended.", one(apps.map(|apps| apps.at as f64))),
        (
            "apps_last_good",
            "Whether it proved itself; 0: it was undone.",
            one(apps.map(|apps| f64::from(apps.why.is_empty()))),
        ),
        ("drill_good", "Whether the last drill went well.", one(drill.map(|d| f64::from(d.good)))),
        ("database_bytes", "The file of k3s's database.", one(database.map(|d| d.bytes as f64))),
        ("database_wal_bytes", "The -wal beside it.", one(database.map(|d| d.log as f64))),
        ("database_free_bytes", "Pages of it that hold nothing.", one(database.map(|d| d.free as f64))),
        (
            "database_uncompacted_revisions",
            "Revisions since the last compaction.",
            one(database.map(|d| d.uncompacted as f64)),
        ),
        (
            "database_slow_statements",
            "Statements of the last hour that took longer than a second.",
            one(database.map(|d| d.slow as f64)),
        ),
        (
            "certificate_expiry_timestamp_seconds",
            "When the first of k3s's leaf certificates expires.",
            one(looks.expiry.leaf.map(|at| at as f64)),
        ),
        (
            "medium_written_bytes_total",
            "Bytes written since the machine was switched on.",
            of_media(&|m| Some(m.written as f64)),
        ),
        (
            "medium_written_bytes_per_day",
            "Bytes written a day, by the last week.",
            of_media(&|m| m.per_day.map(|bytes| bytes as f64)),
        ),
        (
            "medium_life_used_ratio",
            "How much of its life a medium says is used.",
            of_media(&|m| m.used.map(|used| f64::from(used) / 100.0)),
        ),
        ("medium_days_left", "An estimate.", of_media(&|m| m.days_left.map(|days| days as f64))),
        ("faults", "What the watch has found wrong.", one(Some(watch.faults.len() as f64))),
    ];
    let mut text = String::new();
    for (name, help, values) in metrics.iter().filter(|(_, _, values)| !values.is_empty()) {
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        // Writing to a text never fails.
        let _ = writeln!(text, "# HELP bakelite_{name} {help}\n# TYPE bakelite_{name} {kind}");
        for (labels, value) in values {
            let _ = writeln!(text, "bakelite_{name}{labels} {value}");
        }
    }
    text
}

fn label(medium: &Medium) -> String {
    let plain = |text: &str| text.replace(['\\', '"', '\n'], "_");
    format!("{{device=\"{}\",model=\"{}\"}}", plain(&medium.name), plain(&medium.model))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bakelite_spec::status::Backup;

    #[test]
    fn what_is_known_is_a_line_and_what_is_not_known_is_none() {
        let backup = Backup { made: 1_795_280_100, bytes: 7, ..Backup::default() };
        let watch = Watch { backup: Some(backup), ..Watch::default() };
        let medium =
            Medium { name: "sda".into(), model: "A \"B\"".into(), written: 5, used: Some(30), ..Medium::default() };
        let mut looks = Looks::default();
        looks.media.push(medium);
        let text = text(&watch, &looks);
        assert!(text.contains("\nbakelite_backup_last_success_timestamp_seconds 1795280100\n"), "{text}");
        assert!(text.contains("# TYPE bakelite_medium_written_bytes_total counter\n"));
        assert!(text.contains("\nbakelite_medium_life_used_ratio{device=\"sda\",model=\"A _B_\"} 0.3\n"), "{text}");
        assert!(!text.contains("drill") && !text.contains("days_left"));
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert_eq!(line.rsplit_once(' ').map(|(_, value)| value.parse::<f64>().is_ok()), Some(true), "{line}");
        }
    }
}
