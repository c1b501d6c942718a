//! The keys that may sign Debian's archive, and whether a signature counts.
//!
//! rPGP checks the mathematics; the policy is ours: the certificate's fingerprint is pinned in this file, the signing
//! key is the certificate's own or a subkey bound to it for signing, neither revoked nor expired, and the hash is
//! SHA-256 or better. One such signature suffices, as for apt. Must not read keys from the host or the network.

use pgp::composed::{Deserializable, SignedPublicKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType};
use pgp::types::{KeyDetails, VerifyingKey};

use super::release::CLOCK_SKEW;

/// The public certificates as Debian's package debian-archive-keyring (2023.3+deb12u2) ships them, each with its
/// fingerprint, which is also published on Debian's web site and printed in its release announcements.
const DEBIAN: &[(&str, &[u8])] = &[
    ("04B54C3CDCA79751B16BC6B5225629DF75B188BD", include_bytes!("keys/debian-archive-trixie-automatic.gpg")),
    ("5E04A1E3223A19A20706E20F9904613D4CCE68C6", include_bytes!("keys/debian-archive-trixie-security-automatic.gpg")),
    ("41587F7DB8C774BCCF131416762F67A0B2C39DE4", include_bytes!("keys/debian-archive-trixie-stable.gpg")),
    ("B8B80B5B623EAB6AD8775C45B7C5D7D6350947F8", include_bytes!("keys/debian-archive-bookworm-automatic.gpg")),
    ("05AB90340C0C5E797F44A8C8254CF3B5AEC0A8F0", include_bytes!("keys/debian-archive-bookworm-security-automatic.gpg")),
    ("4D64FEC119C2029067D6E791F8D2585B8783D481", include_bytes!("keys/debian-archive-bookworm-stable.gpg")),
];

/// The certificates whose signatures count.
#[derive(Debug, Clone)]
pub struct TrustedKeys {
    certificates: Vec<SignedPublicKey>,
}

/// A certificate in this program is not the one that is pinned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the key {fingerprint} can't be used: {reason}")]
pub struct BadKey {
    /// The pinned fingerprint.
    pub fingerprint: String,
    /// What is wrong.
    pub reason: String,
}

impl TrustedKeys {
    /// Debian's archive keys of trixie and bookworm, which both sign trixie's suites.
    pub fn debian() -> Result<Self, BadKey> {
        Self::pinned(DEBIAN)
    }

    /// Certificates (binary OpenPGP) that must have these fingerprints (upper-case hexadecimal).
    pub fn pinned(pairs: &[(&str, &[u8])]) -> Result<Self, BadKey> {
        let certificates = pairs.iter().map(|(fingerprint, bytes)| {
            let bad = |reason: String| BadKey { fingerprint: (*fingerprint).to_owned(), reason };
            let certificate = SignedPublicKey::from_bytes(*bytes).map_err(|error| bad(error.to_string()))?;
            let found = format!("{:X}", certificate.primary_key.fingerprint());
            if found != *fingerprint {
                return Err(bad(format!("its fingerprint is {found}")));
            }
            Ok(certificate)
        });
        Ok(Self { certificates: certificates.collect::<Result<_, _>>()? })
    }

    /// The certificate with a fingerprint (upper-case hexadecimal) out of a file of one or several, armored or binary.
    ///
    /// # Errors
    /// When it is no such file, or none of its certificates has the fingerprint.
    pub fn from_file(bytes: &[u8], fingerprint: &str) -> Result<Self, BadKey> {
        let bad = |reason: String| BadKey { fingerprint: fingerprint.to_owned(), reason };
        let (certificates, _) =
            SignedPublicKey::from_reader_many(bytes).map_err(|error| bad(format!("it is no OpenPGP key ({error})")))?;
        let mut others = Vec::new();
        for certificate in certificates {
            let certificate = certificate.map_err(|error| bad(format!("it is no OpenPGP key ({error})")))?;
            let found = format!("{:X}", certificate.primary_key.fingerprint());
            if found == fingerprint {
                return Ok(Self { certificates: vec![certificate] });
            }
            others.push(found);
        }
        Err(bad(if others.is_empty() { "it holds no key".into() } else { format!("it holds {}", others.join(", ")) }))
    }

