//! Keys that were lost or don't fit: the token from where k3s keeps it besides, the row with the cluster's keys from
//! k3s's own files, and the row sealed anew with another token.
//!
//! All of it is for a database that nobody runs on, and best a copy. k3s takes rows that were sealed by somebody else
//! (k3s.md 3.8, 11.2). Nothing of what is handled here comes into a log or an error.

use crate::token::{self, Entry, Keys};
use crate::{DatastoreError, failed};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::path::Path;

/// k3s's names for the cluster's keys, and their files below its server folder (pkg/daemons/config, ControlRuntimeBootstrap).
const FILES: &[(&str, &str)] = &[
    ("ClientCA", "tls/client-ca.crt"),
    ("ClientCAKey", "tls/client-ca.key"),
    ("ETCDPeerCA", "tls/etcd/peer-ca.crt"),
    ("ETCDPeerCAKey", "tls/etcd/peer-ca.key"),
    ("ETCDServerCA", "tls/etcd/server-ca.crt"),
    ("ETCDServerCAKey", "tls/etcd/server-ca.key"),
    ("IPSECKey", "cred/ipsec.psk"),
    ("RequestHeaderCA", "tls/request-header-ca.crt"),
    ("RequestHeaderCAKey", "tls/request-header-ca.key"),
    ("ServerCA", "tls/server-ca.crt"),
    ("ServerCAKey", "tls/server-ca.key"),
    ("ServiceKey", "tls/service.key"),
];
/// The passwords of the cluster's own two users; all that is in it follows from the token.
const PASSWD: (&str, &str) = ("PasswdFile", "cred/passwd");
/// The same, where secrets are encrypted.
const WHERE_ENCRYPTED: &[(&str, &str)] =
    &[("EncryptionConfig", "cred/encryption-config.json"), ("EncryptionHash", "cred/encryption-state.json")];

/// The cluster's token from `server/cred/passwd` (k3s pkg/passwd: `password,name,uid,groups`).
pub fn token_of_passwd(passwd: &str) -> Option<String> {
    let server = passwd.lines().find_map(|line| {
        let mut fields = line.split(',');
        let (password, name) = (fields.next()?, fields.next()?);
        (name == "server" && !password.is_empty()).then(|| password.to_string())
    })?;
    Some(server)
}

/// The cluster's keys from k3s's server folder, stamped with a time in RFC 3339; `None` unless all of them are there. The
/// file of passwords is made for the token where it is lost.
pub fn keys_of_files(server: &Path, time: &str, token: &str) -> Option<Keys> {
    let stamped = |name: &str, bytes: &[u8]| {
        (name.to_string(), Entry { timestamp: time.into(), content: STANDARD.encode(bytes) })
    };
    let entry = |(name, path): &(&str, &str)| {
        let bytes = std::fs::read(server.join(path)).ok().filter(|bytes| !bytes.is_empty())?;
        Some(stamped(name, &bytes))
    };
    let mut keys: BTreeMap<String, Entry> = FILES.iter().map(entry).collect::<Option<_>>()?;
    // k3s pkg/daemons/control/deps, genUsers.
    let password = token::password(token);
    let made = format!("{password},node,node,k3s:agent\n{password},server,server,k3s:server\n");
    keys.extend([entry(&PASSWD).unwrap_or_else(|| stamped(PASSWD.0, made.as_bytes()))]);
    keys.extend(WHERE_ENCRYPTED.iter().filter_map(entry));
    Some(Keys(keys))
}

/// Puts a row with these keys, sealed with this token, in place of all rows with keys that there are. Salt and nonce have
/// to be fresh random bytes.
///
/// # Errors
/// SQLite's; then nothing has changed.
pub fn reseal(database: &Path, token: &str, keys: &Keys, salt: [u8; 8], nonce: [u8; 12]) -> Result<(), DatastoreError> {
    let password = token::password(token);
    let (name, value) = (token::row_name(password), token::seal(password, keys, salt, nonce));
    let write = |connection: &mut Connection| -> rusqlite::Result<()> {
        let transaction = connection.transaction()?;
        transaction.execute("DELETE FROM kine WHERE name >= '/bootstrap/' AND name < '/bootstrap0'", [])?;
        transaction.execute(
            "INSERT INTO kine (name, created, deleted, create_revision, prev_revision, lease, value, old_value) \
             VALUES (?1, 1, 0, 0, 0, 0, ?2, NULL)",
            (name.as_str(), value.as_slice()),
        )?;
        transaction.commit()
    };
    crate::connect(database).and_then(|mut connection| write(&mut connection)).map_err(failed("writing", database))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{self, Depth};
    use crate::fixtures;
    use crate::token::TokenError;

    const TIME: &str = "2026-01-01T00:00:00Z";

    #[test]
    fn the_servers_password_is_the_token() {
        let passwd = "agent-pass,node,node,k3s:agent\nthe:token,server,server,k3s:server\n";
        assert_eq!(token_of_passwd(passwd).as_deref(), Some("the:token"));
        for other in ["", "x,node,node,k3s:agent\n", ",server,server,k3s:server", "rubbish"] {
            assert_eq!(token_of_passwd(other), None, "{other}");
        }
    }

    /// What k3s itself wrote: its files are the row's, and a row sealed for another token opens with that one alone.
    #[test]
    fn a_database_of_k3ss_own_gets_another_token_and_loses_nothing_else() {
        let Some(tree) = fixtures::tree("after-kill") else { return };
        let server = tree.path().join("var/lib/rancher/k3s/server");
        let database = tree.path().join("copy.db");
        crate::copy(&server.join("db/state.db"), &database).unwrap();
        let before = check::copy(&database, Depth::Full, 414).unwrap().unwrap();
        let passwd = std::fs::read_to_string(server.join("cred/passwd")).unwrap();
        let token = token_of_passwd(&passwd).unwrap();
        let keys = crate::prove(&database, &token).unwrap().unwrap();
        let of_files = keys_of_files(&server, TIME, "another").unwrap();
        let contents = |keys: &Keys| -> Vec<(String, String)> {
            keys.0.iter().map(|(name, entry)| (name.clone(), entry.content.clone())).collect()
        };
        assert_eq!(contents(&of_files), contents(&keys));
        let until = keys.authority_until().unwrap();
        assert_eq!(of_files.authority_until(), Some(until));
        // k3s makes them for ten years.
        assert!((2_000_000_000..2_150_000_000).contains(&until), "{until}");

        reseal(&database, "another", &keys, [1; 8], [2; 12]).unwrap();
        crate::fold::fold(&database).unwrap();
        assert_eq!(crate::prove(&database, "another").unwrap().unwrap(), keys);
        assert_eq!(crate::prove(&database, &token).unwrap(), Err(TokenError::Other));
        let after = check::copy(&database, Depth::Full, 415).unwrap().unwrap();
        let objects = |contents: &check::Contents| {
            let mut live = contents.live.clone();
            live.retain(|prefix, _| prefix.starts_with("/registry"));
            live
        };
        assert_eq!(objects(&after), objects(&before));
        assert_eq!((after.revision, after.compacted), (415, before.compacted));
        bakelite_sys::durable::remove_file(server.join("cred/passwd")).unwrap();
        let made = keys_of_files(&server, TIME, "another").unwrap().bytes("PasswdFile").unwrap();
        assert_eq!(token_of_passwd(&String::from_utf8(made).unwrap()).as_deref(), Some("another"));
        bakelite_sys::durable::remove_file(server.join("tls/service.key")).unwrap();
        assert!(keys_of_files(&server, TIME, "another").is_none(), "a cluster isn't rebuilt without one of its keys");
    }
}
