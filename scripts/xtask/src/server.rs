//! A server beside a machine that has a bundle to fetch, at an address that the machine is told by its overlay: right there, or
//! by HTTPS under a name that only a proxy knows. The proxy is the same server.

use crate::authority;
use crate::bundles;
use crate::door;
use crate::steps::{Gives, MakeBundle};
use anyhow::{Context, Result};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write, copy};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// This host, as a machine reaches it by QEMU's network.
pub const HOST: &str = "10.0.2.2";

/// The server's name, which no resolver knows (RFC 6761).
const NAME: &str = "updates.test";

/// So many bytes a second are slow, and more than a machine gives up at.
const TRICKLE: u64 = 1024;

/// How a machine reaches it.
#[derive(Clone, Copy)]
pub enum Reached {
    /// At its address, by HTTP.
    Here,
    /// By its name, by HTTPS, through a proxy.
    ByProxy,
}

/// The server.
pub struct Server {
    port: u16,
    reached: Reached,
    gives: Arc<Mutex<Gives>>,
}

/// What it answers with.
struct Answers {
    bundle: PathBuf,
    certified: Arc<ServerConfig>,
    forged: Arc<ServerConfig>,
    gives: Arc<Mutex<Gives>>,
}

impl Server {
    /// Has a bundle made of an image beside the scenario's own, and serves it from then on.
    pub fn begin(folder: &Path, images: &Path, bundle: &MakeBundle, reached: Reached) -> Result<Self> {
        let gives = Arc::new(Mutex::new(Gives::Whole));
        let answers = Answers {
            bundle: bundles::one(&door::program(), images, folder, 0, bundle)?,
            certified: authority::certified(images, NAME)?,
            forged: authority::forged(NAME)?,
            gives: gives.clone(),
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A machine that reads the head only goes away; one that waits would say so.
                let _ = answers.connected(stream);
            }
        });
        Ok(Self { port, reached, gives })
    }

    /// What a person writes into `bakelite.yaml` for it.
    pub fn overlay(&self) -> String {
        let here = format!("http://{HOST}:{}", self.port);
        match self.reached {
            Reached::Here => format!("update: {{from: '{here}/shop.bundle'}}\n"),
            Reached::ByProxy => {
                format!("update: {{from: 'https://{NAME}/shop.bundle'}}\nproxy: {{https: '{here}'}}\n")
            }
        }
    }

    /// What it gives from now on.
    pub fn gives(&self, gives: Gives) {
        *self.gives.lock().unwrap_or_else(PoisonError::into_inner) = gives;
    }
}

impl Answers {
    fn gives(&self) -> Gives {
        *self.gives.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who asks a proxy for a connection gets one to this server itself, by its name and for HTTPS (RFC 9110, 9.3.6).
    fn connected(&self, mut stream: TcpStream) -> Result<()> {
        let asked = head(&mut stream)?;
        if !asked.starts_with("CONNECT ") {
            return self.answer(&mut stream);
        }
        if !asked.starts_with(&format!("CONNECT {NAME}:443 ")) {
            return Ok(stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")?);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        let config = if self.gives() == Gives::Forged { &self.forged } else { &self.certified };
        let mut tls = StreamOwned::new(ServerConnection::new(config.clone())?, stream);
        head(&mut tls)?;
        self.answer(&mut tls)?;
        tls.conn.send_close_notify();
        Ok(tls.flush()?)
    }

    fn answer(&self, stream: &mut impl Write) -> Result<()> {
        let mut file = File::open(&self.bundle).context("opening the bundle")?;
        let length = file.metadata()?.len();
        let given = match self.gives() {
            Gives::Nothing => {
                let nothing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                return Ok(stream.write_all(nothing)?);
            }
            Gives::Half | Gives::Slowly => length / 2,
            Gives::Whole | Gives::Forged => length,
        };
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")?;
        copy(&mut (&mut file).take(given), stream)?;
        while self.gives() == Gives::Slowly {
            copy(&mut (&mut file).take(TRICKLE), stream)?;
            std::thread::sleep(Duration::from_secs(1));
        }
        if self.gives() == Gives::Whole {
            copy(&mut file, stream)?;
        }
        Ok(())
    }
}

/// A request's first line, of a head that is read to its end; nobody sends more before there is an answer.
fn head(stream: &mut impl Read) -> Result<String> {
    let mut asked = BufReader::new(stream).lines();
    let first = asked.next().context("nothing was asked")??;
    for line in asked {
        if line?.is_empty() {
            break;
        }
    }
    Ok(first)
}
