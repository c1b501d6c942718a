//! Sets, looked for on sticks and disks and in our own folders, and opened with the machine's own key or a grant.
//!
//! Whatever isn't ours is mounted read-only while the kernel refuses every write to it. Nothing on it is believed: names
//! are plain or left alone, and a set counts by who answers for it. Nothing is decided here.

use crate::disks;
use crate::error::FirstbootError;
use crate::layers;
use crate::storage::read_only;
use crate::world::{Changed, Machine, World};
use age::Identity;
use bakelite_datastore::restore;
use bakelite_datastore::set::{self, Opened, SetError};
use bakelite_disk::signature;
use bakelite_plan::disk::Disk;
use bakelite_plan::identity::DEVICE_KEY;
use bakelite_plan::reset;
use bakelite_plan::restore::{FOLDER, FoundSet, OWN, STAGING, Source, Trust, Word};
use bakelite_spec::set::PLAIN;
use bakelite_sys::sum::pour;
use bakelite_sys::{block, durable, machine, names_in, raw, read_text, stick as medium, words};
use bakelite_trust::file_key::FileKey;
use bakelite_trust::grant::{self, Grant, Verdict};
use bakelite_trust::{keys, signature as signed, stick};
use serde::Deserialize;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Sets on our own media, by where they lie.
const SHELVES: &[(Source, &str)] = &[(Source::Card, OWN.card), (Source::Disk, OWN.disk)];
/// So many of the newest sets of a node are opened: each is decrypted to its manifest.
const OPENED: usize = 32;

/// Whom this machine believes.
struct Believed {
    own: Option<age::x25519::Identity>,
    owners: Vec<String>,
    now: i64,
    clock: bool,
}

impl Machine {
    fn believed(&self) -> Result<Believed, FirstbootError> {
        let own = read_text(self.root.join(DEVICE_KEY.trim_start_matches('/'))).ok();
        let own = own.and_then(|text| keys::device_key(&text).ok());
        let owners = layers::settings(&self.root)?.appliance.owner.keys;
        // init never lets the clock go behind the newest time that it knows.
        Ok(Believed { own, owners, now: machine::clock(), clock: raw::clock_is_synchronised() })
    }

    /// Looks for sets, and for words of a person's on the sticks.
    pub(crate) fn look_for_sets(&mut self) -> Result<(), FirstbootError> {
        let believed = self.believed()?;
        let (mut found, mut said) = (Vec::new(), Vec::new());
        // Read anew: what became of the wish may have changed in this pass.
        let own = if reset::spares_own_sets(&self.facts()) { &[][..] } else { SHELVES };
        for (source, folder) in own {
            found.extend(in_folder(source, Path::new(folder), &[], &believed));
        }
        for name in self.foreign() {
            match on_stick(&name, |root, _| Ok((word(&name, root), in_root(&name, root, &believed)))) {
                Ok(seen) => {
                    let (word, sets) = seen.unwrap_or_default();
                    said.extend(word);
                    found.extend(sets);
                }
                // A sick stick is no reason to give up on the others.
                Err(error) => log::warn!("looking for backups on {name}: {}", words(&error)),
            }
        }
        log::info!("found {} backups", found.len());
        (self.looked.sets, self.looked.words) = (Some(found), said);
        Ok(())
    }

    /// Opens a set to its end, and leaves nothing behind.
    pub(crate) fn prove_set(&self, found: &FoundSet) -> Result<(), FirstbootError> {
        let scratch = Path::new(FOLDER);
        durable::make_folder(scratch)?;
        Ok(open(found, &self.believed()?, &|path, keys| set::verify(path, keys, scratch))?)
    }

    /// Partitions, and disks without any, that aren't this machine's and that nobody is at: the keeper may be writing to one.
    pub(crate) fn foreign(&self) -> Vec<String> {
        let known = disks::all(&self.root, &self.looked);
        let is_free = |disk: &Disk| {
            !disk.boot && disk.used_by.is_empty() && !disk.data.as_ref().is_some_and(|data| data.attached)
        };
        let others = block::disks(&self.root)
            .into_iter()
            .filter(|disk| known.iter().any(|known| known.name == disk.name && is_free(known)));
        others.flat_map(|disk| disk.places()).collect()
    }

    pub(crate) fn stage_set(&mut self, key: &str, note: &str) -> Result<Changed, FirstbootError> {
        let believed = self.believed()?;
        let sets = self.looked.sets.as_deref_mut().unwrap_or_default();
        let Some(found) = sets.iter_mut().find(|found| found.key() == key && found.torn.is_empty()) else {
            return Ok(Changed::No);
        };
        match open(found, &believed, &|path, keys| restore::stage(path, keys, &Path::new(FOLDER).join(STAGING), note)) {
            Ok(()) => log::info!("unpacked {} and proved it", found.words()),
            Err(error) => {
                found.torn = words(&error);
                log::warn!("{}: {}", found.words(), found.torn);
            }
        }
        Ok(Changed::Yes)
    }
}

