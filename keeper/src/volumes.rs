//! Volumes of local-path: which claims there are, and those that are wanted packed for a set.

use crate::KeeperError;
use bakelite_datastore::volumes::{STORAGE, member, pack as pack_one, size as size_of};
use bakelite_spec::set::Volumes;
use bakelite_sys::{durable, names_in};
use std::path::{Path, PathBuf};

/// k3s's folder.
const K3S: &str = "/var/lib/rancher/k3s";

/// Volumes for a set: its further files, and what its manifest says of them.
pub struct Packed {
    /// Each member's path, and the file that it is made from.
    pub files: Vec<(String, PathBuf)>,
    /// Which claims are in it, and which aren't.
    pub said: Volumes,
}

/// The claim of a folder of local-path's, `pvc-<uid>_<namespace>_<claim>` (local-path-provisioner: its default pattern).
fn claim(folder: &str) -> Option<String> {
    let (namespace, claim) = folder.strip_prefix("pvc-")?.split_once('_')?.1.split_once('_')?;
    Some(format!("{namespace}/{claim}"))
}

/// All volumes: their claims and folders.
fn all(storage: &Path) -> Vec<(String, PathBuf)> {
    names_in(storage).into_iter().filter_map(|name| Some((claim(&name)?, storage.join(name)))).collect()
}

/// Bytes of the wanted claims' data.
pub fn size(wanted: &[String]) -> u64 {
    let all = all(&Path::new(K3S).join(STORAGE));
    all.iter().filter(|(claim, _)| wanted.contains(claim)).map(|(_, folder)| size_of(folder)).sum()
}

/// Packs the wanted claims into a scratch folder.
///
/// # Errors
/// When one can't be read or packed.
pub fn pack(wanted: &[String], scratch: &Path) -> Result<Packed, KeeperError> {
    pack_from(&Path::new(K3S).join(STORAGE), wanted, scratch)
}

fn pack_from(storage: &Path, wanted: &[String], scratch: &Path) -> Result<Packed, KeeperError> {
    let mut packed = Packed { files: Vec::new(), said: Volumes::default() };
    let all = all(storage);
    for claim in wanted.iter().filter(|claim| !all.iter().any(|(there, _)| there == *claim)) {
        log::warn!("there is no volume of the claim {claim} on this machine; it isn't in the backup");
    }
    for (claim, folder) in all {
        let member = member(&claim);
        // A claim that was made anew has two folders for a while; a set has room for one.
        if !wanted.contains(&claim) || packed.said.holds.contains(&claim) {
            packed.said.lacks.push(claim);
            continue;
        }
        let path = scratch.join(&member);
        durable::make_folder(path.parent().unwrap_or(scratch))?;
        pack_one(&folder, &path)?;
        packed.files.push((member, path));
        packed.said.holds.push(claim);
        packed.said.live = true;
    }
    Ok(packed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_told_by_the_names_of_their_folders() {
        let claims: Vec<_> = ["pvc-1b2c_shop_till-data", "pvc-3_kube-system_x_y", "lost+found", "pvc-5", "other_a_b"]
            .into_iter()
            .filter_map(claim)
            .collect();
        assert_eq!(claims, ["shop/till-data", "kube-system/x_y"]);
    }

    #[test]
    fn wanted_claims_are_packed_and_the_others_named() {
        let folder = tempfile::tempdir().unwrap();
        let storage = folder.path().join("storage");
        for name in ["pvc-1_shop_till", "pvc-2_shop_other"] {
            durable::make_folder(storage.join(name)).unwrap();
            durable::replace(storage.join(name).join("x"), b"x", 0o600).unwrap();
        }
        let scratch = folder.path().join("scratch");
        let wanted = ["shop/till".to_string(), "shop/gone".into()];
        let packed = pack_from(&storage, &wanted, &scratch).unwrap();
        assert_eq!(
            packed.said,
            Volumes { holds: vec!["shop/till".into()], lacks: vec!["shop/other".into()], live: true }
        );
        assert_eq!(packed.files, [("volumes/shop/till.tar".to_string(), scratch.join("volumes/shop/till.tar"))]);
        assert!(packed.files[0].1.is_file());
        let none = pack_from(&storage, &[], &scratch).unwrap();
        assert_eq!((none.said.lacks.len(), none.said.live), (2, false));
    }
}
