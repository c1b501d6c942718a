//! The bootstrap row's encryption, exactly as k3s has it (k3s.md 3.2): PBKDF2-HMAC-SHA1 over the salt's ASCII, 4096 rounds,
//! AES-256-GCM without associated data. Written from the description, not from the product's code: a token proof that
//! shared code with what it proves would prove nothing.

use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::pbkdf2;
use ring::rand::{SecureRandom, SystemRandom};

use crate::error::Error;
use crate::token::{hex, sha256_hex};

const ROUNDS: NonZeroU32 = NonZeroU32::MIN.saturating_add(4095);

/// The row's name for this password.
pub fn row_name(password: &str) -> String {
    format!("/bootstrap/{}", &sha256_hex(password.as_bytes())[..12])
}

/// Seals with a fresh salt and nonce.
pub fn seal(password: &str, plaintext: &[u8]) -> Result<Vec<u8>, Error> {
    let (mut salt, mut nonce) = ([0; 8], [0; NONCE_LEN]);
    let random = SystemRandom::new();
    random.fill(&mut salt).map_err(|_| Error::Random)?;
    random.fill(&mut nonce).map_err(|_| Error::Random)?;
    seal_with(password, plaintext, &hex(&salt), nonce)
}

fn seal_with(password: &str, plaintext: &[u8], salt: &str, nonce: [u8; NONCE_LEN]) -> Result<Vec<u8>, Error> {
    let mut sealed = plaintext.to_vec();
    key(password, salt)?
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut sealed)
        .map_err(|_| Error::OpenSealed)?;
    let mut bytes = nonce.to_vec();
    bytes.append(&mut sealed);
    Ok(format!("{salt}:{}", STANDARD.encode(bytes)).into_bytes())
}

/// Opens a row's value.
pub fn open(password: &str, value: &[u8]) -> Result<Vec<u8>, Error> {
    let text = std::str::from_utf8(value).map_err(|_| Error::OpenSealed)?;
    let (salt, encoded) = text.split_once(':').ok_or(Error::OpenSealed)?;
    let mut bytes = STANDARD.decode(encoded).map_err(|_| Error::OpenSealed)?;
    let Some((nonce, sealed)) = bytes.split_first_chunk_mut::<NONCE_LEN>() else { return Err(Error::OpenSealed) };
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let plaintext = key(password, salt)?.open_in_place(nonce, Aad::empty(), sealed).map_err(|_| Error::OpenSealed)?;
    Ok(plaintext.to_vec())
}

fn key(password: &str, salt: &str) -> Result<LessSafeKey, Error> {
    let mut key = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA1, ROUNDS, salt.as_bytes(), password.as_bytes(), &mut key);
    UnboundKey::new(&AES_256_GCM, &key).map(LessSafeKey::new).map_err(|_| Error::OpenSealed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VECTOR: &str = "0011223344556677:AAECAwQFBgcICQoLrhodJuqFCdzSgjBbcnsDlppKeMBrfngEo4swTyTAuPtKbShZSXU84L0JUsUn+0dD/QxBxGPUdP3GOoGdyti6es13GkNCNbco4kdxCR96TR9ZEnI=";
    const PLAINTEXT: &[u8] = b"{\"ServerCA\":{\"Timestamp\":\"2026-01-01T00:00:00Z\",\"Content\":\"cGVt\"}}\n";

    #[test]
    fn the_reference_vector_both_ways() {
        let password = "bakelite-test-token";
        assert_eq!(row_name(password), "/bootstrap/a3dc73e2016a");
        assert_eq!(row_name(""), "/bootstrap/e3b0c44298fc");
        assert_eq!(open(password, VECTOR.as_bytes()).unwrap(), PLAINTEXT);
        let nonce = std::array::from_fn(|at| at as u8);
        assert_eq!(seal_with(password, PLAINTEXT, "0011223344556677", nonce).unwrap(), VECTOR.as_bytes());
    }

    #[test]
    fn the_row_that_k3s_wrote() {
        let Some(fixtures) = std::env::var_os("BAKELITE_FIXTURES") else {
            eprintln!("SKIPPED: BAKELITE_FIXTURES isn't set, no row of k3s's own is opened");
            return;
        };
        let packed = std::fs::File::open(std::path::Path::new(&fixtures).join("online-copy.db.zst")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        crate::paths::write(&path, &zstd::decode_all(packed).unwrap(), 0o600).unwrap();
        let datastore = crate::datastore::Datastore::start(crate::datastore::Datastore::ping(&path).unwrap()).unwrap();
        let rows = datastore.bootstrap_rows().unwrap();
        assert_eq!(rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), [row_name("fixture-token")]);
        let plaintext = open("fixture-token", &rows[0].value).unwrap();
        assert!(plaintext.starts_with(b"{\"") && plaintext.ends_with(b"}\n"));
        assert!(matches!(open("another", &rows[0].value), Err(Error::OpenSealed)));
    }

    #[test]
    fn foreign_bytes_and_passwords_are_refused() {
        let sealed = seal("right", b"content").unwrap();
        assert_eq!(open("right", &sealed).unwrap(), b"content");
        for bad in [&sealed[..20], b"", b"no colon", b"salt:!!!", b"salt:AAAA"] {
            assert!(matches!(open("right", bad), Err(Error::OpenSealed)));
        }
        assert!(matches!(open("wrong", &sealed), Err(Error::OpenSealed)));
    }
}
