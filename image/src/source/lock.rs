//! The lock: every input of an image with version, size, hash and place, so that a build can be repeated anywhere.
//!
//! Making one is the only moment at which signatures, dates and suites are judged; afterwards its hashes alone are
//! obeyed. The text is stable: equal inputs give equal bytes. A lock of an unknown format, or with a field this
//! program does not know, is refused rather than half understood.

use serde::{Deserialize, Serialize};

use super::cache::{Cache, Size, Wanted};
use super::digest::Sha256;
use super::error::SourceError;
use super::http::FetchError;
use super::mirror::Mirrors;
use super::packages::is_pool_path;
use super::resolve::{LeftOut, Resolution, resolve};
use super::suite::{Added, Of, Place, Suite, read_indices};
use super::trust::TrustedKeys;
use crate::progress::{BuildEvent, Listen};

/// The format this program reads and writes.
pub const LOCK_FORMAT: u32 = 1;

/// What a lock is made for. Order and repetition do not matter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockRequest {
    /// Debian's codename, "trixie"; its `-updates` and `-security` suites belong to it.
    pub suite: String,
    /// Debian's name of the device's architecture: amd64, arm64, armhf.
    pub arch: String,
    /// Packages the appliance asks for.
    pub packages: Vec<String>,
    /// Those of them that come from the suite's `-backports`, with what only that has of what they need.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backports: Vec<String>,
    /// Packages never to be installed.
    pub without: Vec<String>,
    /// Debian's name of the build host's architecture.
    pub build_arch: String,
    /// Packages whose programs run on the build host; locked apart only where the architectures differ.
    pub tools: Vec<String>,
    /// Repositories besides Debian's, in the order of the configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<Repository>,
}

/// A repository besides Debian's, as far as it decides what is in a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repository {
    /// What it is called here; also the name of its suite in the lock.
    pub name: String,
    /// Its address, without a slash at its end.
    pub url: String,
    /// The suite or codename in it.
    pub suite: String,
    /// The components to look at.
    pub components: Vec<String>,
    /// The fingerprint of the key that signs it.
    pub fingerprint: String,
    /// Packages that it gives although Debian, or a repository before it, has them.
    pub prefer: Vec<String>,
}

/// A repository with its key.
#[derive(Debug, Clone)]
pub struct Further {
    /// The repository.
    pub repository: Repository,
    /// What may sign it.
    pub keys: TrustedKeys,
}

/// Which archive a suite comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Archive {
    /// The main archive.
    Debian,
    /// The security archive.
    Security,
    /// The repository whose name the suite has.
    Repository,
}

/// A suite as it was when the lock was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedSuite {
    /// Its codename.
    pub name: String,
    /// Where it comes from.
    pub archive: Archive,
    /// Its date in seconds since 1970.
    pub date: u64,
    /// Sum of its InRelease.
    pub sha256: Sha256,
}

/// One package, down to its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedPackage {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture, or "all".
    pub architecture: String,
    /// The suite that offered it.
    pub suite: String,
    /// Path of the .deb below its archive.
    pub pool: String,
    /// Size of the .deb in bytes.
    pub size: u64,
    /// Sum of the .deb.
    pub sha256: Sha256,
    /// The first package that needed it; absent where the appliance asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required_by: Option<String>,
}

/// One file of the k3s payload, down to its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedFile {
    /// The release's own name of it.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
    /// Its sum.
    pub sha256: Sha256,
    /// The address it came from, or "folder".
    pub source: String,
}

/// Every input of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// [`LOCK_FORMAT`].
    pub format: u32,
    /// The image's time: the newest date of its suites, in seconds since 1970.
    pub time: u64,
    /// Debian's name of the device's architecture.
    pub arch: String,
    /// The suites, in the order in which they were asked.
    pub suites: Vec<LockedSuite>,
    /// What goes into the image, by name.
    pub packages: Vec<LockedPackage>,
    /// What runs on the build host where its architecture is another, by name.
    pub tools: Vec<LockedPackage>,
    /// The k3s payload, by name; empty where there is none.
    pub payload: Vec<LockedFile>,
    /// What was left out, and who would have wanted it.
    pub left_out: Vec<LeftOut>,
    /// What the lock was made for.
    pub request: LockRequest,
}

