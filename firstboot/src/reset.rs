//! Emptying our own media by a person's word, as `plan::reset` has decided it. May be cut and done again.

use crate::error::FirstbootError;
use crate::world::Changed;
use bakelite_plan::reset::{self, DONE, WISH};
use bakelite_sys::{durable, machine, names_in, read_text};
use std::path::{Path, PathBuf};

/// Whether this boot is for a reset: one that was wished in another boot, or that was just done.
pub fn is_due(root: &Path) -> bool {
    let at = |path: &str| root.join(path.trim_start_matches('/'));
    let wish = read_text(at(WISH));
    at(DONE).exists() || wish.is_ok_and(|text| reset::is_due(&text, &machine::boot(root)))
}

/// Removes all that is in folders but some paths; what they are on is synced then.
///
/// # Errors
/// When something can't be removed.
pub fn blank(root: &Path, folders: &[String], but: &[String]) -> Result<Changed, FirstbootError> {
    let at = |path: &String| root.join(path.trim_start_matches('/'));
    let but: Vec<PathBuf> = but.iter().map(at).collect();
    let mut changed = Changed::No;
    for folder in folders.iter().map(at).filter(|folder| folder.is_dir()) {
        if empty(&folder, &but)? {
            changed = Changed::Yes;
        }
        durable::sync_file_system(&folder)?;
    }
    Ok(changed)
}

/// Empties a folder; whether there was anything to remove.
fn empty(folder: &Path, but: &[PathBuf]) -> Result<bool, FirstbootError> {
    let mut changed = false;
    for path in names_in(folder).into_iter().map(|name| folder.join(name)) {
        let is_folder = path.symlink_metadata().is_ok_and(|meta| meta.is_dir());
        if but.contains(&path) {
            continue;
        }
        if is_folder && but.iter().any(|kept| kept.starts_with(&path)) {
            changed |= empty(&path, but)?;
            continue;
        }
        if is_folder {
            durable::remove_tree(&path)?;
        } else {
            durable::remove_file(&path)?;
        }
        changed = true;
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::write;

    #[test]
    fn all_goes_but_what_is_named_and_links_are_not_followed() {
        let root = tempfile::tempdir().unwrap();
        for path in [
            "/state/bakelite/token",
            "/state/bakelite/reset.json",
            "/state/etc/node/password",
            "/state/etc/k3s/a/b",
            "/elsewhere/x",
        ] {
            write(root.path(), path, "x");
        }
        std::os::unix::fs::symlink(root.path().join("elsewhere"), root.path().join("state/etc/k3s/link")).unwrap();
        let folders = ["/state/bakelite", "/state/etc", "/state/none"].map(String::from);
        let but = ["/state/bakelite/reset.json", "/state/etc/node"].map(String::from);
        assert_eq!(blank(root.path(), &folders, &but).unwrap(), Changed::Yes);
        assert_eq!(names_in(root.path().join("state/bakelite")), ["reset.json"]);
        assert_eq!(names_in(root.path().join("state/etc")), ["node"]);
        assert!(root.path().join("state/etc/node/password").exists() && root.path().join("elsewhere/x").exists());
        assert_eq!(blank(root.path(), &folders, &but).unwrap(), Changed::No);
    }
}
