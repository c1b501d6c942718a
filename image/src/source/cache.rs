//! A content-addressed store of everything fetched: `sha256/ab/abcdef…`, by default in the user's cache folder.
//!
//! Nothing gets a name before it is whole, has the promised hash and is on the disk, so a killed build or two at once
//! leave a sound cache. An entry is hashed again when a process first uses it, and fetched anew when damaged. Files
//! whose hash nobody promised (InRelease) are kept by content as well, and `address/` remembers which one an address
//! had last, for `--offline`. Must not decide what to trust: hashes are given to it.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use super::digest::{Hashing, Sha256};
use super::error::SourceError;
use super::http::{Fetcher, broken_off, too_slow, without_password};
use crate::host::file;
use crate::progress::{BuildEvent, Listen};

/// How many files are downloaded at a time.
const DOWNLOADS: usize = 4;

/// A server that sends less than this in the time that each read may take is too slow to wait for.
const SLOWEST: u64 = 16 << 10;

/// A download reports its progress every so many bytes.
const REPORT_EVERY: u64 = 1 << 20;

/// What an interrupted download left is removed when it is this old.
const LEFTOVER_AGE: Duration = Duration::from_secs(24 * 3600);

/// A file that somebody vouched for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What to call it in messages: a package or file name.
    pub name: String,
    /// Where to get it; empty where no address is known, so that only the cache can serve it.
    pub url: String,
    /// Its size in bytes, or the most it may have.
    pub size: Size,
    /// Its sum.
    pub sha256: Sha256,
}

/// What is known of a file's size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// It has exactly this many.
    Exactly(u64),
    /// It has at most this many.
    AtMost(u64),
}

impl Size {
    fn limit(self) -> u64 {
        let (Self::Exactly(bytes) | Self::AtMost(bytes)) = self;
        bytes
    }
}

/// The cache of one user.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    fetcher: Fetcher,
    offline: bool,
    verified: Mutex<HashSet<Sha256>>,
}

/// `$XDG_CACHE_HOME/bakelite`, else `~/.cache/bakelite`; `None` where neither is set.
pub fn default_folder() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache"))).map(|base| base.join("bakelite"))
}

impl Cache {
    /// Opens the cache in `folder`, making it where it is missing. `offline` forbids every download.
    pub fn open(folder: &Path, fetcher: Fetcher, offline: bool) -> Result<Self, SourceError> {
        let cache = Self { folder: folder.to_path_buf(), fetcher, offline, verified: Mutex::default() };
        for part in ["sha256", "address", "newest", "partial"] {
            file::make_folder(&folder.join(part))?;
        }
        cache.remove_leftovers();
        Ok(cache)
    }

    /// Where the cache is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Sees to it that a file is in the cache and whole; gives its path.
    pub fn fetch(&self, wanted: &Wanted, listen: &dyn Listen) -> Result<PathBuf, SourceError> {
        let path = self.entry(&wanted.sha256);
        if self.is_whole(&path, wanted)? {
            return Ok(path);
        }
        if self.offline {
            return Err(SourceError::Offline { name: wanted.name.clone() });
        }
        if wanted.url.is_empty() {
            return Err(SourceError::FindMirror { looked: format!("the list of sources for {}", wanted.name) });
        }
        let download = || {
            let (temporary, found, count) = self.download(&wanted.name, &wanted.url, wanted.size, listen)?;
            if let Size::Exactly(expected) = wanted.size
                && count != expected
            {
                return Err(wrong_size(&wanted.name, &wanted.url, expected, count));
            }
            if found != wanted.sha256 {
                let (name, url) = (wanted.name.clone(), without_password(&wanted.url));
                return Err(SourceError::WrongHash { name, url, expected: wanted.sha256, found });
            }
            self.keep(temporary, &wanted.sha256)
        };
        self.fetcher.attempt(download, is_passing)
    }

