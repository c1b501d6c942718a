//! `agent`: asks the server until it answers, checks the CA against a full token, says ready, and imports archives.
//! k3s's agent resolves names; a static binary can't, so the server must be a literal address.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

use crate::config::Settings;
use crate::error::Error;
use crate::habits::Habits;
use crate::images::{self, Images};
use crate::paths::{Root, make_directory};
use crate::run::{End, announce_ready, die, touch_memory};
use crate::stop::Stop;
use crate::token;

const PATIENCE: Duration = Duration::from_secs(10);

/// One start, from settings to exit.
pub fn run(settings: &Settings, root: &Root, habits: &Habits, stop: &Stop) -> Result<End, Error> {
    let token = match (settings.text("token"), settings.text("token-file")) {
        (Some(token), _) => token,
        (None, Some(path)) => {
            let path = root.at(path);
            std::fs::read_to_string(&path).map_err(|source| Error::Read { path, source })?
        }
        (None, None) => return Err(Error::MissingFlag("--token")),
    };
    let url = settings.text("server").ok_or(Error::MissingFlag("--server"))?;
    let address = literal(&url)?;
    let data = root.at(settings.data_dir());
    make_directory(&data.join("agent/images"))?;
    while let Err(reason) = join(address, &token) {
        log::info!("Waiting to retrieve agent configuration; server is not ready: {reason}");
        if stop.wait(Duration::from_secs(2)) {
            return Ok(End::Stopped);
        }
    }
    let _held = touch_memory();
    if stop.wait(Duration::from_secs(habits.slow_start())) {
        return Ok(End::Stopped);
    }
    announce_ready();
    live(&data, habits, stop)
}

fn live(data: &Path, habits: &Habits, stop: &Stop) -> Result<End, Error> {
    match habits.death() {
        Some(_) if stop.wait(Duration::from_secs(1)) => Ok(End::Stopped),
        Some(habit) => die(habit),
        None => {
            images::run(&data.join("agent/images"), &Images::default(), stop);
            Ok(End::Stopped)
        }
    }
}

fn literal(url: &str) -> Result<SocketAddr, Error> {
    let authority = url.strip_prefix("https://").map(|rest| rest.trim_end_matches('/'));
    authority.and_then(|text| text.parse().ok()).ok_or_else(|| Error::ServerAddress(url.to_owned()))
}

/// The server's CA, and with a full token the proof that it is the right one.
fn join(address: SocketAddr, token: &str) -> Result<(), String> {
    let authority = fetch(address, "/cacerts").map_err(|error| error.to_string())?;
    match token::ca_hash(token) {
        Some(hash) if hash != token::sha256_hex(&authority) => Err(format!(
            "token CA hash does not match the Cluster CA certificate hash: {hash} != {}",
            token::sha256_hex(&authority)
        )),
        _ => Ok(()),
    }
}

fn fetch(address: SocketAddr, page: &str) -> std::io::Result<Vec<u8>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(std::io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TrustOnFirstUse(provider)))
        .with_no_client_auth();
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let name = ServerName::from(address.ip());
    let connection = ClientConnection::new(Arc::new(config), name).map_err(std::io::Error::other)?;
    let mut tls = StreamOwned::new(connection, stream);
    write!(tls, "GET {page} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut response = Vec::new();
    tls.read_to_end(&mut response)?;
    let body = response.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
    match body {
        Some(at) if response.starts_with(b"HTTP/1.1 200 ") => Ok(response.split_off(at)),
        _ => Err(std::io::Error::other("the server's answer isn't 200")),
    }
}

/// k3s's first request to a server it knows nothing of: the certificate is checked afterwards, against the token.
#[derive(Debug)]
struct TrustOnFirstUse(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustOnFirstUse {
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
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_literal_addresses() {
        assert_eq!(literal("https://10.0.0.1:6443/").unwrap().to_string(), "10.0.0.1:6443");
        assert!(literal("https://[fd00::1]:6443").is_ok());
        assert!(literal("https://server:6443").is_err() && literal("10.0.0.1:6443").is_err());
    }
}
