//! What a build leaves: the image, its block map and its list of parts (SBOM), published together.
//!
//! All of them are written beside their places as `.partial` and made durable before the first gets its name; the image
//! is the last, so whoever finds a new image finds its map and list. Keeps law 3 (publish last and small).

use crate::derived::Work;
use crate::error::{BuildError, io_error};
use crate::host::file;
use crate::parallel;
use crate::write::zst;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// The block map's ending, behind the image's whole name: where `bmaptool` looks for it.
const MAP: &str = "bmap";
/// The list of parts' ending.
const PARTS: &str = "spdx.json";
/// The ending of a compressed image's name.
const COMPRESSED: &str = "zst";

/// The name of a file beside an output.
pub fn beside(output: &Path, ending: &str) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

/// Refuses an output that mustn't be written, before any work is done.
///
/// # Errors
/// When it is a device or a folder, or is there already and `force` isn't given.
pub fn check(output: &Path, force: bool) -> Result<(), BuildError> {
    let may_replace = check_one(output)?;
    if may_replace && !force {
        return Err(BuildError::OutputExists(output.into()));
    }
    // A map or list without an image is what a build leaves that was killed as it published; it speaks of nothing.
    [MAP, PARTS].iter().try_for_each(|ending| check_one(&beside(output, ending)).map(drop))
}

/// Whether there is a file, which might be replaced.
fn check_one(path: &Path) -> Result<bool, BuildError> {
    match std::fs::metadata(path) {
        Ok(found) if found.file_type().is_block_device() || found.file_type().is_char_device() => {
            Err(BuildError::OutputIsDevice(path.into()))
        }
        Ok(found) if !found.is_file() => Err(BuildError::OutputIsNoFile(path.into())),
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io_error("looking at", path)(error)),
    }
}

/// The files of one build before they have their names. Dropped, they vanish.
pub struct Outputs<'a> {
    output: &'a Path,
    partial: NamedTempFile,
    /// The image itself, where the output is a compressed one.
    raw: Option<File>,
    map: NamedTempFile,
    parts: NamedTempFile,
}

impl<'a> Outputs<'a> {
    /// Begins them.
    ///
    /// # Errors
    /// When a file can't be made, or another build is writing the same output.
    pub fn begin(output: &'a Path, work: &Work) -> Result<Self, BuildError> {
        let is_compressed = output.extension().is_some_and(|ending| ending == COMPRESSED);
        let raw = is_compressed.then(|| tempfile::tempfile_in(work.path())).transpose();
        Ok(Self {
            output,
            partial: file::begin_as(output)?,
            raw: raw.map_err(io_error("making a file in", work.path()))?,
            map: file::begin_as(&beside(output, MAP))?,
            parts: file::begin_as(&beside(output, PARTS))?,
        })
    }

    /// The image in the making: sparse, read and written anywhere.
    pub fn image(&mut self) -> &mut File {
        self.raw.as_mut().unwrap_or(self.partial.as_file_mut())
    }

    /// Compresses the image where that is asked for, makes everything durable and gives it its names.
    ///
    /// # Errors
    /// When something can't be written; then an older image is as it was.
    pub fn publish(mut self, length: u64, map: &str, parts: &[u8]) -> Result<(), BuildError> {
        if let Some(raw) = &self.raw {
            let output = BufWriter::with_capacity(1 << 20, self.partial.as_file_mut());
            zst::write(raw, length, parallel::threads(), output).map_err(io_error("compressing", self.output))?;
        }
        self.map.write_all(map.as_bytes()).map_err(io_error("writing", self.map.path()))?;
        self.parts.write_all(parts).map_err(io_error("writing", self.parts.path()))?;
        let image = (self.partial, self.output.to_path_buf());
        let map = (self.map, beside(self.output, MAP));
        let parts = (self.parts, beside(self.output, PARTS));
        // Killed between two of these, a build never leaves a map that speaks of another image: a new image comes last,
        // and one that replaces an older comes first, when what speaks of the older is gone.
        if self.output.exists() {
            [&map.1, &parts.1].into_iter().try_for_each(|path| file::remove(path))?;
            file::sync_folder(file::folder_of(self.output))?;
            file::publish_together([image, map, parts])?;
        } else {
            file::publish_together([map, parts, image])?;
        }
        Ok(())
    }
}
