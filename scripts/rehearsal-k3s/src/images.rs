//! Air-gap archives: found, read once each, logged and remembered in `.cache.json` as k3s does (k3s.md 5.6, 11.6).
//! Nothing is unpacked and no store is kept: what is rehearsed is the reading, its time, and when it is skipped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::error::{Error, go_words};
use crate::paths::{read_if_there, write};
use crate::stop::Stop;

const SUFFIXES: [&str; 9] = [".tar", ".tar.lz4", ".tar.bz2", ".tbz", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".txt"];
/// k3s is told by inotify, two seconds late; looking that often is the same to whoever watches.
const LOOK: Duration = Duration::from_secs(2);

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    size: u64,
    mod_time: String,
    images: Option<Vec<String>>,
}

type Cache = BTreeMap<String, Entry>;

/// The images that are there, by their names; none ever goes.
#[derive(Clone, Default)]
pub struct Images(Arc<Mutex<BTreeSet<String>>>);

impl Images {
    /// Adds names.
    pub fn add(&self, names: impl IntoIterator<Item = String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(names);
    }

    /// Whether an image is there, by its whole name or without the registry that is meant where none is named.
    pub fn has(&self, image: &str) -> bool {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ["", "docker.io/", "docker.io/library/"].iter().any(|before| names.contains(&format!("{before}{image}")))
    }
}

/// Imports what is there, then watches until the stop.
pub fn run(folder: &Path, known: &Images, stop: &Stop) {
    let mut seen = Cache::new();
    let uses_cache = cache_file(folder).exists();
    if uses_cache {
        seen = read_cache(folder);
    }
    loop {
        let mut changed = false;
        for path in archives(folder) {
            changed |= import_if_new(&path, &mut seen, stop);
        }
        if changed
            && uses_cache
            && let Err(error) = write_cache(folder, &seen)
        {
            log::warn!("Failed to write image cache: {error}");
        }
        known.add(seen.values().flat_map(|entry| entry.images.clone().unwrap_or_default()));
        if stop.wait(LOOK) {
            return;
        }
    }
}

fn cache_file(folder: &Path) -> PathBuf {
    folder.join(".cache.json")
}

/// An empty or broken cache remembers nothing.
fn read_cache(folder: &Path) -> Cache {
    let bytes = read_if_there(&cache_file(folder)).ok().flatten().unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

fn write_cache(folder: &Path, cache: &Cache) -> Result<(), Error> {
    write(&cache_file(folder), &serde_json::to_vec(cache)?, 0o600)
}

fn archives(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            } else if path.is_file() && SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// True where the file was read. Read again only without an entry, without images in it, or where the size has changed
/// and the time is newer.
fn import_if_new(path: &Path, seen: &mut Cache, stop: &Stop) -> bool {
    let Ok(metadata) = path.metadata() else { return false };
    let key = path.display().to_string();
    if seen.get(&key).is_some_and(|entry| is_known(entry, &metadata)) {
        return false;
    }
    let started = Instant::now();
    match read_once(path, stop) {
        Ok(Some(bytes)) => {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            log::info!("Imported images from {key}: {name}, {bytes} bytes in {} ms", started.elapsed().as_millis());
            let names = names_in(path).unwrap_or_else(|| vec![made_up(&name)]);
            seen.insert(key, entry(&metadata, names));
            true
        }
        Ok(None) => false,
        Err(error) => {
            log::error!("Failed to import images from {key}: {}", go_words(&error));
            seen.insert(key, entry(&metadata, vec![made_up("failed")]));
            false
        }
    }
}

/// A name for what is in an archive that isn't looked into.
fn made_up(name: &str) -> String {
    format!("docker.io/rehearsal/{}:latest", name.to_lowercase())
}

/// The names in an archive of `docker save` that isn't compressed.
fn names_in(path: &Path) -> Option<Vec<String>> {
    let mut archive = tar::Archive::new(File::open(path).ok()?);
    let is_list = |entry: &tar::Entry<'_, File>| entry.path().is_ok_and(|path| path == Path::new("manifest.json"));
    let list = archive.entries().ok()?.find_map(|entry| entry.ok().filter(is_list))?;
    let list: serde_json::Value = serde_json::from_reader(list).ok()?;
    let tags = list.as_array()?.iter().flat_map(|image| image["RepoTags"].as_array().cloned().unwrap_or_default());
    Some(tags.filter_map(|tag| Some(tag.as_str()?.to_owned())).collect())
}

fn entry(metadata: &Metadata, names: Vec<String>) -> Entry {
    let time = metadata.modified().map_or(OffsetDateTime::UNIX_EPOCH, OffsetDateTime::from);
    Entry { size: metadata.len(), mod_time: time.format(&Rfc3339).unwrap_or_default(), images: Some(names) }
}

fn is_known(entry: &Entry, metadata: &Metadata) -> bool {
    let then = OffsetDateTime::parse(&entry.mod_time, &Rfc3339).map_or(SystemTime::UNIX_EPOCH, Into::into);
    let is_newer = metadata.modified().is_ok_and(|now| now > then);
    entry.images.is_some() && !(entry.size != metadata.len() && is_newer)
}

/// The number of bytes, or `None` where a stop came first.
fn read_once(path: &Path, stop: &Stop) -> std::io::Result<Option<u64>> {
    let (mut file, mut buffer, mut total) = (File::open(path)?, vec![0; 128 * 1024], 0);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Some(total)),
            _ if stop.is_asked() => return Ok(None),
            length => total += length as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_again_only_when_size_and_time_have_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/a.tar.zst");
        write(&path, b"archive", 0o600).unwrap();
        write(&folder.path().join("notes.md"), b"no archive", 0o600).unwrap();
        assert_eq!(archives(folder.path()), [path.as_path()]);
        let (mut seen, stop) = (Cache::new(), Stop::new(1.0));
        assert!(import_if_new(&path, &mut seen, &stop));
        write_cache(folder.path(), &seen).unwrap();
        let mut seen = read_cache(folder.path());
        assert!(!import_if_new(&path, &mut seen, &stop));
        let touch = |ahead: u64| {
            let file = File::options().write(true).open(&path).unwrap();
            file.set_modified(SystemTime::now() + Duration::from_secs(ahead)).unwrap();
        };
        touch(60);
        assert!(!import_if_new(&path, &mut seen, &stop), "touched, same size");
        write(&path, b"a longer archive", 0o600).unwrap();
        touch(120);
        assert!(import_if_new(&path, &mut seen, &stop), "size and time");
        seen.get_mut(&path.display().to_string()).unwrap().images = None;
        assert!(import_if_new(&path, &mut seen, &stop), "no images known");
    }

    #[test]
    fn an_empty_cache_file_remembers_nothing() {
        let folder = tempfile::tempdir().unwrap();
        write(&cache_file(folder.path()), b"", 0o600).unwrap();
        assert!(read_cache(folder.path()).is_empty());
    }
}
