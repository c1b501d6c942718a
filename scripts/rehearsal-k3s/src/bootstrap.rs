//! The start-up decision table of k3s.md 3.3: which of database and disk is right about the cluster's CAs and keys, and with
//! which token the row between them opens. It repairs nothing that k3s doesn't repair, and leaves behind what k3s leaves
//! behind: its refusals are what an appliance is tested against.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::datastore::Datastore;
use crate::error::Error;
use crate::paths::{read_if_there, write};
use crate::seal;
use crate::stop::Stop;

/// A field of the row and its file below `<D>/server`.
const FIELDS: [(&str, &str); 15] = [
    ("ServerCA", "tls/server-ca.crt"),
    ("ServerCAKey", "tls/server-ca.key"),
    ("ClientCA", "tls/client-ca.crt"),
    ("ClientCAKey", "tls/client-ca.key"),
    ("RequestHeaderCA", "tls/request-header-ca.crt"),
    ("RequestHeaderCAKey", "tls/request-header-ca.key"),
    ("ETCDServerCA", "tls/etcd/server-ca.crt"),
    ("ETCDServerCAKey", "tls/etcd/server-ca.key"),
    ("ETCDPeerCA", "tls/etcd/peer-ca.crt"),
    ("ETCDPeerCAKey", "tls/etcd/peer-ca.key"),
    ("ServiceKey", "tls/service.key"),
    ("PasswdFile", "cred/passwd"),
    ("IPSECKey", "cred/ipsec.psk"),
    ("EncryptionConfig", "cred/encryption-config.json"),
    ("EncryptionHash", "cred/encryption-state.json"),
];

/// Attempts to wait for the holder of a lock row, and the time of each.
const LOCK_ATTEMPTS: u32 = 5;
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// A file that is newer than the row by this much is not overwritten.
const NEWER: Duration = Duration::from_secs(3);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Stored {
    timestamp: String,
    content: String,
}

type Content = BTreeMap<String, Stored>;

/// What is known of the token before the datastore is asked.
pub struct Known {
    /// The token as given or found.
    pub full: String,
    /// The part that seals.
    pub password: String,
}

/// True where a directory is missing or has nothing in it: all that k3s looks at before it trusts the disk.
pub fn is_bare(folder: &Path) -> bool {
    fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none())
}

/// Brings disk and row together. True where the datastore already held the row, so that nothing is left to save.
pub fn prepare(datastore: &Datastore, server: &Path, token: Option<&Known>, stop: &Stop) -> Result<bool, Error> {
    let Some(token) = token else { return Ok(false) };
    match find(datastore, token, stop)? {
        Some(plaintext) => {
            reconcile(server, &serde_json::from_slice(&plaintext)?)?;
            Ok(true)
        }
        None => {
            datastore.put(&seal::row_name(&token.password), None, 0)?;
            Ok(false)
        }
    }
}

fn find(datastore: &Datastore, token: &Known, stop: &Stop) -> Result<Option<Vec<u8>>, Error> {
    let name = seal::row_name(&token.password);
    let mut attempts = 0;
    loop {
        let rows = datastore.bootstrap_rows()?;
        let value = |wanted: &str| rows.iter().find(|row| row.name == wanted).map(|row| row.value.as_slice());
        match value(&name) {
            Some([]) if attempts == LOCK_ATTEMPTS => {
                log::warn!("Bootstrap key is locked by a start that didn't finish, deleting the lock");
                datastore.delete(&name)?;
                return Ok(None);
            }
            Some([]) => {
                attempts += 1;
                log::info!("Bootstrap key is locked, waiting (attempt {attempts} of {LOCK_ATTEMPTS})");
                if stop.wait(LOCK_WAIT) {
                    return Err(Error::Interrupted);
                }
            }
            Some(sealed) => return seal::open(&token.password, sealed).map(Some),
            None => {
                for older in ["", token.full.as_str()] {
                    let old_name = seal::row_name(older);
                    if let Some(sealed) = value(&old_name) {
                        let plaintext = seal::open(older, sealed)?;
                        log::info!("Migrating bootstrap data to new format");
                        datastore.put(&name, Some(&seal::seal(&token.password, &plaintext)?), 0)?;
                        datastore.delete(&old_name)?;
                        return Ok(Some(plaintext));
                    }
                }
                return if rows.is_empty() { Ok(None) } else { Err(Error::OtherToken) };
            }
        }
    }
}

