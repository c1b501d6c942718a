//! k3s's database as it is, and whether the token opens it. A copy in memory is looked at: nothing of the machine's is written.

use crate::volume::STATE;
use bakelite_datastore::check::{self, Depth};
use bakelite_datastore::prove_live;
use bakelite_disk::data;
use bakelite_disk::table::Table;
use bakelite_plan::recovery::{Database, Volume};
use bakelite_spec::layout::{Role, SECTOR};
use bakelite_spec::records::{ClusterBorn, Datastore};
use bakelite_sys::mount::{free, unmount};
use bakelite_sys::{SysError, block, durable, ext4, read_text, words};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Where a volume is mounted for the look, and where the copy is.
const LOOK: &str = "/run/bakelite/medic";
const COPY: &str = "/run/bakelite/medic-copy";
/// On the volume that the cluster lives on.
pub(crate) const DATABASE: &str = "rancher/k3s/server/db/state.db";
/// On the state partition.
const TOKEN: &str = "bakelite/token";
const BORN: &str = "bakelite/cluster.json";

/// Looks at the database on the machine's volumes.
pub(crate) fn look(disk: &block::Disk, table: &Table, volumes: &BTreeMap<String, Volume>) -> Database {
    if let Some((name, _)) = volumes.iter().find(|(_, volume)| !matches!(volume, Volume::Sound | Volume::Unmade)) {
        return Database::Unseen(format!("first {name} has to be in order"));
    }
    let Some((number, _)) = table.role(Role::State).filter(|_| volumes.get(STATE) == Some(&Volume::Sound)) else {
        return Database::None;
    };
    let seen = on(&disk.partition_device(number), |root| {
        let token = read_text(root.join(TOKEN)).unwrap_or_default();
        (token, is_born(root), copy(root))
    });
    let (token, born, mut copied) = match seen {
        Ok(seen) => seen,
        Err(error) => return Database::Unseen(words(&error)),
    };
    for device in data_volumes(disk) {
        if let Ok(Some(found)) = on(&device, copy) {
            copied = Some(found);
        }
    }
    let judged = match copied {
        None if born => Database::Missing,
        None => Database::None,
        Some(Err(error)) => Database::Unseen(words(&error)),
        Some(Ok(copy)) => proved(&copy, token.trim()),
    };
    let _ = durable::remove_tree(Path::new(COPY));
    judged
}

/// Whether a cluster with a database of its own was born on this machine.
fn is_born(root: &Path) -> bool {
    let born = std::fs::read(root.join(BORN)).ok().and_then(|bytes| serde_json::from_slice::<ClusterBorn>(&bytes).ok());
    born.is_some_and(|born| born.datastore == Datastore::Sqlite)
}

fn data_volumes(disk: &block::Disk) -> Vec<PathBuf> {
    let others = block::disks(Path::new("/")).into_iter().filter(|other| other.name != disk.name);
    let device = |other: block::Disk| {
        let (mut medium, length) = block::open(&other.device(), false).ok()?;
        let found = data::find(&mut medium, length / SECTOR).ok()??;
        Some(other.partition_device(found.number))
    };
    others.filter_map(device).collect()
}

/// Mounts a volume for a look that changes nothing of it.
pub(crate) fn on<T>(device: &Path, act: impl FnOnce(&Path) -> T) -> Result<T, SysError> {
    durable::make_folder(LOOK)?;
    ext4::look(device, LOOK)?;
    let seen = act(Path::new(LOOK));
    unmount(Path::new(LOOK), false)?;
    Ok(seen)
}

/// Copies a database with its log into memory, if there is one; where it is.
fn copy(root: &Path) -> Option<Result<PathBuf, SysError>> {
    let database = root.join(DATABASE);
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
    let log = root.join(format!("{DATABASE}-wal"));
    database.exists().then(|| {
        let needed = length(&database) + length(&log);
        if needed * 2 > free(Path::new("/run")) {
            let source = std::io::Error::other("there is too little memory for a copy of it");
            return Err(SysError::Read { path: database.clone(), source });
        }
        durable::remove_tree(Path::new(COPY))?;
        durable::make_folder(COPY)?;
        let take = |from: &Path, name: &str| {
            let to = Path::new(COPY).join(name);
            let failed = |source| SysError::Read { path: from.into(), source };
            let mut target = durable::create_private(&to)?;
            File::open(from).and_then(|mut from| std::io::copy(&mut from, &mut target)).map_err(failed)?;
            Ok::<_, SysError>(to)
        };
        if log.exists() {
            take(&log, "state.db-wal")?;
        }
        take(&database, "state.db")
    })
}

/// Checks a copy that nobody else has open.
fn proved(copy: &Path, token: &str) -> Database {
    match check::live(copy, Depth::Quick, 0) {
        Err(error) => return Database::Unseen(words(&error)),
        Ok(Err(flaw)) => return Database::Damaged(flaw.to_string()),
        Ok(Ok(_)) => {}
    }
    if token.is_empty() {
        return Database::Locked("there is no token".into());
    }
    match prove_live(copy, token) {
        Err(error) => Database::Unseen(words(&error)),
        Ok(Err(error)) => Database::Locked(error.to_string()),
        Ok(Ok(_)) => Database::Sound,
    }
}
