//! What init can't do. At its edge each becomes a [`Fault`]: nothing leaves PID 1 as an error.

use bakelite_disk::DiskError;
use bakelite_spec::fault::{Code, Fault};
use bakelite_sys::{SysError, words};

/// What init can't do.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The system refused something.
    #[error(transparent)]
    System(#[from] SysError),
    /// The medium refused something, or has other bytes than it should.
    #[error("on {disk}")]
    Medium {
        /// The disk's name.
        disk: String,
        /// Why.
        source: DiskError,
    },
    /// Settings baked by the workshop can't be read.
    #[error("understanding {file}")]
    Baked {
        /// The file's name.
        file: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// A known fault, already in a person's words.
    #[error("{}", .0.text)]
    Fault(Fault),
}

impl InitError {
    /// A known fault with this case's words.
    pub fn fault(code: Code, text: impl Into<String>) -> Self {
        Self::Fault(Fault::new(code, text))
    }

    /// The fault for the screen; errors that name none get the given code.
    pub fn into_fault(self, code: Code) -> Fault {
        match self {
            Self::Fault(fault) => fault,
            Self::Baked { .. } => Fault::new(Code::SettingsInvalid, words(&self)),
            _ => Fault::new(code, words(&self)),
        }
    }
}
