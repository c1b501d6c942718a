//! What the watch tells: findings for the screen and status.json, in one small file that init reads.
//!
//! What is wrong follows from the records alone and is decided here anew each time; it is written where it has changed.

use crate::backup::Record;
use crate::look::Looks;
use crate::{certificates, drill, hygiene, metrics, wear};
use bakelite_spec::fault::{Code, Fault};
use bakelite_spec::status::{Backup, Database, Drill, Watch, paths};
use bakelite_sys::{durable, machine, read_text, words};

/// Tells what is to be told now; what is wrong.
pub fn tell(looks: &Looks) -> Vec<Fault> {
    let mut watch = watch(&Record::read(), drill::last(), looks, machine::clock());
    if let Err(error) = metrics::write(&watch, looks) {
        log::warn!("{}", words(&error));
    }
    let before = read_text(paths::WATCH).ok().and_then(|text| serde_json::from_str::<Watch>(&text).ok());
    keep_words(&mut watch.faults, before.as_ref().map_or(&[], |before| &before.faults));
    if before.as_ref() != Some(&watch) {
        let text = serde_json::to_string(&watch).unwrap_or_default();
        if let Err(error) = durable::replace(paths::WATCH, text.as_bytes(), 0o644) {
            log::warn!("{}", words(&error));
        }
    }
    watch.faults
}

/// What is wrong as before keeps its words of before, although its numbers have moved: each new word on the screen is also
/// a write to the boot partition.
fn keep_words(faults: &mut [Fault], before: &[Fault]) {
    let without_numbers = |text: &str| text.replace(|c: char| c.is_ascii_digit(), "");
    for fault in faults {
        let is_same =
            |old: &&Fault| old.code == fault.code && without_numbers(&old.text) == without_numbers(&fault.text);
        if let Some(old) = before.iter().find(is_same) {
            fault.text.clone_from(&old.text);
        }
    }
}

fn watch(record: &Record, drill: Option<Drill>, looks: &Looks, now: i64) -> Watch {
    let backup = record.last.as_ref().map(|made| Backup {
        set: made.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        made: made.made,
        revision: made.revision,
        bytes: made.bytes,
        lacks: made.lacks.clone(),
        target: record.target.as_ref().map(|target| target.set.clone()),
    });
    let mut faults = of_backups(record);
    if let Some(drill) = drill.as_ref().filter(|drill| !drill.good) {
        faults.push(Fault::new(Code::BackupDrill, format!("{} doesn't come back: {}", drill.set, drill.said)));
    }
    faults.extend(hygiene::faults(&looks.seen));
    faults.extend(certificates::faults(looks.expiry, looks.in_vain, now));
    faults.extend(looks.media.iter().filter_map(wear::fault));
    faults.extend(looks.visitors.iter().chain(&looks.address).cloned());
    let database = looks.seen.sizes.map(|sizes| Database {
        bytes: sizes.database,
        log: sizes.log,
        free: sizes.free,
        uncompacted: sizes.uncompacted,
        slow: looks.seen.slow,
    });
    Watch { faults, backup, drill, restart: looks.restart.clone(), database }
}

fn of_backups(record: &Record) -> Vec<Fault> {
    let mut faults = Vec::new();
    if let Some((_, why)) = &record.failed {
        let code = if record.damaged { Code::K3sDatabaseDamaged } else { Code::BackupFailing };
        faults.push(Fault::new(code, format!("the last backup failed: {why}")));
    }
    if let Some(why) = &record.target_failed {
        faults.push(Fault::new(Code::BackupTarget, why.clone()));
    }
    for (place, count) in &record.early {
        let text = format!("{count} backups on the {place} went before their time, for want of room for the newest");
        faults.push(Fault::new(Code::BackupRoom, text));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::{Made, Target};

    #[test]
    fn numbers_that_move_are_no_news() {
        let fault = |text: &str| Fault::new(Code::BackupFailing, text);
        let mut now = [fault("7 bytes free"), fault("no key")];
        keep_words(&mut now, &[fault("123 bytes free"), fault("no token")]);
        assert_eq!(now.map(|fault| fault.text), ["123 bytes free", "no key"]);
    }

    #[test]
    fn what_went_wrong_with_backups_is_told_each_by_its_code() {
        let looks = Looks::default();
        assert_eq!(watch(&Record::default(), None, &looks, 0), Watch::default());
        let record = Record {
            last: Some(Made {
                path: "/disk/sets/shop/00000002.tar.zst".into(),
                made: 7,
                revision: 9,
                ..Made::default()
            }),
            failed: Some((8, "no room".into())),
            target: Some(Target { label: "SHOP".into(), set: "00000001.tar.zst".into(), at: 3 }),
            target_failed: Some("it is write-protected".into()),
            early: [("stick SHOP".to_string(), 2)].into(),
            ..Record::default()
        };
        let drill = Drill { good: false, set: "s".into(), said: "its hash".into(), ..Drill::default() };
        let watch = watch(&record, Some(drill), &looks, 0);
        let codes: Vec<Code> = watch.faults.iter().map(|fault| fault.code).collect();
        assert_eq!(codes, [Code::BackupFailing, Code::BackupTarget, Code::BackupRoom, Code::BackupDrill]);
        assert!(watch.faults[2].text.contains("2 backups on the stick SHOP"));
        let backup = watch.backup.unwrap();
        assert_eq!(
            (backup.set.as_str(), backup.revision, backup.target.as_deref()),
            ("00000002.tar.zst", 9, Some("00000001.tar.zst"))
        );
    }
}
