//! `bakelite --host NAME COMMAND…`: the operator's commands of a machine, run on it over the host's own ssh program.
//!
//! Whatever stands behind the name goes to the machine as it is typed; its output, its exit status and its terminal are
//! passed on. Nothing is known here of the commands, so that a newer machine's can be typed as well; but that `update`'s file
//! is one of this machine's, and is streamed.

use bakelite_image::host::tool::{self, ToolError};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{ErrorKind, IsTerminal, stdin, stdout};
use std::path::PathBuf;

/// The program.
const SSH: &str = "ssh";
/// How ssh itself fails (ssh(1)).
const UNREACHED: i32 = 255;
/// How a shell ends that doesn't find the program.
const NOT_FOUND: i32 = 127;
/// The command that takes a file of this machine's.
const UPDATE: &str = "update";
/// How the machine's program ends when it doesn't know the words.
const WRONG: i32 = 2;

/// A command for a machine.
#[derive(Debug)]
pub struct Remote {
    host: String,
    words: Vec<String>,
    /// The file of this machine that goes along, as a stream.
    input: Option<(PathBuf, File)>,
}

/// What was typed wrongly, or can't be done.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// There is no name, or none that is one.
    #[error("`--host` takes the machine's name or address, then a command: bakelite --host shop-017 status")]
    NoName,
    /// There is no command.
    #[error("what is {0} to do? Try: bakelite --host {0} help")]
    NoCommand(String),
    /// A bundle isn't here.
    #[error("reading {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A word isn't text.
    #[error("only texts can be sent to a machine")]
    NoText,
    /// The program isn't there.
    #[error("there is no ssh program here; it comes with OpenSSH (Debian: openssh-client)")]
    NoSsh,
    /// It can't be started.
    #[error(transparent)]
    Tool(#[from] ToolError),
}

impl Remote {
    /// The command, if the words are meant for a machine: the option has to stand before any command.
    ///
    /// # Errors
    /// When they are, and something is missing.
    pub fn read(words: &[impl AsRef<OsStr>]) -> Result<Option<Self>, RemoteError> {
        let mut json = false;
        let mut words = words.iter().map(AsRef::as_ref);
        let host = loop {
            match words.next().map(|word| (word, word.to_str())) {
                Some((_, Some("--json"))) => json = true,
                Some((_, Some("--host"))) => break words.next().and_then(OsStr::to_str).map(String::from),
                Some((_, Some(word))) if word.starts_with("--host=") => break Some(word["--host=".len()..].into()),
                _ => return Ok(None),
            }
        };
        // What begins with a dash would be an option of ssh's.
        let host = host.filter(|host| !host.is_empty() && !host.starts_with('-')).ok_or(RemoteError::NoName)?;
        let texts: Option<Vec<String>> = words.map(|word| word.to_str().map(String::from)).collect();
        let mut words = texts.ok_or(RemoteError::NoText)?;
        if words.is_empty() {
            return Err(RemoteError::NoCommand(host));
        }
        if json {
            words.push("--json".into());
        }
        let input = bundle(&mut words)?;
        Ok(Some(Self { host, words, input }))
    }

    /// Runs it; the exit status to end with.
    ///
    /// # Errors
    /// When ssh can't be started.
    pub fn run(&self) -> Result<u8, RemoteError> {
        // With a terminal on one side only, whatever reads or writes the other one wants the bytes as they are.
        let terminal = if stdin().is_terminal() && stdout().is_terminal() { "-t" } else { "-T" };
        let words: Vec<String> = self.words.iter().map(|word| quoted(word)).collect();
        let command = format!("bakelite {}", words.join(" "));
        let status = match &self.input {
            Some((path, file)) => {
                let input = file.try_clone().map_err(|source| RemoteError::File { path: path.clone(), source })?;
                tool::feed(OsStr::new(SSH), &self.arguments(&["-T"], &command), input)
            }
            None => tool::hand_over(OsStr::new(SSH), &self.arguments(&[terminal], &command)),
        };
        let status = status.map_err(missing)?;
        match status {
            UNREACHED => eprintln!("ssh did not get through to {}; its own words stand above", self.host),
            NOT_FOUND => eprintln!("{} has no `bakelite`: it isn't a Bakelite machine, or a very old one", self.host),
            WRONG => self.tell_if_older(),
            _ => {}
        }
        Ok(u8::try_from(status).unwrap_or(1))
    }

