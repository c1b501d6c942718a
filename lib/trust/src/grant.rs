//! Grants: an owner's word that certain sets may be restored on certain machines, with what opens these sets.
//!
//! `grants/NAME.json` and `NAME.json.sig` on a stick. Whoever holds the stick holds the sets' keys: a grant is no
//! protection of what is in them, but of the machines that would take them.

use crate::document::{self, DocumentError};
use crate::file_key::FileKey;
use crate::keys::OwnerKeys;
use bakelite_spec::pattern::fits;
use serde::{Deserialize, Serialize};

/// The kind of its signature.
const KIND: &str = "grant";
/// The version of the format that is written, and the newest that is read.
pub const FORMAT: u32 = 1;
/// A longer file is no grant.
pub const LIMIT: u64 = 1 << 20;

/// Sets for machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Grant {
    /// [`FORMAT`].
    pub format: u32,
    /// Patterns of the nodes that it is for, such as `shop-*`.
    pub nodes: Vec<String>,
    /// Until when, in seconds since 1970.
    pub expires: i64,
    /// Its sets.
    pub sets: Vec<GrantedSet>,
}

/// One set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct GrantedSet {
    /// The SHA-256 of its file in hexadecimal digits.
    pub sha256: String,
    /// The node that it is of.
    pub node: String,
    /// The k3s version in it.
    pub k3s: String,
    /// The revision in it.
    pub revision: u64,
    /// What opens it, a [`FileKey`]'s text; empty for a plain set.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
}

/// What a grant says about a machine at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It counts.
    Granted,
    /// It was for others.
    OtherNodes,
    /// Its time is over.
    Expired,
}

impl Grant {
    /// The grant's file and its signature's.
    pub fn sign(&self, keys: &OwnerKeys) -> (Vec<u8>, String) {
        document::sign(self, KIND, keys)
    }

    /// Reads a grant. Nothing of it is looked at before its signature was proved.
    ///
    /// # Errors
    /// When none of the owners has signed it, or it is none.
    pub fn read(owners: &[String], bytes: &[u8], signature: &str) -> Result<Self, DocumentError> {
        document::read(owners, KIND, FORMAT, bytes, signature)
    }

    /// What it says about a set's node, at a time in seconds since 1970.
    pub fn verdict(&self, node: &str, now: i64) -> Verdict {
        if !self.nodes.iter().any(|pattern| fits(pattern, node)) {
            Verdict::OtherNodes
        } else if now > self.expires {
            Verdict::Expired
        } else {
            Verdict::Granted
        }
    }

    /// The entry of a set by its file's hash.
    pub fn set(&self, sha256: &str) -> Option<&GrantedSet> {
        self.sets.iter().find(|set| set.sha256 == sha256)
    }
}

impl GrantedSet {
    /// What opens the set; `None` for a plain one.
    pub fn file_key(&self) -> Option<FileKey> {
        FileKey::parse(&self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature;

    fn grant() -> Grant {
        let set = GrantedSet {
            sha256: "ab".repeat(32),
            node: "shop-17".into(),
            k3s: "v1.36.2+k3s1".into(),
            revision: 400,
            key: String::new(),
        };
        Grant { format: FORMAT, nodes: vec!["shop-*".into()], expires: 1_000, sets: vec![set] }
    }

    #[test]
    fn a_signed_grant_reads_back_and_any_change_spoils_it() {
        let owner = OwnerKeys::generate([1; 32]);
        let (bytes, signature) = grant().sign(&owner);
        let owners = [owner.owner_key()];
        assert_eq!(Grant::read(&owners, &bytes, &signature), Ok(grant()));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(Grant::read(&owners, &changed, &signature).is_err(), "byte {at}");
        }
        assert!(Grant::read(&[OwnerKeys::generate([2; 32]).owner_key()], &bytes, &signature).is_err());
        let newer = br#"{"format":2,"more":1}"#;
        let signed = signature::sign(&owner, KIND, newer);
        assert_eq!(Grant::read(&owners, newer, &signed), Err(DocumentError::Newer(2)));
    }

    #[test]
    fn it_counts_for_its_nodes_until_it_expires() {
        let grant = grant();
        assert_eq!(grant.verdict("shop-17", 1_000), Verdict::Granted);
        assert_eq!(grant.verdict("shop-17", 1_001), Verdict::Expired);
        assert_eq!(grant.verdict("till-17", 0), Verdict::OtherNodes);
        assert!(grant.set(&"ab".repeat(32)).is_some() && grant.set("ab").is_none());
    }
}
