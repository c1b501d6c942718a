//! Gets a file from a mirror: over http or https, from a `file:` address or a folder.
//!
//! Streams into whatever the caller writes to and judges nothing: size and hash are the cache's. Transport errors and
//! a server's passing troubles are tried again twice; a download is never resumed, so that no two versions of a file
//! are mixed. Proxies come from the usual variables, certificates from the system. Addresses in errors carry no password.

use std::fs::File;
use std::io::{self, Read};
use std::time::Duration;

use ureq::tls::{RootCerts, TlsConfig};

/// How long a connection, the first answer and each read may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Pauses before the second and the third attempt.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];

/// Something could not be fetched.
#[derive(Debug, thiserror::Error)]
#[error("cannot fetch {url}: {reason}{}", advice(*.passing))]
pub struct FetchError {
    /// The address, without user and password.
    pub url: String,
    /// What happened.
    pub reason: String,
    /// Whether the same request may succeed later.
    pub passing: bool,
    /// Whether the server answered that there is no such file.
    pub absent: bool,
}

fn advice(passing: bool) -> &'static str {
    if passing {
        "; is the network up? Another mirror can be set with --mirror, `mirror:` or BAKELITE_MIRROR"
    } else {
        ""
    }
}

/// A client for all downloads of a build.
#[derive(Debug, Clone)]
pub struct Fetcher {
    agent: ureq::Agent,
    pauses: [Duration; 2],
    patience: Duration,
}

/// A file on its way.
pub struct Incoming {
    /// Its content.
    pub reader: Box<dyn Read + Send>,
    /// Its length in bytes, where the server says.
    pub length: Option<u64>,
}

impl Default for Fetcher {
    fn default() -> Self {
        Self::new(PATIENCE)
    }
}

impl Fetcher {
    /// A client that waits this long for a connection, an answer and each piece of content.
    pub fn new(patience: Duration) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_connect(Some(patience))
            .timeout_recv_response(Some(patience))
            .timeout_per_read(Some(patience))
            .user_agent(concat!("bakelite/", env!("CARGO_PKG_VERSION")))
            .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
            .build();
        Self { agent: config.new_agent(), pauses: PAUSES, patience }
    }

    /// The same client with other pauses between attempts.
    pub fn with_pauses(mut self, pauses: [Duration; 2]) -> Self {
        self.pauses = pauses;
        self
    }

    /// How long a connection, an answer and each piece of content may take.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Opens an address once.
    pub fn open(&self, url: &str) -> Result<Incoming, FetchError> {
        if let Some(path) = local_path(url) {
            return open_local(url, path);
        }
        let body = self.agent.get(url).call().map_err(|error| explain(url, &error))?.into_body();
        let length = body.content_length();
        Ok(Incoming { reader: Box::new(body.into_reader()), length })
    }

    /// Runs a download, again while it fails for a passing reason and attempts are left.
    pub fn attempt<T, E>(
        &self,
        mut download: impl FnMut() -> Result<T, E>,
        passing: impl Fn(&E) -> bool,
    ) -> Result<T, E> {
        for pause in self.pauses {
            match download() {
                Err(error) if passing(&error) => std::thread::sleep(pause),
                done => return done,
            }
        }
        download()
    }

    /// Whether an address answers that it has the file, asked once and without fetching it.
    pub fn answers(&self, url: &str) -> bool {
        match local_path(url) {
            Some(path) => std::path::Path::new(path).is_file(),
            None => self.agent.head(url).call().is_ok(),
        }
    }
}

/// An error for content that ended early or broke off while it was read.
pub(crate) fn broken_off(url: &str, cause: &io::Error) -> FetchError {
    FetchError {
        url: without_password(url),
        reason: format!("the download broke off ({cause})"),
        passing: true,
        absent: false,
    }
}

/// An error for content that comes so slowly that it would never end.
pub(crate) fn too_slow(url: &str, bytes: u64, patience: Duration) -> FetchError {
    FetchError {
        url: without_password(url),
        reason: format!("the server is too slow ({bytes} bytes in {} s)", patience.as_secs()),
        passing: true,
        absent: false,
    }
}

