//! Files of the image in other places: looks whether each is as it has to be, and puts it there with its secrets.
//!
//! The one place of the device side where a template and a secret meet. A value goes from its file into another file
//! of root's and nowhere else: not into facts, decisions, logs or errors.

use crate::error::FirstbootError;
use crate::world::Changed;
use bakelite_plan::facts::PlacedState;
use bakelite_spec::apps::{RECORD, Record, STORE};
use bakelite_spec::manifest::{Manifest, PlacedFile};
use bakelite_spec::secret::{self, SecretRef};
use bakelite_spec::status::paths;
use bakelite_sys::{SysError, durable, read_text};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

fn at(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// The state of each file that the image, or what is laid over it, brings for another place.
pub fn states(root: &Path) -> BTreeMap<String, PlacedState> {
    let text = read_text(at(root, paths::BAKED).join("manifest.json")).unwrap_or_default();
    let Ok(manifest) = serde_json::from_str::<Manifest>(&text) else { return BTreeMap::new() };
    let record = read_text(at(root, RECORD)).ok().and_then(|text| Record::read(&text));
    let laid = record.unwrap_or_default().lay(&manifest);
    laid.user.placed.iter().map(|file| (file.to.clone(), state(root, file))).collect()
}

/// Which of the paths in a record are there.
pub fn still_there(root: &Path, record: &str) -> Vec<String> {
    let paths: BTreeSet<String> = serde_json::from_str(record).unwrap_or_default();
    paths.into_iter().filter(|path| at(root, path).symlink_metadata().is_ok()).collect()
}

fn state(root: &Path, file: &PlacedFile) -> PlacedState {
    // What the store has lost can't be put anywhere; the step for apps says so, and what is in its place stays.
    if file.from.starts_with(STORE) && !at(root, &file.from).exists() {
        return PlacedState::Same;
    }
    let content = match content(root, file) {
        Ok(content) => content,
        Err(FirstbootError::MissingSecrets { names, .. }) => return PlacedState::Lacks(names),
        Err(_) => return PlacedState::Differs,
    };
    let path = at(root, &file.to);
    let is_same = path.symlink_metadata().is_ok_and(|found| {
        found.is_file()
            && found.len() == content.len() as u64
            && found.permissions().mode() & 0o7777 == file.mode
            && (found.uid(), found.gid()) == (file.owner, file.group)
    });
    if is_same && std::fs::read(&path).is_ok_and(|there| there == content) {
        PlacedState::Same
    } else {
        PlacedState::Differs
    }
}

/// What the file has to hold.
fn content(root: &Path, file: &PlacedFile) -> Result<Vec<u8>, FirstbootError> {
    let from = at(root, &file.from);
    let bytes = std::fs::read(&from).map_err(|source| SysError::Read { path: from, source })?;
    let (Some(quoting), Ok(text)) = (file.quoting, std::str::from_utf8(&bytes)) else { return Ok(bytes) };
    let value_of = |reference: &SecretRef| {
        let value = std::fs::read_to_string(at(root, &reference.path())).ok()?;
        // An editor's last newline isn't meant; an empty file is what a pulled plug leaves.
        let value = value.strip_suffix('\n').unwrap_or(&value);
        (!value.is_empty()).then(|| value.to_string())
    };
    secret::render(text, quoting, value_of)
        .map(String::into_bytes)
        .map_err(|names| FirstbootError::MissingSecrets { path: file.to.clone(), names })
}

/// Puts a file in its place.
///
/// # Errors
/// When a secret is missing, or it can't be written; what was there is then as it was.
pub fn place(root: &Path, file: &PlacedFile) -> Result<Changed, FirstbootError> {
    if state(root, file) == PlacedState::Same {
        return Ok(Changed::No);
    }
    let content = content(root, file)?;
    let path = at(root, &file.to);
    durable::make_folder(path.parent().unwrap_or(&path))?;
    let owner = Some((file.owner, file.group));
    durable::write_owned(&path, &content, file.mode, owner, !file.to.starts_with("/run/"))?;
    Ok(Changed::Yes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bakelite_spec::manifest::Pass;
    use bakelite_spec::secret::Quoting;

    #[test]
    fn a_template_and_its_secrets_become_one_file_of_its_own_mode() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = at(root.path(), path);
            durable::make_folder(path.parent().unwrap()).unwrap();
            durable::replace(&path, text.as_bytes(), 0o600).unwrap();
        };
        let own = root.path().metadata().unwrap();
        let file = PlacedFile {
            from: "/usr/lib/bakelite/user/files/db.conf".into(),
            to: "/run/bakelite/files/etc/db.conf".into(),
            mode: 0o640,
            owner: own.uid(),
            group: own.gid(),
            quoting: Some(Quoting::Plain),
            pass: Pass::Early,
        };
        write(&file.from, "password={secret: till-db}\n");
        assert_eq!(state(root.path(), &file), PlacedState::Lacks(vec!["till-db".into()]));
        let error = place(root.path(), &file).unwrap_err().to_string();
        assert_eq!(error, "/run/bakelite/files/etc/db.conf can't be made without the secrets till-db");
        write("/var/lib/bakelite/secrets/till-db", "");
        assert_eq!(state(root.path(), &file), PlacedState::Lacks(vec!["till-db".into()]));
        write("/var/lib/bakelite/secrets/till-db", "hunter2\n");
        assert_eq!(state(root.path(), &file), PlacedState::Differs);
        assert_eq!(place(root.path(), &file).unwrap(), Changed::Yes);
        assert_eq!(std::fs::read_to_string(at(root.path(), &file.to)).unwrap(), "password=hunter2\n");
        assert_eq!(at(root.path(), &file.to).metadata().unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(place(root.path(), &file).unwrap(), Changed::No);
        write("/var/lib/bakelite/secrets/till-db", "other\n");
        assert_eq!(state(root.path(), &file), PlacedState::Differs, "a new secret makes a new file");
        let facts = crate::probe::facts(root.path(), &crate::disks::Looked::default(), 0);
        let told = format!("{facts:?}{}", serde_json::to_string(&facts).unwrap());
        assert!(!told.contains("hunter2") && !told.contains("other\\n"), "{told}");
        assert_eq!(still_there(root.path(), "[\"/run/bakelite/files/etc/db.conf\",\"/none\"]"), [file.to]);
    }
}
