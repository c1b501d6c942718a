//! Terminals and what stands for them: serial devices as plain byte pipes, and the standard output of a command.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{Read, Write, stdin, stdout};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

/// Has a serial device pass bytes unchanged; what is no terminal passes them anyway.
pub fn make_raw(device: impl AsFd) {
    if let Ok(mut settings) = tcgetattr(&device) {
        settings.make_raw();
        let _ = tcsetattr(&device, OptionalActions::Now, &settings);
    }
}

/// Writes to the standard output; false when nobody reads it any more, which is no error of the command's.
pub fn print(text: &str) -> bool {
    let mut output = stdout().lock();
    output.write_all(text.as_bytes()).and_then(|()| output.flush()).is_ok()
}

/// Waits for a time, or until nobody reads the standard output any more; whether that came.
pub fn wait_unless_left(time: Duration) -> bool {
    let limit = Timespec { tv_sec: time.as_secs().cast_signed(), tv_nsec: time.subsec_nanos().into() };
    // Nothing is asked for: a closed end is told of all the same.
    let output = stdout();
    poll(&mut [PollFd::new(&output, PollFlags::empty())], Some(&limit)).is_ok_and(|ready| ready > 0)
}

/// Asks a person for a line; `None` where nobody sits there.
pub fn ask(question: &str) -> Option<String> {
    if !rustix::termios::isatty(stdin()) || !print(question) {
        return None;
    }
    let mut line = String::new();
    stdin().read_line(&mut line).ok().filter(|length| *length > 0)?;
    Some(line.trim().to_string())
}

/// Waits until a person has typed a line at one of some terminals; `None` where none of them can be read.
pub fn first_line(terminals: &[PathBuf]) -> Option<String> {
    let mut open: Vec<File> = terminals.iter().filter_map(|path| File::open(path).ok()).collect();
    while !open.is_empty() {
        let mut asked: Vec<PollFd<'_>> = open.iter().map(|file| PollFd::new(file, PollFlags::IN)).collect();
        poll(&mut asked, None).ok()?;
        let ready: Vec<bool> = asked.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut left = Vec::new();
        for (mut file, is_ready) in open.into_iter().zip(ready) {
            if is_ready {
                // A terminal gives whole lines.
                let mut bytes = [0; 256];
                match file.read(&mut bytes) {
                    Ok(length @ 1..) => return Some(String::from_utf8_lossy(&bytes[..length]).trim().to_string()),
                    Ok(_) | Err(_) => continue,
                }
            }
            left.push(file);
        }
        open = left;
    }
    None
}
