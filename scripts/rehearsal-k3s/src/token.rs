//! The join token: its two spellings, the password in it that seals the bootstrap row, and the full form that k3s writes
//! back (k3s.md 3.2, 3.3). The CA hash in it is checked by an agent only; a server takes any.

use ring::digest::{SHA256, digest};

use crate::error::Error;

/// The part of a token that matters: what comes after `::<user>:`.
pub fn password(token: &str) -> Result<String, Error> {
    let token = token.trim();
    let Some(rest) = token.strip_prefix("K10") else {
        return if token.is_empty() { Err(Error::NormalizeToken) } else { Ok(token.to_owned()) };
    };
    let credentials = match rest.split_once("::") {
        Some((hash, credentials)) if hash.len() == 64 => credentials,
        _ => return Err(Error::NormalizeToken),
    };
    match credentials.split_once(':') {
        Some((_, password)) if !password.is_empty() => Ok(password.to_owned()),
        _ => Err(Error::NormalizeToken),
    }
}

/// The CA hash of a full token.
pub fn ca_hash(token: &str) -> Option<&str> {
    token.trim().strip_prefix("K10")?.split_once("::").map(|(hash, _)| hash)
}

/// `K10<sha256 of the CA file>::server:<password>`.
pub fn full(ca_file: &[u8], password: &str) -> String {
    format!("K10{}::server:{password}", sha256_hex(ca_file))
}

/// SHA-256 in lower-case hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_hold_the_same_password() {
        let full = full(b"a CA", "secret:with::colons");
        assert_eq!(password(&full).unwrap(), "secret:with::colons");
        assert_eq!(password("secret\n").unwrap(), "secret");
        assert_eq!(ca_hash(&full), Some(sha256_hex(b"a CA").as_str()));
        for malformed in ["K10", "K10abc::server:pw", "K10no-colons", ""] {
            assert!(matches!(password(malformed), Err(Error::NormalizeToken)), "{malformed}");
        }
    }
}
