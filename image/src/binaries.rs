//! The device's own programs, which the workshop copies into images: never linked, just found.
//!
//! `scripts/build` puts them beside the command: `bin/bakelite` and `lib/bakelite/<arch>/{init,firstboot,rehearsal-k3s}`.

use crate::error::{BuildError, io_error};
use crate::tree::Blob;
use bakelite_spec::board::Arch;
use std::path::{Path, PathBuf};

/// The variable that names another folder with a folder for each architecture.
pub const FOLDER_VARIABLE: &str = "BAKELITE_LIB";

/// The programs of one architecture.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// PID 1.
    pub init: Blob,
    /// The firstboot service.
    pub firstboot: Blob,
    folder: PathBuf,
    arch: &'static str,
}

impl Binaries {
    /// Finds the programs: in [`FOLDER_VARIABLE`]'s folder, else in the `lib` folder beside the running command's.
    ///
    /// # Errors
    /// When one is missing, with the place where it was looked for.
    pub fn find(arch: Arch) -> Result<Self, BuildError> {
        let folder = match std::env::var_os(FOLDER_VARIABLE) {
            Some(folder) => PathBuf::from(folder),
            None => {
                let own = std::env::current_exe().map_err(io_error("finding", "this program"))?;
                own.ancestors().nth(2).unwrap_or(&own).join("lib/bakelite")
            }
        };
        Self::below(&folder, arch)
    }

    /// Takes them from a folder with a folder for each architecture.
    ///
    /// # Errors
    /// When one is missing there.
    pub fn below(folder: &Path, arch: Arch) -> Result<Self, BuildError> {
        let arch = arch.name();
        let folder = folder.join(arch);
        Ok(Self {
            init: program(&folder, "init", arch)?,
            firstboot: program(&folder, "firstboot", arch)?,
            folder,
            arch,
        })
    }

    /// The stand-in for k3s.
    ///
    /// # Errors
    /// When it is missing.
    pub fn rehearsal(&self) -> Result<Blob, BuildError> {
        program(&self.folder, "rehearsal-k3s", self.arch)
    }
}

fn program(folder: &Path, name: &'static str, arch: &'static str) -> Result<Blob, BuildError> {
    let path = folder.join(name);
    match std::fs::metadata(&path) {
        Ok(found) if found.is_file() => Blob::file(path.clone()).map_err(io_error("reading", path)),
        _ => Err(BuildError::MissingBinary { name, arch, folder: folder.into() }),
    }
}
