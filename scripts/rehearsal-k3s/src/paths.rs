//! Where things are: absolute paths under an optional root, and the few ways in which the stand-in writes files.
//! With a root (`--root`, `REHEARSAL_ROOT`) a test needs no privilege; without one the paths are k3s's own.
//! It writes as k3s does, without fsync: a stand-in that is more careful than k3s would hide what an appliance must survive.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// The prefix of all absolute paths.
#[derive(Clone, Debug)]
pub struct Root(PathBuf);

impl Root {
    /// `None` is the machine itself.
    pub fn new(prefix: Option<PathBuf>) -> Self {
        Self(prefix.unwrap_or_else(|| PathBuf::from("/")))
    }

    /// True where a test gave a directory of its own.
    pub fn is_set(&self) -> bool {
        self.0 != Path::new("/")
    }

    /// The place of an absolute path; a relative one is left as it is.
    pub fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        match path.strip_prefix("/") {
            Ok(inner) => self.0.join(inner),
            Err(_) => path.to_owned(),
        }
    }
}

/// Reads a file, or `None` where there is none.
pub fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read { path: path.to_owned(), source }),
    }
}

/// Writes a file with these permissions, making its directory (0700) where it is missing.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let failed = |source| Error::Write { path: path.to_owned(), source };
    if let Some(parent) = path.parent() {
        make_directory(parent)?;
    }
    let mut file: File =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path).map_err(failed)?;
    file.write_all(bytes).map_err(failed)
}

/// Makes a directory (0700) and its parents.
pub fn make_directory(path: &Path) -> Result<(), Error> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| {
        let stopped_at = path.ancestors().filter(|each| !each.is_dir()).last().unwrap_or(path).to_owned();
        Error::MakeDirectory { path: path.to_owned(), stopped_at, source }
    })
}

/// Points `link` at `target`, replacing a link that points elsewhere; a plain file in its place is kept.
pub fn link(target: &Path, link: &Path) -> Result<(), Error> {
    let failed = |source| Error::Write { path: link.to_owned(), source };
    match fs::read_link(link) {
        Ok(old) if old == target => return Ok(()),
        Ok(_) => fs::remove_file(link).map_err(failed)?,
        Err(_) if link.exists() => return Ok(()),
        Err(_) => {}
    }
    symlink(target, link).map_err(failed)
}