/// What is done with a set and the keys that open it.
type Opening<'a> = dyn Fn(&Path, &[&dyn Identity]) -> Result<Opened, SetError> + 'a;

/// Opens a set where it lies, and compares it with what was seen of it.
fn open(found: &FoundSet, believed: &Believed, opening: &Opening<'_>) -> Result<(), SetError> {
    match &found.source {
        Source::Stick(name) => on_stick(name, |root, _| {
            Ok(open_in(&root.join(stick::SETS), found, &grants(root, believed), believed, opening))
        })
        .unwrap_or_else(|error| Some(Err(SetError::NotASet(words(&error)))))
        .unwrap_or_else(|| Err(gone())),
        own => {
            let folder = SHELVES.iter().find(|(source, _)| source == own).map_or("", |(_, folder)| folder);
            open_in(Path::new(folder), found, &[], believed, opening)
        }
    }
}

fn gone() -> SetError {
    SetError::NotASet("it isn't there any more".into())
}

/// What is known of a file system before it is mounted.
struct Recognised {
    driver: &'static str,
    /// Whether its label says that all of it is ours.
    labelled: bool,
}

fn recognise(name: &str, disk: &mut File, length: u64) -> Result<Option<Recognised>, FirstbootError> {
    let on = |source| FirstbootError::Disk { disk: name.into(), source };
    let kinds = signature::recognise(disk, 0, length).map_err(on)?;
    let Some((kind, driver)) = kinds.iter().find_map(|kind| Some((*kind, medium::driver(kind)?))) else {
        return Ok(None);
    };
    Ok(Some(Recognised { driver, labelled: signature::label(disk, 0, kind).map_err(on)? == stick::LABEL }))
}

/// Mounts a stick of ours for a look, and says where our layout begins on it, and which driver it has; `None` where it is
/// none, by its label or by our folder.
///
/// # Errors
/// When it can't be mounted, or what the look itself says.
pub(crate) fn on_stick<T>(
    name: &str,
    act: impl FnOnce(&Path, &'static str) -> Result<T, FirstbootError>,
) -> Result<Option<T>, FirstbootError> {
    let device = Path::new("/dev").join(name);
    read_only(&device, |disk, length| {
        let Some(Recognised { driver, labelled }) = recognise(name, disk, length)? else { return Ok(None) };
        medium::look(&device, driver, |mounted| {
            let folder = mounted.join(stick::FOLDER);
            let root = if folder.is_dir() { Some(folder.as_path()) } else { labelled.then_some(mounted) };
            root.map(|root| act(root, driver)).transpose()
        })
    })
}

/// Whether a place is a stick of ours. One that can't be mounted is known by its label alone: sets on it are lost anyway.
///
/// # Errors
/// When it can't be read.
pub(crate) fn is_stick(name: &str) -> Result<bool, FirstbootError> {
    let (mut disk, length) = block::open(&Path::new("/dev").join(name), false)?;
    let Some(Recognised { labelled, .. }) = recognise(name, &mut disk, length)? else { return Ok(false) };
    let has_folder = || on_stick(name, |_, _| Ok(())).inspect_err(|error| log::info!("{name}: {}", words(error)));
    Ok(labelled || matches!(has_folder(), Ok(Some(()))))
}

/// The device and its driver, if it is a stick of ours.
///
/// # Errors
/// When it can't be looked at.
pub fn stick(name: &str) -> Result<Option<(PathBuf, &'static str)>, FirstbootError> {
    on_stick(name, |_, driver| Ok((Path::new("/dev").join(name), driver)))
}

fn in_root(name: &str, root: &Path, believed: &Believed) -> Vec<FoundSet> {
    let grants = grants(root, believed);
    in_folder(&Source::Stick(name.into()), &root.join(stick::SETS), &grants, believed)
}

/// The word of a person's on a stick, in the form of bakelite.yaml.
fn word(name: &str, root: &Path) -> Option<Word> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Words {
        restore: Word,
    }
    let bytes = read_small(&root.join(stick::WORD))?;
    match serde_yaml::from_slice::<Words>(&bytes) {
        Ok(words) => Some(Word { source: Some(Source::Stick(name.into())), ..words.restore }),
        Err(error) => {
            log::warn!("{} on {name} isn't read: {error}", stick::WORD);
            None
        }
    }
}

/// The grants that an owner has signed.
fn grants(root: &Path, believed: &Believed) -> Vec<Grant> {
    let folder = root.join(stick::GRANTS);
    let names = names_in(&folder).into_iter().filter(|name| stick::is_grant(name)).take(stick::MOST);
    names
        .filter_map(|name| {
            let bytes = read_small(&folder.join(&name))?;
            let signature = read_small(&folder.join(format!("{name}{}", signed::ENDING)))?;
            match Grant::read(&believed.owners, &bytes, &String::from_utf8_lossy(&signature)) {
                Ok(grant) => Some(grant),
                Err(error) => {
                    log::warn!("the grant {name} doesn't count: {}", words(&error));
                    None
                }
            }
        })
        .collect()
}

