//! The one door to child processes: tools that run to their end with captured output, and units that are let go.
//!
//! A tool has a time-out and never inherits a terminal. Its output is kept for the error; nothing is shown here.

use crate::{SysError, raw};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The PATH of every child: k3s needs sbin folders (k3s.md 2.6).
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Bytes of a tool's output that are kept.
const OUTPUT: usize = 64 << 10;

/// How a tool ended.
#[derive(Debug)]
pub struct Ended {
    /// The command line, for messages.
    pub command: String,
    /// The exit status; `None` for a signal.
    pub status: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether it was ended because it took too long.
    pub timed_out: bool,
    /// What it wrote to both outputs, at most the first 64 KiB.
    pub output: Vec<u8>,
}

impl Ended {
    /// The output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }

    /// The end as an error with the last lines of output.
    pub fn into_error(self) -> SysError {
        let ended = match (self.timed_out, self.status, self.signal) {
            (true, _, _) => "took too long".into(),
            (_, Some(status), _) => format!("exit status {status}"),
            (_, _, signal) => format!("signal {}", signal.unwrap_or(0)),
        };
        let text = self.text();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let output = lines[lines.len().saturating_sub(4)..].join(" / ");
        SysError::Tool { command: self.command, ended, output }
    }
}

#[expect(clippy::disallowed_methods, reason = "the door itself")]
fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", PATH).env("HOME", "/root").env("LC_ALL", "C").current_dir("/");
    raw::unblock_signals(&mut command);
    command
}

/// Runs a tool to its end and returns how it ended, whatever the exit status.
///
/// # Errors
/// When it can't be started or waited for.
pub fn run(program: &str, arguments: &[&str], limit: Duration) -> Result<Ended, SysError> {
    let start = |source| SysError::Start { program: program.into(), source };
    let (reader, writer) = std::io::pipe().map_err(start)?;
    let mut command = command(program, arguments);
    command.stdin(Stdio::null()).stdout(writer.try_clone().map_err(start)?).stderr(writer);
    let mut child = command.spawn().map_err(start)?;
    drop(command);
    let deadline = Instant::now() + limit;
    let (output, timed_out) = read_until(reader, deadline);
    if timed_out {
        child.kill().map_err(start)?;
    }
    let status = child.wait().map_err(start)?;
    let command = [&[program], arguments].concat().join(" ");
    Ok(Ended { command, status: status.code(), signal: status.signal(), timed_out, output })
}

/// Runs a tool that has to end with status 0.
///
/// # Errors
/// When it ends in another way.
pub fn must(program: &str, arguments: &[&str], limit: Duration) -> Result<Ended, SysError> {
    let ended = run(program, arguments, limit)?;
    if ended.status == Some(0) && !ended.timed_out { Ok(ended) } else { Err(ended.into_error()) }
}

fn read_until(mut reader: std::io::PipeReader, deadline: Instant) -> (Vec<u8>, bool) {
    let mut output = Vec::new();
    let mut chunk = [0u8; 4096];
    loop {
        let Some(left) = deadline.checked_duration_since(Instant::now()) else { return (output, true) };
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) as _ };
        match poll(&mut [PollFd::new(&reader, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return (output, true),
            Ok(_) => match reader.read(&mut chunk) {
                Ok(0) => return (output, false),
                Ok(length) => {
                    let room = OUTPUT.saturating_sub(output.len());
                    output.extend_from_slice(&chunk[..length.min(room)]);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return (output, false),
            },
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return (output, false),
        }
    }
}

/// How a unit's process is started.
pub struct Start<'a> {
    /// Program and arguments.
    pub command: &'a [String],
    /// Variables besides PATH and HOME.
    pub environment: &'a BTreeMap<String, String>,
    /// Where both outputs go; `None` for nowhere.
    pub output: Option<OwnedFd>,
    /// An open `cgroup.procs`, entered before exec.
    pub cgroup: Option<OwnedFd>,
    /// The limit of open files.
    pub open_files: Option<u64>,
    /// oom_score_adj.
    pub oom_score: i16,
}

/// Starts a unit's process in a session of its own and lets it go: whoever starts it reaps it.
///
/// # Errors
/// When it can't be started.
pub fn spawn(start: Start<'_>) -> Result<u32, SysError> {
    let Some((program, arguments)) = start.command.split_first() else {
        return Err(SysError::Start { program: String::new(), source: std::io::ErrorKind::InvalidInput.into() });
    };
    let failed = |source| SysError::Start { program: program.clone(), source };
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut command = command(program, &arguments);
    command.env_remove("LC_ALL").envs(start.environment);
    command.stdin(Stdio::null());
    match start.output {
        Some(output) => command.stdout(output.try_clone().map_err(failed)?).stderr(output),
        None => command.stdout(Stdio::null()).stderr(Stdio::null()),
    };
    raw::prepare(
        &mut command,
        raw::Preparation { cgroup: start.cgroup, open_files: start.open_files, oom_score: start.oom_score },
    );
    let child: Child = command.spawn().map_err(failed)?;
    Ok(child.id())
}

/// Runs a program on this program's own terminal, such as an editor, to its end.
///
/// # Errors
/// When it can't be started or ends in another way than with status 0.
pub fn interactive(program: &str, arguments: &[&str]) -> Result<(), SysError> {
    let failed = |source| SysError::Start { program: program.into(), source };
    let mut command = command(program, arguments);
    if let Some(terminal) = std::env::var_os("TERM") {
        command.env("TERM", terminal);
    }
    let status = command.status().map_err(failed)?;
    if status.success() {
        return Ok(());
    }
    let command = [&[program], arguments].concat().join(" ");
    let (status, signal) = (status.code(), status.signal());
    Err(Ended { command, status, signal, timed_out: false, output: Vec::new() }.into_error())
}

/// Replaces this program by another one; returns only when that fails.
pub fn become_program(program: &str, arguments: &[&str]) -> SysError {
    SysError::Start { program: program.into(), source: command(program, arguments).exec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_status_and_time_out_are_told_apart() {
        let long = Duration::from_secs(20);
        let ended = run("/bin/sh", &["-c", "echo out; echo err >&2; exit 3"], long).unwrap();
        assert_eq!((ended.status, ended.text().as_str()), (Some(3), "out\nerr\n"));
        assert!(must("/bin/sh", &["-c", "kill -9 $$"], long).unwrap_err().to_string().contains("signal 9"));
        let slow = run("/bin/sh", &["-c", "sleep 30"], Duration::from_millis(100)).unwrap();
        assert!(slow.timed_out);
        assert!(matches!(run("/none", &[], long), Err(SysError::Start { .. })));
    }

    #[test]
    fn output_beyond_the_limit_is_read_and_dropped() {
        let ended = run("/bin/sh", &["-c", "head -c 300000 /dev/zero"], Duration::from_secs(20)).unwrap();
        assert_eq!((ended.status, ended.output.len()), (Some(0), OUTPUT));
    }
}
