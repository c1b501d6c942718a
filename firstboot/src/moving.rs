//! The move of k3s's data from the card to the data disk: copied aside, verified, and said to be whole. No switch here.
//!
//! The database goes by SQLite's own copy, everything else file by file, resumable, compared with what the medium gives
//! back. The containers' store is left behind: k3s imports its images anew, so `.cache.json` goes over empty (k3s.md 3.6).

use crate::error::FirstbootError;
use crate::storage;
use crate::world::Changed;
use bakelite_plan::cluster::DATABASE;
use bakelite_plan::facts::Amount;
use bakelite_plan::home::{AT_ONCE, COPIED, INTENT};
use bakelite_spec::places;
use bakelite_spec::quantity::Size;
use bakelite_spec::status::paths;
use bakelite_sys::tree::{self, Copier, Verifier};
use bakelite_sys::{SysError, durable, machine, notify, read_text};
use std::path::{Path, PathBuf};

/// What the copy that is being made is for; another intent begins anew.
const COPYING: &str = "/disk/bakelite/copying.json";
/// The sums of what was read from the card.
const SUMS: &str = "/disk/bakelite/copying.sums";
/// The containers' store below the folder of k3s's data, and what k3s knows of imported archives.
const STORE: &str = "rancher/k3s/agent/containerd";
const CACHE: &str = "rancher/k3s/agent/images/.cache.json";
/// Between two words about the progress, in bytes.
const EACH: u64 = 16 << 20;

fn on_card(folder: &str) -> PathBuf {
    Path::new(paths::STATE_MOUNT).join(folder)
}

fn on_disk(folder: &str) -> PathBuf {
    Path::new(paths::DATA_MOUNT).join(folder)
}

/// The database below the folder of k3s's data.
fn database() -> String {
    format!("rancher/{}", DATABASE.trim_start_matches("/var/lib/rancher/"))
}

/// What is on the card and doesn't move by itself.
fn left_out(path: &Path) -> bool {
    let database = on_card(&database());
    let files = ["", "-wal", "-shm"]
        .iter()
        .any(|ending| path.as_os_str() == format!("{}{ending}", database.display()).as_str());
    files || path == on_card(STORE) || path == on_card(CACHE)
}

/// The folders that move.
fn folders() -> impl Iterator<Item = &'static str> {
    places::OF_EITHER.iter().map(|place| place.folder).filter(|folder| on_card(folder).is_dir())
}

/// What the card holds in the places of k3s's data. Links to the image's own archives are made again on the disk.
pub fn amount() -> Amount {
    let image_links = on_card("rancher/k3s/agent/images");
    let mut sum = Amount::default();
    for folder in folders() {
        let found = tree::amount(&on_card(folder), &|path: &Path| {
            path == on_card(STORE) || path.parent() == Some(&image_links) && path.is_symlink()
        });
        sum = Amount { bytes: sum.bytes + found.bytes, files: sum.files + found.files };
    }
    // The folders alone are nothing: settle makes them for its links.
    let bare = ["rancher/k3s", "rancher/k3s/agent", "rancher/k3s/agent/images"];
    let folders = bare.iter().filter(|folder| on_card(folder).is_dir()).count() as u64;
    if sum.files <= folders { Amount::default() } else { sum }
}

/// Copies, verifies, and says so.
///
/// # Errors
/// When something can't be copied, or the copy isn't the same.
pub fn copy(amount: Amount) -> Result<Changed, FirstbootError> {
    let intent = std::fs::read(INTENT).map_err(|source| SysError::Read { path: INTENT.into(), source })?;
    if read_text(COPYING).ok().map(String::into_bytes).as_deref() != Some(intent.trim_ascii_end()) {
        for folder in folders() {
            durable::remove_tree(&on_disk(folder))?;
        }
        durable::write_durable(COPYING, intent.trim_ascii_end(), 0o600)?;
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
    let mut copier = Copier::new(&left_out, &mut progress, Path::new(SUMS))?;
    for folder in folders() {
        durable::make_folder(on_disk(folder))?;
        copier.copy(&on_card(folder), &on_disk(folder))?;
    }
    copier.finish()?;
    if let Ok(found) = on_card(&database()).metadata() {
        // In one piece, as SQLite copies it (k3s.md 3.10): it can say how much that is, not how far it has come.
        let _ = notify::send(&format!("STATUS=copying the database, {}", Size(found.len()).human()));
        let state = bakelite_datastore::copy(&on_card(&database()), &on_disk(&database()))?;
        log::info!("copied the database, revision {}", state.revision);
    }
    if on_card(CACHE).exists() {
        durable::write_durable(on_disk(CACHE), b"{}", 0o644)?;
    }
    durable::sync_file_system(Path::new(paths::DATA_MOUNT))?;
    let _ = notify::send("STATUS=comparing the copy");
    let mut verifier = Verifier::new(&left_out, Path::new(SUMS))?;
    for folder in folders() {
        if let Some(path) = verifier.differs(&on_card(folder), &on_disk(folder))? {
            return Err(FirstbootError::CopyDiffers(path.display().to_string()));
        }
    }
    durable::remove_file(SUMS)?;
    durable::write_durable(COPIED, &intent, 0o600)?;
    durable::remove_file(COPYING)?;
    durable::remove_file(AT_ONCE)?;
    storage::empty_journal()?;
    let took = (machine::uptime() - begun).as_secs_f64();
    log::info!("moved {} in {} files in {took:.1} s", Size(done).human(), amount.files);
    Ok(Changed::Yes)
}
