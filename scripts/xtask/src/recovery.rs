//! Recovery sticks as a person makes them, and damage to the boot partition that only they repair.
//!
//! The stick is built by the command itself, from the scenario's appliance and the lock of its image; mtools change what is on
//! a FAT.

use crate::door;
use crate::line::LINE;
use crate::look::Volume;
use crate::steps::{Granted, MakeRecovery, MakeSet, MakeStick, StickHolds, StickSays};
use crate::stick::{self, keys, tool, write};
use anyhow::{Context, Result, ensure};
use bakelite_spec::installer::{DONE, attempts};
use bakelite_spec::layout::ALIGNMENT;
use bakelite_trust::recovery::{MANIFEST, Manifest};
use bakelite_trust::signature;
use std::path::Path;

/// Builds the stick of an image's appliance.
pub fn make(image: &Path, path: &Path, folder: &Path, wanted: &MakeRecovery) -> Result<()> {
    let (image, key) = (std::path::absolute(image)?, folder.join("owner.key"));
    write(&key, keys(false).to_text().as_bytes())?;
    let text = |path: &Path| path.display().to_string();
    let lock = format!("{}.lock", text(&image));
    let (config, key, output) = (text(&image.with_extension("yaml")), text(&key), text(path));
    let kind = if wanted.installs { "--installer" } else { "--recovery" };
    let mut words = vec!["build", &config, kind, "--key", &key, "--lock", &lock, "--output", &output, "--force"];
    let rows = text(&folder.join("rows.csv"));
    if let Some(table) = &wanted.rows {
        write(Path::new(&rows), table.as_bytes())?;
        words.extend(["--rows", &rows]);
    }
    let line = text(&folder.join(LINE));
    if wanted.line {
        words.extend(["--line", &line]);
    }
    door::bakelite(&words, folder)?;
    let target = format!("{output}@@{ALIGNMENT}");
    let place = format!("::{MANIFEST}{}", signature::ENDING);
    match wanted.signed {
        Granted::Owner => Ok(()),
        Granted::Nobody => door::run(&tool("mdel")?, &["-i", &target, &place], folder).map(drop),
        Granted::Stranger => {
            let (manifest, signature) = (folder.join("manifest"), folder.join("signature"));
            let from = format!("::{MANIFEST}");
            door::run(&tool("mcopy")?, &["-n", "-i", &target, &from, &text(&manifest)], folder)?;
            let (_, signed) = Manifest::parse(&std::fs::read(&manifest)?)?.sign(&keys(true));
            write(&signature, signed.as_bytes())?;
            door::run(&tool("mcopy")?, &["-o", "-n", "-i", &target, &text(&signature), &place], folder).map(drop)
        }
    }
}

/// Puts sets of the cluster on a state partition onto the stick, as `bakelite stick` does.
pub fn add_sets(state: &Volume, path: &Path, sets: &[MakeSet]) -> Result<()> {
    let work = tempfile::tempdir()?;
    let wanted = MakeStick::of_sets(sets);
    let folder = stick::content(state, work.path(), &wanted)?.display().to_string();
    let target = format!("{}@@{ALIGNMENT}", path.display());
    door::run(&tool("mcopy")?, &["-s", "-i", &target, &folder, "::"], work.path()).map(drop)
}

/// That an installer stick has recorded of a row what is said.
pub fn says(path: &Path, wanted: &StickSays) -> Result<()> {
    let work = tempfile::tempdir()?;
    let target = format!("{}@@{ALIGNMENT}", path.display());
    let to = work.path().display().to_string();
    door::run(&tool("mcopy")?, &["-s", "-n", "-i", &target, &format!("::{DONE}"), &to], work.path())?;
    let mut files = Vec::new();
    for ticket in std::fs::read_dir(work.path().join(DONE))? {
        let ticket = ticket?;
        for file in std::fs::read_dir(ticket.path())? {
            let file = file?;
            let name = format!("{}/{}", ticket.file_name().display(), file.file_name().display());
            files.push((name, std::fs::read(file.path())?));
        }
    }
    let found = attempts(files.iter().map(|(path, bytes)| (path.as_str(), &bytes[..])));
    let of: Vec<_> = found.iter().filter(|attempt| attempt.row == wanted.row).map(|attempt| attempt.state).collect();
    ensure!(of == [wanted.state], "of row {} the stick says {of:?}; all it says: {found:?}", wanted.row);
    Ok(())
}

/// That files lie on a stick.
pub fn holds(path: &Path, wanted: &StickHolds) -> Result<()> {
    let target = format!("{}@@{ALIGNMENT}", path.display());
    let folder = format!("::{}", wanted.below);
    let listed = door::run(&tool("mdir")?, &["-/", "-b", "-i", &target, &folder], Path::new("."))?;
    let lacks: Vec<&String> =
        wanted.files.iter().filter(|words| !listed.lines().any(|line| line.contains(*words))).collect();
    ensure!(lacks.is_empty(), "the stick has no {lacks:?} among:\n{listed}");
    Ok(())
}

/// Makes zeros of all files of a FAT whose paths begin with something.
pub fn zero_files(medium: &Path, start: u64, below: &str) -> Result<()> {
    let target = format!("{}@@{start}", medium.display());
    let work = tempfile::tempdir()?;
    let all = door::run(&tool("mdir")?, &["-b", "-/", "-i", &target, "::"], work.path())?;
    let is_below = |path: &&str| {
        let path = path.trim_start_matches("::/").to_lowercase();
        !path.ends_with('/') && path.starts_with(&below.to_lowercase())
    };
    let paths: Vec<&str> = all.lines().map(str::trim).filter(is_below).collect();
    ensure!(!paths.is_empty(), "no file of the boot partition begins with {below}");
    for path in paths {
        let copy = work.path().join("copy");
        let name = copy.display().to_string();
        door::run(&tool("mcopy")?, &["-n", "-o", "-i", &target, path, &name], work.path())?;
        let length = usize::try_from(std::fs::metadata(&copy)?.len()).context("a file of the boot partition")?;
        write(&copy, &vec![0; length])?;
        door::run(&tool("mcopy")?, &["-n", "-o", "-i", &target, &name, path], work.path())?;
    }
    Ok(())
}
