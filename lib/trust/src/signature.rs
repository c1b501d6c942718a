//! Detached signatures: ed25519 over a context and the file's bytes, in `<file>.sig` as one line of base64.
//!
//! The context says what kind of file it is, so that a signature of one kind never passes for one of another.

use crate::keys::{BASE64, OwnerKeys, decode, verifying_key};
use base64::Engine;
use ed25519_dalek::{Signature, Signer};

/// The ending of a signature's file.
pub const ENDING: &str = ".sig";

/// Why a file isn't believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The signature's file holds something else.
    #[error("its signature can't be read")]
    Malformed,
    /// It is somebody else's, or the file was changed.
    #[error("it isn't signed by any of `owner.keys`")]
    Stranger,
}

fn message(kind: &str, bytes: &[u8]) -> Vec<u8> {
    [format!("bakelite/{kind}/v1\0").as_bytes(), bytes].concat()
}

/// Signs a file of a kind; the text of its signature's file.
pub fn sign(keys: &OwnerKeys, kind: &str, bytes: &[u8]) -> String {
    BASE64.encode(keys.signing().sign(&message(kind, bytes)).to_bytes()) + "\n"
}

/// Checks a signature against all keys that may have made it.
///
/// # Errors
/// When it can't be read, or none of them has. Texts that are no keys match nothing.
pub fn verify(owners: &[String], kind: &str, bytes: &[u8], signature: &str) -> Result<(), SignatureError> {
    let signature = decode::<64>(signature.trim()).ok_or(SignatureError::Malformed)?;
    let (signature, message) = (Signature::from_bytes(&signature), message(kind, bytes));
    let is_by = |owner: &String| {
        // Strictly: a weak key verifies anything.
        verifying_key(owner).is_ok_and(|key| key.verify_strict(&message, &signature).is_ok())
    };
    if owners.iter().any(is_by) { Ok(()) } else { Err(SignatureError::Stranger) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_the_kind_and_the_bytes_that_were_signed_pass() {
        let (owner, stranger) = (OwnerKeys::generate([1; 32]), OwnerKeys::generate([2; 32]));
        let text = sign(&owner, "grant", b"bytes");
        let owners = [stranger.owner_key(), owner.owner_key()];
        assert_eq!(verify(&owners, "grant", b"bytes", &text), Ok(()));
        assert_eq!(verify(&owners[..1], "grant", b"bytes", &text), Err(SignatureError::Stranger));
        assert_eq!(verify(&owners, "bundle", b"bytes", &text), Err(SignatureError::Stranger));
        assert_eq!(verify(&owners, "grant", b"bytez", &text), Err(SignatureError::Stranger));
        assert_eq!(verify(&[], "grant", b"bytes", &text), Err(SignatureError::Stranger));
        assert_eq!(verify(&owners, "grant", b"bytes", "AAAA"), Err(SignatureError::Malformed));
        // The point of small order with which, unless it is refused, a signature of zeros passes for anything.
        let weak = format!("ed25519:AQ{}", "A".repeat(41));
        let zeros = format!("AQ{}", "A".repeat(84));
        assert!(verify(&[weak], "grant", b"bytes", &zeros).is_err());
    }
}
