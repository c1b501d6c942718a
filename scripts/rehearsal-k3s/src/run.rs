//! What server and agent share: ways to end, the ready message, memory to touch, and the habits that strike at the start.

use crate::error::Error;
use crate::habits::{Habit, Habits};
use crate::notify;
use crate::stop::Stop;

/// How a start ended that wasn't refused. Both are exit status 0 (k3s.md 2.6: the status is no health signal).
#[derive(Debug)]
pub enum End {
    Stopped,
    /// k3s's last words when one of its parts died.
    ShutdownRequested(String),
}

/// `READY=1` and the log line, once.
pub fn announce_ready() {
    log::info!("rehearsal is up and running");
    if let Some(socket) = std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty())
        && let Err(error) = notify::ready(&socket)
    {
        log::error!("Failed to notify the supervisor: {error}");
    }
}

/// The end of a habit that strikes a second after ready.
pub fn die(habit: Habit) -> Result<End, Error> {
    const PORT: &str = "controller-manager exited: failed to create listener: failed to listen on 127.0.0.1:10257: listen tcp 127.0.0.1:10257: bind: address already in use";
    match habit {
        Habit::DieAfterReady => Err(Error::Habit(PORT.to_owned())),
        Habit::PortTaken => Ok(End::ShutdownRequested(PORT.to_owned())),
        _ => Ok(End::ShutdownRequested("containerd exited: signal: killed".to_owned())),
    }
}

/// `REHEARSAL_MEMORY=350M`, or `rehearsal.memory=350M` on the kernel command line: that much, touched and held.
pub fn touch_memory() -> Vec<u8> {
    let command_line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let on_command_line = command_line.split_whitespace().find_map(|word| word.strip_prefix("rehearsal.memory="));
    let asked = std::env::var("REHEARSAL_MEMORY").ok().or_else(|| on_command_line.map(String::from));
    let bytes = asked.and_then(|text| size(&text)).unwrap_or(0);
    let mut held = vec![0_u8; bytes];
    for page in held.chunks_mut(4096) {
        page[0] = std::hint::black_box(1);
    }
    held
}

fn size(text: &str) -> Option<usize> {
    let (number, unit) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(number) => (number, &text[number.len()..]),
        None => (text, ""),
    };
    let scale = match unit {
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => 1,
    };
    number.parse::<usize>().ok()?.checked_mul(scale)
}

/// Habits that strike before anything is done; `Some` is the end.
pub fn misbehave_at_start(habits: &Habits, stop: &Stop) -> Option<Result<End, Error>> {
    stop.ignore_signals(habits.has(Habit::IgnoreSigterm));
    if habits.has(Habit::CrashLoop) {
        let words = "failed to find host-local: exec: \"host-local\": executable file not found in $PATH";
        return Some(Err(Error::Habit(words.to_owned())));
    }
    if habits.has(Habit::WrongToken) {
        return Some(Err(Error::OtherToken.in_bootstrap()));
    }
    if habits.has(Habit::HangAtStart) {
        stop.wait_for_ever();
        return Some(Ok(End::Stopped));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("350M"), Some(350 << 20));
        assert_eq!(size("12"), Some(12));
        assert_eq!(size("M"), None);
        assert_eq!(size("99999999999G"), None);
    }
}
