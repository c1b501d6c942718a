//! A machine for the stand-in to run on: a temporary root, without privilege, and a notify socket that the test owns.

#![expect(clippy::disallowed_methods, reason = "a test of a program from outside has to start it")]
#![expect(clippy::unwrap_used, reason = "test helpers: what fails here fails the test")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

/// A root of its own, a notify socket and a free port.
pub struct Machine {
    pub root: tempfile::TempDir,
    pub notify: UnixDatagram,
    pub port: u16,
}

/// A started stand-in; killed when dropped.
pub struct Running {
    pub child: Child,
    log: PathBuf,
}

impl Machine {
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let notify = UnixDatagram::bind(root.path().join("notify")).unwrap();
        notify.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let machine = Self { root, notify, port };
        machine.put("etc/rancher/k3s/config.yaml", &format!("https-listen-port: {port}\n"));
        machine
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn server(&self, name: &str) -> PathBuf {
        self.path("var/lib/rancher/k3s/server").join(name)
    }

    pub fn put(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    pub fn start_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Running {
        let log = self.path("log");
        let child = Command::new(env!("CARGO_BIN_EXE_rehearsal-k3s"))
            .args(arguments)
            .arg("--root")
            .arg(self.root.path())
            .env("NOTIFY_SOCKET", self.path("notify"))
            .env("REHEARSAL_PACE", "0.02")
            .envs(environment.iter().copied())
            .stderr(File::create(&log).unwrap())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Running { child, log }
    }

    pub fn start(&self, token: &str) -> Running {
        let token = format!("--token={token}");
        self.start_with(&["server", "--disable-agent", &token], &[])
    }

    pub fn wait_ready(&self, running: &Running) {
        let mut buffer = [0; 64];
        let length = self.notify.recv(&mut buffer).unwrap_or_else(|error| panic!("{error}: {}", running.words()));
        assert_eq!(&buffer[..length], b"READY=1");
    }

    /// With its -wal, through SQLite.
    pub fn revision(&self) -> i64 {
        let database =
            Connection::open_with_flags(self.server("db/state.db"), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        database.busy_timeout(Duration::from_secs(5)).unwrap();
        database.query_row("SELECT MAX(id) FROM kine", [], |row| row.get(0)).unwrap()
    }

    pub fn get(&self, page: &str) -> String {
        fetch(self.port, page, Arc::new(Anyone)).unwrap()
    }
}

impl Running {
    pub fn words(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub fn status_within(&mut self, time: Duration) -> Option<i32> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status.code().unwrap_or(-1));
            }
            sleep(Duration::from_millis(10));
        }
        None
    }

    pub fn status(&mut self) -> i32 {
        self.status_within(Duration::from_secs(20)).unwrap_or_else(|| panic!("still running: {}", self.words()))
    }

    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.status(), 0, "{}", self.words());
        assert!(self.words().contains("Closing database connections..."), "{}", self.words());
    }

    pub fn wait_for(&self, text: &str) {
        let end = Instant::now() + Duration::from_secs(20);
        while !self.words().contains(text) {
            assert!(Instant::now() < end, "no {text} in {}", self.words());
            sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Ends with exit status 1 and these words on its fatal line.
pub fn refused(mut running: Running, words: &str) {
    assert_eq!(running.status(), 1, "{}", running.words());
    let text = running.words();
    assert!(text.lines().any(|line| line.contains("level=fatal") && line.contains(words)), "no {words} in {text}");
}

pub fn fetch(port: u16, page: &str, verifier: Arc<dyn ServerCertVerifier>) -> std::io::Result<String> {
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut tls = StreamOwned::new(connection, TcpStream::connect(("127.0.0.1", port))?);
    write!(tls, "GET {page} HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let mut text = String::new();
    tls.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    Ok(body.to_owned())
}

#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

pub fn unpack(archive: &Path, to: &Path) {
    let bytes = zstd::decode_all(File::open(archive).unwrap()).unwrap();
    let mut tar = Command::new("tar").arg("-xC").arg(to).stdin(Stdio::piped()).spawn().unwrap();
    tar.stdin.take().unwrap().write_all(&bytes).unwrap();
    assert!(tar.wait().unwrap().success());
}
