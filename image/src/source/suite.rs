//! The suites that a lock is made from: opened when their signature is good and they aren't older than what was seen
//! before, then read into one index of packages. Debian's own make the index; others only add to it.

use super::cache::{Cache, Size, Wanted};
use super::digest::Sha256;
use super::error::SourceError;
use super::http::FetchError;
use super::lock::{Archive, LockedSuite};
use super::packages::{Index, decompress};
use super::release::{self, Release};
use super::trust::TrustedKeys;
use crate::progress::Listen;
use std::io::{self, Seek};

/// Components that are looked at: what is free, and the firmware that boards need.
const COMPONENTS: &[&str] = &["main", "non-free-firmware"];

/// The most an InRelease may have, in bytes; Debian's largest has 0.2 MB.
const RELEASE_LIMIT: u64 = 16 << 20;

/// Where a suite is.
pub(super) struct Place {
    /// Its name in the lock.
    pub(super) label: String,
    /// Its name in its archive.
    pub(super) suite: String,
    pub(super) archive: Archive,
    /// The archive's address.
    pub(super) base: String,
    pub(super) further: Option<Added>,
}

/// What is taken of a suite that only adds to the others.
pub(super) struct Added {
    /// The components to look at.
    pub(super) components: Vec<String>,
    /// Packages that it gives although another suite has them.
    pub(super) prefer: Vec<String>,
}

/// A suite that is trusted.
pub(super) struct Suite {
    pub(super) name: String,
    pub(super) archive: Archive,
    pub(super) base: String,
    pub(super) further: Option<Added>,
    pub(super) sha256: Sha256,
    pub(super) release: Release,
}

impl Suite {
    pub(super) fn open(
        place: Place,
        keys: &TrustedKeys,
        cache: &Cache,
        now: u64,
        listen: &dyn Listen,
    ) -> Result<Self, SourceError> {
        let Place { label: name, suite, archive, base, further } = place;
        let base = format!("{base}/dists/{suite}");
        let bytes = cache.fetch_unpromised(
            &format!("{name} InRelease"),
            &format!("{base}/InRelease"),
            RELEASE_LIMIT,
            listen,
        )?;
        let release = release::verify(&bytes, &suite, keys, now).map_err(|error| error.of_suite(&name))?;
        refuse_replay(&name, &base, &release, cache)?;
        Ok(Self { name, archive, base, further, sha256: Sha256::of(&bytes), release })
    }

    /// Reads all components of a further repository. What is there already stays, but for what this one is preferred in.
    fn read_further(
        &self,
        further: &Added,
        place: usize,
        arch: &str,
        cache: &Cache,
        listen: &dyn Listen,
        index: &mut Index,
    ) -> Result<(), SourceError> {
        let unreadable = |reason| SourceError::ReadIndex { suite: self.name.clone(), file: "InRelease".into(), reason };
        let mut own = Index::default();
        for component in &further.components {
            if !self.read(component, place, arch, cache, listen, &mut own)? {
                return Err(unreadable(format!("it has no component {component} for {arch}")));
            }
        }
        if let Some(name) = further.prefer.iter().find(|name| own.named(name).next().is_none()) {
            return Err(unreadable(format!("it has no package {name}, which is to come from there")));
        }
        index.add_further(own, &further.prefer).map_err(|error| unreadable(error.to_string()))
    }

    pub(super) fn into_locked(self) -> LockedSuite {
        LockedSuite { name: self.name, archive: self.archive, date: self.release.date, sha256: self.sha256 }
    }

