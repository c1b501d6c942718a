//! The recovery part of a stick: a manifest that an owner has signed, with the sums of all that a machine is repaired with.
//!
//! `recovery/manifest.json` with `.sig`, the system as a squashfs (the medic runs from it, and slots are written from it) and
//! what goes onto a boot partition. Nothing of it is used before its sum was compared. The sets and grants of the same stick
//! have their own proofs.

use crate::document::{self, DocumentError};
use crate::keys::OwnerKeys;
use bakelite_spec::manifest;
use serde::{Deserialize, Serialize};

/// The kind of its signature.
const KIND: &str = "recovery";
/// The version of the format that is written, and the newest that is read.
pub const FORMAT: u32 = 1;
/// A longer file is no manifest.
pub const LIMIT: u64 = 4 << 20;
/// The manifest's place on the stick.
pub const MANIFEST: &str = "recovery/manifest.json";
/// The system's place on the stick.
pub const SYSTEM: &str = "recovery/system.squashfs";
/// Where files of a boot partition lie that the stick itself has in another form.
pub const BOOT: &str = "recovery/boot";
/// Where the stick is mounted while the medic runs.
pub const PLACE: &str = "/run/bakelite/recovery";
/// The folder of what the medic has found, by machine.
pub const REPORTS: &str = "reports";

/// What is on the stick.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The image that machines are repaired with.
    pub image: manifest::Manifest,
    /// Bytes of one of its system partitions.
    pub slot: u64,
    /// Whether machines that never had a system get one from it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub installs: bool,
    /// All files that count.
    pub files: Vec<StickFile>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StickFile {
    /// Its path on the stick.
    pub path: String,
    /// Its path on a machine's boot partition; none for the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
    /// Whether a machine goes on from it: kernel arguments have generations.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub first: bool,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256 in hexadecimal digits.
    pub sha256: String,
}

impl Manifest {
    /// The manifest's file and its signature's.
    pub fn sign(&self, keys: &OwnerKeys) -> (Vec<u8>, String) {
        document::sign(self, KIND, keys)
    }

    /// Reads a manifest. Nothing of it is looked at before its signature was proved.
    ///
    /// # Errors
    /// When none of the owners has signed it, or it is none.
    pub fn read(owners: &[String], bytes: &[u8], signature: &str) -> Result<Self, DocumentError> {
        document::read(owners, KIND, FORMAT, bytes, signature)
    }

    /// Reads a manifest whose signature somebody else has proved.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        document::parse(FORMAT, bytes)
    }

    /// The system's entry.
    pub fn system(&self) -> Option<&StickFile> {
        self.files.iter().find(|file| file.path == SYSTEM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::SignatureError;

    const TEXT: &str = r#"{"format":1,"image":{"format":1,"version":"0","image":"i","time":0,"board-name":"b",
        "board":{"description":"b","arch":"x86_64","boot":{"flow":"uefi"},"kernel":{"package":"k"},"packages":[],
        "modules":{"root":[],"initramfs":[]},"cmdline":[],"console":{},"watchdog":"0s","qemu":{"cpu":"max"},"defaults":{}},"system":{"length":1,"sha256":"s","kernel":"6"},
        "payload":{"kind":"none","version":"","program":"","files":[]}},"slot":1,
        "files":[{"path":"recovery/system.squashfs","size":1,"sha256":"s"}]}"#;

    #[test]
    fn a_stick_is_believed_by_its_owners_word_alone() {
        let (owner, stranger) = (OwnerKeys::generate([1; 32]), OwnerKeys::generate([2; 32]));
        let manifest = Manifest::parse(TEXT.as_bytes()).unwrap();
        assert_eq!(manifest.system().map(|file| file.size), Some(1));
        let (bytes, signed) = manifest.sign(&owner);
        assert_eq!(Manifest::read(&[owner.owner_key()], &bytes, &signed).unwrap(), manifest);
        let refused = Err(DocumentError::Signature(SignatureError::Stranger));
        assert_eq!(Manifest::read(&[stranger.owner_key()], &bytes, &signed), refused);
        assert_eq!(Manifest::read(&[], &bytes, &signed), refused);
        let mut changed = bytes.clone();
        changed[20] ^= 1;
        assert_eq!(Manifest::read(&[owner.owner_key()], &changed, &signed), refused);
        assert_eq!(Manifest::parse(br#"{"format":2,"other":1}"#), Err(DocumentError::Newer(2)));
        assert_eq!(Manifest::parse(b"{}"), Err(DocumentError::Malformed));
    }
}