    /// Whether one of the signatures over `data` counts at the time `now`; else why none does.
    pub fn check(&self, signatures: &[Signature], data: &[u8], now: u64) -> Result<(), String> {
        if signatures.is_empty() {
            return Err("it carries no signature".to_owned());
        }
        let mut reasons = Vec::new();
        for signature in signatures {
            match self.check_one(signature, data, now) {
                Ok(()) => return Ok(()),
                Err(reason) => reasons.push(format!("{} {reason}", issuer(signature))),
            }
        }
        Err(reasons.join("; "))
    }

    fn check_one(&self, signature: &Signature, data: &[u8], now: u64) -> Result<(), String> {
        if !matches!(signature.typ(), Some(SignatureType::Binary | SignatureType::Text)) {
            return Err("made no signature over a document".to_owned());
        }
        if !matches!(signature.hash_alg(), Some(HashAlgorithm::Sha256 | HashAlgorithm::Sha384 | HashAlgorithm::Sha512))
        {
            return Err("used a hash that is weaker than SHA-256".to_owned());
        }
        let Some(created) = signature.created().map(|time| u64::from(time.as_secs())) else {
            return Err("gave no time of signing".to_owned());
        };
        let lasts = signature.signature_expiration_time().map_or(0, |duration| u64::from(duration.as_secs()));
        if created > now + CLOCK_SKEW || lasts > 0 && created + lasts < now {
            return Err("made a signature that is not valid now (is this machine's clock right?)".to_owned());
        }
        let mut refusal = "is not one of the archive keys that this program knows".to_owned();
        for certificate in &self.certificates {
            match check_with(certificate, signature, data, now) {
                Verdict::Good => return Ok(()),
                Verdict::Bad(reason) => refusal = reason,
                Verdict::NotMine => {}
            }
        }
        Err(refusal)
    }
}

enum Verdict {
    Good,
    Bad(String),
    NotMine,
}

fn check_with(certificate: &SignedPublicKey, signature: &Signature, data: &[u8], now: u64) -> Verdict {
    let primary = &certificate.primary_key;
    if issued_by(signature, primary) {
        return judge(certificate, primary, signature, data, now, || Ok(()));
    }
    for subkey in &certificate.public_subkeys {
        if issued_by(signature, &subkey.key) {
            return judge(certificate, &subkey.key, signature, data, now, || {
                subkey
                    .verify_bindings(primary)
                    .map_err(|error| format!("is not bound to its certificate ({error})"))?;
                if subkey.signatures.iter().any(|binding| binding.typ() == Some(SignatureType::SubkeyRevocation)) {
                    return Err("is revoked".to_owned());
                }
                if !subkey.signatures.iter().any(|binding| binding.key_flags().sign()) {
                    return Err("is not meant for signing".to_owned());
                }
                still_valid(u64::from(subkey.key.created_at().as_secs()), &subkey.signatures, now)
            });
        }
    }
    Verdict::NotMine
}

fn judge(
    certificate: &SignedPublicKey,
    key: &impl VerifyingKey,
    signature: &Signature,
    data: &[u8],
    now: u64,
    fit: impl FnOnce() -> Result<(), String>,
) -> Verdict {
    if signature.verify(key, data).is_err() {
        return Verdict::Bad("made a signature that does not fit the text: it was changed".to_owned());
    }
    match certificate_fit(certificate, now).and_then(|()| fit()) {
        Ok(()) => Verdict::Good,
        Err(reason) => Verdict::Bad(reason),
    }
}

fn certificate_fit(certificate: &SignedPublicKey, now: u64) -> Result<(), String> {
    let primary = &certificate.primary_key;
    if !certificate.details.revocation_signatures.is_empty() {
        return Err("is revoked".to_owned());
    }
    // Others' certifications of the key stand beside its own statements; only its own say how long it lives.
    let own: Vec<Signature> = certificate
        .details
        .users
        .iter()
        .flat_map(|user| {
            user.signatures
                .iter()
                .filter(|statement| issued_by(statement, primary))
                .filter(|statement| statement.verify_certification(primary, pgp::types::Tag::UserId, &user.id).is_ok())
        })
        .cloned()
        .collect();
    still_valid(u64::from(primary.created_at().as_secs()), &own, now)
}

