//! Terminals: serial devices as plain byte pipes.

use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::os::fd::AsFd;

/// Has a serial device pass bytes unchanged; what is no terminal passes them anyway.
pub fn make_raw(device: impl AsFd) {
    if let Ok(mut settings) = tcgetattr(&device) {
        settings.make_raw();
        let _ = tcsetattr(&device, OptionalActions::Now, &settings);
    }
}
