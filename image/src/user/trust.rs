//! `trust`: a company's own certificate authority. Each certificate is parsed: what can't be one, or is a private key,
//! must not get into the bundle that every program on the machine believes.

use super::Loading;
use super::files::{INSTEAD, holds_private_key};
use bakelite_spec::finding::Finding;
use std::time::{SystemTime, UNIX_EPOCH};
use x509_parser::pem::Pem;
use x509_parser::prelude::X509Certificate;

/// A bundle of authorities is at 0.2 MB.
const LIMIT: u64 = 4 << 20;

pub(super) fn load(loading: &mut Loading<'_>) {
    for (number, name) in loading.config.appliance.trust.iter().enumerate() {
        let key = format!("trust[{number}]");
        let path = loading.path(name);
        let Some(bytes) = loading.read(&key, &path, LIMIT) else { continue };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
        match certificates(&bytes, now) {
            Ok((pem, warnings)) => {
                loading.user.certificates.extend(pem);
                for warning in warnings {
                    let problem = format!("{}: {warning}", path.display());
                    loading.report(Finding::warning(&key, problem, "the authority's newer certificate"));
                }
            }
            Err((problem, hint)) => {
                loading.report(Finding::error(&key, format!("{} {problem}", path.display()), hint));
            }
        }
    }
}

/// The certificates of a file as plain PEM, and what is to be known of them at the time `now` (seconds since 1970).
///
/// # Errors
/// The problem, and what to try.
pub fn certificates(bytes: &[u8], now: i64) -> Result<(Vec<u8>, Vec<String>), (String, String)> {
    let refused = |problem: String, hint: &str| Err((problem, hint.to_string()));
    if holds_private_key(bytes) {
        return refused("holds a private key, which must not be in an image".into(), "the certificate alone");
    }
    let (mut plain, mut warnings) = (Vec::new(), Vec::new());
    for (number, block) in Pem::iter_from_buffer(bytes).enumerate() {
        let number = number + 1;
        let block = match block {
            Ok(block) if block.label == "CERTIFICATE" => block,
            Ok(block) => return refused(format!("holds a {}, not only certificates", block.label), INSTEAD),
            Err(error) => return refused(format!("is no PEM file ({error})"), "`openssl x509 -in FILE -out FILE.pem`"),
        };
        let certificate = match block.parse_x509() {
            Ok(certificate) => certificate,
            Err(error) => {
                return refused(format!("has a damaged certificate, number {number} ({error})"), "exporting it again");
            }
        };
        let subject = certificate.subject().to_string();
        if !is_authority(&certificate) {
            let problem = format!("has a certificate that is no authority's: {subject}");
            return refused(problem, "the certificate of the authority that signed it");
        }
        if certificate.validity().not_after.timestamp() < now {
            warnings.push(format!("the authority {subject} has expired, {}", certificate.validity().not_after));
        } else if certificate.validity().not_before.timestamp() > now {
            warnings.push(format!("the authority {subject} isn't valid before {}", certificate.validity().not_before));
        }
        plain.extend(to_pem(&block.contents));
    }
    if plain.is_empty() {
        return refused("holds no certificate".into(), "a file with `-----BEGIN CERTIFICATE-----`");
    }
    Ok((plain, warnings))
}

/// By its basic constraints; certificates of version 1 have none and are roots if they signed themselves.
fn is_authority(certificate: &X509Certificate<'_>) -> bool {
    match certificate.basic_constraints() {
        Ok(Some(constraints)) => constraints.value.ca,
        _ => certificate.version().0 == 0 && certificate.subject() == certificate.issuer(),
    }
}

/// Written anew, so that whatever else stood in the file isn't carried along.
fn to_pem(der: &[u8]) -> Vec<u8> {
    use base64::Engine;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = b"-----BEGIN CERTIFICATE-----\n".to_vec();
    for line in body.as_bytes().chunks(64) {
        pem.extend_from_slice(line);
        pem.push(b'\n');
    }
    pem.extend_from_slice(b"-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn authority(is_authority: bool) -> (String, String) {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        if is_authority {
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        }
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    const IN_2026: i64 = 1_795_262_400;

    #[test]
    fn only_authorities_come_in_and_nothing_else_of_the_file() {
        let (pem, key) = authority(true);
        let (plain, warnings) = certificates(format!("# our company\n{pem}\n").as_bytes(), IN_2026).unwrap();
        assert_eq!(String::from_utf8(plain).unwrap(), pem.replace("\r\n", "\n"));
        assert!(warnings.is_empty());
        let (_, warnings) = certificates(pem.as_bytes(), IN_2026 + 5 * 365 * 86_400).unwrap();
        assert!(warnings[0].contains("has expired"), "{warnings:?}");
        let (_, warnings) = certificates(pem.as_bytes(), 0).unwrap();
        assert!(warnings[0].contains("isn't valid before"), "{warnings:?}");
        let problem = |bytes: &[u8]| certificates(bytes, IN_2026).unwrap_err().0;
        assert!(problem(format!("{pem}{key}").as_bytes()).contains("private key"));
        assert!(problem(authority(false).0.as_bytes()).contains("no authority's"));
        assert!(problem(b"hello\n").contains("holds no certificate"));
        assert!(problem(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").contains("damaged"));
    }

    proptest! {
        #[test]
        fn any_bytes_end_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = certificates(&bytes, IN_2026);
        }
    }
}