/// By the newest of the key's own statements about itself.
fn still_valid(created: u64, statements: &[Signature], now: u64) -> Result<(), String> {
    let newest = statements.iter().max_by_key(|statement| statement.created().map_or(0, |time| time.as_secs()));
    let newest = newest.ok_or_else(|| "carries no statement of its owner".to_owned())?;
    let lasts = newest.key_expiration_time().map_or(0, |duration| u64::from(duration.as_secs()));
    if lasts > 0 && created + lasts < now {
        return Err("has expired: update this program".to_owned());
    }
    if created > now + CLOCK_SKEW {
        return Err("is younger than this machine's clock: set the clock".to_owned());
    }
    Ok(())
}

fn issued_by(signature: &Signature, key: &impl KeyDetails) -> bool {
    signature.issuer_fingerprint().into_iter().any(|fingerprint| *fingerprint == key.fingerprint())
        || signature.issuer_key_id().into_iter().any(|id| *id == key.legacy_key_id())
}

fn issuer(signature: &Signature) -> String {
    let fingerprint = signature.issuer_fingerprint().first().map(|fingerprint| format!("key {fingerprint:X}"));
    let id = || signature.issuer_key_id().first().map(|id| format!("key {}", id.to_string().to_uppercase()));
    fingerprint.or_else(id).unwrap_or_else(|| "a key that is not named".to_owned())
}

#[cfg(test)]
mod tests {
    use pgp::packet::{PacketHeader, Subpacket, SubpacketData};
    use pgp::types::{SignatureBytes, Tag, Timestamp};

    use super::super::testing::NOW;
    use super::*;

    #[test]
    fn the_built_in_keys_are_the_pinned_ones_and_alive() {
        let keys = TrustedKeys::debian().unwrap();
        for certificate in &keys.certificates {
            certificate_fit(certificate, NOW).unwrap();
            assert!(certificate_fit(certificate, NOW + 20 * 365 * 86_400).unwrap_err().contains("expired"));
            for subkey in &certificate.public_subkeys {
                subkey.verify_bindings(&certificate.primary_key).unwrap();
            }
        }
    }

    #[test]
    fn weak_hashes_and_wrong_kinds_do_not_count() {
        let certificate = &TrustedKeys::debian().unwrap().certificates[2];
        let reason = |kind, hash| {
            let created =
                Subpacket::regular(SubpacketData::SignatureCreationTime(Timestamp::from_secs(NOW as u32))).unwrap();
            let issuer = SubpacketData::IssuerFingerprint(certificate.primary_key.fingerprint());
            let hashed = vec![created, Subpacket::regular(issuer).unwrap()];
            let algorithm = certificate.primary_key.algorithm();
            let header = PacketHeader::new_fixed(Tag::Signature, 0);
            let bytes = SignatureBytes::Native(vec![0; 64].into());
            let signature = Signature::v4(header, kind, algorithm, hash, [0; 2], bytes, hashed, vec![]);
            TrustedKeys::debian().unwrap().check(&[signature], b"text", NOW).unwrap_err()
        };
        assert!(reason(SignatureType::Text, HashAlgorithm::Sha1).contains("weaker than SHA-256"));
        assert!(reason(SignatureType::Key, HashAlgorithm::Sha512).contains("over a document"));
        let fitting = reason(SignatureType::Text, HashAlgorithm::Sha512);
        assert!(fitting.contains("does not fit the text") && fitting.contains(DEBIAN[2].0), "{fitting}");
    }

    #[test]
    fn another_key_under_a_pinned_name_is_refused() {
        let (_, other) = DEBIAN[2];
        assert!(TrustedKeys::pinned(&[(DEBIAN[0].0, other)]).unwrap_err().reason.contains("fingerprint"));
        assert!(TrustedKeys::pinned(&[(DEBIAN[2].0, &other[..100])]).is_err());
    }
}
