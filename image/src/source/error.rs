//! Everything that can go wrong while inputs are found, checked, fetched or unpacked.
//!
//! Variants are named by the act that failed; each text names the package, file or address it is about and, where a
//! person can do something, what. Must not carry a secret: addresses are printed without user and password.

use std::io;
use std::path::PathBuf;

use super::digest::Sha256;
use super::http::FetchError;
use crate::host::file::FileError;

/// Why inputs could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// No mirror was given and none was found.
    #[error(
        "no Debian mirror: none was given and {looked} names none; choose one with --mirror URL, the key `mirror:` in \
         the configuration, or the variable BAKELITE_MIRROR"
    )]
    FindMirror {
        /// Where apt's sources were looked for.
        looked: String,
    },
    /// The mirror that was given is no address.
    #[error("`{mirror}` is no mirror: {reason} (give http://…, https://…, file:/… or a folder)")]
    ReadMirror {
        /// As given.
        mirror: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A local file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system or decoder said.
        #[source]
        source: io::Error,
    },
    /// A local file could not be written.
    #[error(transparent)]
    Write(#[from] FileError),
    /// Something could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// Working offline, and the cache lacks something.
    #[error("{name} is not in the cache and --offline was given: run once without --offline")]
    Offline {
        /// Package or file.
        name: String,
    },
    /// What was fetched is not what was promised.
    #[error(
        "{name}: {url} has the wrong content: expected sha256 {expected}, got {found}; nothing was kept; \
         the server is damaged or somebody is in between: try another one"
    )]
    WrongHash {
        /// Package or file.
        name: String,
        /// Where it came from.
        url: String,
        /// The promised sum.
        expected: Sha256,
        /// The sum of what came.
        found: Sha256,
    },
    /// What was fetched has not the promised size.
    #[error("{name}: {url} has the wrong size: expected {expected} bytes, got {found}; nothing was kept")]
    WrongSize {
        /// Package or file.
        name: String,
        /// Where it came from.
        url: String,
        /// The promised size, or the most that was allowed.
        expected: u64,
        /// Bytes that came before giving up.
        found: u64,
    },
    /// A suite's InRelease is not signed by a key this program trusts.
    #[error("suite {suite}: InRelease is not to be trusted: {reason}; {advice}")]
    VerifyRelease {
        /// The suite asked for.
        suite: String,
        /// What was wrong, with key ids.
        reason: String,
        /// What to do.
        advice: &'static str,
    },
    /// A suite's InRelease is signed but not fit for use.
    #[error("suite {suite}: {reason}; {advice}")]
    AcceptRelease {
        /// The suite asked for.
        suite: String,
        /// What was wrong.
        reason: String,
        /// What to do.
        advice: &'static str,
    },
    /// An index could not be read.
    #[error("suite {suite}: cannot read {file}: {reason}")]
    ReadIndex {
        /// The suite.
        suite: String,
        /// The file in it.
        file: String,
        /// What was wrong.
        reason: String,
    },
    /// A dependency cannot be met.
    #[error("cannot install {chain}: {reason}")]
    Resolve {
        /// From what was asked for to what is missing, joined by arrows.
        chain: String,
        /// What is missing.
        reason: String,
    },
    /// Two chosen packages exclude each other.
    #[error(
        "{left} and {right} cannot be in one image: the first {says}; ask for one of them only, or put one under `without:`"
    )]
    Conflict {
        /// The package that says so: name, version and for whom it is there.
        left: String,
        /// The package that it excludes, likewise.
        right: String,
        /// What it says, e.g. "breaks `libc6 (<< 2.41)`".
        says: String,
    },
    /// A lock cannot be understood.
    #[error("cannot use the lock: {reason}")]
    ReadLock {
        /// What was wrong and what to do.
        reason: String,
    },
    /// A package of the lock has left the mirror, as superseded ones do after some weeks.
    #[error(
        "package {name} is locked, but the mirror has it no more ({url}): make the lock anew with `bakelite lock`, or build \
         where the cache still has it"
    )]
    FetchLocked {
        /// The package with its version.
        name: String,
        /// The address it had.
        url: String,
    },
    /// A .deb is damaged or dangerous.
    #[error("package {package}: {reason}")]
    Unpack {
        /// The package.
        package: String,
        /// What was wrong, naming the member.
        reason: String,
    },
    /// The k3s payload is incomplete or does not fit.
    #[error("k3s payload: {reason}")]
    Payload {
        /// What was wrong and what to do.
        reason: String,
    },
}

impl SourceError {
    /// The same error about a suite that has another name here than in its archive.
    pub(crate) fn of_suite(mut self, name: &str) -> Self {
        if let Self::VerifyRelease { suite, .. } | Self::AcceptRelease { suite, .. } | Self::ReadIndex { suite, .. } =
            &mut self
        {
            name.clone_into(suite);
        }
        self
    }

    /// For `map_err` on reading a local file.
    pub(crate) fn reading(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Read { path, source }
    }
}
