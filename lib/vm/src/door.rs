//! The one door for child processes of this crate: QEMU, and nothing else.
//!
//! QEMU is started under setpriv (util-linux, essential in Debian) where that is there, so that the kernel kills it
//! when the thread that started it ends for whatever reason, a SIGKILL included: no machine is left behind.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Finds a program in PATH.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|candidate| candidate.is_file())
}

/// A command that dies with the thread that starts it.
#[expect(clippy::disallowed_methods, reason = "this is the door")]
pub fn command(program: &Path) -> Command {
    match find("setpriv") {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "--"]).arg(program);
            command
        }
        None => Command::new(program),
    }
}
