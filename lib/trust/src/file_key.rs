//! File keys: what opens one age file, and nothing else (age-encryption.org/v1, "file key").
//!
//! A grant hands one on for each of its sets, so that a machine that was never a recipient can open just these.

use crate::keys::{BASE64, decode};
use age::secrecy::ExposeSecret;
use age::{DecryptError, Identity};
use age_core::format::{self, FILE_KEY_BYTES, Stanza};
use base64::Engine;
use std::cell::Cell;
use std::io::Read;

/// The key of one age file.
#[derive(Clone, PartialEq, Eq)]
pub struct FileKey([u8; FILE_KEY_BYTES]);

impl std::fmt::Debug for FileKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FileKey")
    }
}

impl FileKey {
    /// Takes the key out of an age file's head.
    ///
    /// # Errors
    /// age's, such as when the identity is none of the file's recipients.
    pub fn of(file: impl Read, identity: &dyn Identity) -> Result<Self, DecryptError> {
        let through = Through { identity, seen: Cell::new(None) };
        age::Decryptor::new(file)?.decrypt(std::iter::once(&through as &dyn Identity))?;
        through.seen.into_inner().map(Self).ok_or(DecryptError::NoMatchingKeys)
    }

    /// Reads a key from its text.
    pub fn parse(text: &str) -> Option<Self> {
        decode(text).map(Self)
    }

    /// Its text, a secret.
    pub fn to_text(&self) -> String {
        BASE64.encode(self.0)
    }
}

/// The head's checksum, which age checks, tells whether it is this file's.
impl Identity for FileKey {
    fn unwrap_stanza(&self, _: &Stanza) -> Option<Result<format::FileKey, DecryptError>> {
        Some(Ok(format::FileKey::new(Box::new(self.0))))
    }
}

/// An identity that remembers what it took out.
struct Through<'a> {
    identity: &'a dyn Identity,
    seen: Cell<Option<[u8; FILE_KEY_BYTES]>>,
}

impl Identity for Through<'_> {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<format::FileKey, DecryptError>> {
        let found = self.identity.unwrap_stanza(stanza)?;
        if let Ok(key) = &found {
            self.seen.set(Some(*key.expose_secret()));
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn encrypted(to: &age::x25519::Identity, text: &[u8]) -> Vec<u8> {
        let recipient = to.to_public();
        let encryptor = age::Encryptor::with_recipients(std::iter::once(&recipient as _)).unwrap();
        let mut bytes = Vec::new();
        let mut output = encryptor.wrap_output(&mut bytes).unwrap();
        output.write_all(text).unwrap();
        output.finish().unwrap();
        bytes
    }

    #[test]
    fn a_file_key_opens_its_file_and_no_other() {
        let owner = age::x25519::Identity::generate();
        let (one, two) = (encrypted(&owner, b"one"), encrypted(&owner, b"two"));
        let key = FileKey::of(&one[..], &owner).unwrap();
        let key = FileKey::parse(&key.to_text()).unwrap();
        let open = |file: &[u8]| {
            let mut text = Vec::new();
            age::Decryptor::new(file)?.decrypt(std::iter::once(&key as _))?.read_to_end(&mut text)?;
            Ok::<_, DecryptError>(text)
        };
        assert_eq!(open(&one).unwrap(), b"one");
        assert!(open(&two).is_err());
        assert!(FileKey::of(&one[..], &age::x25519::Identity::generate()).is_err());
        assert!(FileKey::parse("AAAA").is_none());
    }
}
