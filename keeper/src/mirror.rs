//! The mirror: a plain copy of k3s's database on the data disk, kept up to date between the backups.
//!
//! It is for a database that is damaged, not for a disk that is lost: the ladder at boot takes it where it is newer than any
//! set. Only what has changed is written. It never takes the last free space, and never takes damage over.

use crate::{KeeperError, backup};
use bakelite_datastore::mirror::{Mirrored, refresh, remove};
use bakelite_datastore::set::{self, SetError};
use bakelite_plan::cluster;
use bakelite_plan::restore::mirror::{LINE, Line, MIRROR};
use bakelite_spec::records::ClusterBorn;
use bakelite_sys::{durable, mount, read_text, words};
use std::path::Path;
use std::time::{Duration, Instant};

/// Between two times that it is brought up to date: each reads all of the database, and of the mirror.
const EACH: Duration = Duration::from_secs(1800);

/// When it was last tried.
#[derive(Debug, Default)]
pub struct Mirror {
    tried: Option<Instant>,
}

impl Mirror {
    /// Whether it is time. A machine that was just switched on begins with it.
    pub fn is_due(&self) -> bool {
        self.tried.is_none_or(|tried| tried.elapsed() >= EACH)
    }

    /// Brings it up to date, or says why not; that the database is damaged is noted as for a backup. The caller has the lock.
    pub fn refresh(&mut self, born: &ClusterBorn) {
        self.tried = Some(Instant::now());
        let refreshed = bring_up_to_date(born, Path::new(cluster::DATABASE), Path::new(MIRROR), Path::new(LINE));
        let told = match refreshed {
            Ok(None) => Ok(()),
            Ok(Some(Mirrored { contents, pages, written })) => {
                log::info!("the mirror has revision {}: {written} of {pages} pages were written", contents.revision);
                Ok(())
            }
            Err(KeeperError::Set(SetError::Flaw(flaw))) if flaw.is_damage() => {
                backup::noted(Err(SetError::Flaw(flaw).into()))
            }
            Err(error) => Err(error),
        };
        if let Err(error) = told {
            log::warn!("the mirror isn't brought up to date: {}", words(&error));
        }
    }
}

/// `None` where there is no room for it.
fn bring_up_to_date(
    born: &ClusterBorn,
    database: &Path,
    mirror: &Path,
    line: &Path,
) -> Result<Option<Mirrored>, KeeperError> {
    let folder = mirror.parent().unwrap_or(mirror);
    durable::make_folder(folder)?;
    durable::set_mode(folder, 0o700)?;
    let wanted = Line::of(born);
    let is_of = read_text(line).ok().and_then(|text| serde_json::from_str::<Line>(&text).ok());
    let failed = |error| KeeperError::Set(SetError::Datastore(error));
    if is_of.as_ref() != Some(&wanted) {
        // Never a line's name beside another one's rows.
        remove(mirror).map_err(failed)?;
        durable::write_durable(line, &serde_json::to_vec(&wanted).unwrap_or_default(), 0o600)?;
    }
    // At worst, as after k3s's own VACUUM, all of it is written, or all of it lies in the journal.
    let bytes = std::fs::metadata(database).map_or(0, |meta| meta.len());
    let (free, needed) = (mount::free(folder), set::room(folder, bytes));
    if free < needed {
        log::info!("the mirror stays as it is: {needed} bytes are needed for it, and {free} are free");
        return Ok(None);
    }
    let refreshed = refresh(database, mirror, born.revision).map_err(failed)?;
    Ok(Some(refreshed.map_err(SetError::Flaw)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use bakelite_spec::records::{Datastore, FORMAT};
    use std::collections::BTreeMap;

    #[test]
    fn a_mirror_is_of_its_own_line_only() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("state.db");
        let _running = testing::database(&database);
        let (mirror, line) = (folder.path().join("mirror/state.db"), folder.path().join("mirror/line.json"));
        let mut born = ClusterBorn {
            format: FORMAT,
            epoch: 0,
            node: "shop-1".into(),
            datastore: Datastore::Sqlite,
            row: String::new(),
            revision: 3,
            k3s: testing::K3S.into(),
            keys: BTreeMap::new(),
        };
        let refreshed = |born: &ClusterBorn| bring_up_to_date(born, &database, &mirror, &line);
        let first = refreshed(&born).unwrap().unwrap();
        assert_eq!(first.written, first.pages);
        assert!(refreshed(&born).unwrap().unwrap().written <= 1, "page by page");
        born.epoch += 1;
        let other = refreshed(&born).unwrap().unwrap();
        assert_eq!(other.written, other.pages, "made anew");
        assert_eq!(serde_json::from_str::<Line>(&read_text(&line).unwrap()).unwrap(), Line::of(&born));
        born.revision = other.contents.revision + 1;
        let older = refreshed(&born).unwrap_err();
        assert!(older.to_string().contains("was on this machine's medium already"), "{older}");
    }
}
