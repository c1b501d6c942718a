//! `bakelite new`: a short appliance and, unless told otherwise, a key pair whose public halves are in it.

use crate::boards;
use crate::error::{BuildError, io_error};
use crate::host::file;
use bakelite_trust::keys::OwnerKeys;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Writes an appliance for a board, and its key file beside it; gives the key file's path.
///
/// # Errors
/// When the board isn't known or a file is there already; then nothing is written.
pub fn new(board: &str, output: &Path) -> Result<PathBuf, BuildError> {
    boards::board(board).map_err(|findings| BuildError::Config { findings })?;
    let key_path = output.with_extension("key");
    for path in [output, &key_path] {
        if path.exists() {
            return Err(BuildError::OutputExists(path.into()));
        }
    }
    let keys = OwnerKeys::generate(random()?);
    // The private half first: an appliance whose backups nobody can open is worse than a key without an appliance.
    let mut options = std::fs::OpenOptions::new();
    let mut file =
        options.write(true).create_new(true).mode(0o600).open(&key_path).map_err(io_error("making", &key_path))?;
    file.write_all(keys.to_text().as_bytes()).and_then(|()| file.sync_all()).map_err(io_error("writing", &key_path))?;
    file::write(output, appliance(board, &keys).as_bytes())?;
    Ok(key_path)
}

/// 32 bytes for a key, from the kernel.
///
/// # Errors
/// When it gives none.
pub fn random() -> Result<[u8; 32], BuildError> {
    let (mut bytes, random) = ([0; 32], Path::new("/dev/urandom"));
    std::fs::File::open(random)
        .and_then(|mut random| random.read_exact(&mut bytes))
        .map_err(io_error("reading", random))?;
    Ok(bytes)
}

fn appliance(board: &str, keys: &OwnerKeys) -> String {
    format!(
        "board: {board}\nhostname: node-{{serial}}\nk3s: {}\nssh: {{keys: []}}          # the line of a .pub file: who may log in as root\n\
         backup: {{recipients: [{}]}}\nowner: {{keys: [\"{}\"]}}\n",
        default_version(),
        keys.recipient(),
        keys.owner_key()
    )
}

fn default_version() -> String {
    let defaults = bakelite_spec::keys::defaults(bakelite_spec::keys::APPLIANCE);
    defaults["k3s"]["version"].as_str().unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_new_appliance_is_valid_and_its_key_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.yaml");
        let key = new("generic-x86_64", &path).unwrap();
        assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        let config = crate::config::load(&path).unwrap();
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
        assert!(new("generic-x86_64", &path).is_err(), "an appliance is never overwritten");
        assert!(new("no-such-board", &folder.path().join("other.yaml")).is_err());
        assert!(!folder.path().join("other.key").exists());
    }
}
