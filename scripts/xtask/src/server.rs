//! A server beside a machine that has a bundle to fetch, at an address that the machine is told by its overlay.

use crate::bundles;
use crate::door;
use crate::steps::{Gives, MakeBundle};
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write, copy};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// This host, as a machine reaches it by QEMU's network.
pub const HOST: &str = "10.0.2.2";

/// So many bytes a second are slow, and more than a machine gives up at.
const TRICKLE: u64 = 1024;

/// The server.
pub struct Server {
    port: u16,
    gives: Arc<Mutex<Gives>>,
}

impl Server {
    /// Has a bundle made of an image beside the scenario's own, and serves it from then on.
    pub fn begin(folder: &Path, images: &Path, bundle: &MakeBundle) -> Result<Self> {
        let path = bundles::one(&door::program(), images, folder, 0, bundle)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let (port, gives) = (listener.local_addr()?.port(), Arc::new(Mutex::new(Gives::Whole)));
        let now = gives.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A machine that reads the head only goes away; one that waits would say so.
                let _ = answer(stream, &path, || *now.lock().unwrap_or_else(PoisonError::into_inner));
            }
        });
        Ok(Self { port, gives })
    }

    /// What a person writes into `bakelite.yaml` for it.
    pub fn overlay(&self) -> String {
        format!("update: {{from: 'http://{HOST}:{}/shop.bundle'}}\n", self.port)
    }

    /// What it gives from now on.
    pub fn gives(&self, gives: Gives) {
        *self.gives.lock().unwrap_or_else(PoisonError::into_inner) = gives;
    }
}

fn answer(mut stream: TcpStream, path: &Path, gives: impl Fn() -> Gives) -> Result<()> {
    let mut asked = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while asked.read_line(&mut line)? > 2 {
        line.clear();
    }
    let mut file = File::open(path).context("opening the bundle")?;
    let length = file.metadata()?.len();
    let given = match gives() {
        Gives::Nothing => {
            return Ok(stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?);
        }
        Gives::Half | Gives::Slowly => length / 2,
        Gives::Whole => length,
    };
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")?;
    copy(&mut (&mut file).take(given), &mut stream)?;
    while gives() == Gives::Slowly {
        copy(&mut (&mut file).take(TRICKLE), &mut stream)?;
        std::thread::sleep(Duration::from_secs(1));
    }
    if gives() == Gives::Whole {
        copy(&mut file, &mut stream)?;
    }
    Ok(())
}
