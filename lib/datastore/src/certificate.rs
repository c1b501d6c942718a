//! Certificates of k3s's: the last day of one, and nothing else (RFC 5280, 4.1).
//!
//! They are k3s's own, on this machine or behind its token: whether they are signed by whom they say isn't asked here.

use der::asn1::{AnyRef, GeneralizedTime, UtcTime};
use der::{Decode, Document, SliceReader, Tag, Tagged};

/// When the first certificate of a PEM text ends, in seconds since 1970; `None` where there is none that can be read.
pub fn not_after(text: &str) -> Option<i64> {
    end(text).ok()
}

fn end(text: &str) -> der::Result<i64> {
    const END: &str = "-----END CERTIFICATE-----\n";
    let first = text.split_inclusive(END.trim_end()).next().unwrap_or_default();
    let (_, document) = Document::from_pem(first)?;
    fn inside(whole: AnyRef<'_>) -> der::Result<SliceReader<'_>> {
        SliceReader::new(whole.value())
    }
    let mut certificate = inside(AnyRef::from_der(document.as_bytes())?)?;
    let mut fields = inside(AnyRef::decode(&mut certificate)?)?;
    // The version may be left out; then come serial number, algorithm, issuer, validity.
    if AnyRef::decode(&mut fields)?.tag().is_context_specific() {
        AnyRef::decode(&mut fields)?;
    }
    AnyRef::decode(&mut fields)?;
    AnyRef::decode(&mut fields)?;
    let mut validity = inside(AnyRef::decode(&mut fields)?)?;
    AnyRef::decode(&mut validity)?;
    let end = AnyRef::decode(&mut validity)?;
    let since = if end.tag() == Tag::UtcTime {
        UtcTime::try_from(end)?.to_unix_duration()
    } else {
        GeneralizedTime::try_from(end)?.to_unix_duration()
    };
    Ok(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const END_2036: i64 = 2_110_665_522;
    const END_2076: i64 = 3_372_105_522;

    #[test]
    fn the_end_of_a_certificate_is_read() {
        // openssl req -x509 -newkey ed25519 -nodes -subj /CN=x -days 3650, and the same beyond 2050.
        for (text, end) in [(include_str!("testing/2036.crt"), END_2036), (include_str!("testing/2076.crt"), END_2076)]
        {
            assert_eq!(not_after(text), Some(end));
            assert_eq!(not_after(&format!("{text}{text}")), Some(end), "the first of a chain");
        }
        for no in ["", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"] {
            assert_eq!(not_after(no), None, "{no}");
        }
    }
}
