//! Ports of the machine as they are seen from outside, by way of ports of this host that QEMU leads to them.
//!
//! QEMU takes each connection itself, whatever the machine says to it: only bytes that come back show that somebody is
//! there.

use crate::steps::Port;
use anyhow::{Result, bail};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// A free port of this host for each of the machine's.
pub fn for_guest(ports: impl Iterator<Item = u16>) -> Result<BTreeMap<u16, u16>> {
    let mut found = BTreeMap::new();
    // Held until all are found, so that none is found twice.
    let mut listeners = Vec::new();
    for port in ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        found.insert(port, listener.local_addr()?.port());
        listeners.push(listener);
    }
    Ok(found)
}

/// Looks whether a port answers, as it has to.
pub fn look(host: u16, port: &Port) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs_f64(port.within);
    loop {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(100));
        // While the machine gives no answer QEMU keeps the connection; a new one is a new question.
        let limit = if port.answers { left.min(Duration::from_secs(3)) } else { left };
        match (answers(host, limit), port.answers) {
            (true, true) => return Ok(()),
            (true, false) => bail!("port {} answers, and it must not", port.number),
            (false, false) if Instant::now() >= deadline => return Ok(()),
            (false, true) if Instant::now() >= deadline => bail!("port {} does not answer", port.number),
            (false, _) => std::thread::sleep(Duration::from_millis(300)),
        }
    }
}

/// Whether bytes come back within a time. What is said is no TLS and no SSH: both answer that, too.
fn answers(host: u16, limit: Duration) -> bool {
    let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, host)) else { return false };
    let asked = stream.set_read_timeout(Some(limit)).is_ok() && stream.write_all(b"GET / HTTP/1.0\r\n\r\n").is_ok();
    asked && stream.read(&mut [0]).is_ok_and(|length| length > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bytes_are_an_answer() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let host = listener.local_addr().unwrap().port();
        let port = |answers| Port { number: 22, answers, within: 0.3 };
        assert!(look(host, &port(false)).is_ok() && look(host, &port(true)).is_err());
        std::thread::spawn(move || listener.incoming().for_each(|stream| drop(stream.and_then(|mut s| s.write(b"x")))));
        assert!(look(host, &port(false)).is_err() && look(host, &port(true)).is_ok());
    }
}
