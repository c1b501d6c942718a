//! What root can ask of PID 1: one message a call on the control socket, one answer once it was done or begun.
//!
//! Messages are words: `start NAME`, `stop NAME`, `restart NAME`, `refit`, `try`, `stop-workloads`, `reboot`, `poweroff`.

use crate::shutdown::Action;
use crate::supervise::Ask;
use bakelite_sys::socket;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::OwnedFd;

/// How long a caller may take to say what it wants.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// The answer to whoever gets what it wants; anything else says why not.
pub const GRANTED: &str = socket::GRANTED;

/// What a caller wants.
#[derive(Debug, PartialEq, Eq)]
pub enum Wish {
    /// Something of the units.
    Units(Ask),
    /// The payload, its pods and their mounts to end while the machine stays up.
    StopWorkloads,
    /// The machine to go down.
    Down(Action),
}

/// Reads what a caller wants.
///
/// # Errors
/// The answer for one that wants nothing known.
pub fn read(caller: &OwnedFd) -> Result<Wish, String> {
    let mut bytes = [0u8; 256];
    let _ = poll(&mut [PollFd::new(caller, PollFlags::IN)], Some(&PATIENCE));
    let length = rustix::io::read(caller, &mut bytes).map_err(|error| format!("nothing was said: {error}"))?;
    parse(&String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()))
}

/// Answers a caller; one that is gone doesn't mind.
pub fn answer(caller: &OwnedFd, text: &str) {
    let _ = rustix::io::write(caller, text.as_bytes());
}

fn parse(text: &str) -> Result<Wish, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    match words[..] {
        ["start", name] => Ok(Wish::Units(Ask::Start(name.into()))),
        ["stop", name] => Ok(Wish::Units(Ask::Stop(name.into()))),
        ["restart", name] => Ok(Wish::Units(Ask::Restart(name.into()))),
        ["try"] => Ok(Wish::Units(Ask::Try)),
        ["refit"] => Ok(Wish::Units(Ask::Refit)),
        ["stop-workloads"] => Ok(Wish::StopWorkloads),
        ["reboot"] => Ok(Wish::Down(Action::Reboot)),
        ["poweroff"] => Ok(Wish::Down(Action::PowerOff)),
        _ => Err(format!("not known: {}", text.trim())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_wishes() {
        assert_eq!(parse("restart k3s\n"), Ok(Wish::Units(Ask::Restart("k3s".into()))));
        assert_eq!(parse("try"), Ok(Wish::Units(Ask::Try)));
        assert_eq!(parse("poweroff"), Ok(Wish::Down(Action::PowerOff)));
        for text in ["", "restart", "restart a b", "reboot now", "\u{fffd}"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