fn reconcile(server: &Path, content: &Content) -> Result<(), Error> {
    let rebuild = ["cred", "tls", "tls/etcd"].iter().any(|folder| is_bare(&server.join(folder)));
    let (mut updates, mut newer) = (Vec::new(), Vec::new());
    for (field, file) in FIELDS {
        let Some(stored) = content.get(field) else { continue };
        let path = server.join(file);
        let bytes = STANDARD.decode(&stored.content).map_err(|_| Error::OpenSealed)?;
        let time = OffsetDateTime::parse(&stored.timestamp, &Rfc3339).map_or(SystemTime::UNIX_EPOCH, Into::into);
        if !rebuild {
            let on_disk = read_if_there(&path)?;
            if on_disk.as_ref() == Some(&bytes) {
                continue;
            }
            if on_disk.is_some() && modified(&path)?.duration_since(time).is_ok_and(|ahead| ahead >= NEWER) {
                newer.push(path.display().to_string());
                continue;
            }
            log::warn!("{} will be updated from the datastore.", path.display());
        }
        updates.push((path, bytes, time));
    }
    if !newer.is_empty() {
        return Err(Error::NewerThanDatastore(newer.join(", ")));
    }
    if !updates.is_empty() && !rebuild {
        log::warn!("Updating bootstrap data on disk from datastore");
    }
    updates.into_iter().try_for_each(|(path, bytes, time)| write_dated(&path, &bytes, time))
}

fn write_dated(path: &PathBuf, bytes: &[u8], time: SystemTime) -> Result<(), Error> {
    write(path, bytes, 0o600)?;
    let dated = File::options().write(true).open(path).and_then(|file| file.set_modified(time));
    dated.map_err(|source| Error::Write { path: path.clone(), source })
}

fn modified(path: &Path) -> Result<SystemTime, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    path.metadata().and_then(|metadata| metadata.modified()).map_err(failed)
}

