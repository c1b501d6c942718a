//! The moves of k3s's data between card and data disk: copied aside, verified, and said to be whole. No switch here.
//!
//! The database goes by SQLite's own copy, everything else file by file, resumable, compared with what the medium gives
//! back. The containers' store is left behind: k3s imports its images anew, so `.cache.json` goes over empty (k3s.md 3.6).

use crate::error::FirstbootError;
use crate::storage;
use crate::world::Changed;
use bakelite_plan::cluster::DATABASE;
use bakelite_plan::facts::Amount;
use bakelite_plan::home::{AT_ONCE, COPIED, COPIED_ON_CARD, INTENT};
use bakelite_spec::places;
use bakelite_spec::quantity::Size;
use bakelite_spec::records::Move;
use bakelite_spec::status::paths;
use bakelite_sys::tree::{self, Copier, Verifier};
use bakelite_sys::{SysError, durable, machine, mount, notify, read_text};
use std::path::{Path, PathBuf};

/// The containers' store below the folder of k3s's data, and what k3s knows of imported archives.
const STORE: &str = "rancher/k3s/agent/containerd";
const CACHE: &str = "rancher/k3s/agent/images/.cache.json";
/// The links to the image's own archives.
const IMAGES: &str = "rancher/k3s/agent/images";
/// Between two words about the progress, in bytes.
const EACH: u64 = 16 << 20;

/// One of the two media.
#[derive(Clone, Copy, Debug)]
pub struct Medium {
    mount: &'static str,
    /// What a copy onto it is for; another intent begins anew.
    copying: &'static str,
    /// The sums of what was read for it.
    sums: &'static str,
    /// That a copy onto it is whole.
    copied: &'static str,
}

/// The state partition.
pub const CARD: Medium = Medium {
    mount: paths::STATE_MOUNT,
    copying: "/var/lib/bakelite/copying.json",
    sums: "/var/lib/bakelite/copying.sums",
    copied: COPIED_ON_CARD,
};
/// The data disk.
pub const DISK: Medium = Medium {
    mount: paths::DATA_MOUNT,
    copying: "/disk/bakelite/copying.json",
    sums: "/disk/bakelite/copying.sums",
    copied: COPIED,
};

/// The database below the folder of k3s's data.
fn database() -> String {
    format!("rancher/{}", DATABASE.trim_start_matches("/var/lib/rancher/"))
}

impl Medium {
    fn at(self, folder: &str) -> PathBuf {
        Path::new(self.mount).join(folder)
    }

    /// What is on it and doesn't move by itself.
    fn left_out(self, path: &Path) -> bool {
        let database = self.at(&database());
        let files = ["", "-wal", "-shm"]
            .iter()
            .any(|ending| path.as_os_str() == format!("{}{ending}", database.display()).as_str());
        files || path == self.at(STORE) || path == self.at(CACHE)
    }

    /// The folders that move.
    fn folders(self) -> impl Iterator<Item = &'static str> {
        places::OF_EITHER.iter().map(|place| place.folder).filter(move |folder| self.at(folder).is_dir())
    }

    /// What it holds in the places of k3s's data. Links to the image's own archives are made again where it goes.
    pub fn amount(self) -> Option<Amount> {
        let images = self.at(IMAGES);
        let mut sum = Amount::default();
        for folder in self.folders() {
            let found = tree::amount(&self.at(folder), &|path: &Path| {
                path == self.at(STORE) || path.parent() == Some(&images) && path.is_symlink()
            });
            sum = Amount { bytes: sum.bytes + found.bytes, files: sum.files + found.files };
        }
        // The folders alone are nothing: settle makes them for its links.
        let bare = ["rancher/k3s", "rancher/k3s/agent", IMAGES];
        let folders = bare.iter().filter(|folder| self.at(folder).is_dir()).count() as u64;
        (sum.files > folders).then_some(sum)
    }

    /// Empties the folders that move; they themselves may be shown somewhere. What became free.
    fn clear(self) -> Result<Amount, SysError> {
        let mut sum = Amount::default();
        for folder in self.folders() {
            let freed = tree::clear(&self.at(folder))?;
            sum = Amount { bytes: sum.bytes + freed.bytes, files: sum.files + freed.files };
        }
        durable::sync_file_system(Path::new(self.mount))?;
        Ok(sum)
    }
}

