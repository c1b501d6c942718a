//! Token: whether a token and a database belong together, without k3s.
//!
//! k3s keeps the cluster's authorities and keys in one row of the database, sealed with the token (k3s pkg/cluster/encrypt.go
//! and storage.go, pkg/bootstrap; k3s.md 3.2 with a test vector): PBKDF2-HMAC-SHA1 of the token's password over 16 ASCII
//! digits of salt, 4096 rounds; AES-256-GCM. Whoever has both has the cluster, so nothing of it comes into a log or an error.

use crate::certificate::not_after;
use aes_gcm::aead::Aead;
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use bakelite_spec::hexadecimal::hexadecimal;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;

const ROUNDS: u32 = 4096;
const NONCE: usize = 12;
/// Those without which k3s never becomes ready (k3s pkg/daemons/config, ControlRuntimeBootstrap).
const AUTHORITIES: &[&str] = &["ServerCA", "ClientCA", "RequestHeaderCA"];

/// Why token and database don't belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// No row at all.
    #[error("the cluster's keys were never saved in the database")]
    NoRow,
    /// The lock of a first start that didn't come to its end.
    #[error("the cluster's keys were about to be saved, and weren't")]
    Locked,
    /// The row is another token's.
    #[error("the database belongs to another token")]
    Other,
    /// It is this token's row, and it doesn't open.
    #[error("the row with the cluster's keys is damaged")]
    Damaged,
}

/// One of the cluster's files, as the row has it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Entry {
    /// When it was saved, RFC 3339.
    pub timestamp: String,
    /// Its bytes in base64.
    pub content: String,
}

/// What the row holds: the cluster's authorities and keys by k3s's names for them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys(pub BTreeMap<String, Entry>);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Keys {
    /// The bytes of one of them.
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        STANDARD.decode(&self.0.get(name)?.content).ok()
    }

    /// When the first of the cluster's authorities ends, in seconds since 1970: k3s renews what they have signed, and never
    /// them. `None` where there is none that can be read.
    pub fn authority_until(&self) -> Option<i64> {
        let ends = AUTHORITIES.iter().filter_map(|name| not_after(&String::from_utf8(self.bytes(name)?).ok()?));
        ends.min()
    }
}

/// The part of a token that seals: all of a plain one, the end of `K10<hash>::<user>:<password>`.
pub fn password(token: &str) -> &str {
    let token = token.trim();
    let named = token.strip_prefix("K10").and_then(|rest| rest.split_once("::")).map(|(_, user)| user);
    named.and_then(|user| user.split_once(':')).map_or(token, |(_, password)| password)
}

/// The row's name for a password.
pub fn row_name(password: &str) -> String {
    let digest = Sha256::digest(password.as_bytes());
    format!("/bootstrap/{}", hexadecimal(&digest[..6]))
}

fn cipher(password: &str, salt: &str) -> Aes256Gcm {
    let mut key = [0u8; 32];
    pbkdf2::pbkdf2_hmac::<sha1::Sha1>(password.as_bytes(), salt.as_bytes(), ROUNDS, &mut key);
    Aes256Gcm::new(&key.into())
}

/// Opens a row's value.
///
/// # Errors
/// When it doesn't open with this password.
pub fn open(password: &str, value: &[u8]) -> Result<Keys, TokenError> {
    let opened = || {
        let (salt, sealed) = std::str::from_utf8(value).ok()?.split_once(':')?;
        let sealed = STANDARD.decode(sealed).ok()?;
        let (nonce, sealed) = sealed.split_at_checked(NONCE)?;
        let plain = cipher(password, salt).decrypt(Nonce::from_slice(nonce), sealed).ok()?;
        serde_json::from_slice(&plain).ok()
    };
    opened().ok_or(TokenError::Damaged)
}

/// Seals for another password; salt and nonce have to be fresh random bytes.
pub fn seal(password: &str, keys: &Keys, salt: [u8; 8], nonce: [u8; NONCE]) -> Vec<u8> {
    let salt = hexadecimal(salt);
    // Neither can fail: texts are JSON, and the plain text is far shorter than AES-GCM's limit of 64 GiB.
    let plain = serde_json::to_vec(keys).map(|json| [json, b"\n".to_vec()].concat()).unwrap_or_default();
    let sealed = cipher(password, &salt).encrypt(Nonce::from_slice(&nonce), &plain[..]).unwrap_or_default();
    format!("{salt}:{}", STANDARD.encode([&nonce[..], &sealed].concat())).into_bytes()
}

