//! A suite's `InRelease`: whether to trust it, and what it vouches for.
//!
//! Trusted is what carries a good signature by a pinned, unexpired key over SHA-256 or better; fit for use is what is
//! of the suite asked for, not from the future and not past its `Valid-Until`. Only the signed text is read, never
//! what surrounds it. `now` is given: this module asks no clock, so that a test can be at any time.

use std::collections::BTreeMap;

use pgp::composed::CleartextSignedMessage;

use super::deb822::Stanzas;
use super::digest::Sha256;
use super::error::SourceError;
use super::packages::is_pool_path;
use super::trust::TrustedKeys;

/// How far a Release's date may lie ahead of this machine's clock, in seconds.
pub const CLOCK_SKEW: u64 = 24 * 3600;

/// What a suite's Release says, once it is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// "trixie", "trixie-updates" or "trixie-security"; empty where a repository has none.
    pub codename: String,
    /// "stable", or what a repository calls it.
    pub suite: String,
    /// When it was made, in seconds since 1970.
    pub date: u64,
    /// Whether indices are also served under their hashes, which no update can replace while they are fetched.
    pub by_hash: bool,
    /// The indices it vouches for: path below `dists/<suite>/`, with size in bytes and sum.
    pub files: BTreeMap<String, (u64, Sha256)>,
}

/// Checks and reads an `InRelease` for the suite asked for, at the time `now` (seconds since 1970).
pub fn verify(bytes: &[u8], suite: &str, keys: &TrustedKeys, now: u64) -> Result<Release, SourceError> {
    let untrusted = |reason: String| SourceError::VerifyRelease {
        suite: suite.to_owned(),
        reason,
        advice: "the mirror is broken or somebody is in between: try another one (--mirror)",
    };
    let text = std::str::from_utf8(bytes).map_err(|_| untrusted("it is not UTF-8 text".to_owned()))?;
    let (message, _) = CleartextSignedMessage::from_string(text)
        .map_err(|error| untrusted(format!("it is no clear-signed message ({error})")))?;
    let signed = message.signed_text();
    keys.check(message.signatures(), signed.as_bytes(), now).map_err(untrusted)?;
    let release = parse(&signed, suite)?;
    accept(&release, &signed, suite, now)?;
    Ok(release)
}

fn accept(release: &Release, signed: &str, suite: &str, now: u64) -> Result<(), SourceError> {
    let refused = |reason: String, advice| Err(SourceError::AcceptRelease { suite: suite.to_owned(), reason, advice });
    if release.codename != suite && release.suite != suite {
        let reason = format!("its InRelease is signed, but for the suite {:?}", release.codename);
        return refused(reason, "the mirror serves the wrong file: try another one (--mirror)");
    }
    if release.date > now + CLOCK_SKEW {
        return refused("its InRelease is from the future".to_owned(), "set this machine's clock");
    }
    let stanza = first_stanza(signed, suite)?;
    let Some(text) = stanza.get("Valid-Until") else { return Ok(()) };
    match parse_date(text) {
        Some(until) if now <= until => Ok(()),
        Some(_) => refused(
            format!("its InRelease was valid until {text}"),
            "the mirror is out of date or this machine's clock is wrong: set the clock, or try another mirror (--mirror)",
        ),
        None => refused(format!("its Valid-Until is no date: {text:?}"), "try another mirror (--mirror)"),
    }
}

fn first_stanza(signed: &str, suite: &str) -> Result<super::deb822::Stanza, SourceError> {
    let unreadable = |reason: String| unreadable(suite, reason);
    let stanza = Stanzas::new(signed.as_bytes()).next_stanza().map_err(|error| unreadable(error.to_string()))?;
    stanza.ok_or_else(|| unreadable("it is empty".to_owned()))
}

fn unreadable(suite: &str, reason: String) -> SourceError {
    SourceError::ReadIndex { suite: suite.to_owned(), file: "InRelease".to_owned(), reason }
}

fn parse(signed: &str, suite: &str) -> Result<Release, SourceError> {
    let stanza = first_stanza(signed, suite)?;
    let date = stanza.get("Date").and_then(parse_date).ok_or_else(|| unreadable(suite, "it has no date".to_owned()))?;
    let mut files = BTreeMap::new();
    for line in stanza.get("SHA256").unwrap_or("").lines() {
        let mut words = line.split_whitespace();
        let (Some(sum), Some(size), Some(path), None) = (words.next(), words.next(), words.next(), words.next()) else {
            return Err(unreadable(suite, format!("cannot read the line {line:?}")));
        };
        let (Ok(sum), Ok(size)) = (sum.parse(), size.parse()) else {
            return Err(unreadable(suite, format!("cannot read the line {line:?}")));
        };
        if is_pool_path(path) {
            files.insert(path.to_owned(), (size, sum));
        }
    }
    if files.is_empty() {
        return Err(unreadable(suite, "it lists no file by SHA-256".to_owned()));
    }
    Ok(Release {
        codename: stanza.get("Codename").unwrap_or("").trim().to_owned(),
        suite: stanza.get("Suite").unwrap_or("").trim().to_owned(),
        date,
        by_hash: stanza.get("Acquire-By-Hash").is_some_and(|value| value.eq_ignore_ascii_case("yes")),
        files,
    })
}