impl LockRequest {
    fn sorted(&self) -> Self {
        let sort =
            |words: &[String]| words.iter().cloned().collect::<std::collections::BTreeSet<_>>().into_iter().collect();
        Self {
            packages: sort(&self.packages),
            backports: sort(&self.backports),
            without: sort(&self.without),
            tools: sort(&self.tools),
            ..self.clone()
        }
    }

    fn needs_tools(&self) -> bool {
        self.arch != self.build_arch
    }
}

impl Lock {
    /// Reads a lock's text.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let refused = |reason: String| SourceError::ReadLock { reason };
        let head: Head = serde_json::from_str(text).map_err(|error| refused(format!("it is no lock ({error})")))?;
        if head.format != LOCK_FORMAT {
            let reason =
                format!("its format is {}, this program knows {LOCK_FORMAT}: make it anew, or update", head.format);
            return Err(refused(reason));
        }
        let lock: Self = serde_json::from_str(text).map_err(|error| refused(format!("{error}; make it anew")))?;
        for package in lock.packages.iter().chain(&lock.tools) {
            if !is_pool_path(&package.pool) || !lock.suites.iter().any(|suite| suite.name == package.suite) {
                return Err(refused(format!("the entry of {} is damaged; make it anew", package.name)));
            }
        }
        Ok(lock)
    }

    /// The lock's text, the same for equal locks.
    pub fn to_text(&self) -> Result<String, SourceError> {
        let text =
            serde_json::to_string_pretty(self).map_err(|error| SourceError::ReadLock { reason: error.to_string() })?;
        Ok(text + "\n")
    }

    /// Whether this lock was made for such a request; else the configuration has changed and it must be made anew.
    /// The build host's architecture counts only as far as tools were locked for it.
    pub fn matches(&self, request: &LockRequest) -> bool {
        let (mut ours, mut theirs) = (self.request.sorted(), request.sorted());
        if !ours.needs_tools() && !theirs.needs_tools() {
            ours.build_arch.clone_from(&theirs.build_arch);
            theirs.tools.clone_from(&ours.tools);
        }
        ours == theirs
    }

    /// What to fetch for a package of this lock. Without mirrors it must be in the cache already.
    pub fn wanted(&self, package: &LockedPackage, mirrors: Option<&Mirrors>) -> Wanted {
        let suite = self.suites.iter().find(|suite| suite.name == package.suite);
        let base = match suite.map(|suite| suite.archive) {
            Some(Archive::Repository) => {
                let repositories = self.request.repositories.iter();
                repositories.clone().find(|repository| repository.name == package.suite).map(|found| &found.url)
            }
            Some(Archive::Security) => mirrors.map(|mirrors| &mirrors.security),
            _ => mirrors.map(|mirrors| &mirrors.debian),
        };
        Wanted {
            name: package.name.clone(),
            url: base.map(|base| format!("{base}/{}", package.pool)).unwrap_or_default(),
            size: Size::Exactly(package.size),
            sha256: package.sha256,
        }
    }

    /// Fetches every package, tools included, into the cache. Without mirrors all must be there already.
    pub fn fetch(&self, mirrors: Option<&Mirrors>, cache: &Cache, listen: &dyn Listen) -> Result<(), SourceError> {
        let wanted: Vec<Wanted> =
            self.packages.iter().chain(&self.tools).map(|package| self.wanted(package, mirrors)).collect();
        let bytes = self.packages.iter().chain(&self.tools).map(|package| package.size).sum();
        let items = wanted.len() as u64;
        listen.event(&BuildEvent::PhaseStarted { phase: "download", items: Some(items), bytes: Some(bytes) });
        cache.fetch_all(&wanted, listen).map_err(|error| match error {
            SourceError::Fetch(FetchError { absent: true, url, .. }) => {
                let file = url.rsplit('/').next().unwrap_or_default();
                let package = self.packages.iter().chain(&self.tools).find(|package| package.pool.ends_with(file));
                let name = package.map_or_else(String::new, |package| format!("{} {}", package.name, package.version));
                SourceError::FetchLocked { name, url }
            }
            other => other,
        })?;
        listen.event(&BuildEvent::PhaseFinished { phase: "download", items, bytes });
        Ok(())
    }
}

