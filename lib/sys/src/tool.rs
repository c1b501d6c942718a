//! The one door to child processes: tools that run to their end with captured output, and units that are let go.
//!
//! A tool has a time-out and never inherits a terminal. Its output is kept for the error; nothing is shown here.

use crate::{SysError, raw};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
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

/// A tool whose standard output is read while it runs. It ends with whoever reads it.
#[derive(Debug)]
pub struct Stream {
    command: String,
    child: Child,
    /// `None` once nobody reads on.
    output: Option<ChildStdout>,
    words: ChildStderr,
    at_end: bool,
}

/// Starts a tool, to read what it writes; `environment` is added to every child's.
///
/// # Errors
/// When it can't be started.
pub fn stream(program: &str, arguments: &[&str], environment: &BTreeMap<String, String>) -> Result<Stream, SysError> {
    let mut command = command(program, arguments);
    command.envs(environment).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let failed = |source| SysError::Start { program: program.into(), source };
    let mut child = command.spawn().map_err(failed)?;
    let lost = || failed(std::io::ErrorKind::BrokenPipe.into());
    let (output, words) = (child.stdout.take().ok_or_else(lost)?, child.stderr.take().ok_or_else(lost)?);
    Ok(Stream {
        command: [&[program], arguments].concat().join(" "),
        child,
        output: Some(output),
        words,
        at_end: false,
    })
}

impl Stream {
    /// How it ended, with what it wrote to its standard error. One whose output wasn't read to its end is killed.
    ///
    /// # Errors
    /// When it can't be waited for.
    pub fn end(&mut self) -> Result<Ended, SysError> {
        let failed = |source| SysError::Start { program: self.command.clone(), source };
        if !self.at_end {
            self.child.kill().map_err(failed)?;
        }
        // What it has started itself ends by that, and with it what it says.
        self.output = None;
        let status = self.child.wait().map_err(failed)?;
        let mut output = Vec::new();
        (&mut self.words).take(OUTPUT as u64).read_to_end(&mut output).map_err(failed)?;
        let (status, signal) = (status.code(), status.signal());
        Ok(Ended { command: self.command.clone(), status, signal, timed_out: false, output })
    }
}

impl Read for Stream {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        let Some(output) = &mut self.output else { return Ok(0) };
        let read = output.read(bytes)?;
        self.at_end |= read == 0 && !bytes.is_empty();
        Ok(read)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // One that has ended is only waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
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

/// How a process that was [`spawn`]ed has ended, in words; `None` while it runs.
///
/// # Errors
/// When it is no child of this program's, or not any more.
pub fn reap(process: u32) -> Result<Option<String>, SysError> {
    use rustix::process::{Pid, WaitOptions, waitpid};
    let process = i32::try_from(process).ok().and_then(Pid::from_raw);
    let ended = waitpid(process, WaitOptions::NOHANG)
        .map_err(|error| SysError::System { act: "waiting for a child", source: error.into() })?;
    Ok(ended.map(|(_, status)| match (status.exit_status(), status.terminating_signal()) {
        (Some(status), _) => format!("exit status {status}"),
        (_, signal) => format!("signal {}", signal.unwrap_or(0)),
    }))
}

/// Has this program, and what it becomes, be killed when the one that started it ends, and run after all others.
///
/// # Errors
/// The kernel's answer.
pub fn step_back() -> Result<(), SysError> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .and_then(|()| rustix::process::nice(10).map(drop))
        .map_err(|error| SysError::System { act: "stepping back", source: error.into() })
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

/// Replaces this program by another one, with some variables more than each child has; returns only when that fails.
pub fn become_program(program: &str, arguments: &[&str], environment: &BTreeMap<String, String>) -> SysError {
    SysError::Start { program: program.into(), source: command(program, arguments).envs(environment).exec() }
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
    fn a_stream_is_read_while_it_runs_and_its_end_is_told() {
        let environment = [("WORD".to_string(), "four".to_string())].into();
        let begin = |script: &str| stream("/bin/sh", &["-c", script], &environment).unwrap();
        let mut text = String::new();
        let mut whole = begin("echo $WORD; echo why >&2; exit 4");
        whole.read_to_string(&mut text).unwrap();
        let ended = whole.end().unwrap();
        assert_eq!((text.as_str(), ended.status, ended.text().as_str()), ("four\n", Some(4), "why\n"));
        let mut endless = begin("echo begun >&2; cat /dev/zero");
        endless.read_exact(&mut [0; 70_000]).unwrap();
        let ended = endless.end().unwrap();
        assert_eq!((ended.status, ended.signal, ended.text().as_str()), (None, Some(9), "begun\n"));
    }

    #[test]
    fn a_process_that_was_let_go_is_reaped_once() {
        let command = ["/bin/sh", "-c", "exit 5"].map(String::from);
        let start = Start {
            command: &command,
            environment: &BTreeMap::new(),
            output: None,
            cgroup: None,
            open_files: None,
            oom_score: 1000,
        };
        let process = spawn(start).unwrap();
        let ended = loop {
            if let Some(ended) = reap(process).unwrap() {
                break ended;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(ended, "exit status 5");
        assert!(reap(process).is_err());
    }

    #[test]
    fn output_beyond_the_limit_is_read_and_dropped() {
        let ended = run("/bin/sh", &["-c", "head -c 300000 /dev/zero"], Duration::from_secs(20)).unwrap();
        assert_eq!((ended.status, ended.output.len()), (Some(0), OUTPUT));
    }
}
