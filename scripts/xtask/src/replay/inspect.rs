//! What is known of two media at the start of a recording, and what must hold of them whenever the plug is pulled.

use super::boot::{System, boots};
use super::update::{Recorded, Records};
use crate::look::{self, Volume};
use crate::stick;
use anyhow::{Context, Result, bail, ensure};
use bakelite_datastore::set::verify;
use bakelite_disk::signature;
use bakelite_spec::records::ClusterBorn;
use bakelite_spec::set;
use bakelite_spec::update::{Ended, Update};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Where sets lie on both media, by node.
const SETS: &str = "/bakelite/sets";

/// What is known to hold at each moment.
pub struct Known {
    revision: u64,
    /// The line of the database at the start; `None` where there was no cluster.
    epoch: Option<u64>,
    token: Option<Vec<u8>>,
    /// The systems that there are, by whose images what the boot loader could take is measured.
    systems: Vec<System>,
    /// The update that is recorded.
    update: Option<Recorded>,
    /// The sets that there are from the start, by medium and path.
    sets: BTreeMap<(usize, String), Vec<u8>>,
    /// Those on the disk, where it is a stick that the keeper writes to; `None` where it is another one.
    stick: Option<BTreeMap<String, Vec<u8>>>,
    /// The revision of the mirror that there is from the start.
    mirror: Option<u64>,
}

impl Known {
    /// What is known of media before the first write, with the revision that their database had.
    pub fn at_start(revision: u64, media: &[PathBuf; 2]) -> Result<Self> {
        let [boot, disk] = media;
        let volumes = [repaired(Volume::born_state(boot)?, boot)?, repaired(Volume::data(disk)?, disk)?];
        let [state, data] = &volumes;
        Ok(Self {
            revision,
            epoch: born(&volumes)?.map(|born| born.epoch),
            token: state.as_ref().map_or(Ok(None), |state| state.file("/bakelite/token"))?,
            systems: vec![System::of(boot)?],
            update: None,
            sets: sets(&volumes)?,
            stick: on_stick(disk)?,
            mirror: data.as_ref().map_or(Ok(None), Volume::revision_of_mirror)?,
        })
    }

    /// An update to the system of an image is recorded; `end` are the media after the last write.
    pub fn expect_update(&mut self, image: &Path, end: &[PathBuf; 2]) -> Result<()> {
        let system = System::of(image)?;
        let state = repaired(Volume::born_state(&end[0])?, &end[0])?.context("there is no state partition")?;
        let last: Option<Ended> = record(&state, "last-update")?;
        let last = last.filter(|last| last.to.image == system.image);
        let last = last.with_context(|| format!("the recording ends before the update to {}", system.image))?;
        self.update = Some(Recorded { image: system.image.clone(), proved: last.why.is_empty() });
        self.systems.push(system);
        Ok(())
    }

    /// What must hold of media whose machine has brought the update to an end.
    pub fn is_over(&self, media: &[PathBuf; 2]) -> Result<()> {
        inspect(media, self)?;
        let state = repaired(Volume::born_state(&media[0])?, &media[0])?.context("there is no state partition")?;
        let data = repaired(Volume::data(&media[1])?, &media[1])?;
        records(&[Some(state), data])?.is_over()
    }
}

/// A record on a medium.
fn record<T: DeserializeOwned>(volume: &Volume, name: &str) -> Result<Option<T>> {
    let bytes = volume.file(&format!("/bakelite/{name}.json"))?;
    bytes.map(|bytes| serde_json::from_slice(&bytes).with_context(|| format!("{name}.json"))).transpose()
}

/// The cluster of two media, as the copy of its record says that counts.
fn born(volumes: &[Option<Volume>; 2]) -> Result<Option<ClusterBorn>> {
    let copy = |volume: &Option<Volume>| volume.as_ref().map_or(Ok(None), |volume| record(volume, "cluster"));
    let [card, disk]: [Option<ClusterBorn>; 2] = [copy(&volumes[0])?, copy(&volumes[1])?];
    Ok(ClusterBorn::ruling(card.as_ref(), disk.as_ref()).cloned())
}

/// What two media say; nothing where there is no state partition.
fn records(volumes: &[Option<Volume>; 2]) -> Result<Records> {
    let Some(state) = &volumes[0] else { return Ok(Records::default()) };
    let update: Option<Update> = record(state, "update")?;
    let (last, intent) = (record(state, "last-update")?, record(state, "intent")?);
    Ok(Records { update, last, intent, born: born(volumes)? })
}

fn repaired(volume: Option<Volume>, medium: &Path) -> Result<Option<Volume>> {
    volume.map(|volume| volume.repaired(&medium.with_extension("volume"))).transpose()
}

/// The backups on a disk that is a FAT: a stick that the keeper writes to.
fn on_stick(disk: &Path) -> Result<Option<BTreeMap<String, Vec<u8>>>> {
    let (mut file, length) = (File::open(disk)?, std::fs::metadata(disk)?.len());
    let kinds = signature::recognise(&mut file, 0, length).context("reading the disk")?;
    if kinds.contains(&"FAT") { stick::sets_on(disk).map(Some) } else { Ok(None) }
}

