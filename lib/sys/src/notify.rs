//! Readiness messages (sd_notify): the receiver in PID 1 and the sender in its programs.
//!
//! Only what the kernel itself says about the sender counts (SCM_CREDENTIALS); a message is lines of `KEY=VALUE`.

use crate::SysError;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

/// What a program says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// READY=1.
    Ready,
    /// STATUS=…
    Status(String),
    /// WATCHDOG=1.
    Alive,
}

/// Makes the socket that programs send to; root only.
///
/// # Errors
/// When it can't be made at this path.
pub fn listen(path: &Path) -> Result<OwnedFd, SysError> {
    let failed = |source: std::io::Error| SysError::Socket { act: "making the socket for readiness", source };
    crate::durable::remove_file(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let make = || -> rustix::io::Result<OwnedFd> {
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        rustix::net::sockopt::set_socket_passcred(&socket, true)?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
        rustix::fs::chmod(path, rustix::fs::Mode::from_raw_mode(0o600))?;
        Ok(socket)
    };
    make().map_err(|error| failed(error.into()))
}

/// Takes one datagram: the sender's process and what it says. `None` when there is none left.
pub fn receive(socket: &OwnedFd) -> Option<(u32, Vec<Message>)> {
    let mut bytes = [0u8; 2048];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let got = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        .ok()?;
    let sender = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmCredentials(who) => Some(who.pid.as_raw_nonzero().get().unsigned_abs()),
        _ => None,
    });
    Some((sender.unwrap_or(0), parse(bytes.get(..got.bytes).unwrap_or_default())))
}

fn parse(bytes: &[u8]) -> Vec<Message> {
    String::from_utf8_lossy(bytes)
        .lines()
        .filter_map(|line| match line.split_once('=')? {
            ("READY", "1") => Some(Message::Ready),
            ("WATCHDOG", "1") => Some(Message::Alive),
            ("STATUS", text) => Some(Message::Status(text.chars().filter(|c| !c.is_control()).take(200).collect())),
            _ => None,
        })
        .collect()
}

/// Says something to whoever started this program; without NOTIFY_SOCKET there is nobody.
///
/// # Errors
/// When there is a receiver and it can't be reached.
pub fn send(text: &str) -> Result<(), SysError> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let failed = |source| SysError::Socket { act: "saying that it is ready", source };
    let socket = std::os::unix::net::UnixDatagram::unbound().map_err(failed)?;
    socket.send_to(text.as_bytes(), path).map(drop).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_comes_with_its_senders_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = listen(&path).unwrap();
        assert_eq!(receive(&socket), None);
        let sender = std::os::unix::net::UnixDatagram::unbound().unwrap();
        sender.send_to(b"STATUS=copying\x07 12 %\nREADY=1\nFOO=1\n=\nx", &path).unwrap();
        let said = vec![Message::Status("copying 12 %".into()), Message::Ready];
        assert_eq!(receive(&socket), Some((std::process::id(), said)));
    }
}
