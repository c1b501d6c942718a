//! Set: one backup of a cluster, and what its manifest says.
//!
//! A set is `sets/<node>/<number>-<UTC>.tar.zst.age`: a tar whose first member is `manifest.json`, packed with zstd,
//! encrypted with age. `age -d -i KEY SET | zstd -d | tar x` opens it with nothing of ours. Without `.age` it is plain,
//! as `backup.encryption: none` wants it.

use crate::records::{Datastore, k3s_version};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the format that is written, and the newest that is read.
pub const FORMAT: u32 = 1;
/// The manifest's name in the archive.
pub const MANIFEST: &str = "manifest.json";
/// A longer manifest isn't one of ours.
pub const MANIFEST_LIMIT: u64 = 1 << 20;
/// The database's name in the archive.
pub const DATABASE: &str = "db/state.db";
/// The token's name in the archive.
pub const TOKEN: &str = "token";
/// The end of the name of an encrypted set.
pub const ENCRYPTED: &str = ".tar.zst.age";
/// The end of the name of a plain set.
pub const PLAIN: &str = ".tar.zst";

/// What a set holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// When it was made, in seconds since 1970.
    pub made: i64,
    /// The version of Bakelite that made it.
    pub version: String,
    /// The node.
    pub node: String,
    /// The line of the database.
    pub epoch: u64,
    /// The k3s version that it ran with.
    pub k3s: String,
    /// What keeps the cluster's data.
    pub datastore: Datastore,
    /// The keys of k3s's configuration that can't be changed any more.
    pub keys: BTreeMap<String, String>,
    /// The revision of the database in it.
    pub revision: u64,
    /// Up to which revision it is compacted.
    pub compacted: u64,
    /// Live keys by the first two parts of their names.
    pub live: BTreeMap<String, u64>,
    /// The name of the row with the cluster's keys, which the token in the set opens.
    pub row: String,
    /// Volumes of local-path.
    pub volumes: Volumes,
    /// Everything else in the archive, in its order.
    pub members: Vec<Member>,
}

/// Which volumes a set has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Volumes {
    /// Claims whose data is in it, `namespace/name`.
    pub holds: Vec<String>,
    /// Claims whose data isn't.
    pub lacks: Vec<String>,
    /// Whether pods may have written while it was copied.
    #[serde(default)]
    pub live: bool,
}

/// One file in a set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Member {
    /// Its relative path.
    pub path: String,
    /// Its length in bytes.
    pub size: u64,
    /// Its SHA-256 in hexadecimal digits.
    pub sha256: String,
}

/// Why a set can't be restored upon what is installed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// A database is never given to an older k3s.
    #[error("it is of k3s {set}, and this image has {installed}, which is older; bake one with {set} or newer")]
    K3sOlder {
        /// The set's.
        set: String,
        /// The image's.
        installed: String,
    },
    /// Kubernetes goes one minor version at a time.
    #[error("it is of k3s {set}, and this image has {installed}; a database goes one minor version at a time")]
    K3sTooNew {
        /// The set's.
        set: String,
        /// The image's.
        installed: String,
    },
    /// Another kind of datastore.
    #[error("it is of a cluster whose data isn't in SQLite")]
    Datastore,
    /// A key that can't be changed once a cluster is born.
    #[error("its cluster was born with `k3s.config.{key}` {set}, and this appliance has {own}; set it to {set}")]
    Key {
        /// Which.
        key: String,
        /// The set's.
        set: String,
        /// The appliance's.
        own: String,
    },
}

impl Manifest {
    /// What is said of a set of SQLite's before anything is in it.
    pub fn about(node: &str, k3s: &str, made: i64) -> Self {
        Self {
            format: FORMAT,
            made,
            version: env!("CARGO_PKG_VERSION").into(),
            node: node.into(),
            epoch: 0,
            k3s: k3s.into(),
            datastore: Datastore::Sqlite,
            keys: BTreeMap::new(),
            revision: 0,
            compacted: 0,
            live: BTreeMap::new(),
            row: String::new(),
            volumes: Volumes::default(),
            members: Vec::new(),
        }
    }

    /// Whether this set's database may be given to a k3s version with such immutable keys; `default_of` says what a key is
    /// where it isn't set.
    ///
    /// # Errors
    /// Why not, and what would make it fit.
    pub fn fits(
        &self,
        installed: &str,
        keys: &BTreeMap<String, String>,
        defaults: &[(&str, &str)],
    ) -> Result<(), Misfit> {
        let versions = || (self.k3s.clone(), installed.to_string());
        match (k3s_version(&self.k3s), k3s_version(installed)) {
            (Some(set), Some(own)) if own < set => {
                let (set, installed) = versions();
                return Err(Misfit::K3sOlder { set, installed });
            }
            (Some(set), Some(own)) if (set[0], set[1] + 1) < (own[0], own[1]) => {
                let (set, installed) = versions();
                return Err(Misfit::K3sTooNew { set, installed });
            }
            (Some(_), Some(_)) => {}
            // What isn't a release, such as a stand-in, can only be compared as a whole.
            _ if self.k3s == installed => {}
            _ => {
                let (set, installed) = versions();
                return Err(Misfit::K3sOlder { set, installed });
            }
        }
        if self.datastore != Datastore::Sqlite {
            return Err(Misfit::Datastore);
        }
        for (key, default) in defaults {
            let value = |of: &BTreeMap<String, String>| of.get(*key).map_or(*default, String::as_str).to_string();
            let (set, own) = (value(&self.keys), value(keys));
            if set != own {
                return Err(Misfit::Key { key: key.to_string(), set, own });
            }
        }
        Ok(())
    }
}