/// Seals what is on the disk into the row of a new cluster. A row under another token is found only now by a start that
/// knew no token: by then its new CAs are on the disk, as in k3s.
pub fn save(datastore: &Datastore, server: &Path, password: &str) -> Result<(), Error> {
    let name = seal::row_name(password);
    if datastore.bootstrap_rows()?.iter().any(|row| row.name != name) {
        return Err(Error::StartCluster(Box::new(Error::OtherToken)));
    }
    let mut content = Content::new();
    for (field, file) in FIELDS {
        let path = server.join(file);
        let Some(bytes) = read_if_there(&path)? else { continue };
        let timestamp = OffsetDateTime::from(modified(&path)?).format(&Rfc3339).unwrap_or_default();
        content.insert(field.to_owned(), Stored { timestamp, content: STANDARD.encode(bytes) });
    }
    let mut plaintext = serde_json::to_vec(&content)?;
    plaintext.push(b'\n');
    datastore.put(&name, Some(&seal::seal(password, &plaintext)?), 0)?;
    log::info!("Bootstrap data saved: {} files, {} bytes", content.len(), plaintext.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        folder: tempfile::TempDir,
        datastore: Datastore,
        stop: Stop,
    }

    impl Bench {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let datastore = Datastore::start(Datastore::ping(&folder.path().join("state.db")).unwrap()).unwrap();
            let bench = Self { folder, datastore, stop: Stop::new(0.0) };
            for (field, file) in FIELDS {
                write(&bench.file(file), field.as_bytes(), 0o600).unwrap();
            }
            bench
        }

        fn file(&self, name: &str) -> PathBuf {
            self.folder.path().join("server").join(name)
        }

        fn prepare(&self, token: &str) -> Result<bool, Error> {
            let known = Known { full: token.to_owned(), password: crate::token::password(token)? };
            prepare(&self.datastore, &self.file(""), Some(&known), &self.stop)
        }

        fn save(&self, password: &str) -> Result<(), Error> {
            save(&self.datastore, &self.file(""), password)
        }
    }

    #[test]
    fn a_first_start_locks_then_saves_and_the_next_finds_it() {
        let bench = Bench::new();
        assert!(!bench.prepare("token").unwrap());
        let rows = bench.datastore.bootstrap_rows().unwrap();
        assert!(rows.len() == 1 && rows[0].value.is_empty(), "the lock row");
        assert!(!bench.prepare("token").unwrap(), "a left lock is waited for, deleted and taken");
        bench.save("token").unwrap();
        assert!(bench.prepare("token").unwrap());
        assert!(matches!(bench.prepare("other"), Err(Error::OtherToken)));
        let full = crate::token::full(b"CA", "token");
        assert!(bench.prepare(&full).unwrap(), "both spellings open it");
    }

    #[test]
    fn bare_directories_are_filled_with_the_rows_times() {
        let bench = Bench::new();
        let old = SystemTime::now() - Duration::from_secs(5000);
        write_dated(&bench.file("tls/service.key"), b"key", old).unwrap();
        bench.save("token").unwrap();
        fs::remove_dir_all(bench.file("tls/etcd")).unwrap();
        fs::remove_file(bench.file("tls/service.key")).unwrap();
        assert!(bench.prepare("token").unwrap());
        assert_eq!(fs::read(bench.file("tls/etcd/peer-ca.key")).unwrap(), b"ETCDPeerCAKey");
        let drift = modified(&bench.file("tls/service.key")).unwrap().duration_since(old).unwrap();
        assert!(drift < Duration::from_millis(1), "{drift:?}");
    }

    #[test]
    fn an_older_file_is_overwritten_and_a_newer_one_is_fatal() {
        let bench = Bench::new();
        bench.save("token").unwrap();
        let now = SystemTime::now();
        write_dated(&bench.file("tls/server-ca.crt"), b"other", now - Duration::from_secs(60)).unwrap();
        assert!(bench.prepare("token").unwrap());
        assert_eq!(fs::read(bench.file("tls/server-ca.crt")).unwrap(), b"ServerCA");
        write_dated(&bench.file("cred/passwd"), b"other", now + Duration::from_secs(60)).unwrap();
        write_dated(&bench.file("tls/client-ca.crt"), b"other", now + Duration::from_secs(60)).unwrap();
        let words = bench.prepare("token").unwrap_err().in_bootstrap().fatal_words();
        let expected = format!(
            "{}, {} newer than datastore",
            bench.file("tls/client-ca.crt").display(),
            bench.file("cred/passwd").display()
        );
        assert!(words.starts_with(&expected), "{words}");
    }

    #[test]
    fn rows_of_older_spellings_are_migrated() {
        for older in ["", "full"] {
            let bench = Bench::new();
            let full = crate::token::full(b"CA", "token");
            bench.save(if older.is_empty() { "" } else { &full }).unwrap();
            assert!(bench.prepare(&full).unwrap());
            let rows = bench.datastore.bootstrap_rows().unwrap();
            assert_eq!(rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), [seal::row_name("token")]);
        }
    }

    #[test]
    fn a_damaged_row_and_an_unknown_token_end_with_their_words() {
        let bench = Bench::new();
        assert!(!prepare(&bench.datastore, &bench.file(""), None, &bench.stop).unwrap());
        bench.save("token").unwrap();
        assert!(matches!(bench.save("made up"), Err(Error::StartCluster(_))));
        bench
            .datastore
            .put(&seal::row_name("token"), Some(b"0011223344556677:AAECAwQFBgcICQoLrhodJuqFCdzS"), 0)
            .unwrap();
        assert_eq!(
            bench.prepare("token").unwrap_err().in_bootstrap().fatal_words(),
            "Error: preparing server: failed to bootstrap cluster data: cipher: message authentication failed"
        );
    }
}
