//! k3s itself: the folders with its release files that `BAKELITE_K3S` names, and which appliance is baked from which of them.
//!
//! One folder, or two of two versions with a colon between them, the older one first. They are nobody's to fetch here; where they
//! aren't, what needs them is skipped with that reason.

use anyhow::{Context, Result};
use std::ffi::OsStr;
use std::path::PathBuf;

/// The variable.
const VARIABLE: &str = "BAKELITE_K3S";

/// Which folder an appliance is baked from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Release {
    /// The newest that there is.
    Newest,
    /// The older one of two.
    Older,
    /// The newer one of two.
    Newer,
}

/// The appliances with k3s itself.
const APPLIANCES: &[(&str, Release)] = &[
    ("official", Release::Newest),
    ("official-updated", Release::Older),
    ("official-next", Release::Newer),
    ("official-stuck", Release::Newer),
];

/// The folder that an appliance is baked from; nothing where it isn't one with k3s itself.
///
/// # Errors
/// What is missing, and how to name it.
pub fn of(appliance: &str) -> Result<Option<PathBuf>, String> {
    folder(appliance, std::env::var_os(VARIABLE).as_deref())
}

/// What such an appliance says besides, so that it is baked from its folder; nothing for any other one.
pub fn line(folder: Option<PathBuf>) -> Result<String> {
    let Some(folder) = folder else { return Ok(String::new()) };
    let folder = std::path::absolute(&folder).with_context(|| format!("looking for {}", folder.display()))?;
    Ok(format!("k3s: {{files: \"{}\"}}\n", folder.display()))
}

fn folder(appliance: &str, named: Option<&OsStr>) -> Result<Option<PathBuf>, String> {
    let Some((_, release)) = APPLIANCES.iter().find(|(name, _)| *name == appliance) else { return Ok(None) };
    let folders: Vec<PathBuf> = named.map(|named| std::env::split_paths(named).collect()).unwrap_or_default();
    match (&folders[..], release) {
        ([older, _], Release::Older) => Ok(Some(older.clone())),
        ([.., newest], Release::Newest) | ([_, newest], Release::Newer) => Ok(Some(newest.clone())),
        ([], Release::Newest) => {
            Err(format!("k3s itself is not here; {VARIABLE}=DIR names a folder with its release files"))
        }
        (folders, _) => Err(format!(
            "k3s itself is here in {} version(s), and two are needed; {VARIABLE}=OLD:NEW names the folders with their release files, the older one first",
            folders.len()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door;

    fn found(appliance: &str, named: Option<&str>) -> Result<Option<String>, String> {
        let found = folder(appliance, named.map(OsStr::new))?;
        Ok(found.map(|folder| folder.display().to_string()))
    }

    #[test]
    fn each_appliance_has_its_release() {
        let of = |named| APPLIANCES.iter().map(|(name, _)| found(name, named).ok().flatten()).collect::<Vec<_>>();
        let some = |names: [&str; 4]| names.map(|name| (!name.is_empty()).then(|| name.to_string())).to_vec();
        assert_eq!(of(None), some(["", "", "", ""]));
        assert_eq!(of(Some("/one")), some(["/one", "", "", ""]));
        assert_eq!(of(Some("/old:/new")), some(["/new", "/old", "/new", "/new"]));
        assert_eq!(found("rehearsal", None), Ok(None));
    }

    #[test]
    fn what_is_missing_is_said_with_how_to_name_it() {
        assert!(found("official", None).unwrap_err().contains("BAKELITE_K3S=DIR names"));
        for named in [None, Some("/one"), Some("/one:/two:/three")] {
            let said = found("official-next", named).unwrap_err();
            assert!(said.contains("two are needed; BAKELITE_K3S=OLD:NEW"), "{said}");
        }
    }

    #[test]
    fn the_appliances_are_there_and_have_no_k3s_of_their_own() {
        for (name, _) in APPLIANCES {
            let path = door::root().join(format!("scripts/scenarios/appliances/{name}.yaml"));
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(!text.lines().any(|line| line.starts_with("k3s:")), "{name}");
        }
        assert_eq!(line(None).unwrap(), "");
        assert_eq!(line(Some("/old".into())).unwrap(), "k3s: {files: \"/old\"}\n");
    }
}
