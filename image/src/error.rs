//! What can stop a build, in a person's words: what, where, and what to do.

use crate::decide::boot::MissingFile;
use crate::decide::modules::ModuleError;
use crate::host::file::FileError;
use crate::host::tool::ToolError;
use crate::source::SourceError;
use bakelite_disk::DiskError;
use bakelite_spec::finding::Finding;
use bakelite_spec::quantity::Size;
use std::io;
use std::path::{Path, PathBuf};

/// What stopped a build. Whatever it is, no image is left behind and the cache is whole.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The configuration has findings.
    #[error("{}", findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Config {
        /// All of them.
        findings: Vec<Finding>,
    },
    /// The output is there already.
    #[error("{} is there already; give --force to replace it, or another name", .0.display())]
    OutputExists(PathBuf),
    /// The output is a device.
    #[error("{} is a device, not a file: build into a file, then write that to the device with a flashing tool", .0.display())]
    OutputIsDevice(PathBuf),
    /// The output is a folder or something else that isn't a file.
    #[error("{} is not a file; give the name of the image file to write", .0.display())]
    OutputIsNoFile(PathBuf),
    /// A line's installer stick with another image than the line's.
    #[error(
        "the line's image is {wanted}, and this configuration with its lock makes {made}: give the lock of the line's image with --lock, and the configuration that it was built from"
    )]
    OtherImage {
        /// The line's.
        wanted: String,
        /// What would be on the stick.
        made: String,
    },
    /// The device's programs aren't where they belong.
    #[error("the device program {name} for {arch} is missing from {}; type `scripts/build device {arch}` where Bakelite's source is, and keep the lib folder beside bin when copying", folder.display())]
    MissingBinary {
        /// Its name.
        name: &'static str,
        /// The architecture.
        arch: &'static str,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// A system partition is too small for its content.
    #[error("image.slot-size is {}, but the content needs {}; make it larger (it can't grow later), or leave it out", slot.human(), needed.human())]
    SlotTooSmall {
        /// What was asked for.
        slot: Size,
        /// What is needed.
        needed: Size,
    },
    /// The boot partition is too small for the kernel and initramfs of two slots.
    #[error("kernel and initramfs of two slots need {}, but the boot partition has {}", needed.human(), room.human())]
    BootTooSmall {
        /// What is needed.
        needed: Size,
        /// What there is.
        room: Size,
    },
    /// The lock given is for another request.
    #[error("{} was made for other packages or another payload than this configuration asks for; run `bakelite lock`", .0.display())]
    LockIsStale(PathBuf),
    /// A payload file isn't the one that was locked.
    #[error("{name} is not the file that was locked; run `bakelite lock` if the change is meant")]
    PayloadChanged {
        /// Its name.
        name: String,
    },
    /// The finished image isn't what it has to be.
    #[error("the finished image is not published, as lint finds it wrong: {}; please report this", .0.join("; "))]
    Unproved(Vec<String>),
    /// A file that goes into the image was changed meanwhile.
    #[error("{} was changed while the image was built; build again", .0.display())]
    FileChanged(PathBuf),
    /// k3s's release site doesn't have the release, or can't be reached.
    #[error(
        "{site} doesn't answer that it has k3s {version}; the release's files can also be given as a folder, with `k3s.files`"
    )]
    SiteIsSilent {
        /// Its address.
        site: String,
        /// The release.
        version: String,
    },
    /// There is no place for the cache.
    #[error("neither XDG_CACHE_HOME nor HOME is set; give --cache FOLDER")]
    NoCacheFolder,
    /// Two things in one place.
    #[error("package {package} has {path} where another package has a link or a file")]
    Clash {
        /// The package.
        package: String,
        /// The path.
        path: String,
    },
    /// A user's file in a place that something else has.
    #[error(
        "{path} can't be put into the image: {blocked} is a folder or a link there; choose another place in `files`"
    )]
    UserFile {
        /// The file.
        path: String,
        /// What is in its way.
        blocked: String,
    },
    /// The key file isn't one.
    #[error("{} is no key file: {source}; `bakelite new` makes one", path.display())]
    OwnerKey {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: bakelite_trust::keys::KeyError,
    },
    /// Machines wouldn't believe what this key signs.
    #[error("{} isn't among the appliance's `owner.keys`, so its machines wouldn't believe the stick; add {public} there, build and flash again, or give another --key", path.display())]
    NotOwner {
        /// The key file.
        path: PathBuf,
        /// Its public half.
        public: String,
    },
    /// Getting the inputs.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A key that Bakelite itself brings along can't be read.
    #[error("the archive key {} is damaged in this program: {}", .0.fingerprint, .0.reason)]
    Key(crate::source::trust::BadKey),
    /// Deciding about kernel modules.
    #[error(transparent)]
    Modules(#[from] ModuleError),
    /// Deciding about the boot partition.
    #[error(transparent)]
    Boot(#[from] MissingFile),
    /// Writing the partition table.
    #[error("writing the partition table")]
    Table(#[from] DiskError),
    /// Running a program on this machine.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// Making a file durable.
    #[error(transparent)]
    File(#[from] FileError),
    /// Anything else with a file.
    #[error("{act} {}", path.display())]
    Io {
        /// What was tried.
        act: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Ties an error to what was tried with which file.
pub fn io_error(act: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> BuildError {
    let path = path.as_ref().to_path_buf();
    move |source| BuildError::Io { act, path, source }
}
