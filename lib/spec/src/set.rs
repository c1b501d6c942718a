//! Set: one backup of a cluster, and what its manifest says.
//!
//! A set is `sets/<node>/<number>-<UTC>.tar.zst.age`: a tar whose first member is `manifest.json`, packed with zstd,
//! encrypted with age. `age -d -i KEY SET | zstd -d | tar x` opens it with nothing of ours. Without `.age` it is plain,
//! as `backup.encryption: none` wants it.

use crate::records::Datastore;
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
    let (day, second) = (made.div_euclid(86_400), made.rem_euclid(86_400));
    let (year, month, day) = civil(day);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{number:08}-{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// The number in a set's name, if it is one of ours.
pub fn number(file_name: &str) -> Option<u64> {
    let stem = file_name.strip_suffix(ENCRYPTED).or_else(|| file_name.strip_suffix(PLAIN))?;
    let (number, time) = stem.split_once('-')?;
    let is_time = time.len() == 16 && time.bytes().all(|byte| byte.is_ascii_digit() || byte == b'T' || byte == b'Z');
    if number.len() < 8 || !is_time { None } else { number.parse().ok() }
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
        assert_eq!(name(0, 0), "00000000-19700101T000000Z");
        assert_eq!(name(1, 951_782_400), "00000001-20000229T000000Z");
        assert_eq!(number("00000012-20261121T165500Z.tar.zst.age"), Some(12));
        assert_eq!(number("00000012-20261121T165500Z.tar.zst"), Some(12));
        for other in ["12-20261121T165500Z.tar.zst", "00000012.tar.zst", "00000012-20261121T165500Z.tar", ".half"] {
            assert_eq!(number(other), None, "{other}");
        }
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
