//! Taking a restored set back: k3s's part by the datastore's renames, the machine's own part file by file.
//!
//! Both may be cut and done again. What was put in place and taken away again is kept beside what was moved aside.

use crate::error::FirstbootError;
use crate::relocate::LIMIT;
use crate::restore::{absent, places};
use crate::storage::{SOON, take_up_host_key};
use crate::world::Changed;
use bakelite_datastore::restore;
use bakelite_plan::restore::{ASIDE_ON_STATE, FILES, FOLDER, MANIFESTS};
use bakelite_spec::status::paths;
use bakelite_sys::{SysError, durable, names_in, socket, tree, words};
use std::collections::BTreeMap;
use std::path::Path;

/// Has init end k3s and all that it runs. It starts again when settle, which runs now, and one more are done.
///
/// # Errors
/// When init can't be asked, or something doesn't end.
pub fn stop_workloads(unit: &str) -> Result<(), FirstbootError> {
    for ask in ["stop-workloads".to_string(), format!("start {unit}")] {
        socket::ask(Path::new(paths::CONTROL), &ask, LIMIT)?;
    }
    Ok(())
}

/// Has init run both passes again; without an init of ours the next boot is as good.
pub fn refit() {
    if let Err(error) = socket::ask(Path::new(paths::CONTROL), "refit", SOON) {
        log::info!("{}", words(&error));
    }
}

/// Brings back the database that an act had moved aside.
///
/// # Errors
/// When something can't be moved.
pub fn put_back(aside: &str) -> Result<Changed, FirstbootError> {
    restore::put_back(&places(aside))?;
    Ok(Changed::Yes)
}

/// Brings back secrets, settings and manifests.
///
/// # Errors
/// When something can't be read or written.
pub fn give_back_identity(root: &Path, aside: &str) -> Result<Changed, FirstbootError> {
    let at = |path: &str| root.join(path.trim_start_matches('/'));
    let kept = at(ASIDE_ON_STATE).join(aside);
    let mut changed = false;
    for (member, path) in FILES {
        changed |= give_back(&kept.join(member), &at(path))?;
    }
    let (member, folder) = MANIFESTS;
    for name in names_in(kept.join(member)) {
        let name = name.strip_suffix(".absent").unwrap_or(&name);
        changed |= give_back(&kept.join(member).join(name), &at(folder).join(name))?;
    }
    if changed {
        take_up_host_key();
    }
    Ok(if changed { Changed::Yes } else { Changed::No })
}

/// Puts back what was kept of a file, or removes it where there was none; whether anything was to be done.
fn give_back(kept: &Path, to: &Path) -> Result<bool, SysError> {
    if absent(kept).exists() {
        let is_there = to.exists();
        durable::remove_file(to)?;
        durable::sync_folder(to.parent().unwrap_or(to))?;
        return Ok(is_there);
    }
    let Ok(old) = std::fs::read(kept) else { return Ok(false) };
    if std::fs::read(to).is_ok_and(|now| now == old) {
        return Ok(false);
    }
    durable::write_durable(to, &old, 0o600)?;
    Ok(true)
}

/// What acts have moved aside, in bytes, by the line that they began.
pub fn asides(root: &Path) -> BTreeMap<u64, u64> {
    let mut found = BTreeMap::new();
    for folder in [FOLDER, ASIDE_ON_STATE] {
        let folder = root.join(folder.trim_start_matches('/'));
        for name in names_in(&folder) {
            let Some(number) = name.strip_prefix("aside-").and_then(|number| number.parse().ok()) else { continue };
            *found.entry(number).or_insert(0) += tree::amount(&folder.join(&name), &|_: &Path| false).bytes;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::restore::take_identity;
    use bakelite_plan::identity::TOKEN;
    use bakelite_plan::restore::STAGING;

    #[test]
    fn what_a_restore_took_is_given_back_and_what_was_not_there_goes() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path.trim_start_matches('/'));
            durable::make_folder(path.parent().unwrap()).unwrap();
            durable::replace(&path, text.as_bytes(), 0o600).unwrap();
        };
        let read = |path: &str| std::fs::read_to_string(root.path().join(path.trim_start_matches('/'))).ok();
        let mine = format!("{}/mine.yaml", MANIFESTS.1);
        put(TOKEN, "old");
        put(&format!("{FOLDER}/{STAGING}/token"), "new");
        put(&format!("{FOLDER}/{STAGING}/settings/applied.yaml"), "network: {wait: 3}");
        put(&format!("{FOLDER}/{STAGING}/manifests/mine.yaml"), "mine");
        take_identity(root.path(), "aside-4").unwrap();
        assert_eq!((read(TOKEN).unwrap(), read(&mine).unwrap()), ("new".into(), "mine".into()));
        assert!(read(paths::APPLIED).is_some());
        assert_eq!(give_back_identity(root.path(), "aside-4").unwrap(), Changed::Yes);
        assert_eq!(give_back_identity(root.path(), "aside-4").unwrap(), Changed::No);
        assert_eq!((read(TOKEN), read(&mine), read(paths::APPLIED)), (Some("old".into()), None, None));
        assert_eq!(asides(root.path()).keys().collect::<Vec<_>>(), [&4]);
        assert_eq!(give_back_identity(root.path(), "aside-9").unwrap(), Changed::No, "nothing was kept");
    }
}
