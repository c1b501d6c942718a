//! Makes a stick with a set of the cluster that lives on the card: what `bakelite stick` gives to a person.
//!
//! The set is the datastore crate's own, made from the database as the machine left it. The owner's keys are the
//! scenarios' own: their public half stands in appliances/restored.yaml.

use crate::door;
use crate::look::{DATABASE, Volume};
use crate::steps::{Granted, MakeSet, MakeStick};
use age::x25519::Identity;
use anyhow::{Context, Result, bail, ensure};
use bakelite_datastore::set::{self, Request};
use bakelite_plan::cluster;
use bakelite_plan::restore::FILES;
use bakelite_spec::hexadecimal::hexadecimal;
use bakelite_spec::records::ClusterBorn;
use bakelite_spec::set::{Manifest, TOKEN};
use bakelite_trust::file_key::FileKey;
use bakelite_trust::grant::{self, Grant, GrantedSet};
use bakelite_trust::keys::OwnerKeys;
use bakelite_trust::{signature, stick};
use bakelite_vm::media::{blank, copy_sparse};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The seeds of the scenarios' owner, and of somebody else.
const OWNER: [u8; 32] = [7; 32];
const STRANGER: [u8; 32] = [8; 32];
const HOUR: i64 = 3600;
/// Where the state partition has what the running system shows elsewhere.
const ON_STATE: &[(&str, &str)] =
    &[("/var/lib/bakelite/", "/bakelite/"), ("/etc/rancher/", "/rancher-etc/"), ("/var/lib/dropbear/", "/dropbear/")];

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| i64::try_from(time.as_secs()).unwrap_or(0))
}

/// That a cluster was born, as its card says it.
fn born(state: &Volume) -> Result<ClusterBorn> {
    let text = state.file("/bakelite/cluster.json")?.context("no cluster was born on this card")?;
    Ok(serde_json::from_slice(&text)?)
}

/// Makes a set of the cluster whose identity is on a state partition, for one key.
fn set_of(
    (state, data): (&Volume, &Volume),
    wanted: &MakeSet,
    number: u64,
    key: &Identity,
    sets: &Path,
) -> Result<set::Written> {
    let work = tempfile::tempdir()?;
    let at = |name: &str| work.path().join(name);
    ensure!(data.take_out(DATABASE, &at("state.db"))?, "there is no {DATABASE}");
    data.take_out(&format!("{DATABASE}-wal"), &at("state.db-wal"))?;
    let born = born(state)?;
    let node = wanted.node.clone().unwrap_or(born.node);
    let mut files = Vec::new();
    for (member, path) in FILES.iter().filter(|(member, _)| *member != TOKEN) {
        let (from, to) = ON_STATE.iter().find(|(from, _)| path.starts_with(from)).context("a place on state")?;
        let taken = at(&member.replace('/', "-"));
        if state.take_out(&path.replacen(from, to, 1), &taken)? {
            files.push((member.to_string(), taken));
        }
    }
    let token = String::from_utf8(state.file("/bakelite/token")?.context("there is no token")?)?;
    let k3s = wanted.k3s.as_ref().unwrap_or(&born.k3s);
    let about = Manifest {
        epoch: born.epoch,
        datastore: born.datastore,
        keys: born.keys,
        ..Manifest::about(&node, k3s, now())
    };
    Ok(set::write(&Request {
        database: &at("state.db"),
        token: &token,
        files: &files,
        about: &about,
        known: born.revision,
        recipients: &[key.to_public()],
        identity: Some(key),
        number,
        folder: &sets.join(node),
        scratch: &at("scratch"),
    })?)
}

/// The key that a machine has made for itself, on its state partition.
pub fn device_key(state: &Volume) -> Result<Identity> {
    let key = String::from_utf8(state.file("/bakelite/device.key")?.context("there is no key of the machine's")?)?;
    Ok(bakelite_trust::keys::device_key(&key)?)
}

/// Puts a set of the cluster on a data disk onto the card, where the machine's own sets lie, for the machine's own key.
pub fn put_on_card(card: &Path, state: &Volume, data: &Volume) -> Result<()> {
    let work = tempfile::tempdir()?;
    let written = set_of((state, data), &MakeSet::default(), 1, &device_key(state)?, work.path())?;
    let folder = format!("/bakelite/sets/{}", written.manifest.node);
    let name = written.path.file_name().context("a set has a name")?.to_string_lossy();
    let commands = [
        "mkdir /bakelite/sets".to_string(),
        format!("mkdir {folder}"),
        format!("write {} {folder}/{name}", written.path.display()),
    ];
    Volume::state(card)?.write(&commands.each_ref().map(String::as_str))
}

/// Makes the stick from the cluster on a state partition.
pub fn make(state: &Volume, path: &Path, wanted: &MakeStick) -> Result<()> {
    let work = tempfile::tempdir()?;
    let folder = content(state, work.path(), wanted)?;
    fill(path, wanted.size.0, &folder)
}