fn read_small(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(grant::LIMIT).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn in_folder(source: &Source, folder: &Path, grants: &[Grant], believed: &Believed) -> Vec<FoundSet> {
    let nodes = names_in(folder).into_iter().filter(|name| stick::is_node(name)).take(stick::MOST);
    nodes
        .flat_map(|node| {
            let sets = stick::newest_first(names_in(folder.join(&node))).into_iter().take(OPENED);
            sets.map(|file| look(source, folder, &node, &file, grants, believed)).collect::<Vec<_>>()
        })
        .collect()
}

/// Opens a set as far as its manifest.
fn look(source: &Source, folder: &Path, node: &str, file: &str, grants: &[Grant], believed: &Believed) -> FoundSet {
    let path = folder.join(node).join(file);
    let mut found = FoundSet {
        source: source.clone(),
        node: node.into(),
        file: file.into(),
        trust: Trust::Stranger,
        sha256: String::new(),
        manifest: None,
        torn: String::new(),
    };
    let is_ours = !matches!(source, Source::Stick(_));
    let own: Vec<&dyn Identity> = believed.own.iter().map(|own| own as &dyn Identity).collect();
    match set::manifest(&path, &own) {
        // A plain set opens for everybody: it has to be on our own medium, or granted.
        Ok(manifest) if is_ours || !file.ends_with(PLAIN) => {
            found.trust = Trust::Own;
            found.manifest = Some(manifest);
            return found;
        }
        Ok(_) | Err(SetError::NoKey) => {}
        Err(error) => {
            found.torn = words(&error);
            return found;
        }
    }
    let is_granted = |grant: &Grant| -> Option<(String, Option<FileKey>)> {
        if file.ends_with(PLAIN) {
            let (_, sha256) = pour(File::open(&path).ok()?, std::io::sink()).ok()?;
            return grant.set(&sha256).map(|_| (sha256, None));
        }
        let of_node = grant.sets.iter().filter(|set| set.node == node);
        of_node.filter_map(|set| Some((set.sha256.clone(), Some(set.file_key()?)))).find(|(_, key)| {
            let key = key.as_ref().map(|key| key as &dyn Identity);
            set::manifest(&path, &[key].into_iter().flatten().collect::<Vec<_>>()).is_ok()
        })
    };
    for grant in grants {
        let Some((sha256, key)) = is_granted(grant) else { continue };
        let key = key.as_ref().map(|key| key as &dyn Identity);
        found.manifest = set::manifest(&path, &[key].into_iter().flatten().collect::<Vec<_>>()).ok();
        found.sha256 = sha256;
        found.trust = match grant.verdict(node, believed.now) {
            Verdict::Granted => Trust::Granted { clock: believed.clock },
            Verdict::Expired => Trust::Expired,
            Verdict::OtherNodes => Trust::OtherNodes,
        };
        if found.trust == (Trust::Granted { clock: believed.clock }) {
            break;
        }
    }
    found
}

/// Opens a set. What a grant answers for is the whole file: it is compared before anything of it counts.
fn open_in(
    folder: &Path,
    found: &FoundSet,
    grants: &[Grant],
    believed: &Believed,
    opening: &Opening<'_>,
) -> Result<(), SetError> {
    let path = folder.join(&found.node).join(&found.file);
    let reading = |source| SetError::File { act: "reading", path: path.clone(), source };
    if !found.sha256.is_empty() {
        let (_, sha256) = File::open(&path).and_then(|file| pour(file, std::io::sink())).map_err(reading)?;
        if sha256 != found.sha256 {
            return Err(SetError::NotASet("it isn't the file that was granted".into()));
        }
    }
    let granted = grants.iter().find_map(|grant| grant.set(&found.sha256)?.file_key());
    let own = believed.own.iter().map(|own| own as &dyn Identity);
    let keys: Vec<&dyn Identity> = own.chain(granted.iter().map(|key| key as &dyn Identity)).collect();
    let opened = opening(&path, &keys)?;
    if Some(&opened.manifest) != found.manifest.as_ref() {
        return Err(SetError::NotASet("it was changed since it was looked at".into()));
    }
    opened.lives(believed.now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_on_a_stick_is_read_as_in_the_settings_and_speaks_of_that_stick() {
        let root = tempfile::tempdir().unwrap();
        let write = |text: &str| durable::replace(root.path().join(stick::WORD), text.as_bytes(), 0o600).unwrap();
        let read = || word("sda1", root.path());
        assert_eq!(read(), None);
        write("restore: {set: newest, replaces: shop-1.abc.0}\n");
        let said = Word {
            set: "newest".into(),
            replaces: "shop-1.abc.0".into(),
            source: Some(Source::Stick("sda1".into())),
            ..Word::default()
        };
        assert_eq!(read(), Some(said));
        for other in ["restore: {set: newest, format-disk: yes}", "firewall: {input: open}", "\u{0}", "restore: [", ""]
        {
            write(other);
            assert_eq!(read(), None, "{other}");
        }
    }
}
