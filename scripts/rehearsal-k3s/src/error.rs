//! Every way in which the stand-in gives up, in k3s's words.
//! The display of a variant is the text that k3s logs (k3s.md 2.10 and 11.1, and the last words logged by the run),
//! so that a reader of logs is tested against what it will meet. It must not decide anything: main turns it into an exit status.

use std::io;
use std::path::PathBuf;

/// What stopped the stand-in. `main` puts `Error: ` in front, but for those that k3s logs bare.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("open {}: {}", .path.display(), go_words(.source))]
    Read { path: PathBuf, source: io::Error },
    #[error("write {}: {}", .path.display(), go_words(.source))]
    Write { path: PathBuf, source: io::Error },
    #[error("can not mkdir {}: mkdir {}: {}", .path.display(), .stopped_at.display(), go_words(.source))]
    MakeDirectory { path: PathBuf, stopped_at: PathBuf, source: io::Error },
    /// k3s logs this one without the file's name.
    #[error("yaml: {0}")]
    ParseYaml(String),
    #[error("flag provided but not defined: -{0}")]
    UnknownFlag(String),
    #[error("flag needs an argument: -{0}")]
    MissingValue(String),
    #[error("invalid boolean value \"{value}\" for -{flag}: parse error")]
    ParseBoolean { flag: String, value: String },
    #[error("invalid value \"{value}\" for flag -{flag}: parse error")]
    ParseNumber { flag: String, value: String },
    #[error("{0} is required")]
    MissingFlag(&'static str),
    #[error("server time isn't set properly: {0}")]
    ClockNotSet(String),
    #[error("failed to find {0} cgroup (v2)")]
    FindController(&'static str),
    #[error("pids cgroup controller not found")]
    FindPidsController,
    #[error("no default routes found in \"/proc/net/route\" or \"/proc/net/ipv6_route\"")]
    FindDefaultRoute,
    #[error("failed to normalize server token; must be in format K10<CA-HASH>::<USERNAME>:<PASSWORD> or <PASSWORD>")]
    NormalizeToken,
    #[error("bootstrap data already found and encrypted with different token")]
    OtherToken,
    #[error("cipher: message authentication failed")]
    OpenSealed,
    #[error("failed to read bootstrap data: {0}")]
    ReadBootstrap(#[from] serde_json::Error),
    #[error(
        "{0} newer than datastore and could cause a cluster outage. Remove the file(s) from disk and restart to be recreated from datastore."
    )]
    NewerThanDatastore(String),
    #[error("failed to start controllers: failed to create new server context: stat {}: no such file or directory", .0.display())]
    FindKubeconfig(PathBuf),
    #[error("{0}")]
    Datastore(#[from] rusqlite::Error),
    #[error("creating storage endpoint: starting kine backend: {0}")]
    StartDatastore(#[source] rusqlite::Error),
    #[error("failed to bootstrap cluster data: {0}")]
    Bootstrap(#[source] Box<Error>),
    #[error("preparing server: {0}")]
    Prepare(#[source] Box<Error>),
    #[error("starting kubernetes: failed to start cluster: {0}")]
    StartCluster(#[source] Box<Error>),
    #[error("failed to start supervisor listener: listen tcp {address}: bind: {}", go_words(.source))]
    Listen { address: String, source: io::Error },
    #[error("failed to make a certificate: {0}")]
    Certify(#[from] rcgen::Error),
    #[error("failed to read a certificate of {}: {reason}", .path.display())]
    ReadCertificate { path: PathBuf, reason: String },
    /// Go's crypto/tls, of a file that a pulled plug left without its content.
    #[error("tls: failed to find any PEM data in {0} input")]
    FindPem(&'static str),
    /// The same, of one that was renewed without the other.
    #[error("tls: private key does not match public key")]
    OtherKey,
    #[error("failed to set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("failed to listen for signals: {0}")]
    Signals(#[source] io::Error),
    #[error("failed to start a thread: {0}")]
    Spawn(#[source] io::Error),
    #[error("the server's address must be https://<literal address>:<port>, and is {0}")]
    ServerAddress(String),
    #[error("failed to read random bytes")]
    Random,
    /// A stop was asked for where k3s can't go back.
    #[error("context canceled")]
    Interrupted,
    /// A habit's own last words.
    #[error("{0}")]
    Habit(String),
}

impl Error {
    /// As it stands on the fatal line: k3s puts `Error: ` before what a command returned, and not before what a
    /// controller or the configuration parser logged by itself.
    pub fn fatal_words(&self) -> String {
        match self {
            Self::ParseYaml(_) | Self::FindKubeconfig(_) | Self::NewerThanDatastore(_) => self.to_string(),
            Self::Prepare(inner) | Self::Bootstrap(inner) => {
                let words = inner.fatal_words();
                if words.starts_with("Error: ") { format!("Error: {self}") } else { words }
            }
            _ => format!("Error: {self}"),
        }
    }

    /// Puts k3s's two prefixes of a failed bootstrap in front.
    pub fn in_bootstrap(self) -> Self {
        Self::Prepare(Box::new(Self::Bootstrap(Box::new(self))))
    }
}

/// The text of an operating system's error as Go prints it: no number, no capital.
pub fn go_words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_those_that_were_logged() {
        assert_eq!(
            Error::OtherToken.in_bootstrap().fatal_words(),
            "Error: preparing server: failed to bootstrap cluster data: bootstrap data already found and encrypted with different token"
        );
        let newer = Error::NewerThanDatastore("/a, /b".into()).in_bootstrap().fatal_words();
        assert!(newer.starts_with("/a, /b newer than datastore"), "{newer}");
        assert_eq!(Error::ParseYaml("line 5: x".into()).fatal_words(), "yaml: line 5: x");
        let busy = io::Error::from_raw_os_error(98);
        assert_eq!(
            Error::Prepare(Box::new(Error::Listen { address: ":16443".into(), source: busy })).fatal_words(),
            "Error: preparing server: failed to start supervisor listener: listen tcp :16443: bind: address already in use"
        );
    }
}
