//! Port 6443: TLS with the cluster's own certificate and the few unauthenticated answers that a supervisor asks for
//! (k3s.md 2.6). One short-lived thread a connection, few at a time; it reads a request's first line and nothing more.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::error::Error;

const PATIENCE: Duration = Duration::from_secs(10);
const CONNECTIONS: usize = 16;
const STACK: usize = 256 * 1024;
const LONGEST_HEAD: u64 = 16 * 1024;

/// What the answers depend on.
pub struct Answers {
    /// The server CA's file, for /cacerts.
    pub authority: Vec<u8>,
    /// True once READY was sent.
    pub ready: AtomicBool,
}

/// Takes the port, with k3s's words where it is taken.
pub fn listen(address: IpAddr, port: u16) -> Result<TcpListener, Error> {
    TcpListener::bind(SocketAddr::new(address, port)).map_err(|source| {
        let shown = if address.is_unspecified() { String::new() } else { address.to_string() };
        Error::Prepare(Box::new(Error::Listen { address: format!("{shown}:{port}"), source }))
    })
}

/// Answers until the process ends.
pub fn start(
    listener: TcpListener,
    (chain, key): (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>),
    answers: Arc<Answers>,
) -> Result<(), Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => Error::OtherKey,
            other => other.into(),
        })?;
    let config = Arc::new(config);
    let open = Arc::new(AtomicUsize::new(0));
    let accepting = thread::Builder::new().name("listener".into()).stack_size(STACK);
    let accept = move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                thread::sleep(Duration::from_millis(100));
                continue;
            };
            if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS {
                open.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let (config, answers, held) = (config.clone(), answers.clone(), open.clone());
            let answering = thread::Builder::new().name("connection".into()).stack_size(STACK).spawn(move || {
                if let Err(error) = answer(stream, config, &answers) {
                    log::debug!("http: TLS handshake or request error: {error}");
                }
                held.fetch_sub(1, Ordering::Relaxed);
            });
            if answering.is_err() {
                open.fetch_sub(1, Ordering::Relaxed);
            }
        }
    };
    accepting.spawn(accept).map_err(Error::Spawn)?;
    Ok(())
}

fn answer(stream: TcpStream, config: Arc<ServerConfig>, answers: &Answers) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut tls = StreamOwned::new(connection, stream);
    let mut head = BufReader::new((&mut tls).take(LONGEST_HEAD)).lines();
    let request = head.next().transpose()?.unwrap_or_default();
    while head.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    drop(head);
    let (status, body) = respond(&request, answers);
    write!(
        tls,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    tls.write_all(body)?;
    tls.conn.send_close_notify();
    tls.flush()
}

fn respond<'a>(request: &str, answers: &'a Answers) -> (&'static str, &'a [u8]) {
    let mut words = request.split(' ');
    if words.next() != Some("GET") {
        return ("405 Method Not Allowed", b"the rehearsal stand-in answers GET only\n");
    }
    let path = words.next().unwrap_or_default().split('?').next().unwrap_or_default();
    match path {
        "/ping" => ("200 OK", b"pong"),
        "/cacerts" => ("200 OK", &answers.authority),
        "/livez" | "/readyz" if answers.ready.load(Ordering::Relaxed) => ("200 OK", b"ok"),
        "/livez" | "/readyz" => ("503 Service Unavailable", b"starting\n"),
        _ => ("404 Not Found", b"the rehearsal stand-in has no such page\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_few_answers() {
        let answers = Answers { authority: b"CA".to_vec(), ready: AtomicBool::new(false) };
        assert_eq!(respond("GET /ping HTTP/1.1", &answers), ("200 OK", b"pong".as_slice()));
        assert_eq!(respond("GET /cacerts?x=1 HTTP/1.1", &answers).1, b"CA");
        assert!(respond("GET /readyz HTTP/1.1", &answers).0.starts_with("503"));
        answers.ready.store(true, Ordering::Relaxed);
        assert_eq!(respond("GET /livez HTTP/1.1", &answers).1, b"ok");
        assert!(respond("POST /ping HTTP/1.1", &answers).0.starts_with("405"));
        assert!(respond("", &answers).0.starts_with("405"));
        assert!(respond("GET /api HTTP/1.1", &answers).0.starts_with("404"));
    }

    #[test]
    fn a_taken_port_has_k3ss_words() {
        let held = listen(IpAddr::from([127, 0, 0, 1]), 0).unwrap();
        let port = held.local_addr().unwrap().port();
        let words = listen(IpAddr::from([0, 0, 0, 0]), port).unwrap_err().fatal_words();
        assert_eq!(
            words,
            format!(
                "Error: preparing server: failed to start supervisor listener: listen tcp :{port}: bind: address already in use"
            )
        );
    }
}