/// All that has the name of a set, by medium and path.
fn sets(volumes: &[Option<Volume>; 2]) -> Result<BTreeMap<(usize, String), Vec<u8>>> {
    let mut found = BTreeMap::new();
    for (medium, volume) in volumes.iter().enumerate() {
        let Some(volume) = volume else { continue };
        for node in volume.names(SETS)? {
            let folder = format!("{SETS}/{node}");
            for name in volume.names(&folder)?.into_iter().filter(|name| set::number(name).is_some()) {
                let path = format!("{folder}/{name}");
                let bytes = volume.file(&path)?.with_context(|| format!("{path} can't be read"))?;
                found.insert((medium, path), bytes);
            }
        }
    }
    Ok(found)
}

/// Each set of before is as it was, and each that has come since opens with the machine's key.
fn sets_are_whole(volumes: &[Option<Volume>; 2], known: &Known) -> Result<()> {
    let found = sets(volumes)?;
    for (place, bytes) in &known.sets {
        ensure!(found.get(place) == Some(bytes), "the backup {} isn't as it was", place.1);
    }
    let [state, _] = volumes;
    for ((_, path), bytes) in found.iter().filter(|(place, _)| !known.sets.contains_key(*place)) {
        let key = stick::device_key(state.as_ref().context("there is no state partition")?)?;
        let folder = tempfile::tempdir()?;
        let copy = folder.path().join("set");
        File::create(&copy)?.write_all(bytes)?;
        verify(&copy, &[&key], folder.path()).with_context(|| format!("the backup {path}"))?;
    }
    Ok(())
}

/// What must hold whenever the plug is pulled.
pub fn inspect(media: &[PathBuf; 2], known: &Known) -> Result<()> {
    let whole = |volume: Option<Volume>, medium: &Path| -> Result<Option<Volume>> {
        let volume = repaired(volume, medium)?;
        volume.as_ref().map_or(Ok(()), Volume::is_clean)?;
        Ok(volume)
    };
    let [boot, disk] = media;
    let state = Volume::born_state(boot).and_then(|volume| whole(volume, boot)).context("the card")?;
    let data = Volume::data(disk).and_then(|volume| whole(volume, disk)).context("the disk")?;
    let volumes = [state, data];
    let said = records(&volumes)?;
    let allows = |entries: &[_]| known.update.as_ref().map_or(Ok(()), |update| said.allow(entries, update));
    boots(boot, &known.systems, &allows).context("the boot partition")?;
    let [Some(state), data] = &volumes else {
        ensure!(known.token.is_none(), "the state partition isn't born any more");
        return Ok(());
    };
    if let Some(token) = &known.token {
        ensure!(state.file("/bakelite/token")?.as_ref() == Some(token), "the token isn't the same");
    }
    let is_another_line = database(home(state, data.as_ref())?, &said, known)?;
    let mirror = data.as_ref().map_or(Ok(None), Volume::revision_of_mirror).context("the mirror")?;
    let (is, was) = (mirror, known.mirror);
    // That of a line that was given up goes.
    ensure!(is >= was || is_another_line, "the mirror has revision {is:?}, and had {was:?}");
    if let Some(before) = &known.stick {
        stick::sets_are_whole(disk, &stick::device_key(state)?, before).context("the stick")?;
    }
    sets_are_whole(&volumes, known)?;
    if let Some(update) = said.update.as_ref().filter(|update| !update.set.is_empty()) {
        let is_there = sets(&volumes)?.into_keys().any(|(_, path)| path == format!("{SETS}/{}", update.set));
        ensure!(is_there, "the backup {}, with which an update goes back, isn't there", update.set);
    }
    Ok(())
}

/// The medium that the cluster lives on, by the records of both.
fn home<'a>(state: &'a Volume, data: Option<&'a Volume>) -> Result<&'a Volume> {
    let home = |volume: &Volume| record::<Value>(volume, "home").map(Option::unwrap_or_default);
    let (card, there) = (home(state)?, data.map_or(Ok(Value::Null), home)?);
    let epoch = |home: &Value| home["epoch"].as_u64();
    let said_there = card["place"].get("disk").is_some();
    match data {
        Some(data) if said_there || epoch(&there) > epoch(&card) => Ok(data),
        _ if said_there => bail!("the cluster lives on a disk that isn't one"),
        _ => Ok(state),
    }
}

/// The right database is there, whole; whether it is that of another line than at the start, by the way back of an update.
fn database(home: &Volume, said: &Records, known: &Known) -> Result<bool> {
    let wanted = said.database(known.epoch.map(|epoch| (epoch, known.revision)), known.update.as_ref())?;
    let mut revision = home.revision()?.unwrap_or(0);
    if wanted.or_staged {
        let staged = home.revision_of(look::STAGED, "-wal").context("the unpacked database")?;
        revision = revision.max(staged.unwrap_or(0));
    }
    let least = wanted.revision;
    ensure!(revision >= least, "the database has revision {revision}, and {least} was durable");
    let Some(epoch) = wanted.aside else { return Ok(false) };
    let aside = look::aside(epoch);
    let gone = || format!("what the update had written isn't kept in {aside}");
    let theirs = home.nodes_beyond(&aside, least)?.with_context(gone)?;
    let ours = home.nodes_beyond(look::DATABASE, least)?.unwrap_or_default();
    ensure!(theirs.is_disjoint(&ours), "the database is that of the update, which went back");
    Ok(true)
}
