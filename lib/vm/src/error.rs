//! What can go wrong between an image and a running machine.

use bakelite_disk::DiskError;
use std::io;
use std::path::PathBuf;

/// Why a machine doesn't run.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// A file could not be read or written.
    #[error("{act} {}", path.display())]
    File {
        /// What was done: "opening", "copying".
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The image's partition table or FAT can't be read.
    #[error("reading the partition table of {}", path.display())]
    Table {
        /// The image.
        path: PathBuf,
        /// Why.
        source: DiskError,
    },
    /// The file is compressed.
    #[error("{} is compressed, and a machine needs the image itself; type: zstd -d {}", .0.display(), .0.display())]
    Compressed(PathBuf),
    /// The file is no image of ours, or one that is damaged.
    #[error("{} is not an image that can be booted: {problem}", path.display())]
    NotAnImage {
        /// The file.
        path: PathBuf,
        /// What is missing in it.
        problem: String,
    },
    /// QEMU isn't installed.
    #[error(
        "there is no {program} on this machine; Debian has it: sudo apt install --no-install-recommends {packages}"
    )]
    NoQemu {
        /// The program.
        program: &'static str,
        /// The packages that bring QEMU and its firmware.
        packages: &'static str,
    },
    /// QEMU is too old for the board's machine.
    #[error(
        "{program} is too old here and has no machine {machine}; Debian 12 has a newer one in its backports: sudo apt install --no-install-recommends --target-release bookworm-backports {packages}"
    )]
    NoMachine {
        /// The program.
        program: &'static str,
        /// The machine that it doesn't know.
        machine: String,
        /// The packages that bring QEMU and its firmware.
        packages: &'static str,
    },
    /// UEFI firmware isn't installed.
    #[error("there is no UEFI firmware for QEMU at {path}; Debian has it: sudo apt install {package}")]
    NoFirmware {
        /// Where it was looked for.
        path: String,
        /// The package that brings it.
        package: &'static str,
    },
    /// QEMU can't show this machine.
    #[error("QEMU can't show this machine: {0}")]
    Unsupported(String),
    /// Events are waited for, and none come.
    #[error(
        "the image's board has no port for events (`console.events`), so --until would wait in vain; leave it out to see the console"
    )]
    NoEvents,
    /// A disk is described in a way that isn't understood.
    #[error("`{0}` is no disk; a disk is BUS:SIZE or BUS:FILE with virtio, nvme, ahci, usb or sd, such as nvme:20G")]
    DiskWords(String),
    /// A network is described in a way that isn't understood.
    #[error("`{0}` is no network; it is none, or user with ports to forward, such as user,6443 or user,2222:22")]
    NetworkWords(String),
    /// A temporary folder or socket could not be made.
    #[error("preparing the machine")]
    Prepare(#[source] io::Error),
    /// QEMU could not be started at all.
    #[error("starting {program}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// QEMU ended while it was being set up.
    #[error("QEMU ended at its start ({status}): {words}")]
    Ended {
        /// Its exit status.
        status: String,
        /// The end of what it said.
        words: String,
    },
    /// QEMU was asked for something and refused, or didn't answer.
    #[error("asking QEMU to {act}: {problem}")]
    Refused {
        /// The QMP command.
        act: String,
        /// What QEMU said.
        problem: String,
    },
    /// Waiting for QEMU's process failed.
    #[error("waiting for QEMU")]
    Wait(#[source] io::Error),
}

/// Ties an I/O error to a file.
pub(crate) fn at_file(act: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> VmError {
    let path = path.into();
    move |source| VmError::File { act, path, source }
}
