//! The kernel's own messages (uevents, changed addresses and routes) and the control socket of PID 1.

use crate::SysError;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt, socket, sockopt,
};
use rustix::net::SocketAddrUnix;
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// Groups of rtnetlink.h: links, IPv4 and IPv6 addresses and routes, as bits.
const NETWORK_GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;

fn netlink(protocol: SockProtocol, groups: u32, act: &'static str) -> Result<OwnedFd, SysError> {
    let failed = |error: nix::Error| SysError::Socket { act, source: error.into() };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol).map_err(failed)?;
    // A burst of cold-plugged devices must not overflow it; the kernel only charges what is queued.
    setsockopt(&socket, sockopt::RcvBufForce, &(1 << 20)).map_err(failed)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups)).map_err(failed)?;
    Ok(socket)
}

/// Listens for devices that come and go.
///
/// # Errors
/// When the socket can't be made.
pub fn uevents() -> Result<OwnedFd, SysError> {
    netlink(SockProtocol::NetlinkKObjectUEvent, 1, "listening for devices")
}

/// Listens for changes of links, addresses and routes.
///
/// # Errors
/// When the socket can't be made.
pub fn network_changes() -> Result<OwnedFd, SysError> {
    netlink(SockProtocol::NetlinkRoute, NETWORK_GROUPS, "listening for addresses")
}

/// Takes one uevent as its variables; `None` when there is none left. Lost ones (ENOBUFS) show as an empty map.
pub fn receive_uevent(socket: &OwnedFd) -> Option<BTreeMap<String, String>> {
    let mut bytes = [0u8; 4096];
    match recv(socket.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
        Ok(length) => Some(parse_uevent(bytes.get(..length).unwrap_or_default())),
        Err(nix::Error::ENOBUFS) => Some(BTreeMap::new()),
        Err(_) => None,
    }
}

fn parse_uevent(bytes: &[u8]) -> BTreeMap<String, String> {
    bytes
        .split(|byte| *byte == 0)
        .skip(1)
        .filter_map(|line| {
            let line = String::from_utf8_lossy(line);
            line.split_once('=').map(|(name, value)| (name.to_string(), value.to_string()))
        })
        .collect()
}

/// Empties a socket of wake-ups whose content doesn't matter; whether there was any.
pub fn drain(socket: &OwnedFd) -> bool {
    let mut bytes = [0u8; 4096];
    let mut any = false;
    while matches!(recv(socket.as_raw_fd(), &mut bytes, MsgFlags::empty()), Ok(1..) | Err(nix::Error::ENOBUFS)) {
        any = true;
    }
    any
}

/// Makes the control socket: SEQPACKET, root only.
///
/// # Errors
/// When it can't be made at this path.
pub fn control(path: &Path) -> Result<OwnedFd, SysError> {
    crate::durable::remove_file(path)?;
    let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
    let make = || -> rustix::io::Result<OwnedFd> {
        let socket = rustix::net::socket_with(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::SEQPACKET,
            flags,
            None,
        )?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
        rustix::fs::chmod(path, rustix::fs::Mode::from_raw_mode(0o600))?;
        rustix::net::listen(&socket, 8)?;
        Ok(socket)
    };
    make().map_err(|error| SysError::Socket { act: "making the control socket", source: error.into() })
}

/// Takes the next caller of a control socket whose user is root; others are sent away. `None` when nobody waits.
pub fn accept_root(socket: &OwnedFd) -> Option<OwnedFd> {
    let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
    let caller = rustix::net::accept_with(socket, flags).ok()?;
    let who = rustix::net::sockopt::socket_peercred(&caller).ok()?;
    who.uid.is_root().then_some(caller)
}

/// Asks something of whoever listens on a control socket; the answer isn't waited for.
///
/// # Errors
/// When nobody listens there.
pub fn ask(path: &Path, words: &str) -> Result<(), SysError> {
    let ask = || -> rustix::io::Result<()> {
        let socket = rustix::net::socket_with(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::SEQPACKET,
            rustix::net::SocketFlags::CLOEXEC,
            None,
        )?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        rustix::io::write(&socket, words.as_bytes()).map(drop)
    };
    ask().map_err(|error| SysError::Socket { act: "asking over the control socket", source: error.into() })
}

#[cfg(test)]
mod tests {
    use super::parse_uevent;

    #[test]
    fn a_uevent_is_its_variables() {
        let found = parse_uevent(b"add@/devices/x\0ACTION=add\0MODALIAS=pci:v00=1\0SUBSYSTEM=block\0");
        assert_eq!(found["ACTION"], "add");
        assert_eq!(found["MODALIAS"], "pci:v00=1");
        assert!(parse_uevent(b"").is_empty());
    }
}
