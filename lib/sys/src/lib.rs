//! Hands: every mount, ioctl, durable write and child process of the device side. Decides nothing.
//!
//! One file a subject. `unsafe` stands in [`raw`] only. rustix is the default for system calls; nix is used only for
//! what rustix lacks: ioctls with macros, netlink sockets, the list of interface addresses.

pub mod block;
pub mod commits;
pub mod device_tree;
pub mod durable;
pub mod efivar;
pub mod environment;
pub mod ext4;
pub mod fat;
pub mod group;
pub mod health;
pub mod kmsg;
pub mod link;
pub mod lock;
pub mod machine;
pub mod module;
pub mod mount;
pub mod notify;
pub mod onto;
pub mod power;
pub mod raw;
pub mod socket;
pub mod stick;
pub mod sum;
pub mod terminal;
pub mod tool;
pub mod tree;

pub use bakelite_spec::causes::words;
use std::io;
use std::path::{Path, PathBuf};

/// What the device side could not do.
#[derive(Debug, thiserror::Error)]
pub enum SysError {
    /// Reading a file or folder failed.
    #[error("reading {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Writing a file failed.
    #[error("writing {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Making, moving or removing a file or folder failed.
    #[error("changing {}", path.display())]
    Change {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Mounting failed.
    #[error("mounting {what} on {}", target.display())]
    Mount {
        /// What was to be mounted.
        what: String,
        /// Where.
        target: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Unmounting failed.
    #[error("unmounting {}", target.display())]
    Unmount {
        /// What.
        target: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A kernel module could not be loaded.
    #[error("loading the kernel module {name}")]
    Module {
        /// Which.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// A device refused a request.
    #[error("{act} on {}", path.display())]
    Device {
        /// What was asked of it.
        act: &'static str,
        /// Which device.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A socket could not be made or used.
    #[error("{act}")]
    Socket {
        /// What was done with it.
        act: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A program could not be started or waited for.
    #[error("starting {program}")]
    Start {
        /// Its path.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A program ended in another way than it should.
    #[error("{command}: {ended}: {output}")]
    Tool {
        /// The whole command line.
        command: String,
        /// How it ended, in words.
        ended: String,
        /// The last lines it wrote.
        output: String,
    },
    /// A system-wide request failed.
    #[error("{act}")]
    System {
        /// What was asked for.
        act: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// Reads a small text file, such as one of sysfs, without its last line end.
///
/// # Errors
/// When it can't be read.
pub fn read_text(path: impl AsRef<Path>) -> Result<String, SysError> {
    let path = path.as_ref();
    match std::fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\0']).to_string()),
        Err(source) => Err(SysError::Read { path: path.into(), source }),
    }
}

/// Whether a file lacks its content, as one that a pulled plug kept from being synced: it is empty, or of zeros alone.
///
/// ext4 gives a new file its length once its blocks are on their way, and notes only when they have arrived that they hold
/// something (`ext4_map_blocks`, `dioread_nolock`): cut in between, it is as long as it was meant and reads as zeros. Files over
/// 64 KiB aren't read, and lack nothing unless they are empty.
pub fn is_hollow(path: impl AsRef<Path>) -> bool {
    let path = path.as_ref();
    let file = std::fs::symlink_metadata(path).ok().filter(std::fs::Metadata::is_file);
    file.is_some_and(|file| match file.len() {
        0 => true,
        length => length <= 64 << 10 && std::fs::read(path).is_ok_and(|bytes| bytes.iter().all(|byte| *byte == 0)),
    })
}

/// The names in a folder, sorted; empty where there is no folder.
pub fn names_in(folder: impl AsRef<Path>) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_zeros_is_hollow_and_one_with_a_single_byte_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            durable::write_durable(&path, bytes, 0o600).unwrap();
            path
        };
        let mut one = vec![0; 4096];
        one[4095] = 1;
        assert!(is_hollow(put("empty", b"")) && is_hollow(put("zeros", &[0; 65536])));
        assert!(!is_hollow(put("one", &one)) && !is_hollow(put("long", &[0; 65537])));
        std::os::unix::fs::symlink("empty", folder.path().join("link")).unwrap();
        assert!(![".", "link", "missing"].iter().any(|name| is_hollow(folder.path().join(name))));
    }
}
