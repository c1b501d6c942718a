//! k3s's bad habits on a switch: `REHEARSAL_HABITS`, `rehearsal.habits=` on the kernel command line, or the file
//! /etc/rehearsal-habits of the system that it is in, so that a VM test needs no other binary. Each copies a row of k3s.md
//! 11.1 (the README names it). Without a switch there are none. A suffix `@N` limits a habit to the first N starts of a
//! boot, counted below /run.

use std::path::Path;

use crate::error::Error;
use crate::paths::{read_if_there, write};

/// One way to misbehave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    HangAtStart,
    IgnoreSigterm,
    DieAfterReady,
    ExitZeroWithError,
    PingDatabaseLoop,
    /// Seconds before ready.
    SlowStart(u64),
    CrashLoop,
    FullDiskWhileRunning,
    WrongToken,
    PortTaken,
    /// The one workload is never available.
    NoWorkload,
}

/// The habits of this start.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Habits {
    active: Vec<Habit>,
    /// Names that mean nothing here, to be warned of.
    pub unknown: Vec<String>,
}

impl Habits {
    /// From all switches; `start` counts from 1.
    pub fn parse(environment: Option<&str>, file: Option<&str>, command_line: &str, start: u64) -> Self {
        let on_command_line = command_line.split_whitespace().filter_map(|word| word.strip_prefix("rehearsal.habits="));
        let mut habits = Self::default();
        for text in environment.into_iter().chain(file).chain(on_command_line).flat_map(|list| list.split(',')) {
            let text = text.trim();
            let (name, limit) = match text.split_once('@') {
                Some((name, limit)) => (name, limit.parse().ok()),
                None => (text, Some(u64::MAX)),
            };
            match (named(name), limit) {
                (Some(habit), Some(limit)) if start <= limit => habits.active.push(habit),
                (Some(_), Some(_)) => {}
                _ if text.is_empty() => {}
                _ => habits.unknown.push(text.to_owned()),
            }
        }
        habits
    }

    /// True where the habit is on.
    pub fn has(&self, habit: Habit) -> bool {
        self.active.contains(&habit)
    }

    /// The habit, if any, that ends the process a second after ready.
    pub fn death(&self) -> Option<Habit> {
        [Habit::DieAfterReady, Habit::PortTaken, Habit::ExitZeroWithError].into_iter().find(|habit| self.has(*habit))
    }

    /// Seconds to wait before ready.
    pub fn slow_start(&self) -> u64 {
        let waits = self.active.iter().map(|habit| if let Habit::SlowStart(seconds) = habit { *seconds } else { 0 });
        waits.max().unwrap_or(0)
    }

    /// All that are on, for the log.
    pub fn active(&self) -> &[Habit] {
        &self.active
    }
}

fn named(name: &str) -> Option<Habit> {
    Some(match name {
        "hang-at-start" => Habit::HangAtStart,
        "ignore-sigterm" => Habit::IgnoreSigterm,
        "die-after-ready" => Habit::DieAfterReady,
        "exit-zero-with-error" => Habit::ExitZeroWithError,
        "ping-database-loop" => Habit::PingDatabaseLoop,
        "crash-loop" => Habit::CrashLoop,
        "full-disk-while-running" => Habit::FullDiskWhileRunning,
        "wrong-token" => Habit::WrongToken,
        "port-taken" => Habit::PortTaken,
        "no-workload" => Habit::NoWorkload,
        _ => Habit::SlowStart(name.strip_prefix("slow-start=")?.parse().ok()?),
    })
}

/// Counts this start in a file that goes with the boot; gives its number from 1.
pub fn count_start(file: &Path) -> Result<u64, Error> {
    let before = read_if_there(file)?.and_then(|bytes| String::from_utf8(bytes).ok()?.trim().parse().ok()).unwrap_or(0);
    let count = before + 1_u64;
    write(file, format!("{count}\n").as_bytes(), 0o600)?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_switches_and_the_limit() {
        let cmdline = "root=x rehearsal.habits=slow-start=5@2,crash-loop@1 quiet";
        let second = Habits::parse(Some("ignore-sigterm, nonsense,port-taken@x"), None, cmdline, 2);
        assert_eq!(second.active(), [Habit::IgnoreSigterm, Habit::SlowStart(5)]);
        assert_eq!(second.unknown, ["nonsense", "port-taken@x"]);
        assert_eq!(second.slow_start(), 5);
        assert!(Habits::parse(None, None, cmdline, 1).has(Habit::CrashLoop));
        assert_eq!(Habits::parse(None, None, cmdline, 3).active(), []);
        assert_eq!(Habits::parse(Some(""), None, "quiet", 1), Habits::default());
        assert!(Habits::parse(None, Some("wrong-token\n"), "quiet", 1).has(Habit::WrongToken));
    }

    #[test]
    fn starts_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("run/rehearsal-starts");
        assert_eq!((count_start(&file).unwrap(), count_start(&file).unwrap()), (1, 2));
    }
}
