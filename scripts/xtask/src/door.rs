//! The one door for child processes of this crate: cargo, git, debugfs and ssh, each run to its end.

use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Runs a program to its end and gives its standard output; a failure carries its last words.
pub fn run(program: &str, arguments: &[&str], folder: &Path) -> Result<String> {
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    let mut command = Command::new(program);
    let output = command
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {program}"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {}: {}: {}", arguments.join(" "), output.status, words.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a program whose exit status is an answer: that, and all that it said.
pub fn end_of(program: &str, arguments: &[&str]) -> Result<(i32, String)> {
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    let mut command = Command::new(program);
    let output =
        command.args(arguments).stdin(Stdio::null()).output().with_context(|| format!("starting {program}"))?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.code().unwrap_or(-1), String::from_utf8_lossy(&said).into_owned()))
}

/// Starts a program whose output goes into a file.
pub fn begin(program: &str, arguments: &[&str], folder: &Path, output: &Path) -> Result<Child> {
    let file = File::create(output).with_context(|| format!("making {}", output.display()))?;
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stderr(file.try_clone()?)
        .stdout(file)
        .spawn()
        .with_context(|| format!("starting {program}"))
}

/// Writes a small file.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let written = File::create(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("writing {}", path.display()))
}

/// Finds a program in PATH or where Debian puts those of the administrator.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|candidate| candidate.is_file())
}

/// The `bakelite` command as a person has it: the one that was built, or that `BAKELITE_BIN` names.
pub fn program() -> String {
    let built = || root().join("target/bakelite/bin/bakelite").into_os_string();
    std::env::var_os("BAKELITE_BIN").unwrap_or_else(built).to_string_lossy().into_owned()
}

/// Runs it.
pub fn bakelite(arguments: &[&str], folder: &Path) -> Result<()> {
    run(&program(), arguments, folder).map(drop)
}

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new(".")).into()
}
