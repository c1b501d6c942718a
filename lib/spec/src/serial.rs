//! Serial numbers: which of them tell one machine from another.

/// Serial numbers that makers leave on thousands of machines.
const JUNK: &[&str] = &[
    "none",
    "default string",
    "to be filled by o.e.m.",
    "to be filled by o.e.m",
    "filled by o.e.m.",
    "o.e.m.",
    "system serial number",
    "sys-1234567890",
    "system version",
    "system product name",
    "base board serial number",
    "empty",
    "not applicable",
    "not available",
    "no serial number",
    "default",
    "default_string",
    "undefined",
    "null",
    "1234567890",
    "123456789012",
    "12345678",
    "0123456789abcdef",
    "xxxx-xxxx-xxxx",
    "n.a.",
    "tbd",
    // Numbers of whole machines (UUIDs) that boards come with by the thousand.
    "00020003-0004-0005-0006-000700080009",
    "03000200-0400-0500-0006-000700080009",
    "12345678-1234-5678-90ab-cddeefaabbcc",
    "fefefefe-fefe-fefe-fefe-fefefefefefe",
    "123456789",
    "0123456789",
    "not specified",
    "unknown",
    "n/a",
    "na",
    "invalid",
    "oem",
    "chassis serial number",
    "serial",
];

/// Whether a serial number tells one machine from another.
pub fn is_individual(serial: &str) -> bool {
    let serial = serial.trim().to_lowercase();
    let mut letters = serial.chars().filter(char::is_ascii_alphanumeric);
    let first = letters.next();
    let varied = letters.any(|letter| Some(letter) != first);
    varied && !JUNK.contains(&serial.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makers_leave_on_thousands_is_not_individual() {
        for junk in ["", "0", "0000-0000", "None", " To Be Filled By O.E.M. ", "123456789", "ffffffff"] {
            assert!(!is_individual(junk), "{junk}");
        }
        for good in ["abc123", "10000000e3a1b2c4", "S1XYZ"] {
            assert!(is_individual(good), "{good}");
        }
    }
}