/// Removes the old copy on the card, if the places really are shown from the data disk.
///
/// # Errors
/// When they aren't, or something can't be removed.
pub fn remove_old_copy() -> Result<Changed, FirstbootError> {
    let mounts = mount::all();
    let device = |point: &str| mounts.iter().rev().find(|mounted| mounted.point == point).map(|found| &found.device);
    let on_disk = device(paths::DATA_MOUNT);
    let shown = |place: &places::Shown| device(place.at) == on_disk;
    if on_disk.is_none() || !places::OF_EITHER.iter().all(shown) {
        return Err(FirstbootError::NothingToMove("the data disk isn't shown in all places".into()));
    }
    let freed = CARD.clear()?;
    log::info!("removed the old copy on the card: {} in {} files", Size(freed.bytes).human(), freed.files);
    Ok(Changed::Yes)
}

/// Copies, verifies, and says so.
///
/// # Errors
/// When something can't be copied, or the copy isn't the same.
pub fn copy(way: Move, amount: Amount) -> Result<Changed, FirstbootError> {
    let (from, to) = match way {
        Move::Promotion => (CARD, DISK),
        Move::Demotion => (DISK, CARD),
    };
    let intent = std::fs::read(INTENT).map_err(|source| SysError::Read { path: INTENT.into(), source })?;
    if read_text(to.copying).ok().map(String::into_bytes).as_deref() != Some(intent.trim_ascii_end()) {
        to.clear()?;
        durable::write_durable(to.copying, intent.trim_ascii_end(), 0o600)?;
    }
    let begun = machine::uptime();
    let (mut done, mut told) = (0, 0);
    let mut progress = |bytes| {
        done += bytes;
        if done - told >= EACH {
            told = done;
            let text = format!("moved {} of {}", Size(done).human(), Size(amount.bytes).human());
            // Nobody listening is no reason to stop.
            let _ = notify::send(&format!("STATUS={text}"));
        }
    };
    let left_out = |path: &Path| from.left_out(path);
    let sums = Path::new(to.sums);
    let mut copier = Copier::new(&left_out, &mut progress, sums)?;
    for folder in from.folders() {
        durable::make_folder(to.at(folder))?;
        copier.copy(&from.at(folder), &to.at(folder))?;
    }
    copier.finish()?;
    let database = database();
    if let Ok(found) = from.at(&database).metadata() {
        // In one piece, as SQLite copies it (k3s.md 3.10): it can say how much that is, not how far it has come.
        let _ = notify::send(&format!("STATUS=copying the database, {}", Size(found.len()).human()));
        let state = bakelite_datastore::copy(&from.at(&database), &to.at(&database))?;
        log::info!("copied the database, revision {}", state.revision);
    }
    if from.at(CACHE).exists() {
        durable::write_durable(to.at(CACHE), b"{}", 0o644)?;
    }
    durable::sync_file_system(Path::new(to.mount))?;
    let _ = notify::send("STATUS=comparing the copy");
    let mut verifier = Verifier::new(&left_out, sums)?;
    for folder in from.folders() {
        if let Some(path) = verifier.differs(&from.at(folder), &to.at(folder))? {
            return Err(FirstbootError::CopyDiffers(path.display().to_string()));
        }
    }
    durable::remove_file(to.sums)?;
    durable::write_durable(to.copied, &intent, 0o600)?;
    durable::remove_file(to.copying)?;
    durable::remove_file(AT_ONCE)?;
    storage::empty_journal()?;
    let took = (machine::uptime() - begun).as_secs_f64();
    log::info!("moved {} in {} files in {took:.1} s", Size(done).human(), amount.files);
    Ok(Changed::Yes)
}
