//! Putting an unpacked set in its place: k3s's part by the datastore's renames, the machine's own part file by file.
//!
//! Both may be cut and done again. What the machine had is kept: k3s's beside k3s's data, secrets and settings on state.

use crate::error::FirstbootError;
use crate::storage::take_up_host_key;
use crate::world::Changed;
use bakelite_datastore::restore::{self, Places};
use bakelite_plan::restore::{ASIDE_ON_STATE, FILES, FOLDER, MANIFESTS, STAGING};
use bakelite_sys::{SysError, durable, names_in};
use std::path::{Path, PathBuf};

pub(crate) const K3S: &str = "/var/lib/rancher/k3s";

/// Puts the database in its place.
///
/// # Errors
/// When something can't be moved.
pub fn put_in_place(aside: &str) -> Result<Changed, FirstbootError> {
    restore::put_in_place(&places(aside))?;
    Ok(Changed::Yes)
}

/// The folders of an act, all on the file system of k3s's data.
pub(crate) fn places(aside: &str) -> Places {
    let folder = Path::new(FOLDER);
    Places { live: K3S.into(), staged: folder.join(STAGING), aside: folder.join(aside) }
}

/// Beside what was kept of a file: that there was none.
pub(crate) fn absent(aside: &Path) -> PathBuf {
    let mut name = aside.as_os_str().to_owned();
    name.push(".absent");
    name.into()
}

/// Takes secrets, settings and manifests from the unpacked set.
///
/// # Errors
/// When something can't be read or written.
pub fn take_identity(root: &Path, aside: &str) -> Result<Changed, FirstbootError> {
    let at = |path: &str| root.join(path.trim_start_matches('/'));
    let staged = at(FOLDER).join(STAGING);
    let mut changed = Changed::No;
    for (member, path) in FILES {
        if take(&staged.join(member), &at(path), &at(ASIDE_ON_STATE).join(aside).join(member))? {
            changed = Changed::Yes;
        }
    }
    let (member, folder) = MANIFESTS;
    for name in names_in(staged.join(member)) {
        let to = at(folder).join(&name);
        // One that is there came with this image.
        let kept = at(ASIDE_ON_STATE).join(aside).join(member).join(&name);
        if !to.exists() && take(&staged.join(member).join(&name), &to, &kept)? {
            changed = Changed::Yes;
        }
    }
    if changed == Changed::Yes {
        take_up_host_key();
    }
    Ok(changed)
}

/// Replaces a file by one of the set, and keeps what was there first; whether anything was to be done.
fn take(from: &Path, to: &Path, aside: &Path) -> Result<bool, SysError> {
    let Ok(new) = std::fs::read(from) else { return Ok(false) };
    let old = std::fs::read(to).ok();
    if old.as_ref() == Some(&new) {
        return Ok(false);
    }
    // Kept once: after a cut the new one may be in its place already.
    if !aside.exists() && !absent(aside).exists() {
        durable::make_folder(aside.parent().unwrap_or(aside))?;
        match old {
            Some(old) => durable::write_durable(aside, &old, 0o600)?,
            None => durable::write_durable(absent(aside), b"", 0o600)?,
        }
    }
    durable::make_folder(to.parent().unwrap_or(to))?;
    durable::write_durable(to, &new, 0o600)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bakelite_plan::identity::{PASSWORD, TOKEN};

    #[test]
    fn what_a_set_brings_is_taken_and_what_was_there_is_kept_once() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path.trim_start_matches('/'));
            durable::make_folder(path.parent().unwrap()).unwrap();
            durable::replace(&path, text.as_bytes(), 0o600).unwrap();
        };
        let read = |path: &str| std::fs::read_to_string(root.path().join(path.trim_start_matches('/'))).unwrap();
        put(&format!("{FOLDER}/{STAGING}/token"), "new");
        put(&format!("{FOLDER}/{STAGING}/node/password"), "password");
        put(&format!("{FOLDER}/{STAGING}/manifests/mine.yaml"), "mine");
        put(&format!("{FOLDER}/{STAGING}/manifests/theirs.yaml"), "of the set");
        put(&format!("{}/theirs.yaml", MANIFESTS.1), "of this image");
        put(TOKEN, "old");
        assert_eq!(take_identity(root.path(), "aside-1").unwrap(), Changed::Yes);
        assert_eq!(take_identity(root.path(), "aside-1").unwrap(), Changed::No);
        assert_eq!((read(TOKEN), read(PASSWORD)), ("new".into(), "password".into()));
        assert_eq!(read(&format!("{ASIDE_ON_STATE}/aside-1/token")), "old");
        assert_eq!(read(&format!("{ASIDE_ON_STATE}/aside-1/manifests/mine.yaml.absent")), "");
        assert_eq!(read(&format!("{}/mine.yaml", MANIFESTS.1)), "mine");
        assert_eq!(read(&format!("{}/theirs.yaml", MANIFESTS.1)), "of this image");
    }
}