/// Makes a lock at the time `now` (seconds since 1970); its payload is empty, for whoever knows it to fill in.
pub fn make_lock(
    request: &LockRequest,
    mirrors: &Mirrors,
    keys: &TrustedKeys,
    further: &[Further],
    cache: &Cache,
    now: u64,
    listen: &dyn Listen,
) -> Result<Lock, SourceError> {
    listen.event(&BuildEvent::PhaseStarted { phase: "resolve", items: None, bytes: None });
    let request = request.sorted();
    let mut suites = Vec::new();
    for (ending, archive) in [("", Archive::Debian), ("-updates", Archive::Debian), ("-security", Archive::Security)] {
        if mirrors.without.iter().any(|without| without == ending) {
            let text = format!("{}{ending} is left out, as was asked: what it mends isn't mended", request.suite);
            listen.event(&BuildEvent::Note { text });
            continue;
        }
        let base = if archive == Archive::Security { &mirrors.security } else { &mirrors.debian };
        let name = format!("{}{ending}", request.suite);
        let place = Place { label: name.clone(), suite: name, archive, base: base.clone(), further: None };
        suites.push(Suite::open(place, keys, cache, now, listen)?);
    }
    if !request.backports.is_empty() {
        let name = format!("{}-backports", request.suite);
        let further = Added { components: vec!["main".into()], prefer: request.backports.clone() };
        let (base, archive) = (mirrors.debian.clone(), Archive::Debian);
        let place = Place { label: name.clone(), suite: name, archive, base, further: Some(further) };
        suites.push(Suite::open(place, keys, cache, now, listen)?);
    }
    for one in further {
        let Repository { name, url, suite, components, prefer, .. } = one.repository.clone();
        let further = Some(Added { components, prefer });
        let place = Place { label: name, suite, archive: Archive::Repository, base: url, further };
        suites.push(Suite::open(place, &one.keys, cache, now, listen)?);
    }
    let index = read_indices(&suites, &request.arch, Of::All, cache, listen)?;
    let found = resolve(&index, &request.packages, &request.without)?;
    let packages = lock_packages(&found, &suites);
    let tools = if request.needs_tools() {
        let index = read_indices(&suites, &request.build_arch, Of::Own, cache, listen)?;
        lock_packages(&resolve(&index, &request.tools, &request.without)?, &suites)
    } else {
        Vec::new()
    };
    let bytes = packages.iter().chain(&tools).map(|package| package.size).sum();
    listen.event(&BuildEvent::PhaseFinished { phase: "resolve", items: (packages.len() + tools.len()) as u64, bytes });
    Ok(Lock {
        format: LOCK_FORMAT,
        time: suites.iter().map(|suite| suite.release.date).max().unwrap_or(0),
        arch: request.arch.clone(),
        packages,
        tools,
        payload: Vec::new(),
        left_out: found.left_out,
        suites: suites.into_iter().map(Suite::into_locked).collect(),
        request,
    })
}

fn lock_packages(found: &Resolution<'_>, suites: &[Suite]) -> Vec<LockedPackage> {
    let locked = found.packages.iter().map(|chosen| {
        let package = chosen.package;
        LockedPackage {
            name: package.name.clone(),
            version: package.version.clone(),
            architecture: package.architecture.clone(),
            suite: suites.get(package.suite).map(|suite| suite.name.clone()).unwrap_or_default(),
            pool: package.pool.clone(),
            size: package.size,
            sha256: package.sha256,
            required_by: chosen.required_by.map(str::to_owned),
        }
    });
    locked.collect()
}

#[cfg(test)]
#[path = "lock_tests.rs"]
mod tests;
