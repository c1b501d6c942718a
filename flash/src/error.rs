//! What can stop a flash, in a person's words: what, where, and what to type.

use bakelite_disk::DiskError;
use bakelite_image::BuildError;
use std::io;
use std::path::{Path, PathBuf};

/// What stopped it. Whatever it is, a medium that was begun doesn't boot, and says nothing of any secret.
#[derive(Debug, thiserror::Error)]
pub enum FlashError {
    /// Something with a file of this machine.
    #[error("{act} {}", path.display())]
    Io {
        /// What was tried.
        act: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// An image in a compression that isn't read.
    #[error("{} is compressed in a way that isn't read here; unpack it first: {command} {} > disk.img", path.display(), path.display())]
    ForeignCompression {
        /// The image.
        path: PathBuf,
        /// What unpacks it.
        command: &'static str,
    },
    /// There is nothing in the image.
    #[error("{} is empty", .0.display())]
    EmptyImage(PathBuf),
    /// The image was changed while it was read.
    #[error("{} was changed meanwhile; flash again", .0.display())]
    ImageChanged(PathBuf),
    /// A range of the image isn't what its map says.
    #[error("{} is damaged: what is at byte {at} isn't what its block map says; fetch or build it again", path.display())]
    ImageDamaged {
        /// The image.
        path: PathBuf,
        /// The range's first byte.
        at: u64,
    },
    /// A block map that makes no sense.
    #[error("reading {}", path.display())]
    Map {
        /// The map.
        path: PathBuf,
        /// What is wrong.
        source: DiskError,
    },
    /// A block map of another image.
    #[error("the block map beside {} is another image's: it speaks of {map} bytes, and the image has {image}", path.display())]
    OtherMap {
        /// The image.
        path: PathBuf,
        /// The image's length.
        image: u64,
        /// What the map says.
        map: u64,
    },
    /// The stream of the image broke off for all media.
    #[error("the image can't be read: {0}")]
    Stream(String),
    /// Something with the medium.
    #[error(transparent)]
    Medium(#[from] DiskError),
    /// The medium is gone.
    #[error("{name} has vanished{}", came_back.as_ref().map_or_else(|| ": look at its plug, its cable and its reader, and flash it again".to_string(), |now| format!(" and came back as {now}: its plug, cable or reader is loose; flash it again")))]
    Vanished {
        /// What it was called.
        name: String,
        /// What it is called now.
        came_back: Option<String>,
    },
    /// The first MiB is half written, and couldn't be taken back.
    #[error("{0}; it couldn't be wiped, so it may boot: destroy it")]
    MayBoot(Box<FlashError>),
    /// The medium may not be overwritten.
    #[error("{device} is not touched: {why}")]
    Refused {
        /// Which.
        device: String,
        /// Why, and what to type.
        why: String,
    },
    /// There is no such disk.
    #[error("there is no disk {0}; `bakelite flash IMAGE` without a device lists those there are")]
    NoSuchDisk(String),
    /// No device was named, and nobody can be asked.
    #[error("no device was named, and there is nobody to ask; name one: bakelite flash IMAGE /dev/...")]
    NobodyToAsk,
    /// Something with a seed.
    #[error("{0}")]
    Seed(String),
    /// A seed for an image that takes none.
    #[error("{} takes no seed: {why}", path.display())]
    TakesNoSeed {
        /// The image.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The seed on the medium isn't what was written.
    #[error("the seed can't be read back from the medium as it was written: {0}")]
    SeedReadBack(String),
    /// Something with a table of rows.
    #[error("{}: {problem}", path.display())]
    Table {
        /// The CSV.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Something with a line's configuration.
    #[error("{}: {problem}", path.display())]
    Line {
        /// The YAML.
        path: PathBuf,
        /// What is wrong, with its key.
        problem: String,
    },
    /// The record can't be read or written.
    #[error("the record {}", path.display())]
    Record {
        /// The database.
        path: PathBuf,
        /// Why not.
        source: rusqlite::Error,
    },
    /// Writing a file durably.
    #[error(transparent)]
    Build(#[from] BuildError),
}

impl FlashError {
    /// Whether the words that were typed are wrong, and not what came of them.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Refused { .. }
                | Self::NoSuchDisk(_)
                | Self::NobodyToAsk
                | Self::Seed(_)
                | Self::TakesNoSeed { .. }
                | Self::Table { .. }
                | Self::Line { .. }
        )
    }
}

/// Ties an error to what was tried with which file.
pub fn io_error(act: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> FlashError {
    let path = path.as_ref().to_path_buf();
    move |source| FlashError::Io { act, path, source }
}
