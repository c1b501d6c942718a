//! Actions: everything that firstboot can do to a machine. A closed set; each may be done twice with no harm.

use bakelite_spec::manifest::PlacedFile;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Replaces a file on a medium, durably: old or new, never neither.
    Publish {
        /// The file.
        path: String,
        /// Its whole content.
        text: String,
        /// Permission bits.
        mode: u32,
    },
    /// Replaces a file in /run, which lives as long as this boot.
    Tell {
        /// The file.
        path: String,
        /// Its whole content.
        text: String,
        /// Permission bits.
        mode: u32,
    },
    /// Makes a secret of 32 random bytes as hexadecimal digits, mode 0600, durably; one that is there stays.
    MakeSecret {
        /// The file.
        path: String,
    },
    /// Makes an ssh host key (ed25519), durably; one that is there stays.
    MakeHostKey {
        /// The file.
        path: String,
    },
    /// Makes a symbolic link, durably, in place of what is there.
    Link {
        /// The link.
        path: String,
        /// What it points to.
        target: String,
    },
    /// Removes a symbolic link, durably; anything else at the path stays.
    Unlink {
        /// The link.
        path: String,
    },
    /// Renames a folder to `<path>.aside`, durably, in place of one that was set aside before; an absent one is no error.
    SetAside {
        /// The folder.
        path: String,
    },
    /// Removes a folder of programs that k3s has unpacked and unpacks again; durably.
    RemoveUnpacked {
        /// The folder.
        path: String,
    },
    /// Removes a file if it is empty, durably.
    RemoveEmpty {
        /// The file.
        path: String,
    },
    /// Puts a file of the image in another place, its secrets filled in; durably, where the place is on a medium.
    Place(PlacedFile),
    /// Removes a file that was placed, durably; an absent one is no error.
    RemovePlaced {
        /// The file.
        path: String,
    },
    /// Waits until there is a default address.
    AwaitAddress {
        /// For at most so many seconds.
        seconds: u64,
        /// Whether a carrier is enough.
        or_carrier: bool,
    },
    /// Makes a stand-in for a network: a link that leads nowhere, with a default route.
    MakeDummy {
        /// Addresses it has besides its own.
        addresses: Vec<IpAddr>,
    },
    /// Takes the stand-in away.
    RemoveDummy,
}
