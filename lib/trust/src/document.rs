//! Signed documents: JSON with the number of its format, and an owner's word for every byte of it.
//!
//! Nothing of one is looked at before its signature was proved; then its format, so that a later one is named as such
//! whatever else it has.

use crate::keys::OwnerKeys;
use crate::signature::{self, SignatureError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Why a document isn't believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Who signed it.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// Made by a newer Bakelite.
    #[error("it has format {0}, which a newer Bakelite reads")]
    Newer(u32),
    /// Signed, and yet none.
    #[error("it can't be read")]
    Malformed,
}

/// The document's file.
pub fn bytes(document: &impl Serialize) -> Vec<u8> {
    // Texts and numbers are always JSON.
    serde_json::to_vec_pretty(document).unwrap_or_default()
}

/// The document's file and its signature's.
pub fn sign(document: &impl Serialize, kind: &str, keys: &OwnerKeys) -> (Vec<u8>, String) {
    let bytes = bytes(document);
    let signature = signature::sign(keys, kind, &bytes);
    (bytes, signature)
}

/// Reads a document of a kind; `newest` is the newest format that is read.
///
/// # Errors
/// When none of the owners has signed it, or it is none.
pub fn read<T: DeserializeOwned>(
    owners: &[String],
    kind: &str,
    newest: u32,
    bytes: &[u8],
    signature: &str,
) -> Result<T, DocumentError> {
    signature::verify(owners, kind, bytes, signature)?;
    parse(newest, bytes)
}

/// Reads a document whose signature is proved.
///
/// # Errors
/// When it is none.
pub fn parse<T: DeserializeOwned>(newest: u32, bytes: &[u8]) -> Result<T, DocumentError> {
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let version: Version = serde_json::from_slice(bytes).map_err(|_| DocumentError::Malformed)?;
    if version.format > newest {
        return Err(DocumentError::Newer(version.format));
    }
    serde_json::from_slice(bytes).map_err(|_| DocumentError::Malformed)
}
