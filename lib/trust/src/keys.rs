//! Keys: an owner's pair, which opens backups and signs; and a device's own, with which it opens its own.
//!
//! The owner's key file has two lines, an age identity and an ed25519 seed. Its public halves go into an appliance as
//! `backup.recipients` and `owner.keys`.

use age::secrecy::ExposeSecret;
use base64::Engine;
pub(crate) use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use ed25519_dalek::{SigningKey, VerifyingKey};

const SEED: &str = "ed25519-seed:";
const PUBLIC: &str = "ed25519:";

/// What isn't a key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text is no public signing key.
    #[error("not an ed25519 public key: {0}")]
    Owner(&'static str),
    /// The text is no recipient.
    #[error("not an age recipient: {0}")]
    Recipient(&'static str),
    /// The file is not one that was made here.
    #[error("not an owner's key file: {0}")]
    File(&'static str),
    /// The file is no device's key.
    #[error("not a device's key")]
    Device,
}

/// An owner's private keys.
pub struct OwnerKeys {
    identity: age::x25519::Identity,
    signing: SigningKey,
}

impl std::fmt::Debug for OwnerKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OwnerKeys({})", self.owner_key())
    }
}

impl OwnerKeys {
    /// Makes a new pair; the seed is the caller's 32 random bytes, the identity comes from the system's generator.
    pub fn generate(seed: [u8; 32]) -> Self {
        Self { identity: age::x25519::Identity::generate(), signing: SigningKey::from_bytes(&seed) }
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// When a line is missing or isn't a key.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let identity = lines()
            .find(|line| line.starts_with("AGE-SECRET-KEY-"))
            .ok_or(KeyError::File("it has no age identity"))?
            .parse()
            .map_err(|_| KeyError::File("its age identity is damaged"))?;
        let seed = lines().find_map(|line| line.strip_prefix(SEED)).ok_or(KeyError::File("it has no signing seed"))?;
        let seed = decode(seed).ok_or(KeyError::File("its signing seed is damaged"))?;
        Ok(Self { identity, signing: SigningKey::from_bytes(&seed) })
    }

    /// The key file's text. Whoever writes it gives it mode 0600.
    pub fn to_text(&self) -> String {
        let seed = BASE64.encode(self.signing.to_bytes());
        format!("{}\n{SEED}{seed}\n", self.identity.to_string().expose_secret())
    }

    /// The private half that opens sets.
    pub fn identity(&self) -> &age::x25519::Identity {
        &self.identity
    }

    pub(crate) fn signing(&self) -> &SigningKey {
        &self.signing
    }

    /// The public half that opens nothing but lets others write to the owner: for `backup.recipients`.
    pub fn recipient(&self) -> String {
        self.identity.to_public().to_string()
    }

    /// The public half that signatures are checked against: for `owner.keys`.
    pub fn owner_key(&self) -> String {
        format!("{PUBLIC}{}", BASE64.encode(self.signing.verifying_key().to_bytes()))
    }
}

/// Checks that a text is a public signing key, down to the point on the curve.
///
/// # Errors
/// When it isn't.
pub fn check_owner_key(text: &str) -> Result<(), KeyError> {
    verifying_key(text).map(drop)
}

pub(crate) fn verifying_key(text: &str) -> Result<VerifyingKey, KeyError> {
    let bytes = text
        .strip_prefix(PUBLIC)
        .and_then(decode)
        .ok_or(KeyError::Owner("it isn't `ed25519:` and 32 bytes in base64"))?;
    VerifyingKey::from_bytes(&bytes).map_err(|_| KeyError::Owner("it is damaged"))
}

/// Checks that a text is an age recipient, checksum included.
///
/// # Errors
/// When it isn't.
pub fn check_recipient(text: &str) -> Result<(), KeyError> {
    recipient(text).map(drop)
}

/// Makes a device's own key; the text of its file, a secret of the device's.
pub fn new_device_key() -> String {
    format!("{}\n", age::x25519::Identity::generate().to_string().expose_secret())
}

/// Reads a device's key file.
///
/// # Errors
/// When it isn't one.
pub fn device_key(text: &str) -> Result<age::x25519::Identity, KeyError> {
    text.trim().parse().map_err(|_| KeyError::Device)
}

/// The recipient of a text that [`check_recipient`] accepts.
///
/// # Errors
/// When it isn't one.
pub fn recipient(text: &str) -> Result<age::x25519::Recipient, KeyError> {
    text.parse().map_err(KeyError::Recipient)
}

pub(crate) fn decode<const LENGTH: usize>(text: &str) -> Option<[u8; LENGTH]> {
    BASE64.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_reads_back_and_its_public_halves_are_keys() {
        let keys = OwnerKeys::generate([7; 32]);
        let text = keys.to_text();
        assert_eq!(text.lines().count(), 2);
        let read = OwnerKeys::parse(&text).unwrap();
        assert_eq!((read.recipient(), read.owner_key()), (keys.recipient(), keys.owner_key()));
        check_owner_key(&keys.owner_key()).unwrap();
        check_recipient(&keys.recipient()).unwrap();
        assert!(!format!("{keys:?}").contains("AGE-SECRET"));
    }

    #[test]
    fn no_two_devices_have_the_same_key() {
        let (one, two) = (new_device_key(), new_device_key());
        let public = |text: &str| device_key(text).unwrap().to_public().to_string();
        assert_ne!(public(&one), public(&two));
        recipient(&public(&one)).unwrap();
        assert_eq!(device_key("AGE-SECRET-KEY-1").err(), Some(KeyError::Device));
    }

    #[test]
    fn a_slip_in_a_key_is_found() {
        let keys = OwnerKeys::generate([7; 32]);
        let mut recipient = keys.recipient();
        let last = if recipient.ends_with('q') { 'p' } else { 'q' };
        recipient.pop();
        recipient.push(last);
        assert!(check_recipient(&recipient).is_err());
        assert!(check_owner_key("ed25519:AAAA").is_err());
        assert!(OwnerKeys::parse("AGE-SECRET-KEY-1\n").is_err());
    }
}