/// Reads "Sat, 12 Sep 2026 07:55:41 UTC" as seconds since 1970.
fn parse_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_once(", ").map_or(text, |(_, rest)| rest).split_whitespace();
    let day: u64 = words.next()?.parse().ok().filter(|day| (1..=31).contains(day))?;
    let name = words.next()?;
    let month = MONTHS.iter().position(|known| *known == name)? as u64 + 1;
    let year: u64 = words.next()?.parse().ok().filter(|year| (1970..=9999).contains(year))?;
    let mut clock = words.next()?.splitn(3, ':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let zone = words.next()?;
    if hour > 23 || minute > 59 || second > 60 || !["UTC", "GMT", "+0000"].contains(&zone) || words.next().is_some() {
        return None;
    }
    // Days since 1970-01-01, the year counted from March so that the leap day comes last.
    let (shifted_year, shifted_month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = shifted_year / 4 - shifted_year / 100 + shifted_year / 400;
    let days = 365 * shifted_year + leap_days + (153 * shifted_month + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{FakeKey, NOW};
    use super::*;

    fn release(codename: &str, extra: &str) -> String {
        format!(
            "Origin: Debian\nSuite: stable\nCodename: {codename}\nDate: Sat, 21 Nov 2026 00:00:00 UTC\n{extra}Acquire-By-Hash: yes\n\
             SHA256:\n e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855        0 main/binary-amd64/Packages\n"
        )
    }

    #[test]
    fn a_good_release_is_read() {
        let key = FakeKey::new();
        let signed = key.sign(&release("trixie", "Valid-Until: Sat, 28 Nov 2026 00:00:00 UTC\n"));
        let read = verify(signed.as_bytes(), "trixie", &key.trusted(), NOW).unwrap();
        assert_eq!((read.codename.as_str(), read.date, read.by_hash), ("trixie", 1_795_219_200, true));
        assert_eq!(read.files["main/binary-amd64/Packages"], (0, Sha256::of(b"")));
    }

    #[test]
    fn strangers_and_changed_letters_are_refused() {
        let (key, stranger) = (FakeKey::new(), FakeKey::new());
        let signed = key.sign(&release("trixie", ""));
        let error = verify(signed.as_bytes(), "trixie", &stranger.trusted(), NOW).unwrap_err().to_string();
        assert!(error.contains("suite trixie") && error.contains(&key.id()) && error.contains("--mirror"), "{error}");
        let changed = signed.replace("Origin: Debian", "Origin: Debiam");
        let error = verify(changed.as_bytes(), "trixie", &key.trusted(), NOW).unwrap_err().to_string();
        assert!(error.contains("does not fit"), "{error}");
        let before = format!("Codename: sid\n{signed}");
        assert!(verify(before.as_bytes(), "trixie", &key.trusted(), NOW).is_err());
        let after = format!("{signed}\nCodename: sid\n");
        assert!(verify(after.as_bytes(), "trixie", &key.trusted(), NOW).is_err());
        let unsigned = release("trixie", "");
        assert!(verify(unsigned.as_bytes(), "trixie", &key.trusted(), NOW).is_err());
        assert!(verify(&[0xff, 0xfe], "trixie", &key.trusted(), NOW).is_err());
    }

    #[test]
    fn expired_early_and_foreign_releases_are_refused() {
        let key = FakeKey::new();
        let check = |text: &str, suite: &str, now| {
            verify(key.sign(text).as_bytes(), suite, &key.trusted(), now).map(|_| ()).unwrap_err().to_string()
        };
        let expired = check(&release("trixie", "Valid-Until: Sat, 21 Nov 2026 01:00:00 UTC\n"), "trixie", NOW);
        assert!(expired.contains("valid until Sat, 21 Nov 2026"), "{expired}");
        assert!(check(&release("trixie", "Valid-Until: soon\n"), "trixie", NOW).contains("no date"));
        assert!(check(&release("bookworm", ""), "trixie", NOW).contains("\"bookworm\""));
        let future = release("trixie", "").replace("21 Nov", "24 Nov");
        assert!(check(&future, "trixie", NOW).contains("from the future"));
        assert!(check(&release("trixie", ""), "trixie", NOW - 3 * CLOCK_SKEW).contains("clock"));
        assert!(check(&release("trixie", "").replace("SHA256:", "MD5Sum:"), "trixie", NOW).contains("no file"));
    }

    #[test]
    fn no_change_of_a_letter_changes_what_is_read() {
        let key = FakeKey::new();
        let (signed, trusted) = (key.sign(&release("trixie", "")), key.trusted());
        let read = verify(signed.as_bytes(), "trixie", &trusted, NOW).unwrap();
        for place in 0..signed.len() {
            let mut bytes = signed.clone().into_bytes();
            bytes[place] ^= 1;
            if let Ok(other) = verify(&bytes, "trixie", &trusted, NOW) {
                assert_eq!(other, read, "at {place}");
            }
        }
    }

    #[test]
    fn dates() {
        assert_eq!(parse_date("Thu, 01 Jan 1970 00:00:00 UTC"), Some(0));
        assert_eq!(parse_date("Thu, 29 Feb 2024 12:00:01 UTC"), Some(1_709_208_001));
        for bad in [
            "",
            "Sat, 12 Sep 2026",
            "Sat, 12 Sep 1900 07:55:41 UTC",
            "Sat, 12 Sep 2026 07:55:41 CEST",
            "Sat, 0 Sep 2026 1:1:1 UTC",
            "Sat, 12 Sep 99999999999 1:1:1 UTC",
        ] {
            assert_eq!(parse_date(bad), None, "{bad}");
        }
    }
}
