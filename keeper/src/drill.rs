//! The drill: the newest set, restored into a scratch folder as a real restore does it, and checked from end to end.
//!
//! Nothing that is in use is touched. How it went, and when one last went well, outlives a restart.

use crate::shelf::Shelf;
use crate::{KeeperError, backup, schedule};
use age::Identity;
use bakelite_datastore::check::{self, Contents, Depth};
use bakelite_datastore::restore::{Places, put_in_place, stage};
use bakelite_datastore::set::{self, SetError};
use bakelite_datastore::{DatastoreError, prove_live};
use bakelite_plan::Settings;
use bakelite_plan::restore::FOLDER;
use bakelite_spec::backup::Rhythm;
use bakelite_spec::set::TOKEN;
use bakelite_spec::status::Drill;
use bakelite_sys::{durable, machine, mount, read_text, words};
use std::path::Path;
use std::time::Instant;

/// The last drill.
const RECORD: &str = "/var/lib/bakelite/drill.json";
/// Where it takes place, on the file system of k3s's data.
const SCRATCH: &str = "drill";
/// One that failed is repeated after so many seconds.
const AGAIN: u64 = 86_400;

/// The last drill, if there was one.
pub fn last() -> Option<Drill> {
    serde_json::from_str(&read_text(RECORD).ok()?).ok()
}

/// Whether one is due.
pub fn is_due(settings: &Settings, node: &str, now: i64) -> bool {
    let Some(rhythm) = settings.appliance.backup.drill.drill_rhythm() else { return false };
    let (last, again) = (last(), Rhythm::Each(AGAIN));
    let is_due = |rhythm| schedule::is_due(last.as_ref().map(|drill| drill.at), now, rhythm, node);
    is_due(&rhythm) || (last.as_ref().is_some_and(|drill| !drill.good) && is_due(&again))
}

/// Holds a drill with the newest set. The caller has the lock.
///
/// # Errors
/// When there is no set, or it can't be noted how it went. A set that doesn't come back is no error: the answer says so.
pub fn hold(settings: &Settings, node: &str) -> Result<Drill, KeeperError> {
    let newest = Shelf::all(node).into_iter().filter_map(|shelf| Some((shelf.newest()?, shelf)));
    let newest = newest.max_by_key(|((_, shelved), _)| *shelved);
    let ((name, _), shelf) = newest.ok_or_else(|| KeeperError::NoSuchSet("at all".into()))?;
    let begun = Instant::now();
    let folder = Path::new(FOLDER).join(SCRATCH);
    let went = device_keys(settings, |keys| {
        come_back(&shelf.folder.join(&name), keys, &folder, &settings.manifest.payload.version)
    });
    durable::remove_tree(&folder)?;
    let (good, said) = match went {
        Ok(contents) => (
            true,
            format!(
                "revision {}, {} live keys, whole; its token opens it; {:.1} s",
                contents.revision,
                contents.count(),
                begun.elapsed().as_secs_f64()
            ),
        ),
        Err(error) => (false, words(&error)),
    };
    let at = machine::clock();
    let last_good = if good { Some(at) } else { last().and_then(|drill| drill.last_good) };
    let drill = Drill { at, set: name, good, said, last_good };
    let word = if good { "came back" } else { "did not come back" };
    log::info!("the drill with {} on the {}: it {word}: {}", drill.set, shelf.place, drill.said);
    durable::write_durable(RECORD, &serde_json::to_vec(&drill).unwrap_or_default(), 0o600)?;
    Ok(drill)
}

fn device_keys<T>(
    settings: &Settings,
    act: impl FnOnce(&[&dyn Identity]) -> Result<T, KeeperError>,
) -> Result<T, KeeperError> {
    let identity = backup::device_key(settings)?;
    act(&identity.iter().map(|key| key as &dyn Identity).collect::<Vec<_>>())
}

/// Restores a set into an empty folder and looks at what is there then.
fn come_back(path: &Path, keys: &[&dyn Identity], folder: &Path, k3s: &str) -> Result<Contents, KeeperError> {
    durable::remove_tree(folder)?;
    durable::make_folder(folder)?;
    let manifest = set::manifest(path, keys)?;
    // Its own keys: those of the appliance may be about to change, which is for a restore to say.
    manifest.fits(k3s, &manifest.keys, &[])?;
    let members = manifest.members.iter().map(|member| member.size).sum::<u64>();
    let (free, needed) = (mount::free(folder), set::room(folder, members));
    if free < needed {
        return Err(KeeperError::NoRoom { place: folder.display().to_string(), free, needed });
    }
    let places = Places { live: folder.join("live"), staged: folder.join("staged"), aside: folder.join("aside") };
    let opened = stage(path, keys, &places.staged, "")?;
    opened.lives(machine::clock())?;
    let token = read_text(places.staged.join(TOKEN))?;
    put_in_place(&places)?;
    let database = places.live.join("server/db/state.db");
    let reading = |error: DatastoreError| KeeperError::Set(SetError::Datastore(error));
    let contents = check::live(&database, Depth::Full, opened.manifest.revision).map_err(reading)?;
    let contents = contents.map_err(SetError::Flaw)?;
    prove_live(&database, &token).map_err(reading)?.map_err(SetError::Token)?;
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, K3S};
    use bakelite_spec::set::Misfit;

    #[test]
    fn a_whole_set_comes_back_and_a_torn_one_or_one_of_a_newer_k3s_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let key = age::x25519::Identity::generate();
        let set = testing::set(folder.path(), &key);
        let scratch = folder.path().join("drill");
        let keys: [&dyn Identity; 1] = [&key];
        let contents = come_back(&set, &keys, &scratch, K3S).unwrap();
        assert_eq!((contents.revision, contents.count()), (3, 2));
        let older = come_back(&set, &keys, &scratch, "v1.35.1+k3s1").unwrap_err();
        assert!(matches!(older, KeeperError::Misfit(Misfit::K3sOlder { .. })), "{older}");
        assert!(come_back(&set, &[], &scratch, K3S).is_err());
        let bytes = std::fs::read(&set).unwrap();
        durable::replace(&set, &bytes[..bytes.len() - 20], 0o600).unwrap();
        assert!(come_back(&set, &keys, &scratch, K3S).is_err());
    }
}
