//! One backup: what goes into the set, where it goes, and what is told of it.
//!
//! The set is the datastore's: made by one read transaction while k3s runs, and opened again before it counts. Here is
//! decided what belongs to it beside the database. One at a time makes sets on a machine: the lock says who.

use crate::shelf::Shelf;
use crate::{KeeperError, target, volumes};
use age::Identity;
use bakelite_datastore::DatastoreError;
use bakelite_datastore::set::{self, Request, SetError, Written};
use bakelite_plan::home::INTENT;
use bakelite_plan::identity::{DEVICE_KEY, TOKEN};
use bakelite_plan::restore::{FILES, FOLDER, MANIFESTS};
use bakelite_plan::{Settings, cluster};
use bakelite_spec::appliance::{Encryption, Payload};
use bakelite_spec::backup::Keep;
use bakelite_spec::records::{ClusterBorn, Datastore};
use bakelite_spec::set::{FORMAT, Manifest, TOKEN as TOKEN_MEMBER, Volumes, is_member_path};
use bakelite_spec::update;
use bakelite_sys::{durable, machine, names_in, read_text};
use bakelite_trust::keys;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Held by whoever makes a set.
pub const LOCK: &str = "/run/bakelite/backup.lock";
/// What is known of the last backups of this boot.
pub const RECORD: &str = "/run/bakelite/backup.json";
/// Where copies of the database are made, beside k3s's data.
const SCRATCH: &str = "scratch";
/// k3s's folder of what a cluster's machines share.
const SERVER: &str = "/var/lib/rancher/k3s/server";
/// What of [`SERVER`] belongs to a set: keys and certificates, by which k3s's programs know each other.
const TREES: &[&str] = &["tls", "cred"];
/// What was rendered for k3s: evidence of how it ran, never installed.
const EVIDENCE: &[(&str, &str)] = &[
    ("evidence/config.yaml", "/etc/rancher/k3s/config.yaml"),
    ("evidence/registries.yaml", "/etc/rancher/k3s/registries.yaml"),
];
/// The manifests that k3s itself writes (k3s: manifests/ in its source); it writes them again.
const OF_K3S: &[&str] =
    &["ccm.yaml", "coredns.yaml", "local-storage.yaml", "rolebindings.yaml", "runtimes.yaml", "traefik.yaml"];
/// The card keeps so many: the verified one of the day, and the one before it.
const ON_CARD: Keep = Keep::Newest(2);
/// Seconds after which the card gets another one: a day, less what one backup a day may be early.
const CARD_EACH: i64 = 86_400 - 3600;

/// What the screen and the operator are told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Record {
    /// The newest verified set of this boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Made>,
    /// Why the last attempt failed, if it did; and when, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<(i64, String)>,
    /// That the reason is damage of the database itself.
    pub damaged: bool,
    /// What the target has got in this boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// Why the target has not got the newest set, while it was there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_failed: Option<String>,
    /// The highest number on the target, where it is higher than any of this machine's own.
    pub behind: u64,
    /// How many sets had to go before their time for the newest one, by place.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub early: BTreeMap<String, usize>,
}

