//! The one door for child processes on the build host.
//!
//! Every tool runs with a closed standard input, a fixed locale and only the environment it is given, so that its
//! answer does not depend on whose machine this is; and a failing one is reported with its command line, its exit
//! status or signal, and the end of what it said. Must not be given a shell string.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

/// How much of a failing tool's standard error is kept, in bytes: enough for the cause, little enough for a screen.
const STDERR_KEPT: usize = 2048;

/// What a tool that ended well said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its standard output, whole.
    pub stdout: Vec<u8>,
    /// Its standard error, whole.
    pub stderr: Vec<u8>,
}

/// A tool could not be started, or failed.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// The program could not be run at all.
    #[error("cannot run `{command}`")]
    Start {
        /// The command line.
        command: String,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// The program ran and reported failure.
    #[error("`{command}` failed with {status}{}", said(.stderr))]
    Failed {
        /// The command line.
        command: String,
        /// "exit status 1" or "signal 9".
        status: String,
        /// The end of its standard error.
        stderr: String,
    },
}

/// Runs `program` to its end. Besides `env` it sees only the caller's `PATH`, `HOME` and `TMPDIR`.
pub fn run(program: &OsStr, args: &[&OsStr], env: &[(&str, &OsStr)], cwd: Option<&Path>) -> Result<Output, ToolError> {
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    let mut command = Command::new(program);
    command.args(args).env_clear().env("LC_ALL", "C.UTF-8").env("TZ", "UTC").stdin(Stdio::null());
    for name in ["PATH", "HOME", "TMPDIR"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.envs(env.iter().copied());
    if let Some(folder) = cwd {
        command.current_dir(folder);
    }
    let output =
        command.output().map_err(|source| ToolError::Start { command: command_line(program, args), source })?;
    if output.status.success() {
        return Ok(Output { stdout: output.stdout, stderr: output.stderr });
    }
    let kept = output.stderr.len().saturating_sub(STDERR_KEPT);
    Err(ToolError::Failed {
        command: command_line(program, args),
        status: describe(output.status),
        stderr: String::from_utf8_lossy(&output.stderr[kept..]).trim().to_owned(),
    })
}

/// Hands this program's terminal, outputs and environment over to another one until it ends; its exit status. One that
/// was ended by a signal has 128 and its number, as in a shell.
pub fn hand_over(program: &OsStr, args: &[&OsStr]) -> Result<i32, ToolError> {
    wait(program, args, Stdio::inherit())
}

/// The same with a file for its input.
pub fn feed(program: &OsStr, args: &[&OsStr], input: File) -> Result<i32, ToolError> {
    wait(program, args, input.into())
}

fn wait(program: &OsStr, args: &[&OsStr], input: Stdio) -> Result<i32, ToolError> {
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    let status = Command::new(program).args(args).stdin(input).status();
    let status = status.map_err(|source| ToolError::Start { command: command_line(program, args), source })?;
    Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".to_owned(),
    }
}

fn said(stderr: &str) -> String {
    if stderr.is_empty() { " and said nothing".to_owned() } else { format!(": {stderr}") }
}

fn command_line(program: &OsStr, args: &[&OsStr]) -> String {
    let words = std::iter::once(&program).chain(args);
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Result<Output, ToolError> {
        run(OsStr::new("sh"), &[OsStr::new("-c"), OsStr::new(script)], &[("GIVEN", OsStr::new("here"))], None)
    }

    #[test]
    fn keeps_output_and_gives_only_the_named_environment() {
        let output = shell("echo $GIVEN $CARGO_PKG_NAME; echo aside >&2").unwrap();
        assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"here\n"[..], &b"aside\n"[..]));
    }

    #[test]
    fn a_failure_tells_command_status_and_last_words() {
        let error = shell("echo no such thing >&2; exit 3").unwrap_err().to_string();
        assert!(error.ends_with("failed with exit status 3: no such thing"), "{error}");
        assert!(error.starts_with("`sh -c "), "{error}");
        assert!(shell("kill -9 $$").unwrap_err().to_string().contains("signal 9 and said nothing"));
        assert!(matches!(run(OsStr::new("no-such-tool"), &[], &[], None), Err(ToolError::Start { .. })));
    }

    #[test]
    fn what_is_handed_over_ends_as_it_ends() {
        let shell = |script: &str| hand_over(OsStr::new("sh"), &[OsStr::new("-c"), OsStr::new(script)]);
        assert_eq!((shell("exit 3").unwrap(), shell("kill -9 $$").unwrap()), (3, 137));
        assert!(matches!(hand_over(OsStr::new("no-such-tool"), &[]), Err(ToolError::Start { .. })));
    }

    #[test]
    fn runs_in_the_folder_it_is_given() {
        let output = run(OsStr::new("pwd"), &[], &[], Some(Path::new("/"))).unwrap();
        assert_eq!(output.stdout, b"/\n");
    }
}
