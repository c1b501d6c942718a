//! The sealed identity's bytes: one file with the identity's files, numbered and with a checksum. Not encrypted.
//!
//! The first line is `bakelite-seal 1 GENERATION SHA256`, the hash being that of all that follows. What follows is JSON.
//! A seal with one wrong byte is none.

use bakelite_datastore::rekey;
use bakelite_plan::disk::Seal;
use bakelite_plan::identity::{Identity, RECORD, TOKEN};
use bakelite_plan::seal::SEALED;
use bakelite_spec::hexadecimal::{self, hexadecimal};
use bakelite_spec::status::paths;
use bakelite_sys::{SysError, durable, names_in, read_text};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const MAGIC: &str = "bakelite-seal 1";

/// A file of the identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedFile {
    /// Its place.
    path: String,
    /// Permission bits.
    mode: u32,
    /// Its content as hexadecimal digits.
    content: String,
}

fn hash(bytes: &[u8]) -> String {
    hexadecimal(Sha256::digest(bytes))
}

/// The files of the identity below a root, in the order in which they are taken out again.
pub fn collect(root: &Path) -> Vec<SealedFile> {
    let at = |path: &str| root.join(path.trim_start_matches('/'));
    let files = SEALED.iter().flat_map(|path| {
        let names = names_in(at(path)).into_iter().map(|name| format!("{path}/{name}"));
        if at(path).is_dir() { names.collect() } else { vec![path.to_string()] }
    });
    files
        .filter_map(|path| {
            let place = at(&path);
            let mode = place.metadata().ok()?.permissions().mode() & 0o7777;
            Some(SealedFile { mode, content: hexadecimal(&std::fs::read(place).ok()?), path })
        })
        .collect()
}

/// What tells one set of files from another; empty where there is no identity among them.
pub fn digest(files: &[SealedFile]) -> String {
    if !files.iter().any(|file| file.path == RECORD) {
        return String::new();
    }
    hash(&serde_json::to_vec(files).unwrap_or_default())
}

/// The bytes of a seal.
pub fn seal(files: &[SealedFile], generation: u64) -> Vec<u8> {
    let body = serde_json::to_vec(files).unwrap_or_default();
    let mut bytes = format!("{MAGIC} {generation} {}\n", hash(&body)).into_bytes();
    bytes.extend(body);
    bytes
}

/// Opens a seal: its number, the hash of what is sealed, the files. `None` for one that isn't whole.
fn open(bytes: &[u8]) -> Option<(u64, String, Vec<SealedFile>)> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let words = std::str::from_utf8(bytes.get(..end)?).ok()?.strip_prefix(MAGIC)?.trim_start();
    let (generation, sum) = words.split_once(' ')?;
    let body = bytes.get(end + 1..)?;
    let whole = hash(body) == sum;
    whole.then_some(())?;
    Some((generation.parse().ok()?, sum.into(), serde_json::from_slice(body).ok()?))
}

/// What a seal says, without its secrets.
pub fn describe(bytes: &[u8]) -> Option<Seal> {
    let (generation, digest, files) = open(bytes)?;
    let record = hexadecimal::bytes(&files.iter().find(|file| file.path == RECORD)?.content)?;
    let identity: Identity = serde_json::from_slice(&record).ok()?;
    Some(Seal { node: identity.node, generation, digest })
}