impl Record {
    /// What is known.
    pub fn read() -> Self {
        read_text(RECORD).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    fn note_failure(&mut self, error: &KeeperError) {
        self.failed = Some((machine::clock(), bakelite_sys::words(error)));
        self.damaged = match error {
            KeeperError::Set(SetError::Flaw(flaw)) => flaw.is_damage(),
            KeeperError::Set(SetError::Datastore(error)) => matches!(error, DatastoreError::Damaged { .. }),
            _ => false,
        };
    }

    /// Notes how many sets went before their time for room at a place.
    pub(crate) fn note_room(&mut self, place: &str, made: Result<usize, KeeperError>) -> Result<(), KeeperError> {
        match made {
            Ok(0) => drop(self.early.remove(place)),
            Ok(early) => {
                log::warn!("removed {early} backups before their time, as the {place} had no room for the next one");
                self.early.insert(place.into(), early);
            }
            // Whoever needs the room says so with its numbers.
            Err(KeeperError::NoRoom { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    pub(crate) fn write(&self) -> Result<(), KeeperError> {
        Ok(durable::replace(RECORD, &serde_json::to_vec(self).unwrap_or_default(), 0o644)?)
    }
}

/// A set on the target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Target {
    /// The label of its file system.
    pub label: String,
    /// The set's file name.
    pub set: String,
    /// When it got there, in seconds since 1970.
    pub at: i64,
}

/// A set that was made and opened again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Made {
    /// Its file.
    pub path: PathBuf,
    /// When, in seconds since 1970.
    pub made: i64,
    /// Its bytes.
    pub bytes: u64,
    /// The revision of the database in it.
    pub revision: u64,
    /// Milliseconds that it took, verification included.
    pub milliseconds: u64,
    /// Claims whose data isn't in it.
    pub lacks: Vec<String>,
}

/// The cluster of this machine.
pub fn born() -> Option<ClusterBorn> {
    let read = |path| serde_json::from_str::<ClusterBorn>(&read_text(path).ok()?).ok();
    let (state, disk) = (read(cluster::ON_STATE), read(cluster::ON_DISK));
    ClusterBorn::ruling(state.as_ref(), disk.as_ref()).cloned()
}

/// The cluster that there is to back up; `None` where there is none, or an act that changes it isn't finished.
pub fn cluster_here(settings: &Settings) -> Option<ClusterBorn> {
    let born = born()?;
    let is_ready = settings.manifest.payload.kind != Payload::None
        && born.datastore == Datastore::Sqlite
        && !Path::new(INTENT).exists()
        // What an update would go back to must not make room for what it would go back from.
        && !Path::new(update::PATH).exists();
    is_ready.then_some(born)
}

/// Makes a set on the first shelf, a copy on the card if that is due, and removes what is kept no longer. The caller has
/// the lock. What happened is in [`RECORD`] afterwards.
///
/// # Errors
/// When the set can't be made. A copy or a removal that fails is told, and the set counts.
pub fn make(settings: &Settings, born: &ClusterBorn) -> Result<Made, KeeperError> {
    let mut record = Record::read();
    let made = make_set(settings, born, &mut record);
    match &made {
        Ok(made) => {
            log::info!(
                "backed up revision {} in {} ms: {} ({} bytes), opened again and proved",
                made.revision,
                made.milliseconds,
                made.path.display(),
                made.bytes
            );
            record.last = Some(made.clone());
            (record.failed, record.damaged) = (None, false);
            for done in [onto_card(settings, &born.node, made), thin_out(settings, &born.node)] {
                if let Err(error) = done {
                    let words = bakelite_sys::words(&error);
                    log::warn!("{words}");
                    record.failed = Some((machine::clock(), words));
                }
            }
            // What it has got now is newer than anything there.
            target::serve(settings, &born.node, &mut record);
        }
        Err(error) => record.note_failure(error),
    }
    record.write()?;
    made
}

/// Notes in [`RECORD`] why a look at the database failed, or that it didn't.
///
/// # Errors
/// The same, and when it can't be noted.
pub fn noted(looked: Result<(), KeeperError>) -> Result<(), KeeperError> {
    let mut record = Record::read();
    match &looked {
        Ok(()) => (record.failed, record.damaged) = (None, false),
        Err(error) => record.note_failure(error),
    }
    record.write()?;
    looked
}

fn make_set(settings: &Settings, born: &ClusterBorn, record: &mut Record) -> Result<Made, KeeperError> {
    let begun = Instant::now();
    let shelves = Shelf::all(&born.node);
    shelves.iter().try_for_each(Shelf::clear_halves)?;
    let scratch = Path::new(FOLDER).join(SCRATCH);
    durable::remove_tree(&scratch)?;
    let number = shelves.iter().filter_map(|shelf| Some(shelf.newest()?.1.number)).max().unwrap_or(0);
    // A target may have sets of an earlier life of this node: newer ones have higher numbers there, too.
    let number = number.max(record.behind) + 1;
    make_room(settings, &shelves[0], record)?;
    let identity = device_key(settings)?;
    let mut recipients = Vec::new();
    if let Some(own) = &identity {
        recipients.push(own.to_public());
        for text in &settings.appliance.backup.recipients {
            recipients.push(keys::recipient(text)?);
        }
    }
    let token = read_text(TOKEN)?;
    let packed = volumes::pack(&settings.appliance.backup.volumes, &scratch)?;
    let mut files = members();
    files.extend(packed.files);
    let about = Manifest { volumes: packed.said, ..about(settings, born) };
    let request = Request {
        database: Path::new(cluster::DATABASE),
        token: token.trim(),
        files: &files,
        about: &about,
        known: born.revision,
        recipients: &recipients,
        identity: identity.as_ref(),
        number,
        folder: &shelves[0].folder,
        scratch: &scratch,
    };
    let written = set::write(&request);
    durable::remove_tree(&scratch)?;
    let Written { path, bytes, manifest } = written?;
    let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let lacks = manifest.volumes.lacks;
    Ok(Made { path, made: manifest.made, bytes, revision: manifest.revision, milliseconds, lacks })
}

/// The machine's own key; `None` where sets are to be plain.
///
/// # Errors
/// When it can't be read.
pub fn device_key(settings: &Settings) -> Result<Option<age::x25519::Identity>, KeeperError> {
    match settings.appliance.backup.encryption {
        Encryption::None => Ok(None),
        Encryption::Age => Ok(Some(keys::device_key(&read_text(DEVICE_KEY)?)?)),
    }
}

fn about(settings: &Settings, born: &ClusterBorn) -> Manifest {
    Manifest {
        format: FORMAT,
        made: machine::clock(),
        version: settings.manifest.version.clone(),
        node: born.node.clone(),
        epoch: born.epoch,
        k3s: born.k3s.clone(),
        datastore: born.datastore,
        keys: born.keys.clone(),
        revision: 0,
        compacted: 0,
        live: BTreeMap::new(),
        row: born.row.clone(),
        volumes: Volumes::default(),
        members: Vec::new(),
    }
}

/// What a set holds beside database and token: each file's path in it, and where the machine has it.
fn members() -> Vec<(String, PathBuf)> {
    let mut found: Vec<(String, PathBuf)> = FILES
        .iter()
        .chain(EVIDENCE)
        .filter(|(member, _)| *member != TOKEN_MEMBER)
        .map(|(member, path)| (member.to_string(), path.into()))
        .collect();
    for tree in TREES {
        files_below(&Path::new(SERVER).join(tree), &format!("server/{tree}"), &mut found);
    }
    let (member, folder) = MANIFESTS;
    for name in names_in(folder) {
        let path = Path::new(folder).join(&name);
        // What came with the image is a link into it, and comes with the next image, too.
        if !path.is_symlink() && path.is_file() && !OF_K3S.contains(&name.as_str()) {
            found.push((format!("{member}/{name}"), path));
        }
    }
    found.retain(|(member, _)| is_member_path(member));
    found
}

fn files_below(folder: &Path, member: &str, found: &mut Vec<(String, PathBuf)>) {
    for name in names_in(folder) {
        let (path, member) = (folder.join(&name), format!("{member}/{name}"));
        match std::fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => files_below(&path, &member, found),
            Ok(meta) if meta.is_file() => found.push((member, path)),
            _ => {}
        }
    }
}

/// Makes room for the next set where its folder hasn't enough. What then still isn't enough is said by whoever makes it.
fn make_room(settings: &Settings, shelf: &Shelf, record: &mut Record) -> Result<(), KeeperError> {
    durable::make_folder(&shelf.folder)?;
    let made = shelf.make_room(needed(settings, shelf), &settings.appliance.backup.keep, machine::clock());
    record.note_room(&shelf.place, made)
}

/// Whether a set could be made now, as far as room goes; no older one goes for it.
///
/// # Errors
/// When there is no room, and removing older sets would make none.
pub fn has_room(settings: &Settings, born: &ClusterBorn) -> Result<(), KeeperError> {
    let shelf = &Shelf::all(&born.node)[0];
    durable::make_folder(&shelf.folder)?;
    shelf.could_make_room(needed(settings, shelf), &settings.appliance.backup.keep, machine::clock())
}

/// Bytes that have to be free on a shelf for the next set.
fn needed(settings: &Settings, shelf: &Shelf) -> u64 {
    let database = std::fs::metadata(cluster::DATABASE).map_or(0, |meta| meta.len());
    let volumes = volumes::size(&settings.appliance.backup.volumes);
    // The volumes lie there once more, packed, until the set is finished.
    set::room(&shelf.folder, database + volumes) + volumes
}

/// The card gets a copy a day, so that a lost data disk can be replaced by a blank one.
fn onto_card(settings: &Settings, node: &str, made: &Made) -> Result<(), KeeperError> {
    let card = Shelf::of_card(node);
    let Some(name) = made.path.file_name().and_then(|name| name.to_str()) else { return Ok(()) };
    if made.path.starts_with(&card.folder) {
        return Ok(());
    }
    let is_due = card.newest().is_none_or(|(_, newest)| (made.made - newest.made).abs() >= CARD_EACH);
    if is_due {
        durable::make_folder(&card.folder)?;
        card.make_room(set::room(&card.folder, made.bytes), &ON_CARD, made.made)?;
        let bytes = card.take(&made.path, name, |half| open(settings, half).map(drop))?;
        log::info!("copied {name} onto the card ({bytes} bytes)");
        card.prune(&ON_CARD, made.made)?;
    }
    Ok(())
}

/// Opens a set as [`set::verify`] does, with the machine's own key.
///
/// # Errors
/// When it doesn't open.
pub fn open(settings: &Settings, path: &Path) -> Result<set::Opened, KeeperError> {
    let identity = device_key(settings)?;
    let keys: Vec<&dyn Identity> = identity.iter().map(|key| key as &dyn Identity).collect();
    let folder = Path::new(FOLDER);
    durable::make_folder(folder)?;
    Ok(set::verify(path, &keys, folder)?)
}

fn thin_out(settings: &Settings, node: &str) -> Result<(), KeeperError> {
    let shelf = Shelf::of_disk(node).unwrap_or_else(|| Shelf::of_card(node));
    let gone = shelf.prune(&settings.appliance.backup.keep, machine::clock())?;
    if gone > 0 {
        log::info!("removed {gone} backups that are kept no longer");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_taken_with_its_folders_and_without_links() {
        let folder = tempfile::tempdir().unwrap();
        durable::make_folder(folder.path().join("etcd")).unwrap();
        for name in ["server-ca.crt", "etcd/peer.key"] {
            durable::replace(folder.path().join(name), b"x", 0o600).unwrap();
        }
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();
        let mut found = Vec::new();
        files_below(folder.path(), "server/tls", &mut found);
        let members: Vec<&str> = found.iter().map(|(member, _)| member.as_str()).collect();
        assert_eq!(members, ["server/tls/etcd/peer.key", "server/tls/server-ca.crt"]);
    }
}
