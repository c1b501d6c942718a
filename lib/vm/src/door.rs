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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A kernel to try QEMU with: a test that needs one says so where there is none.
    pub fn kernel() -> Option<Vec<u8>> {
        let folder = std::fs::read_dir("/boot").ok()?;
        let in_boot = folder
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.display().to_string().contains("vmlinuz"));
        std::fs::read(std::env::var_os("BAKELITE_TEST_KERNEL").map(PathBuf::from).or(in_boot)?).ok()
    }

    #[test]
    fn programs_are_found_in_path() {
        assert!(find("sh").is_some_and(|path| path.is_absolute()));
        assert_eq!(find("no-such-program-anywhere"), None);
    }
}