/// Puts what is sealed in its places, the record last.
///
/// # Errors
/// When the seal isn't whole, or a file can't be written.
pub fn unseal(bytes: &[u8], root: &Path) -> Result<(), SysError> {
    let broken = || SysError::Read {
        path: PathBuf::from(bakelite_plan::seal::SEAL),
        source: std::io::ErrorKind::InvalidData.into(),
    };
    let (.., files) = open(bytes).ok_or_else(broken)?;
    let known = |path: &str| {
        let plain = !path.split('/').any(|part| part == "..");
        plain
            && SEALED
                .iter()
                .any(|sealed| path.strip_prefix(sealed).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    };
    for file in files.iter().filter(|file| known(&file.path)) {
        let path = root.join(file.path.trim_start_matches('/'));
        durable::make_folder(path.parent().unwrap_or(&path))?;
        durable::write_durable(&path, &hexadecimal::bytes(&file.content).ok_or_else(broken)?, file.mode)?;
    }
    Ok(())
}

/// The cluster's token where it is kept besides: in k3s's own files, and in the data disk's seal. Where the database can be
/// read, only one that opens it counts.
pub fn find_token(root: &Path) -> Option<String> {
    let at = |path: &str| root.join(path.trim_start_matches('/'));
    let homes = [paths::DATA_MOUNT, paths::STATE_MOUNT].map(|medium| at(&format!("{medium}/rancher/k3s/server")));
    let of_passwd = |server: &PathBuf| rekey::token_of_passwd(&read_text(server.join("cred/passwd")).ok()?);
    let sealed = || {
        let (.., files) = open(&std::fs::read(at(bakelite_plan::seal::SEAL)).ok()?)?;
        let content = hexadecimal::bytes(&files.iter().find(|file| file.path == TOKEN)?.content)?;
        String::from_utf8(content).ok()
    };
    let opens = |token: &String| {
        let databases = homes.iter().map(|server| server.join("db/state.db")).filter(|path| path.exists());
        databases.map(|path| bakelite_datastore::prove_live(&path, token)).all(|proof| {
            // A database that can't be read is another step's business.
            proof.map_or(true, |opened| opened.is_ok())
        })
    };
    homes.iter().filter_map(of_passwd).chain(sealed()).find(opens)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, path: &str, bytes: &[u8]) {
        let path = root.join(path.trim_start_matches('/'));
        durable::make_folder(path.parent().unwrap()).unwrap();
        durable::replace(&path, bytes, 0o600).unwrap();
    }

    #[test]
    fn what_is_sealed_comes_back_the_same_on_another_card() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert_eq!(digest(&collect(old.path())), "");
        put(old.path(), RECORD, br#"{"format":1,"node":"shop-1"}"#);
        put(old.path(), bakelite_plan::identity::TOKEN, b"secret");
        put(old.path(), bakelite_plan::settings::HOST_KEY, &[0, 255, 10]);
        put(old.path(), "/var/lib/bakelite/secrets/wifi", b"hunter2");
        put(old.path(), "/var/lib/bakelite/accepted/hosts", b"127.0.0.1 localhost\n");
        let files = collect(old.path());
        let bytes = seal(&files, 7);
        let said = describe(&bytes).unwrap();
        assert_eq!((said.node.as_str(), said.generation), ("shop-1", 7));
        assert_eq!(said.digest, digest(&files));
        unseal(&bytes, new.path()).unwrap();
        assert_eq!(collect(new.path()), files);
        assert_eq!(files.last().unwrap().path, RECORD, "the record is taken out last");
    }

    #[test]
    fn a_lost_token_is_found_where_k3s_keeps_it_or_in_the_seal() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(find_token(root.path()), None);
        put(root.path(), RECORD, br#"{"format":1,"node":"shop-1"}"#);
        put(root.path(), TOKEN, b"sealed");
        let bytes = seal(&collect(root.path()), 1);
        put(root.path(), bakelite_plan::seal::SEAL, &bytes);
        assert_eq!(find_token(root.path()).as_deref(), Some("sealed"));
        put(root.path(), "/state/rancher/k3s/server/cred/passwd", b"of-k3s,server,server,k3s:server\n");
        assert_eq!(find_token(root.path()).as_deref(), Some("of-k3s"));
    }

    #[test]
    fn one_wrong_byte_anywhere_is_no_seal_and_foreign_places_are_not_written() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), RECORD, br#"{"format":1,"node":"shop-1"}"#);
        let mut files = collect(root.path());
        let bytes = seal(&files, 1);
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            // The number alone isn't covered by the hash: it may read as another number, never as another identity.
            assert!(describe(&bytes).is_none_or(|seal| seal.node == "shop-1" && at < 20), "byte {at}");
        }
        for path in ["/etc/passwd", "/var/lib/bakelite/accepted/../../../../etc/passwd", "/var/lib/bakelite/tokens"] {
            files[0].path = path.into();
            unseal(&seal(&files, 1), &root.path().join("new")).unwrap();
        }
        assert!(!root.path().join("new").exists());
    }
}
