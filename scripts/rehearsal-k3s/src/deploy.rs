//! Auto-deploy manifests (k3s: pkg/deploy): each file of server/manifests is an Addon with the sum of what was applied; what a
//! file doesn't have any more is deleted. Of objects only deployments are kept, and rolled out as Kubernetes does: the old one
//! stays available until the new one's image is there. Nothing runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::datastore::Datastore;
use crate::images::Images;
use crate::objects::{self, Rollout};
use crate::token::sha256_hex;

const ADDONS: &str = "/registry/k3s.cattle.io/addons/kube-system/";
const DEPLOYMENTS: &str = "/registry/deployments/";
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];
/// Where an Addon keeps what it owns; k3s finds that by labels.
const OWNS: &str = "rehearsal/owns";

/// Deployments of a manifest: their keys and images.
type Wanted = BTreeMap<String, String>;

/// The controller.
pub struct Deployer {
    folder: PathBuf,
    known: Images,
}

impl Deployer {
    /// For the folder of manifests, with the images that are there.
    pub fn new(folder: &Path, known: Images) -> Self {
        Self { folder: folder.to_owned(), known }
    }

    /// Applies what has changed, and rolls out what can be.
    pub fn look(&self, datastore: &Datastore) -> Result<(), rusqlite::Error> {
        for (name, bytes) in self.manifests() {
            match wanted(&bytes) {
                Ok(wanted) => self.apply(datastore, &name, &sha256_hex(&bytes), &wanted)?,
                Err(error) => log::error!("Failed to process config: Parse manifest of {name} failed: {error}"),
            }
        }
        Ok(())
    }

    /// By the names that k3s gives to Addons: what stands before the first dot.
    fn manifests(&self) -> Vec<(String, Vec<u8>)> {
        let paths = fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let has_ending = |path: &PathBuf| path.extension().is_some_and(|end| ENDINGS.iter().any(|known| end == *known));
        let mut paths: Vec<PathBuf> = paths.filter(has_ending).collect();
        paths.sort();
        let named = paths.iter().filter_map(|path| {
            let name = path.file_name()?.to_string_lossy().split('.').next()?.to_owned();
            Some((name, fs::read(path).ok()?))
        });
        named.filter(|(name, _)| !name.is_empty()).collect()
    }

    fn apply(&self, datastore: &Datastore, name: &str, sum: &str, wanted: &Wanted) -> Result<(), rusqlite::Error> {
        let key = format!("{ADDONS}{name}");
        let addon = datastore.value(&key)?.and_then(|value| serde_json::from_slice::<Value>(&value).ok());
        let addon = addon.unwrap_or_default();
        if addon["spec"]["checksum"] != sum {
            let owned: BTreeSet<String> =
                serde_json::from_value(addon["metadata"]["annotations"][OWNS].clone()).unwrap_or_default();
            for gone in owned.iter().filter(|key| !wanted.contains_key(*key)) {
                datastore.delete(gone)?;
            }
            for key in wanted.keys() {
                let before = read(datastore, key)?;
                put(datastore, key, Rollout { generation: before.generation + 1, ..before })?;
            }
            let owns: Vec<&String> = wanted.keys().collect();
            let metadata = json!({ "name": name, "namespace": "kube-system", "annotations": { OWNS: owns } });
            let spec = json!({ "source": self.folder.join(name), "checksum": sum });
            let addon =
                json!({ "apiVersion": "k3s.cattle.io/v1", "kind": "Addon", "metadata": metadata, "spec": spec });
            datastore.put(&key, Some(addon.to_string().as_bytes()), 0)?;
            log::info!("Applied manifest {name}: {} deployment(s)", wanted.len());
            return Ok(());
        }
        for (key, image) in wanted {
            let before = read(datastore, key)?;
            let after = before.rolled(self.known.has(image));
            if after != before {
                put(datastore, key, after)?;
            }
        }
        Ok(())
    }
}

fn read(datastore: &Datastore, key: &str) -> Result<Rollout, rusqlite::Error> {
    Ok(datastore.value(key)?.map(|value| objects::rollout(&value)).unwrap_or_default())
}

fn put(datastore: &Datastore, key: &str, rollout: Rollout) -> Result<(), rusqlite::Error> {
    datastore.put(key, Some(&objects::deployment(rollout)), 0).map(drop)
}

/// The deployments of a manifest.
fn wanted(bytes: &[u8]) -> Result<Wanted, serde_yaml::Error> {
    let mut wanted = Wanted::new();
    for document in serde_yaml::Deserializer::from_slice(bytes) {
        let object = Value::deserialize(document)?;
        let metadata = &object["metadata"];
        let (Some("Deployment"), Some(name)) = (object["kind"].as_str(), metadata["name"].as_str()) else { continue };
        let namespace = metadata["namespace"].as_str().unwrap_or("default");
        let image = object["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap_or_default();
        wanted.insert(format!("{DEPLOYMENTS}{namespace}/{name}"), image.to_owned());
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TILL: &str = "/registry/deployments/default/till";

    fn manifest(image: &str) -> String {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: till}}\nspec: {{template: {{spec: {{containers: [{{image: \"{image}\"}}]}}}}}}\n"
        )
    }

    #[test]
    fn the_old_one_stays_available_until_the_new_ones_image_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let (path, manifests) = (folder.path().join("state.db"), folder.path().join("manifests"));
        let datastore = Datastore::start(Datastore::ping(&path).unwrap()).unwrap();
        let known = Images::default();
        let deployer = Deployer::new(&manifests, known.clone());
        let write =
            |text: &str| crate::paths::write(&manifests.join("bakelite-till.yaml"), text.as_bytes(), 0o600).unwrap();
        let looked = |times: usize| {
            (0..times).for_each(|_| deployer.look(&datastore).unwrap());
            let Rollout { generation, observed, replicas, updated, available } = read(&datastore, TILL).unwrap();
            (generation, observed, replicas, updated, available)
        };
        assert_eq!(looked(1), (0, 0, 0, 0, 0));
        write(&manifest("till:1"));
        assert_eq!(looked(1), (1, 0, 0, 0, 0));
        assert_eq!(looked(1), (1, 1, 1, 1, 0));
        known.add(["docker.io/library/till:1".to_owned()]);
        assert_eq!(looked(2), (1, 1, 1, 1, 1));
        write(&manifest("till:2"));
        assert_eq!(looked(1), (2, 1, 1, 1, 1));
        assert_eq!(looked(1), (2, 2, 2, 1, 1));
        known.add(["till:2".to_owned()]);
        assert_eq!(looked(1), (2, 2, 1, 1, 1));
        let addon = datastore.value(&format!("{ADDONS}bakelite-till")).unwrap().unwrap();
        let addon: Value = serde_json::from_slice(&addon).unwrap();
        assert_eq!(addon["spec"]["checksum"], sha256_hex(manifest("till:2").as_bytes()));
        write("kind: [");
        assert_eq!(looked(1), (2, 2, 1, 1, 1), "what can't be parsed changes nothing");
        write("{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[]}\n");
        looked(1);
        assert!(!datastore.is_live(TILL).unwrap(), "what a file doesn't have any more is deleted");
    }
}