    fn arguments<'a>(&'a self, options: &[&'a str], command: &'a str) -> Vec<&'a OsStr> {
        // A machine has one user; whoever names another one means it.
        let user: &[&str] = if self.host.contains('@') { &[] } else { &["-l", "root"] };
        let all = options.iter().chain(user).chain(&["--"]).copied().chain([self.host.as_str(), command]);
        all.map(OsStr::new).collect()
    }

    /// Words that the machine doesn't know may be newer than it.
    fn tell_if_older(&self) {
        let agent = std::env::var_os("SSH_AUTH_SOCK");
        let environment: Vec<(&str, &OsStr)> = agent.iter().map(|agent| ("SSH_AUTH_SOCK", agent.as_os_str())).collect();
        let arguments = self.arguments(&["-T", "-o", "BatchMode=yes"], "bakelite version --json");
        let asked = tool::run(OsStr::new(SSH), &arguments, &environment, None);
        let told = asked.ok().and_then(|output| serde_json::from_slice::<serde_json::Value>(&output.stdout).ok());
        let version = told.as_ref().and_then(|told| told["version"].as_str()).unwrap_or("an early version");
        let own = env!("CARGO_PKG_VERSION");
        if is_older(version, own) {
            eprintln!("{} runs Bakelite {version}, which is older than this one ({own})", self.host);
        }
    }
}

/// The one command whose file is on this machine: a bundle, which the other one reads from its input.
fn bundle(words: &mut [String]) -> Result<Option<(PathBuf, File)>, RemoteError> {
    if words.first().is_none_or(|word| word != UPDATE) {
        return Ok(None);
    }
    let Some(word) = words.iter_mut().skip(1).find(|word| !word.starts_with('-')) else { return Ok(None) };
    let path = PathBuf::from(std::mem::replace(word, "-".into()));
    let file = File::open(&path).map_err(|source| RemoteError::File { path: path.clone(), source })?;
    Ok(Some((path, file)))
}

fn missing(error: ToolError) -> RemoteError {
    match error {
        ToolError::Start { source, .. } if source.kind() == ErrorKind::NotFound => RemoteError::NoSsh,
        error => error.into(),
    }
}

/// Whether a version comes before another one; one that isn't made of numbers does.
fn is_older(version: &str, own: &str) -> bool {
    let numbers = |text: &str| text.split('.').map(|part| part.parse::<u64>().ok()).collect::<Option<Vec<_>>>();
    numbers(version) < numbers(own)
}

/// A word as the machine's shell takes it for one.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.,:/=@+%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.into()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Option<Remote>, RemoteError> {
        Remote::read(words)
    }

    #[test]
    fn only_what_is_meant_for_a_machine_goes_there() {
        let remote = |words: &[&str]| read(words).unwrap().map(|remote| (remote.host, remote.words.join(" ")));
        let meant = |words: &str| Some(("shop-017".to_string(), words.to_string()));
        assert_eq!(remote(&["--host", "shop-017", "plan"]), meant("plan"));
        assert_eq!(remote(&["--json", "--host=shop-017", "logs", "-f"]), meant("logs -f --json"));
        for own in [&["plan", "a.yaml"][..], &[], &["--json", "build", "--host", "x"], &["--help"]] {
            assert!(read(own).unwrap().is_none(), "{own:?}");
        }
        for wrong in [&["--host"][..], &["--host", "-oProxyCommand=x", "status"], &["--host="], &["--host", "shop-017"]]
        {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn words_stay_words_and_root_is_meant_where_nobody_is_named() {
        assert_eq!(quoted("storage"), "storage");
        assert_eq!(quoted("a b'c; rm"), r"'a b'\''c; rm'");
        assert_eq!(quoted(""), "''");
        let arguments = |host: &str| {
            let remote = Remote { host: host.into(), words: Vec::new(), input: None };
            remote.arguments(&["-T"], "c").iter().map(|word| word.to_str().unwrap().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(arguments("shop"), ["-T", "-l", "root", "--", "shop", "c"]);
        assert_eq!(arguments("me@shop"), ["-T", "--", "me@shop", "c"]);
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(is_older("0.9.0", "0.10.0") && is_older("an early version", "0.1.0"));
        assert!(!is_older("0.1.0", "0.1.0") && !is_older("0.2.0", "0.1.9"));
    }
}