    /// Sees to it that all files are in the cache, several at a time. On failure the first error by the order given.
    pub fn fetch_all(&self, wanted: &[Wanted], listen: &dyn Listen) -> Result<(), SourceError> {
        let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let work = || {
            loop {
                let place = next.fetch_add(1, Ordering::Relaxed);
                let Some(one) = wanted.get(place) else { return };
                if let Err(error) = self.fetch(one, listen) {
                    next.store(wanted.len(), Ordering::Relaxed);
                    lock(&failures).push((place, error));
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..DOWNLOADS.min(wanted.len()) {
                scope.spawn(work);
            }
        });
        let failures = failures.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        failures.into_iter().min_by_key(|(place, _)| *place).map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Opens a file after [`Cache::fetch`] has made sure of it.
    pub fn open_verified(&self, wanted: &Wanted, listen: &dyn Listen) -> Result<File, SourceError> {
        let path = self.fetch(wanted, listen)?;
        File::open(&path).map_err(SourceError::reading(path))
    }

    /// Gets a small file whose content nobody promised; offline the one that this address gave last.
    pub fn fetch_unpromised(
        &self,
        name: &str,
        url: &str,
        limit: u64,
        listen: &dyn Listen,
    ) -> Result<Vec<u8>, SourceError> {
        let pointer = self.folder.join("address").join(Sha256::of(url.as_bytes()).to_string());
        if self.offline {
            let missing = || SourceError::Offline { name: name.to_owned() };
            let sum =
                fs::read_to_string(&pointer).ok().and_then(|text| text.trim().parse().ok()).ok_or_else(missing)?;
            let bytes = fs::read(self.entry(&sum)).map_err(|_| missing())?;
            return if Sha256::of(&bytes) == sum { Ok(bytes) } else { Err(missing()) };
        }
        let download = || {
            let (mut temporary, found, _) = self.download(name, url, Size::AtMost(limit), listen)?;
            let mut bytes = Vec::new();
            let reread = io::Seek::rewind(&mut temporary).and_then(|()| temporary.read_to_end(&mut bytes));
            reread.map_err(SourceError::reading(temporary.path()))?;
            self.keep(temporary, &found)?;
            file::write(&pointer, format!("{found}\n").as_bytes())?;
            Ok(bytes)
        };
        self.fetcher.attempt(download, is_passing)
    }

    /// The newest date, in seconds since 1970, that something at an address had; 0 where none is known.
    pub(crate) fn newest(&self, address: &str) -> u64 {
        fs::read_to_string(self.newest_file(address)).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }

    /// Remembers that date.
    pub(crate) fn remember_newest(&self, address: &str, date: u64) -> Result<(), SourceError> {
        Ok(file::write(&self.newest_file(address), format!("{date}\n").as_bytes())?)
    }

    fn newest_file(&self, address: &str) -> PathBuf {
        self.folder.join("newest").join(Sha256::of(address.as_bytes()).to_string())
    }

    fn entry(&self, sum: &Sha256) -> PathBuf {
        let name = sum.to_string();
        self.folder.join("sha256").join(&name[..2]).join(name)
    }

    /// Whether the entry is there and, checked once a process, has its hash. A damaged one is removed.
    fn is_whole(&self, path: &Path, wanted: &Wanted) -> Result<bool, SourceError> {
        let mut opened = match File::open(path) {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(SourceError::reading(path)(error)),
        };
        let length = opened.metadata().map_err(SourceError::reading(path))?.len();
        let fits = match wanted.size {
            Size::Exactly(expected) => length == expected,
            Size::AtMost(most) => length <= most,
        };
        if fits && lock(&self.verified).contains(&wanted.sha256) {
            return Ok(true);
        }
        let mut hashing = Hashing::new(&mut opened);
        io::copy(&mut hashing, &mut io::sink()).map_err(SourceError::reading(path))?;
        if fits && hashing.finish().0 == wanted.sha256 {
            lock(&self.verified).insert(wanted.sha256);
            return Ok(true);
        }
        file::remove(path)?;
        Ok(false)
    }

    fn download(
        &self,
        name: &str,
        url: &str,
        size: Size,
        listen: &dyn Listen,
    ) -> Result<(tempfile::NamedTempFile, Sha256, u64), SourceError> {
        let incoming = self.fetcher.open(url)?;
        let total = incoming.length;
        let report = |done| listen.event(&BuildEvent::Download { name: name.to_owned(), done, total });
        report(0);
        let mut temporary = file::begin(&self.folder.join("partial"))?;
        let mut hashing = Hashing::new(incoming.reader);
        let mut buffer = vec![0; 1 << 16];
        let mut reported = 0;
        let mut window = (Instant::now(), 0);
        loop {
            if window.0.elapsed() > self.fetcher.patience() {
                if hashing.count() - window.1 < SLOWEST {
                    return Err(too_slow(url, hashing.count() - window.1, self.fetcher.patience()).into());
                }
                window = (Instant::now(), hashing.count());
            }
            let read = hashing.read(&mut buffer).map_err(|cause| broken_off(url, &cause))?;
            if read == 0 {
                break;
            }
            if hashing.count() > size.limit() {
                return Err(wrong_size(name, url, size.limit(), hashing.count()));
            }
            temporary
                .as_file_mut()
                .write_all(&buffer[..read])
                .map_err(|error| file::failed("write", temporary.path())(error))?;
            if hashing.count() - reported >= REPORT_EVERY {
                reported = hashing.count();
                report(reported);
            }
        }
        let (sum, count) = hashing.finish();
        if total.is_some_and(|total| count < total) {
            return Err(broken_off(url, &io::Error::from(io::ErrorKind::UnexpectedEof)).into());
        }
        report(count);
        Ok((temporary, sum, count))
    }

    fn keep(&self, temporary: tempfile::NamedTempFile, sum: &Sha256) -> Result<PathBuf, SourceError> {
        let path = self.entry(sum);
        file::make_folder(file::folder_of(&path))?;
        file::publish(temporary, &path)?;
        lock(&self.verified).insert(*sum);
        Ok(path)
    }

    /// Best effort: what cannot be removed is only a waste of space.
    fn remove_leftovers(&self) {
        let Ok(entries) = fs::read_dir(self.folder.join("partial")) else { return };
        for entry in entries.flatten() {
            let modified = entry.metadata().and_then(|metadata| metadata.modified()).ok();
            let age = modified.and_then(|time| SystemTime::now().duration_since(time).ok());
            if age.is_some_and(|age| age > LEFTOVER_AGE) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

fn wrong_size(name: &str, url: &str, expected: u64, found: u64) -> SourceError {
    SourceError::WrongSize { name: name.to_owned(), url: without_password(url), expected, found }
}

fn is_passing(error: &SourceError) -> bool {
    matches!(error, SourceError::Fetch(fetch) if fetch.passing)
}

/// A panicking thread leaves these sets and lists whole, so its poison is of no matter.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Answer, Server, cache};
    use super::*;
    use crate::progress::Silent;

    fn wanted(url: String, content: &[u8]) -> Wanted {
        Wanted { name: "thing".to_owned(), url, size: Size::Exactly(content.len() as u64), sha256: Sha256::of(content) }
    }

    fn partial_files(folder: &Path) -> usize {
        fs::read_dir(folder.join("partial")).unwrap().count()
    }

    #[test]
    fn fetched_once_and_healed_when_damaged() {
        let (server, folder) = (Server::start(|_, _| Answer::ok("content")), tempfile::tempdir().unwrap());
        let thing = wanted(server.url("/a"), b"content");
        let path = cache(folder.path(), false).fetch(&thing, &Silent).unwrap();
        cache(folder.path(), false).fetch(&thing, &Silent).unwrap();
        assert_eq!((fs::read(&path).unwrap(), server.requests()), (b"content".to_vec(), 1));
        for damage in [&b"contemt"[..], b"cont", b""] {
            file::write(&path, damage).unwrap();
            cache(folder.path(), false).fetch(&thing, &Silent).unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"content");
        }
        assert_eq!((server.requests(), partial_files(folder.path())), (4, 0));
        file::write(&path, b"contemt").unwrap();
        assert!(matches!(cache(folder.path(), true).fetch(&thing, &Silent), Err(SourceError::Offline { .. })));
    }

    #[test]
    fn what_is_not_as_promised_leaves_nothing() {
        let (server, folder) = (Server::start(|_, _| Answer::ok("contemt")), tempfile::tempdir().unwrap());
        let cache = cache(folder.path(), false);
        let thing = wanted(server.url("/a"), b"content");
        let error = cache.fetch(&thing, &Silent).unwrap_err().to_string();
        assert!(
            error.contains("thing") && error.contains(&server.url("/a")) && error.contains(&thing.sha256.to_string())
        );
        assert!(error.contains(&Sha256::of(b"contemt").to_string()), "{error}");
        for size in [Size::Exactly(6), Size::Exactly(8), Size::AtMost(6)] {
            let thing = Wanted { size, sha256: Sha256::of(b"contemt"), ..thing.clone() };
            assert!(matches!(cache.fetch(&thing, &Silent), Err(SourceError::WrongSize { .. })), "{size:?}");
        }
        assert!(!cache.entry(&thing.sha256).exists());
        assert_eq!(partial_files(folder.path()), 0);
    }

    #[test]
    fn a_download_that_breaks_off_is_tried_again() {
        let server = Server::start(|_, count| Answer { cut: (count < 3).then_some(3), ..Answer::ok("content") });
        let folder = tempfile::tempdir().unwrap();
        let thing = wanted(server.url("/a"), b"content");
        cache(folder.path(), false).fetch(&thing, &Silent).unwrap();
        assert_eq!((server.requests(), partial_files(folder.path())), (3, 0));
    }

    #[test]
    fn many_at_once_and_from_two_caches() {
        let server = Server::start(|path, _| Answer::ok(path.as_bytes()));
        let folder = tempfile::tempdir().unwrap();
        let things: Vec<Wanted> =
            (0..20).map(|number| format!("/{number}")).map(|path| wanted(server.url(&path), path.as_bytes())).collect();
        let caches = [cache(folder.path(), false), cache(folder.path(), false)];
        std::thread::scope(|scope| {
            for one in &caches {
                scope.spawn(|| one.fetch_all(&things, &Silent).unwrap());
            }
        });
        let before = server.requests();
        cache(folder.path(), true).fetch_all(&things, &Silent).unwrap();
        assert_eq!((server.requests(), partial_files(folder.path())), (before, 0));
        let mut bad = things.clone();
        bad[3].sha256 = Sha256::of(b"else");
        let error = caches[0].fetch_all(&bad, &Silent).unwrap_err();
        assert!(matches!(error, SourceError::WrongHash { url, .. } if url.ends_with("/3")));
    }

    #[test]
    fn what_nobody_promised_is_remembered_by_address() {
        let (server, folder) =
            (Server::start(|_, count| Answer::ok(format!("version {count}"))), tempfile::tempdir().unwrap());
        let url = server.url("/InRelease");
        let get = |offline, limit| cache(folder.path(), offline).fetch_unpromised("release", &url, limit, &Silent);
        assert!(matches!(get(true, 100), Err(SourceError::Offline { .. })));
        assert_eq!(get(false, 100).unwrap(), b"version 1");
        assert_eq!(get(false, 100).unwrap(), b"version 2");
        assert_eq!(get(true, 100).unwrap(), b"version 2");
        assert!(matches!(get(false, 5), Err(SourceError::WrongSize { .. })));
    }

    #[test]
    fn a_server_that_drips_is_given_up() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/a", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
                // Each byte comes in time; all of them would take half an hour.
                while stream.write_all(b"x").is_ok() {
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let fetcher = Fetcher::new(Duration::from_millis(300)).with_pauses([Duration::ZERO; 2]);
        let cache = Cache::open(folder.path(), fetcher, false).unwrap();
        let error = cache.fetch(&wanted(url, &[b'x'; 100_000]), &Silent).unwrap_err().to_string();
        assert!(error.contains("the server is too slow") && error.contains("--mirror"), "{error}");
        assert_eq!(partial_files(folder.path()), 0);
    }

    #[test]
    fn leftovers_go_when_they_are_old() {
        let folder = tempfile::tempdir().unwrap();
        cache(folder.path(), false);
        let (old, new) = (folder.path().join("partial/old"), folder.path().join("partial/new"));
        File::create(&new).unwrap();
        File::create(&old).unwrap().set_modified(SystemTime::now() - 2 * LEFTOVER_AGE).unwrap();
        cache(folder.path(), false);
        assert!(new.exists() && !old.exists());
    }
}
