//! What firstboot can't do.

use bakelite_spec::finding::Finding;
use bakelite_sys::SysError;

/// What stopped a pass. init then goes on with the last accepted settings and tries again.
#[derive(Debug, thiserror::Error)]
pub enum FirstbootError {
    /// The argument is none of the passes.
    #[error("`{0}` is not a pass; try early, settle, born, upkeep, report, facts or plan")]
    UnknownPass(String),
    /// The operator's words mean nothing.
    #[error(
        "`bakelite {0}` means nothing; try bakelite config show [KEY] | edit | apply FILE | confirm | undo, bakelite storage promote | demote, bakelite retry, bakelite backup now | list | verify, bakelite restore SET [--replaces ID] [--dry-run], bakelite rekey [ID], or bakelite facts [--json] | plan"
    )]
    UnknownWords(String),
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
    /// A copy isn't what was copied.
    #[error("{0} differs from what was copied")]
    CopyDiffers(String),
    /// Anything with the system.
    #[error(transparent)]
    Sys(#[from] SysError),
}

fn lines(findings: &[Finding]) -> String {
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
