//! The controller's script from docs/commands.md, run as it stands there against a machine: what is fetched, what is gone on
//! with after a cut, what is kept, and what it writes into the log.
//!
//! Only its folder is another one. `ssh`, which knows the machine's port here and cuts the first set short, and `logger`
//! stand before the real ones in its PATH.

use crate::door;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// How many sets the script keeps.
const KEPT: usize = 720;
/// So many older sets lie in its folder already.
const OLDER: usize = 725;
/// After so many bytes the first set's connection is cut.
const CUT: usize = 10_000;
/// The machine's name, as the controller knows it.
const HOST: &str = "shop-017";

/// The script, as the documentation has it.
fn script() -> Result<String> {
    let path = door::root().join("docs/commands.md");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let from = text.split_once("```sh\n").context("docs/commands.md has no script")?.1;
    Ok(from.split_once("```").context("docs/commands.md has no end of its script")?.0.into())
}

/// Fetches from the machine behind a port of this host, twice, and looks at what came of it.
pub fn fetch(work: &Path, port: u16, key: &Path) -> Result<()> {
    let place = Place::make(work, port, key)?;
    for number in 0..OLDER {
        let (minute, second) = (number / 60, number % 60);
        put(&place.sets.join(format!("00000000-20200101T00{minute:02}{second:02}Z.tar.zst.age")), "older", 0o600)?;
    }
    let cut = place.run();
    ensure!(cut.is_err(), "the connection was cut, and the script doesn't say so");
    let halves =
        |place: &Place| names(&place.sets).map(|names| names.into_iter().filter(|name| name.ends_with(".half")));
    ensure!(halves(&place)?.count() == 1, "what came before the cut isn't there");
    place.run()?;
    let asked = std::fs::read_to_string(work.join("asked"))?;
    ensure!(asked.lines().any(|line| line.ends_with(&format!(" {CUT}"))), "it wasn't gone on with: {asked}");
    ensure!(halves(&place)?.count() == 0, "a half is left");

    let listed = place.ask("list")?;
    let listed: BTreeMap<&str, u64> = listed.lines().filter_map(listed_set).collect();
    ensure!(listed.len() > 1, "the machine has too few sets to fetch: {listed:?}");
    for (set, bytes) in &listed {
        let found = std::fs::metadata(place.sets.join(set)).with_context(|| format!("{set} wasn't fetched"))?;
        ensure!(found.len() == *bytes, "{set} has {} bytes, and the machine's {bytes}", found.len());
    }
    let kept = names(&place.sets)?.into_iter().filter(|name| name.contains(".tar.zst")).count();
    ensure!(kept == KEPT, "{kept} sets are kept");
    let log = std::fs::read_to_string(work.join("log"))?;
    let lines = |words: &str| log.lines().filter(|line| line.starts_with(&format!("{HOST}: {words} "))).count();
    let (fetched, removed) = (lines("fetched"), lines("removed"));
    if (fetched, removed) != (listed.len(), OLDER + listed.len() - KEPT) {
        bail!("the log has {fetched} fetched and {removed} removed: {log}");
    }
    // Nothing to do is no line.
    place.run()?;
    ensure!(std::fs::read_to_string(work.join("log"))? == log, "a second time it does something again");
    Ok(())
}

fn listed_set(line: &str) -> Option<(&str, u64)> {
    let (set, bytes) = line.split_once(' ')?;
    Some((set, bytes.parse().ok()?))
}

/// Where the script is run.
struct Place {
    work: PathBuf,
    sets: PathBuf,
}

impl Place {
    fn make(work: &Path, port: u16, key: &Path) -> Result<Self> {
        let (bin, sets) = (work.join("bin"), work.join("sets").join(HOST));
        for folder in [&bin, &sets] {
            std::fs::create_dir_all(folder)?;
        }
        let real = door::find("ssh").context("there is no ssh")?;
        let (real, key, place) = (real.display(), key.display(), work.display());
        let ssh = format!(
            "#!/bin/sh\n# ssh -n -i KEY -o BatchMode=yes root@HOST WORDS…\nshift 6\necho \"$*\" >>{place}/asked\nask() {{ \
             {real} -n -q -F /dev/null -i {key} -p {port} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o \
             BatchMode=yes root@127.0.0.1 \"$@\"; }}\nif [ \"$1\" = get ] && [ ! -e {place}/was-cut ]; then\n    touch \
             {place}/was-cut\n    ask \"$@\" | head -c {CUT}\n    exit 255\nfi\nask \"$@\"\n"
        );
        put(&bin.join("ssh"), &ssh, 0o755)?;
        put(
            &bin.join("logger"),
            &format!("#!/bin/sh\n# logger -t fetch-sets LINE\necho \"$3\" >>{place}/log\n"),
            0o755,
        )?;
        let folder = "folder=/srv/sets/$1";
        let script = script()?;
        ensure!(script.contains(folder), "the script keeps its sets elsewhere");
        put(&bin.join("fetch-sets"), &script.replace(folder, &format!("folder={place}/sets/$1")), 0o755)?;
        Ok(Self { work: work.into(), sets })
    }

    fn run(&self) -> Result<String> {
        self.sh(&format!("fetch-sets {HOST}"))
    }

    fn ask(&self, words: &str) -> Result<String> {
        self.sh(&format!("ssh -n -i key -o BatchMode=yes root@{HOST} {words}"))
    }

    fn sh(&self, command: &str) -> Result<String> {
        let path = self.work.join("bin");
        door::run("sh", &["-c", &format!("PATH={}:$PATH {command}", path.display())], &self.work)
    }
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(folder)?;
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

fn put(path: &Path, text: &str, mode: u32) -> Result<()> {
    let mut file = File::create(path).with_context(|| format!("writing {}", path.display()))?;
    file.write_all(text.as_bytes())?;
    Ok(file.set_permissions(std::fs::Permissions::from_mode(mode))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_a_script_that_a_shell_reads() {
        let folder = tempfile::tempdir().unwrap();
        Place::make(folder.path(), 22, Path::new("/key")).unwrap();
        for name in ["ssh", "logger", "fetch-sets"] {
            let path = folder.path().join("bin").join(name);
            door::run("sh", &["-n", &path.display().to_string()], folder.path()).unwrap();
        }
        assert!(script().unwrap().contains(&format!("keep={KEPT}")));
        assert_eq!(
            listed_set("00000001-20261121T155500Z.tar.zst.age 5"),
            Some(("00000001-20261121T155500Z.tar.zst.age", 5))
        );
        assert_eq!(listed_set("words"), None);
    }
}
