//! Actions: everything that firstboot can do to a machine. A closed set; each may be done twice with no harm.

use bakelite_spec::manifest::{PayloadFile, PlacedFile};
use bakelite_spec::records::Move;
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
    /// Finds the lost token of the cluster that is here, in k3s's own files or the data disk's seal, and puts it there, durably.
    FindToken {
        /// The file; one that is there stays.
        path: String,
    },
    /// Makes the machine's own age identity, mode 0600, durably; one that is there stays.
    MakeDeviceKey {
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
    /// Removes a folder that whoever made it makes again; durably.
    RemoveFolder {
        /// The folder.
        path: String,
    },
    /// Compares all that k3s has unpacked with its checksums, and removes what differs; durably. k3s unpacks it again.
    VerifyUnpacked {
        /// The folder of all unpacked versions.
        path: String,
    },
    /// Compares the payload's files with the hashes of the manifest.
    VerifyPayload {
        /// The files.
        files: Vec<PayloadFile>,
    },
    /// Has SQLite check the database where k3s reads it, its -wal included; nothing of it is changed.
    CheckDatabase {
        /// The file.
        path: String,
    },
    /// Makes a database for a k3s that has none yet: empty, in WAL mode, with pages of so many bytes; durably.
    PrepareDatabase {
        /// The file; one that is there stays.
        path: String,
        /// A power of two.
        page_size: u32,
    },
    /// Has a file system write all that it holds.
    Sync {
        /// Any path on it.
        path: String,
    },
    /// Removes a file if it is empty or of zeros alone, durably.
    RemoveHollow {
        /// The file.
        path: String,
    },
    /// Removes a file, durably; an absent one is no error.
    Remove {
        /// The file.
        path: String,
    },
    /// Looks whether a disk holds anything. Nothing of it is changed; the kernel refuses writes meanwhile.
    Prove {
        /// The disk's [`crate::disk::Disk::key`].
        disk: String,
        /// Whether a single file system is looked into for a user's files.
        look_into: bool,
    },
    /// Looks into a data partition without changing anything, not even its journal.
    LookInto {
        /// The partition's GUID.
        guid: String,
    },
    /// Makes a disk the data disk: writes its partition table. The permit was given by what was proved in this pass.
    Claim {
        /// The disk's key.
        disk: String,
    },
    /// Makes the file system of a data partition that was never born, attaches it and ends its birth.
    Bear {
        /// The partition's GUID.
        guid: String,
    },
    /// Checks a data partition and attaches it as the data disk.
    Attach {
        /// The partition's GUID.
        guid: String,
    },
    /// Makes a data partition that isn't attached one that was never born: by a person's word it may be made anew. One write.
    Unbear {
        /// The partition's GUID.
        guid: String,
    },
    /// Removes all that is in some folders of our own media but some paths, durably; by a person's word.
    Blank {
        /// The folders; they themselves stay, and absent ones are no error.
        folders: Vec<String>,
        /// What stays.
        but: Vec<String>,
    },
    /// Seals the identity onto the data disk, such that it can be read without the file system's journal.
    Seal {
        /// Its number.
        generation: u64,
    },
    /// Puts secrets of the seed into their files, durably.
    TakeSecrets {
        /// Their names.
        names: Vec<String>,
    },
    /// Overwrites the seed on the boot partition, durably; it was taken.
    SpendSeed,
    /// Overwrites the seed's word of a new life on the boot partition, durably; it was heard.
    MarkSeed,
    /// Takes the identity from the data disk's seal; its record comes last.
    Unseal,
    /// Shows a folder of a medium at a place, in place of what is shown there.
    Show {
        /// The folder; made where it isn't there.
        folder: String,
        /// The place.
        place: String,
        /// Permission bits of a folder that is made.
        mode: u32,
    },
    /// Shows what was at a place before the data disk was shown there.
    Hide {
        /// The place.
        place: String,
    },
    /// Copies what one medium holds of k3s's data onto the other, verified; what was copied already stays.
    CopyHome {
        /// From which to which.
        way: Move,
        /// How much it is about.
        amount: crate::facts::Amount,
    },
    /// Removes what the card holds in the places of k3s's data, while a data disk is shown there; durably.
    RemoveOldCopy,
    /// Tells a medium of our own which of its bytes hold nothing, and writes down that it was done.
    Trim {
        /// Where its file system is mounted.
        mount: String,
        /// The disk's key.
        disk: String,
    },
    /// Looks for sets on all disks and sticks besides the card, and in our own folders; nothing of them is changed.
    LookForSets,
    /// Unpacks a set beside the place it goes to and proves it; one that isn't whole is noted as such, and changes nothing.
    StageSet {
        /// The set's [`crate::restore::FoundSet::key`].
        set: String,
        /// What is said of it where it was unpacked, once it is whole.
        note: String,
    },
    /// Makes what can be made of a damaged database, beside it, where a set would be unpacked; the damaged one stays.
    Climb {
        /// What is said of it, with what is known already.
        note: String,
        /// A revision that it has had.
        known: u64,
    },
    /// Copies the mirror of the database to where a set would be unpacked, and proves it.
    StageMirror {
        /// What is said of it, with what is known already.
        note: String,
        /// A revision that the database has had.
        known: u64,
        /// Only one with a higher revision is worth it.
        than: u64,
    },
    /// Seals the cluster's keys with a new token in a copy of its database, where a set would be unpacked.
    Rekey {
        /// What is said of it, with what is known already.
        note: String,
        /// A revision that it has had.
        known: u64,
    },
    /// Notes which names are in the cluster.
    NoteBaseline {
        /// Its database.
        database: String,
        /// The note.
        baseline: String,
    },
    /// Finds out which names are in the cluster besides those of a note.
    CompareWithBaseline {
        /// The note.
        baseline: String,
    },
    /// Finds out which objects went with the database that an act has moved aside.
    CompareWithAside {
        /// The folder.
        aside: String,
        /// The revision of the database that took its place.
        revision: u64,
    },
    /// Ends the payload and its pods, and has it started again once settle is done.
    StopWorkloads {
        /// The payload's unit.
        unit: String,
    },
    /// Takes what is in the database's place away again, and brings back what an act had put in this folder.
    PutBack {
        /// The folder.
        aside: String,
    },
    /// Brings back the secrets, settings and manifests that the machine had before an act.
    GiveBackIdentity {
        /// The folder for what the machine had.
        aside: String,
    },
    /// Has init run both passes once more, as the machine goes by another name now.
    Refit,
    /// Puts the unpacked set's database in its place, and what was there in a folder of this name.
    PutInPlace {
        /// The folder.
        aside: String,
    },
    /// Takes secrets, settings and manifests from the unpacked set; what the machine had is kept beside them.
    TakeIdentity {
        /// The folder for what the machine had.
        aside: String,
    },
    /// Measures how long a medium of our own takes to make 4 KiB durable, and writes it down beside what is known.
    MeasureLatency {
        /// The disk's key.
        disk: String,
        /// Whether it is the data disk, else the card.
        data_disk: bool,
    },
    /// Puts a file of the image in another place, its secrets filled in; durably, where the place is on a medium.
    Place(PlacedFile),
    /// Replaces the firewall's rules, all at once. What nft refuses is noted with its words, and changes nothing.
    LoadRules {
        /// The rules, as nft reads them.
        rules: String,
    },
    /// Takes addresses and routes off links whose settings have changed; dhcpcd, started again, gives them new ones.
    ForgetAddresses {
        /// The links' names.
        links: Vec<String>,
    },
    /// Adds an entry to the boot loader's, whole or not at all, such that it is what the next start takes; durably.
    AddEntry {
        /// The file's name.
        name: String,
        /// Its text.
        text: String,
    },
    /// Removes entries of the boot loader's, durably.
    RemoveEntries {
        /// The files' names.
        names: Vec<String>,
    },
    /// Waits until there is a default address.
    AwaitAddress {
        /// For at most so many seconds.
        seconds: u64,
        /// Whether a carrier is enough.
        or_carrier: bool,
    },
    /// Waits until the clock has been compared with the network's.
    AwaitTime {
        /// For at most so many seconds.
        seconds: u64,
    },
    /// Makes a stand-in for a network: a link that leads nowhere, with a default route.
    MakeDummy {
        /// Addresses it has besides its own.
        addresses: Vec<IpAddr>,
    },
    /// Takes the stand-in away.
    RemoveDummy,
}

impl Action {
    /// Whether it is done once in a machine's life and changes a disk or who the machine is: it is noted before it is done.
    pub fn is_once_in_a_life(&self) -> bool {
        matches!(self, Self::Claim { .. } | Self::Bear { .. } | Self::Unseal | Self::CopyHome { .. })
    }

    /// Whether it does something to a medium: worth a word while it is done, as it may take its time.
    pub fn touches_a_medium(&self) -> bool {
        match self {
            Self::Tell { .. }
            | Self::Refit
            | Self::AwaitAddress { .. }
            | Self::AwaitTime { .. }
            | Self::MakeDummy { .. }
            | Self::RemoveDummy => false,
            Self::Place(file) => !file.to.starts_with("/run/"),
            _ => true,
        }
    }
}