/// Whether a path is one that a set may hold: relative, with `/` between plain names.
pub fn is_member_path(path: &str) -> bool {
    path.len() <= 200
        && path != MANIFEST
        && path.split('/').all(|part| {
            !part.is_empty()
                && part != "."
                && part != ".."
                && part.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
        })
}

/// A set's name without its ending: `00000012-20261121T165500Z`. Names of one node sort by number, then by time.
pub fn name(number: u64, made: i64) -> String {
    format!("{number:08}-{}", stamp(made))
}

/// A moment in seconds since 1970 as names have it: `20261121T165500Z`.
pub fn stamp(made: i64) -> String {
    let (day, second) = (made.div_euclid(86_400), made.rem_euclid(86_400));
    let (year, month, day) = civil(day);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// The number in a set's name, if it is one of ours.
pub fn number(file_name: &str) -> Option<u64> {
    let stem = file_name.strip_suffix(ENCRYPTED).or_else(|| file_name.strip_suffix(PLAIN))?;
    let (number, time) = stem.split_once('-')?;
    let is_time = time.len() == 16 && time.bytes().all(|byte| byte.is_ascii_digit() || byte == b'T' || byte == b'Z');
    if number.len() < 8 || !is_time { None } else { number.parse().ok() }
}

/// When a set was made by its name, in seconds since 1970, if it is one of ours.
pub fn made(file_name: &str) -> Option<i64> {
    number(file_name)?;
    let time = file_name.split_once('-')?.1;
    let part = |from: usize, to: usize| time.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (part(0, 4)?, part(4, 6)?, part(6, 8)?);
    let (hour, minute, second) = (part(9, 11)?, part(11, 13)?, part(13, 15)?);
    Some(days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Days since 1970 of a date (Hinnant, as above, `days_from_civil`).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year - era * 400;
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// A moment in seconds since 1970 for people, as `2026-11-21 16:55 UTC`.
pub fn instant(seconds: i64) -> String {
    let second = seconds.rem_euclid(86_400);
    format!("{} {:02}:{:02} UTC", date(seconds), second / 3600, second / 60 % 60)
}

/// The day of a moment in seconds since 1970, as `2026-11-21`.
pub fn date(seconds: i64) -> String {
    let (year, month, day) = civil(seconds.div_euclid(24 * 3600));
    format!("{year:04}-{month:02}-{day:02}")
}

/// Year, month and day of a day since 1970 (Hinnant, chrono-compatible low-level date algorithms, `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_number_and_time_and_sort() {
        assert_eq!(name(12, 1_795_280_100), "00000012-20261121T165500Z");
        assert_eq!(instant(1_795_280_100), "2026-11-21 16:55 UTC");
        assert_eq!(name(0, 0), "00000000-19700101T000000Z");
        assert_eq!(name(1, 951_782_400), "00000001-20000229T000000Z");
        for made_at in [0, 951_782_400, 1_795_280_100, 4_102_444_799] {
            assert_eq!(made(&(name(1, made_at) + PLAIN)), Some(made_at));
        }
        assert_eq!(made("00000012.tar.zst"), None);
        assert_eq!(number("00000012-20261121T165500Z.tar.zst.age"), Some(12));
        assert_eq!(number("00000012-20261121T165500Z.tar.zst"), Some(12));
        for other in ["12-20261121T165500Z.tar.zst", "00000012.tar.zst", "00000012-20261121T165500Z.tar", ".half"] {
            assert_eq!(number(other), None, "{other}");
        }
    }

    #[test]
    fn a_set_fits_the_same_k3s_or_a_little_newer_one() {
        let manifest = |k3s: &str| Manifest::about("n", k3s, 0);
        let fits = |set: &str, installed: &str| manifest(set).fits(installed, &BTreeMap::new(), &[]);
        for installed in ["v1.36.2+k3s1", "v1.36.10+k3s1", "v1.37.0+k3s1"] {
            assert_eq!(fits("v1.36.2+k3s1", installed), Ok(()), "{installed}");
        }
        assert!(matches!(fits("v1.36.2+k3s2", "v1.36.2+k3s1"), Err(Misfit::K3sOlder { .. })));
        assert!(matches!(fits("v1.35.9+k3s1", "v1.37.0+k3s1"), Err(Misfit::K3sTooNew { .. })));
        assert_eq!(fits("rehearsal", "rehearsal"), Ok(()));
        assert!(fits("rehearsal", "v1.36.2+k3s1").is_err() && fits("v1.36.2+k3s1", "rehearsal").is_err());
        let defaults = [("cluster-cidr", "10.42.0.0/16")];
        let own: BTreeMap<_, _> = [("cluster-cidr".to_string(), "10.42.0.0/16".to_string())].into();
        assert_eq!(manifest("rehearsal").fits("rehearsal", &own, &defaults), Ok(()), "the default is the same");
        let other: BTreeMap<_, _> = [("cluster-cidr".to_string(), "10.52.0.0/16".to_string())].into();
        assert!(matches!(manifest("rehearsal").fits("rehearsal", &other, &defaults), Err(Misfit::Key { .. })));
        let etcd = Manifest { datastore: Datastore::Etcd, ..manifest("rehearsal") };
        assert_eq!(etcd.fits("rehearsal", &BTreeMap::new(), &[]), Err(Misfit::Datastore));
    }

    #[test]
    fn no_member_climbs() {
        for good in ["token", "db/state.db", "server/tls/etcd/server-ca.crt", "identity.json"] {
            assert!(is_member_path(good), "{good}");
        }
        for bad in ["", "/token", "a//b", "../x", "a/../b", ".", "a/", "manifest.json", "a\nb", "a\\b", "é"] {
            assert!(!is_member_path(bad), "{bad}");
        }
    }
}
