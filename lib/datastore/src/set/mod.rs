//! Sets: one archive with everything that brings a cluster back, made while k3s runs, and opened with nothing but a key.
//!
//! A set counts only once it was opened again: read from the medium, decrypted, and each member compared with the hash that
//! was taken of what had just been checked and what the token had been proved to open. It appears under its name when all
//! of it is durable. Whoever takes a set from elsewhere, and the drill, check and prove what comes out of it anew.

mod open;
mod write;

pub use open::{Opened, manifest, members, reread, unpack, verify};
pub use write::{Request, Written, room, write};

use crate::DatastoreError;
use crate::check::Flaw;
use crate::token::TokenError;
use std::path::{Path, PathBuf};

/// What is wrong with a set, or stands in the way of making one.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    /// A file can't be read or written.
    #[error("{act} {}", path.display())]
    File {
        /// What was done.
        act: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Not enough room on the medium.
    #[error("{} has {free} bytes free, and a set may need {needed}", path.display())]
    NoRoom {
        /// Where.
        path: PathBuf,
        /// What is there.
        free: u64,
        /// What may be needed at most.
        needed: u64,
    },
    /// None of the keys opens it.
    #[error("no key at hand opens it")]
    NoKey,
    /// What comes out isn't a set.
    #[error("it is no set: {0}")]
    NotASet(String),
    /// Made by a newer Bakelite.
    #[error("it has format {0}, which a newer Bakelite reads")]
    Newer(u32),
    /// A member isn't what the manifest says.
    #[error("{path} in it isn't what its manifest says: {what}")]
    Member {
        /// Which.
        path: String,
        /// How it differs.
        what: &'static str,
    },
    /// The database in it, or the one that it is made from.
    #[error("its database: {0}")]
    Flaw(#[from] Flaw),
    /// Token and database.
    #[error("its token: {0}")]
    Token(#[from] TokenError),
    /// Nothing that k3s could live with any more.
    #[error("its cluster's own authority expired {0}, and k3s never becomes ready with it; look at the clock")]
    Expired(String),
    /// Anything with SQLite.
    #[error(transparent)]
    Datastore(#[from] DatastoreError),
    /// Anything with the system.
    #[error(transparent)]
    Sys(#[from] bakelite_sys::SysError),
    /// Encryption itself.
    #[error("encrypting")]
    Encrypt(#[from] age::EncryptError),
}

/// Bytes that go through a pipe at once: as many as it holds (pipe(7)).
const PIPE: usize = 1 << 16;

pub(crate) fn on(act: &'static str, path: &Path) -> impl Fn(std::io::Error) -> SetError {
    move |source| SetError::File { act, path: path.into(), source }
}

#[cfg(test)]
mod tests;
