//! What firstboot can't do.

use bakelite_keeper::KeeperError;
use bakelite_spec::answer::Ended;
use bakelite_spec::finding::Finding;
use bakelite_sys::SysError;
use std::path::PathBuf;

/// What stopped a pass. init then goes on with the last accepted settings and tries again.
#[derive(Debug, thiserror::Error)]
pub enum FirstbootError {
    /// The argument is none of the passes.
    #[error("`{0}` is not a pass; try early, settle, born, upkeep, report or keeper")]
    UnknownPass(String),
    /// The operator's words mean nothing.
    #[error("`bakelite {0}` means nothing; `bakelite help` shows what can be typed")]
    UnknownWords(String),
    /// No unit of that name has written anything.
    #[error("there is no log of {unit}; there are those of {}. What Bakelite's own programs say is in that of the kernel", all.join(", "))]
    NoSuchLog {
        /// What was asked for.
        unit: String,
        /// What there is.
        all: Vec<String>,
    },
    /// What was asked for isn't there so far.
    #[error("{0}")]
    NotYet(String),
    /// This machine gives out no kubeconfig.
    #[error("there is no kubeconfig on this machine: {0}")]
    NoKubeconfig(String),
    /// The kubeconfig isn't shaped like one of k3s's. Its text is nobody's business.
    #[error(
        "{0} isn't a kubeconfig as k3s writes it; k3s writes it again when it is started: `bakelite logs` says how that went"
    )]
    OddKubeconfig(String),
    /// The node wasn't named.
    #[error("nothing was changed: type the name of this machine, {0}, or `--yes {0}` where nobody sits at a terminal")]
    NotNamed(String),
    /// There is no stick to write to.
    #[error(
        "there is no stick for it: plug in one (FAT, exFAT or ext4) labelled {0}, or with a folder {1}, that isn't mounted; or say `-o FILE` or, for a reset, `--no-backup`"
    )]
    NoStick(&'static str, &'static str),
    /// Which one is meant can't be told.
    #[error("{0} could both be the stick; pull out all but one")]
    Sticks(String),
    /// What is to be written doesn't fit.
    #[error("{} can't be written: it takes {needed}, and {free} are free there", path.display())]
    NoRoom {
        /// Which file.
        path: PathBuf,
        /// What is free.
        free: String,
        /// Its length.
        needed: String,
    },
    /// Anything about backups.
    #[error(transparent)]
    Keeper(#[from] bakelite_keeper::KeeperError),
    /// There are no settings on trial.
    #[error("no settings are being tried; they may have been undone already. Try bakelite config apply FILE")]
    NothingTried,
    /// Settings that a person gave aren't right.
    #[error("{}", lines(.0))]
    Settings(Vec<Finding>),
    /// The baked settings aren't there, or aren't JSON.
    #[error("reading the baked settings from {path}")]
    ReadBaked {
        /// Which file.
        path: String,
        /// Why not.
        source: serde_json::Error,
    },
    /// The report can't be written down.
    #[error("writing the report")]
    WriteReport(#[source] serde_json::Error),
    /// Secrets went away between the look and the act.
    #[error("{path} can't be made without the secrets {}", names.join(", "))]
    MissingSecrets {
        /// The file that refers to them.
        path: String,
        /// Their names.
        names: Vec<String>,
    },
    /// A step wants something done again and again.
    #[error("the step {0} never comes to an end")]
    Endless(&'static str),
    /// A disk that was there a moment ago isn't any more.
    #[error("there is no disk {0} any more")]
    NoDisk(String),
    /// A disk can't be read or written.
    #[error("on {disk}")]
    Disk {
        /// Its name.
        disk: String,
        /// Why.
        source: bakelite_disk::DiskError,
    },
    /// k3s's database can't be read or copied.
    #[error(transparent)]
    Datastore(#[from] bakelite_datastore::DatastoreError),
    /// A set can't be read or unpacked.
    #[error(transparent)]
    Set(#[from] bakelite_datastore::set::SetError),
    /// There is no move to make.
    #[error("k3s's data can't move: {0}")]
    NothingToMove(String),
    /// Nothing is restored or sealed anew.
    #[error("{0}")]
    NotRestored(String),
    /// A bundle isn't taken.
    #[error("{0}")]
    NotUpdated(String),
    /// A bundle's k3s doesn't live with this cluster's database.
    #[error("{bundle} isn't taken: {why}")]
    NotRehearsed {
        /// What names the bundle.
        bundle: String,
        /// Its k3s's last words, and what became of all.
        why: String,
    },
    /// A bundle isn't believed, or isn't whole.
    #[error("the bundle isn't taken")]
    Bundle(#[from] bakelite_trust::bundle::BundleError),
    /// A delta came as it was signed, and doesn't give what was signed.
    #[error(
        "its delta of {0} doesn't give what was signed: the system that runs here isn't any more what it was, most likely by a byte of its medium that went bad; it runs on. Bring the whole bundle"
    )]
    BaseDiffers(String),
    /// A copy isn't what was copied.
    #[error("{0} differs from what was copied")]
    CopyDiffers(String),
    /// Anything with the system.
    #[error(transparent)]
    Sys(#[from] SysError),
}

impl FirstbootError {
    /// How a command of the operator's ends with it.
    pub fn ended(&self) -> Ended {
        match self {
            Self::UnknownWords(_)
            | Self::NotNamed(_)
            | Self::Settings(_)
            | Self::Keeper(KeeperError::Words(_) | KeeperError::Serve(_)) => Ended::Refused,
            Self::NotYet(_) | Self::Keeper(KeeperError::NoCluster) => Ended::NotYet,
            _ => Ended::Badly,
        }
    }
}

fn lines(findings: &[Finding]) -> String {
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
