//! The kernel's own messages (uevents, changed addresses and routes) and the control socket of PID 1.

use crate::SysError;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt, socket, sockopt,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::SocketAddrUnix;
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

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

/// Whether a uevent is of a disk or partition, and not of such as containers and swap make.
pub fn is_of_disk(event: &BTreeMap<String, String>) -> bool {
    let is_virtual = |name: &str| ["loop", "zram", "dm-", "ram", "nbd"].iter().any(|prefix| name.starts_with(prefix));
    event.get("SUBSYSTEM").is_some_and(|subsystem| subsystem == "block")
        && !event.get("DEVNAME").is_some_and(|name| is_virtual(name))
}

/// Waits at most a time until there is something to take from a socket; whether there is.
pub fn wait(socket: &OwnedFd, limit: Duration) -> bool {
    let limit = Timespec { tv_sec: limit.as_secs().cast_signed(), tv_nsec: limit.subsec_nanos().into() };
    poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&limit)).is_ok_and(|ready| ready > 0)
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

/// What a control socket answers to whoever gets what it asks for.
pub const GRANTED: &str = "ok";

/// Asks something of whoever listens on a control socket, and waits at most a time until it is done or begun.
///
/// # Errors
/// When nobody listens there, or the answer is another one or doesn't come in time.
pub fn ask(path: &Path, words: &str, limit: Duration) -> Result<(), SysError> {
    let ask = || -> std::io::Result<()> {
        let socket = rustix::net::socket_with(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::SEQPACKET,
            rustix::net::SocketFlags::CLOEXEC,
            None,
        )?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        rustix::io::write(&socket, words.as_bytes())?;
        let patience = Timespec { tv_sec: limit.as_secs().cast_signed(), tv_nsec: limit.subsec_nanos().into() };
        if poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&patience))? == 0 {
            return Err(std::io::Error::other(format!("no answer in {} s", limit.as_secs())));
        }
        let mut bytes = [0u8; 256];
        let length = rustix::io::read(&socket, &mut bytes)?;
        match String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).as_ref() {
            GRANTED => Ok(()),
            "" => Err(std::io::Error::other("it hung up")),
            why => Err(std::io::Error::other(why)),
        }
    };
    ask().map_err(|source| SysError::Socket { act: "asking over the control socket", source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uevent_is_its_variables() {
        let found = parse_uevent(b"add@/devices/x\0ACTION=add\0MODALIAS=pci:v00=1\0SUBSYSTEM=block\0");
        assert_eq!(found["ACTION"], "add");
        assert_eq!(found["MODALIAS"], "pci:v00=1");
        assert!(parse_uevent(b"").is_empty());
        assert!(is_of_disk(&found));
        for other in ["SUBSYSTEM=usb", "SUBSYSTEM=block\0DEVNAME=zram0", "SUBSYSTEM=block\0DEVNAME=loop7"] {
            assert!(!is_of_disk(&parse_uevent(format!("x\0{other}\0").as_bytes())), "{other}");
        }
    }

    #[test]
    fn whoever_asks_hears_the_answer_and_waits_no_longer_than_it_said() {
        let folder = tempfile::tempdir().unwrap();
        // A socket of its own: a program that another test starts may hold this caller for a moment longer.
        let silent = folder.path().join("silent");
        let _listens = control(&silent).unwrap();
        let silent = ask(&silent, "refit", Duration::from_millis(50)).unwrap_err();
        assert!(crate::words(&silent).ends_with("no answer in 0 s"), "{silent}");
        let path = folder.path().join("control");
        let socket = control(&path).unwrap();
        for (answer, heard) in
            [("ok", ""), ("busy, the machine goes down", "busy, the machine goes down"), ("", "it hung up")]
        {
            let asking = std::thread::spawn({
                let path = path.clone();
                move || ask(&path, "refit", Duration::from_secs(10)).map_err(|error| crate::words(&error))
            });
            poll(&mut [PollFd::new(&socket, PollFlags::IN)], None).unwrap();
            let caller = rustix::net::accept_with(&socket, rustix::net::SocketFlags::CLOEXEC).unwrap();
            rustix::io::read(&caller, &mut [0u8; 256]).unwrap();
            if !answer.is_empty() {
                rustix::io::write(&caller, answer.as_bytes()).unwrap();
            }
            drop(caller);
            let ended = asking.join().unwrap();
            assert!(ended.is_ok() == heard.is_empty() && ended.err().unwrap_or_default().ends_with(heard), "{answer}");
        }
    }
}
