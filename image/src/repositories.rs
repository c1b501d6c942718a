//! `repositories`: APT repositories besides Debian's, each with the key that its appliance pins.
//!
//! The key's file lies beside the configuration and is believed only as far as its fingerprint goes: a key of a server,
//! or of a keyring on this machine, is never asked.

use crate::config::Config;
use crate::source::lock::{Further, Repository};
use crate::source::trust::TrustedKeys;
use bakelite_spec::finding::Finding;
use std::fs::File;
use std::io::Read;

/// Keyrings of whole distributions are at 0.1 MB.
const KEY_LIMIT: u64 = 2 << 20;

/// What a lock keeps of the repositories.
pub fn requested(config: &Config) -> Vec<Repository> {
    let repositories = config.appliance.repositories.iter();
    repositories
        .map(|one| Repository {
            name: one.name.clone(),
            url: one.url.trim_end_matches('/').into(),
            suite: one.suite.clone(),
            components: one.components.clone(),
            fingerprint: one.fingerprint.replace(' ', "").to_uppercase(),
            prefer: one.prefer.clone(),
        })
        .collect()
}

/// The repositories with their keys.
///
/// # Errors
/// A finding for each key that can't be read or isn't the pinned one.
pub fn load(config: &Config) -> Result<Vec<Further>, Vec<Finding>> {
    let (mut loaded, mut findings) = (Vec::new(), Vec::new());
    for (number, repository) in requested(config).into_iter().enumerate() {
        let path = config.folder.join(&config.appliance.repositories[number].key);
        let mut bytes = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(KEY_LIMIT).read_to_end(&mut bytes));
        let keys = match read {
            Err(error) => {
                Err((format!("{} can't be read: {error}", path.display()), "the key's file, relative to this one"))
            }
            Ok(_) => TrustedKeys::from_file(&bytes, &repository.fingerprint).map_err(|error| {
                (
                    format!("{}: {}", path.display(), error.reason),
                    "the key that has the fingerprint, after a look at which is right",
                )
            }),
        };
        match keys {
            Ok(keys) => loaded.push(Further { repository, keys }),
            Err((problem, hint)) => {
                findings.push(config.placed(Finding::error(format!("repositories[{number}].key"), problem, hint)));
            }
        }
    }
    if findings.is_empty() { Ok(loaded) } else { Err(findings) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_taken_by_its_fingerprint_or_its_line_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let key = include_bytes!("source/keys/debian-archive-trixie-stable.gpg");
        crate::host::file::write(&folder.path().join("shop.gpg"), key).unwrap();
        let read = |fingerprint: &str, file: &str| {
            let text = format!(
                "board: qemu-x86_64\nrepositories:\n  - name: shop\n    url: https://shop.example/apt/\n    suite: stable\n    \
                 key: {file}\n    fingerprint: {fingerprint}\n"
            );
            let config = crate::config::read("a.yaml", &text, folder.path().into()).unwrap();
            load(&config).map_err(|findings| findings[0].to_string())
        };
        let found = read("4158 7F7D B8C7 74BC CF13  1416 762F 67A0 B2C3 9DE4", "shop.gpg").unwrap();
        assert_eq!(
            (found[0].repository.url.as_str(), found[0].repository.components.len()),
            ("https://shop.example/apt", 1)
        );
        let error = read(&"A".repeat(40), "shop.gpg").unwrap_err();
        assert!(
            error.starts_with("a.yaml:6:5: repositories[0].key: ") && error.contains("it holds 41587F7DB8"),
            "{error}"
        );
        assert!(read(&"A".repeat(40), "none.gpg").unwrap_err().contains("none.gpg can't be read"));
    }
}