/// Proves that a token opens a database's row, as k3s would: by its own name, and by the two older ones.
///
/// # Errors
/// SQLite's, outside; inside, why they don't belong together.
pub fn prove(connection: &Connection, token: &str) -> rusqlite::Result<Result<Keys, TokenError>> {
    let newest = "SELECT deleted, value FROM kine WHERE name = ?1 ORDER BY id DESC LIMIT 1";
    let value_of = |name: &str| -> rusqlite::Result<Option<Vec<u8>>> {
        let row = |row: &rusqlite::Row<'_>| {
            let value = match row.get(1)? {
                Value::Null => Vec::new(),
                Value::Blob(bytes) => bytes,
                // Nothing that k3s writes, and nothing that opens.
                other => format!("{other:?}").into_bytes(),
            };
            Ok((row.get::<_, i64>(0)?, value))
        };
        let found = connection.query_row(newest, [name], row).optional()?;
        Ok(found.filter(|(deleted, _)| *deleted == 0).map(|(_, value)| value))
    };
    let token = token.trim();
    for seals in [password(token), token, ""] {
        match value_of(&row_name(seals))? {
            Some(value) if value.is_empty() => return Ok(Err(TokenError::Locked)),
            Some(value) => return Ok(open(seals, &value)),
            None => {}
        }
    }
    let others = "SELECT count(*) FROM kine WHERE name >= '/bootstrap/' AND name < '/bootstrap0' AND deleted = 0";
    let others: i64 = connection.query_row(others, [], |row| row.get(0))?;
    Ok(Err(if others == 0 { TokenError::NoRow } else { TokenError::Other }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// k3s.md 3.2.
    const VECTOR: &str = "0011223344556677:AAECAwQFBgcICQoLrhodJuqFCdzSgjBbcnsDlppKeMBrfngEo4swTyTAuPtKbShZSXU84L0JUsUn+0dD/QxBxGPUdP3GOoGdyti6es13GkNCNbco4kdxCR96TR9ZEnI=";
    const PASSWORD: &str = "bakelite-test-token";

    #[test]
    fn the_vector_opens_and_is_sealed_again_to_the_byte() {
        assert_eq!(row_name(PASSWORD), "/bootstrap/a3dc73e2016a");
        assert_eq!(row_name(""), "/bootstrap/e3b0c44298fc");
        let keys = open(PASSWORD, VECTOR.as_bytes()).unwrap();
        assert_eq!(keys.bytes("ServerCA").unwrap(), b"pem");
        assert_eq!(keys.authority_until(), None, "it is no certificate");
        let salt = [0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77];
        let nonce = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
        assert_eq!(seal(PASSWORD, &keys, salt, nonce), VECTOR.as_bytes());
        assert!(!format!("{keys:?}").contains("cGVt"), "a key in a log");
    }

    #[test]
    fn the_first_authority_that_ends_counts() {
        let entry = |text: &str| Entry { timestamp: String::new(), content: STANDARD.encode(text) };
        let (early, late) = (include_str!("testing/2036.crt"), include_str!("testing/2076.crt"));
        let until = |names: &[(&str, &str)]| {
            Keys(names.iter().map(|(name, text)| (name.to_string(), entry(text))).collect()).authority_until()
        };
        let (first, second) = (not_after(early), not_after(late));
        assert_eq!(until(&[("ServerCA", late), ("ClientCA", early), ("RequestHeaderCA", late)]), first);
        assert_eq!(until(&[("ServerCA", late), ("ETCDServerCA", early)]), second, "nothing runs by that one");
        assert_eq!(until(&[]), None);
    }

    #[test]
    fn anything_else_is_refused() {
        let mut torn = VECTOR.as_bytes().to_vec();
        torn[60] ^= 1;
        for value in [&torn[..], b"", b"0011223344556677:", b"no colon", &VECTOR.as_bytes()[..40], &[0xFF, b':']] {
            assert_eq!(open(PASSWORD, value), Err(TokenError::Damaged));
        }
        assert_eq!(open("another", VECTOR.as_bytes()), Err(TokenError::Damaged));
    }

    #[test]
    fn of_a_token_only_the_password_seals() {
        assert_eq!(password("plain\n"), "plain");
        assert_eq!(password(&format!("K10{}::server:pass:word", "a".repeat(64))), "pass:word");
        assert_eq!(password("K10short"), "K10short");
    }
}