    /// Reads one component's packages into the index. A component that the suite does not have is passed over.
    fn read(
        &self,
        component: &str,
        place: usize,
        arch: &str,
        cache: &Cache,
        listen: &dyn Listen,
        index: &mut Index,
    ) -> Result<bool, SourceError> {
        let plain = format!("{component}/binary-{arch}/Packages");
        let files = &self.release.files;
        let packed = [".xz", ".gz", ""].map(|end| format!("{plain}{end}"));
        let Some((path, (size, sha256))) = packed.into_iter().find_map(|path| files.get_key_value(&path)) else {
            return Ok(false);
        };
        let unreadable = |reason| SourceError::ReadIndex { suite: self.name.clone(), file: path.clone(), reason };
        let (limit, _) =
            files.get(&plain).ok_or_else(|| unreadable("the Release does not say how big it is".to_owned()))?;
        let folder = format!("{}/{component}/binary-{arch}", self.base);
        let mut wanted = Wanted {
            name: format!("{} {path}", self.name),
            url: format!("{folder}/by-hash/SHA256/{sha256}"),
            size: Size::Exactly(*size),
            sha256: *sha256,
        };
        let by_name = format!("{}/{path}", self.base);
        if !self.release.by_hash {
            wanted.url.clone_from(&by_name);
        }
        let opened = match cache.open_verified(&wanted, listen) {
            // A partial copy of a mirror may lack the by-hash folders.
            Err(SourceError::Fetch(FetchError { absent: true, .. })) if self.release.by_hash => {
                wanted.url = by_name;
                cache.open_verified(&wanted, listen)
            }
            opened => opened,
        };
        let opened = opened.map_err(|error| match error {
            SourceError::WrongHash { .. } | SourceError::WrongSize { .. } => SourceError::AcceptRelease {
                suite: self.name.clone(),
                reason: error.to_string(),
                advice: "the mirror may be in the middle of an update: try again in some minutes, another one (--mirror), or do without what the suite mends (--without-suite)",
            },
            other => other,
        })?;
        let add = || -> io::Result<()> {
            // Not straight into the index: together they take twice the memory, 64 MiB of it the decompressor's window.
            let mut text = tempfile::tempfile_in(cache.folder())?;
            io::copy(&mut decompress(path, opened, *limit)?, &mut text)?;
            text.rewind()?;
            index.add(io::BufReader::with_capacity(1 << 16, text), place, arch)
        };
        add().map_err(|error| unreadable(error.to_string()))?;
        Ok(true)
    }
}

/// How much older than one seen before a mirror's InRelease may be, in seconds: the servers behind one address lag.
const LAG: u64 = 24 * 3600;

/// An old InRelease is signed as well as a new one, and Debian's own never expires between two point releases. What an
/// address once had is remembered, so that nobody can bring back packages with known holes.
fn refuse_replay(name: &str, base: &str, release: &Release, cache: &Cache) -> Result<(), SourceError> {
    let seen = cache.newest(base);
    if release.date + LAG < seen {
        let days = (seen - release.date) / (24 * 3600);
        return Err(SourceError::AcceptRelease {
            suite: name.to_owned(),
            reason: format!("its InRelease is {days} days older than one that this mirror has already given"),
            advice: "the mirror is broken, or somebody brings back what it had: try another one (--mirror)",
        });
    }
    cache.remember_newest(base, release.date.max(seen))
}

/// Which suites count.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// All of them.
    All,
    /// Debian's own for the release: what only adds to them may have nothing for the build host.
    Own,
}

pub(super) fn read_indices(
    suites: &[Suite],
    arch: &str,
    of: Of,
    cache: &Cache,
    listen: &dyn Listen,
) -> Result<Index, SourceError> {
    let mut index = Index::default();
    for (place, suite) in suites.iter().enumerate() {
        if let Some(further) = &suite.further {
            if of == Of::All {
                suite.read_further(further, place, arch, cache, listen, &mut index)?;
            }
            continue;
        }
        let mut found = false;
        for component in COMPONENTS {
            found |= suite.read(component, place, arch, cache, listen, &mut index)?;
        }
        if !found {
            let reason = format!("its Release lists no Packages for {arch}");
            return Err(SourceError::ReadIndex { suite: suite.name.clone(), file: "InRelease".to_owned(), reason });
        }
    }
    Ok(index)
}