/// Makes a folder with what is on a stick; where it is.
pub fn content(state: &Volume, work: &Path, wanted: &MakeStick) -> Result<PathBuf> {
    let signer = keys(wanted.granted == Granted::Stranger);
    let root = work.join(stick::FOLDER);
    let mut granted = Vec::new();
    let one = [MakeSet::default()];
    for (number, set) in (1..).zip(if wanted.sets.is_empty() { &one[..] } else { &wanted.sets[..] }) {
        let written = set_of((state, state), set, number, signer.identity(), &root.join(stick::SETS))?;
        granted.push(GrantedSet {
            sha256: hexadecimal(Sha256::digest(std::fs::read(&written.path)?)),
            node: written.manifest.node.clone(),
            k3s: written.manifest.k3s.clone(),
            revision: written.manifest.revision,
            key: FileKey::of(File::open(&written.path)?, signer.identity())?.to_text(),
        });
        if set.torn {
            let length = std::fs::metadata(&written.path)?.len();
            File::options().write(true).open(&written.path)?.set_len(length / 2)?;
        }
    }
    if let Some(word) = &wanted.word {
        write(&root.join(stick::WORD), word.replace("$cluster", &cluster::id(&born(state)?)).as_bytes())?;
    }
    if wanted.granted != Granted::Nobody {
        let expires = if wanted.expired { now() - HOUR } else { now() + HOUR };
        let grant = Grant { format: grant::FORMAT, nodes: vec!["*".into()], expires, sets: granted };
        let (bytes, signed) = grant.sign(&signer);
        let place = root.join(stick::GRANTS).join("all.json");
        std::fs::create_dir_all(root.join(stick::GRANTS))?;
        write(&place, &bytes)?;
        write(&PathBuf::from(format!("{}{}", place.display(), signature::ENDING)), signed.as_bytes())?;
    }
    Ok(root)
}

/// Makes a FAT with one folder on it.
pub fn fill(path: &Path, size: u64, folder: &Path) -> Result<()> {
    blank(path, size)?;
    let target = path.display().to_string();
    door::run(&tool("mkfs.fat")?, &["-F", "32", &target], Path::new("/"))?;
    let folder = folder.display().to_string();
    door::run(&tool("mcopy")?, &["-s", "-i", &target, &folder, "::"], Path::new("/")).map(drop)
}

/// All that has the name of a set on a FAT that the keeper writes to, by its path there. One by one, as mcopy ends at the first
/// file that it can't read, and half a set may be one.
pub fn sets_on(disk: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let (work, image) = (tempfile::tempdir()?, disk.display().to_string());
    let work = work.path().join("set");
    let mut found = BTreeMap::new();
    let root = format!("::/{}/{}/", stick::FOLDER, stick::SETS);
    for node in listed(&image, &root)? {
        for path in listed(&image, &node)? {
            let name = path.rsplit('/').next().unwrap_or_default();
            if bakelite_spec::set::number(name).is_none() {
                continue;
            }
            door::run(&tool("mcopy")?, &["-n", "-i", &image, &path, &work.display().to_string()], Path::new("/"))?;
            found.insert(path.trim_start_matches(&root).to_string(), std::fs::read(&work)?);
            std::fs::remove_file(&work)?;
        }
    }
    Ok(found)
}

/// What is in a folder on a FAT, as whole paths, those of folders with a slash at the end; nothing where there is no folder.
fn listed(image: &str, folder: &str) -> Result<Vec<String>> {
    let (_, said) = door::end_of(&tool("mdir")?, &["-b", "-a", "-i", image, folder])?;
    Ok(said.lines().filter(|line| line.starts_with(folder)).map(String::from).collect())
}

/// That on a FAT the sets of before are as they were and those that have come since open, as it is, and after its repair all
/// but the newest: a repair may take the bytes from one of its two names, and the keeper then writes it again. How many there
/// are.
pub fn sets_are_whole(disk: &Path, key: &Identity, before: &BTreeMap<String, Vec<u8>>) -> Result<usize> {
    let opens = |path: &str, bytes: &[u8]| -> Result<()> {
        let folder = tempfile::tempdir()?;
        write(&folder.path().join("set"), bytes)?;
        set::verify(&folder.path().join("set"), &[key], folder.path()).with_context(|| format!("the backup {path}"))?;
        Ok(())
    };
    let unchanged = |found: &BTreeMap<String, Vec<u8>>| {
        let gone = before.iter().find(|(path, bytes)| found.get(*path) != Some(bytes));
        gone.map_or(Ok(()), |(path, _)| bail!("the backup {path} isn't as it was"))
    };
    let is_new = |(path, _): &(&String, &Vec<u8>)| !before.contains_key(*path);
    let found = sets_on(disk)?;
    unchanged(&found)?;
    for (path, bytes) in found.iter().filter(is_new) {
        opens(path, bytes)?;
    }
    let repaired = disk.with_extension("repaired");
    copy_sparse(disk, &repaired, 0)?;
    let target = repaired.display().to_string();
    let (status, said) = door::end_of(&tool("fsck.fat")?, &["-a", "-w", &target])?;
    ensure!(matches!(status, 0 | 1), "fsck.fat can't repair it: {said}");
    let found = sets_on(&repaired)?;
    unchanged(&found).context("after its repair")?;
    for (path, bytes) in found.iter().filter(is_new).rev().skip(1) {
        opens(path, bytes).context("after its repair")?;
    }
    Ok(found.len())
}

/// The owner of the scenarios' machines, or somebody else.
pub fn keys(is_stranger: bool) -> OwnerKeys {
    OwnerKeys::generate(if is_stranger { STRANGER } else { OWNER })
}

/// Writes a file.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write;
    Ok(File::create(path)?.write_all(bytes)?)
}

/// A program of dosfstools or mtools.
pub fn tool(name: &str) -> Result<String> {
    let found =
        door::find(name).with_context(|| format!("there is no {name}; Debian has it in dosfstools or mtools"))?;
    Ok(found.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_appliances_obey_the_scenarios_owner() {
        for name in [
            "restored",
            "restored-aarch64",
            "official",
            "official-updated",
            "official-next",
            "official-stuck",
            "updated",
            "update-good",
            "update-dies",
            "update-hangs",
            "update-panics",
        ] {
            let path = door::root().join(format!("scripts/scenarios/appliances/{name}.yaml"));
            let text = std::fs::read_to_string(path).unwrap();
            let key = keys(false).owner_key();
            assert!(text.contains(&key), "{name}: owner.keys has to be {key}");
        }
    }
}
