//! The order of Debian package versions: `[epoch:]upstream[-revision]`, as deb-version(7) defines it.
//!
//! Pure and total: any two strings compare, and no number is too long (digits are compared as text). Must agree with
//! `dpkg --compare-versions`; a test asks dpkg where it is installed.

use std::cmp::Ordering;

/// Compares two versions the way dpkg does.
pub fn compare(left: &str, right: &str) -> Ordering {
    let (left_epoch, left_upstream, left_revision) = split(left);
    let (right_epoch, right_upstream, right_revision) = split(right);
    compare_numbers(left_epoch, right_epoch)
        .then_with(|| compare_parts(left_upstream, right_upstream))
        .then_with(|| compare_parts(left_revision, right_revision))
}

fn split(version: &str) -> (&str, &str, &str) {
    let (epoch, rest) = version.split_once(':').unwrap_or(("", version));
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
    (epoch, upstream, revision)
}

/// Runs of non-digits and of digits in turn, the first difference deciding.
fn compare_parts(mut left: &str, mut right: &str) -> Ordering {
    while !left.is_empty() || !right.is_empty() {
        let (left_text, left_rest) = left.split_at(left.find(|c: char| c.is_ascii_digit()).unwrap_or(left.len()));
        let (right_text, right_rest) = right.split_at(right.find(|c: char| c.is_ascii_digit()).unwrap_or(right.len()));
        let (left_digits, left_next) = split_digits(left_rest);
        let (right_digits, right_next) = split_digits(right_rest);
        let order = compare_text(left_text, right_text).then_with(|| compare_numbers(left_digits, right_digits));
        if order != Ordering::Equal {
            return order;
        }
        (left, right) = (left_next, right_next);
    }
    Ordering::Equal
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// `~` sorts before the end, the end before letters, letters before everything else.
fn compare_text(left: &str, right: &str) -> Ordering {
    let weight = |byte: Option<&u8>| match byte {
        None => 0,
        Some(b'~') => -1,
        Some(letter) if letter.is_ascii_alphabetic() => i32::from(*letter),
        Some(other) => i32::from(*other) + 256,
    };
    for index in 0..left.len().max(right.len()) {
        let order = weight(left.as_bytes().get(index)).cmp(&weight(right.as_bytes().get(index)));
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}

fn compare_numbers(left: &str, right: &str) -> Ordering {
    let (left, right) = (left.trim_start_matches('0'), right.trim_start_matches('0'));
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use proptest::prelude::*;

    use super::*;
    use crate::host::tool::{self, ToolError};

    /// Ascending.
    const LADDER: &[&str] = &[
        "0~~",
        "0~~a",
        "0~",
        "0",
        "0a",
        "0+",
        "0.1~rc1-1",
        "0.1-0",
        "0.1-1",
        "0.1-1+b9",
        "0.1-1.1",
        "0.1.0-1",
        "1.0~beta1-1",
        "1.0~beta1+z-1",
        "1.0",
        "1.0-1",
        "1.0+dfsg-1",
        "1.0.1",
        "1.2.3-4",
        "1.2.10-1",
        "1.37.0-6+b9",
        "2.41-12+deb13u4",
        "9",
        "10",
        "99999999999999999999999999",
        "100000000000000000000000000",
        "1:0",
        "1:1.37.0-6+b9",
        "2:0~",
    ];

    fn dpkg_says(left: &str, operator: &str, right: &str) -> Option<bool> {
        let args = ["--compare-versions", left, operator, right].map(OsStr::new);
        match tool::run(OsStr::new("dpkg"), &args, &[], None) {
            Ok(_) => Some(true),
            Err(ToolError::Failed { .. }) => Some(false),
            Err(ToolError::Start { .. }) => None,
        }
    }

    #[test]
    fn the_ladder_ascends() {
        for (low, left) in LADDER.iter().enumerate() {
            for (high, right) in LADDER.iter().enumerate() {
                assert_eq!(compare(left, right), low.cmp(&high), "{left} {right}");
            }
        }
    }

    #[test]
    fn equal_though_written_differently() {
        for (left, right) in [("1.0", "1.0-0"), ("0:1", "1"), ("1.01", "1.1"), ("1.0-", "1.0"), ("", "0")] {
            assert_eq!(compare(left, right), Ordering::Equal, "{left} {right}");
        }
    }

    #[test]
    fn dpkg_agrees_on_the_ladder() {
        if dpkg_says("1", "eq", "1").is_none() {
            eprintln!("SKIPPED: dpkg is not installed, so the order of versions was not compared with it");
            return;
        }
        for pair in LADDER.windows(2) {
            assert_eq!(dpkg_says(pair[0], "lt", pair[1]), Some(true), "{pair:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(150))]
        #[test]
        fn dpkg_agrees(left in "([0-2]:)?[0-9][0-9a-zA-Z.+~]{0,5}(-[0-9a-z.+~]{1,3})?",
                       right in "([0-2]:)?[0-9][0-9a-zA-Z.+~]{0,5}(-[0-9a-z.+~]{1,3})?") {
            let operator = match compare(&left, &right) {
                Ordering::Less => "lt",
                Ordering::Equal => "eq",
                Ordering::Greater => "gt",
            };
            prop_assert_ne!(dpkg_says(&left, operator, &right), Some(false), "{} {} {}", left, operator, right);
        }

        #[test]
        fn total_on_any_text(left in ".{0,12}", right in ".{0,12}") {
            prop_assert_eq!(compare(&left, &right), compare(&right, &left).reverse());
        }
    }
}
