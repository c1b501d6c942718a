//! Terminals: serial devices as plain byte pipes, and shells on them.

use crate::SysError;
use rustix::fs::{Mode, OFlags};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Has a serial device pass bytes unchanged; what is no terminal passes them anyway.
pub fn make_raw(device: impl AsFd) {
    if let Ok(mut settings) = tcgetattr(&device) {
        settings.make_raw();
        let _ = tcsetattr(&device, OptionalActions::Now, &settings);
    }
}

/// Opens a terminal for a shell.
///
/// # Errors
/// When there is no such device.
pub fn open(device: &Path) -> Result<OwnedFd, SysError> {
    rustix::fs::open(device, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())
        .and_then(|fd| {
            // Opened without waiting for carrier; the shell itself wants to wait for what is typed.
            let flags = rustix::fs::fcntl_getfl(&fd)?;
            rustix::fs::fcntl_setfl(&fd, flags - OFlags::NONBLOCK)?;
            Ok(fd)
        })
        .map_err(|error| SysError::Device { act: "opening a terminal", path: device.into(), source: error.into() })
}