fn local_path(url: &str) -> Option<&str> {
    match url.strip_prefix("file:") {
        Some(path) => Some(path.strip_prefix("//").unwrap_or(path)),
        None => (url.starts_with('/') || url.starts_with('.')).then_some(url),
    }
}

fn open_local(url: &str, path: &str) -> Result<Incoming, FetchError> {
    let opened = File::open(path).and_then(|file| file.metadata().map(|metadata| (metadata.len(), file)));
    match opened {
        Ok((length, file)) => Ok(Incoming { reader: Box::new(file), length: Some(length) }),
        Err(error) => Err(FetchError {
            url: url.to_owned(),
            reason: error.to_string(),
            passing: false,
            absent: error.kind() == io::ErrorKind::NotFound,
        }),
    }
}

fn explain(url: &str, error: &ureq::Error) -> FetchError {
    let (reason, passing) = match error {
        ureq::Error::StatusCode(404 | 410) => ("the server has no such file".to_owned(), false),
        ureq::Error::StatusCode(code @ (429 | 500..=599)) => (format!("the server answered with status {code}"), true),
        ureq::Error::StatusCode(code) => (format!("the server refused with status {code}"), false),
        ureq::Error::HostNotFound => ("the name of the server cannot be resolved".to_owned(), true),
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => ("this is no address".to_owned(), false),
        other => (other.to_string(), true),
    };
    let absent = matches!(error, ureq::Error::StatusCode(404 | 410));
    FetchError { url: without_password(url), reason, passing, absent }
}

/// The address without `user:password@`.
pub(crate) fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Answer, Server};
    use super::*;

    fn quick() -> Fetcher {
        Fetcher::new(Duration::from_secs(5)).with_pauses([Duration::ZERO; 2])
    }

    fn read(url: &str) -> Result<String, FetchError> {
        let fetcher = quick();
        let download = || {
            let mut text = String::new();
            fetcher.open(url)?.reader.read_to_string(&mut text).map_err(|cause| broken_off(url, &cause))?;
            Ok(text)
        };
        fetcher.attempt(download, |error: &FetchError| error.passing)
    }

    #[test]
    fn gets_files_and_follows_redirects() {
        let server = Server::start(|path, _| match path {
            "/a" => Answer::ok("content"),
            "/b" => Answer::redirect("/a"),
            _ => Answer::absent(),
        });
        assert_eq!(read(&server.url("/b")).unwrap(), "content");
        let error = read(&server.url("/c")).unwrap_err();
        assert!(error.absent && !error.passing && error.to_string().contains("/c: the server has no such file"));
        assert!(quick().answers(&server.url("/a")) && !quick().answers(&server.url("/c")));
    }

    #[test]
    fn passing_troubles_are_tried_three_times() {
        let server = Server::start(|_, count| match count {
            1 => Answer { status: 503, ..Answer::ok("") },
            2 => Answer { cut: Some(3), ..Answer::ok("content") },
            _ => Answer::ok("content"),
        });
        assert_eq!(read(&server.url("/a")).unwrap(), "content");
        assert_eq!(server.requests(), 3);
        let stubborn = Server::start(|_, _| Answer { cut: Some(3), ..Answer::ok("content") });
        let error = read(&stubborn.url("/a")).unwrap_err().to_string();
        assert!(error.contains("broke off") && stubborn.requests() == 3, "{error}");
    }

    #[test]
    fn a_mirror_that_is_down_is_named_with_what_to_change() {
        let server = Server::start(|_, _| Answer::absent());
        let url = server.url("/dists/trixie/InRelease");
        drop(server);
        let error = read(&url).unwrap_err().to_string();
        for part in [url.as_str(), "--mirror", "`mirror:`", "BAKELITE_MIRROR"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn local_files_and_passwords() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        crate::host::file::write(&path, b"local").unwrap();
        for prefix in ["", "file:", "file://"] {
            assert_eq!(read(&format!("{prefix}{}", path.display())).unwrap(), "local");
        }
        assert!(read("file:/nonexistent").unwrap_err().absent);
        assert_eq!(without_password("https://me:secret@host.example/a@b"), "https://host.example/a@b");
    }
}
