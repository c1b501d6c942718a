//! Putting in place: what is on the medium says which rename is next.

use crate::check::{self, Depth};
use crate::fold::fold;
use crate::volumes::STORAGE;
use bakelite_sys::{SysError, durable, names_in};
use std::path::{Path, PathBuf};

/// What a set brings: its name in the staged folder, and below k3s's.
const BROUGHT: &[(&str, &str)] = &[("db", "server/db")];
/// What k3s makes again from the database that it is given (k3s.md 3.3). Certificates stand before `cred`: k3s never
/// starts again where cred alone is missing.
const MADE_AGAIN: &[&str] = &["server/tls", "server/cred", "server/token", "server/node-token", "server/agent-token"];
/// The agent's certificates and kubeconfigs are of the old authority.
const AGENT: &str = "agent";
const AGENT_ENDINGS: &[&str] = &[".crt", ".key", ".kubeconfig"];

/// Below the folder of what was moved aside: what was put in its place and taken away again, and that all of it was.
const UNDONE: &str = "undone";
const CLEARED: &str = "undone.done";

/// Folders of one file system.
#[derive(Clone, Debug)]
pub struct Places {
    /// k3s's own, `/var/lib/rancher/k3s`.
    pub live: PathBuf,
    /// The unpacked set.
    pub staged: PathBuf,
    /// Where that goes which was there before: one for each act.
    pub aside: PathBuf,
}

/// Moves aside what is there and puts the set in its place, durably. May be cut and called again until it has returned.
///
/// # Errors
/// When something can't be moved; it may then be called again.
pub fn put_in_place(places: &Places) -> Result<(), SysError> {
    let database = places.live.join("server/db/state.db");
    // What can be folded is one file then, which nobody can take apart. What can't stays as it is: it is evidence.
    let is_damaged = || {
        let found = check::live(&database, Depth::Quick, 0);
        found.map_or(true, |found| found.err().is_some_and(|flaw| flaw.is_damage()))
    };
    if next(places).is_some() && !is_damaged() {
        fold(&database).map_err(|source| SysError::Write { path: database, source: std::io::Error::other(source) })?;
    }
    while let Some((from, to)) = next(places) {
        step(&from, &to)?;
    }
    let server = places.live.join("server");
    // As k3s makes them.
    for folder in [&server, &server.join("db")] {
        durable::set_mode(folder, 0o700)?;
    }
    durable::sync_folder(&server)
}

/// Takes an act back: what it had moved aside comes home, and what is there now goes beside it.
///
/// # Errors
/// When something can't be moved; it may then be called again.
pub fn put_back(places: &Places) -> Result<(), SysError> {
    while let Some((from, to)) = next_away(places) {
        step(&from, &to)?;
    }
    durable::make_folder(&places.aside)?;
    durable::write_durable(places.aside.join(CLEARED), b"", 0o600)?;
    while let Some((from, to)) = next_home(places) {
        step(&from, &to)?;
    }
    Ok(())
}

/// Of an act that is taken back: the rename that makes room.
fn next_away(places: &Places) -> Option<(PathBuf, PathBuf)> {
    if exists(&places.aside.join(CLEARED)) {
        return None;
    }
    // Volumes that took the place of nothing stay: nobody knows of them then.
    let items = all(&[&places.live]).into_iter().chain(volumes(&places.aside));
    let here = items.into_iter().find(|item| exists(&places.live.join(item)))?;
    Some((places.live.join(&here), free(places.aside.join(UNDONE).join(&here))))
}

/// And the one that brings back what was there.
fn next_home(places: &Places) -> Option<(PathBuf, PathBuf)> {
    let items = all(&[&places.aside]).into_iter().chain(volumes(&places.aside));
    let aside = items.into_iter().find(|item| exists(&places.aside.join(item)))?;
    Some((places.aside.join(&aside), places.live.join(&aside)))
}

/// What may be moved, by its name below k3s's folder.
fn all(folders: &[&Path]) -> Vec<String> {
    let agent = folders.iter().flat_map(|folder| names_in(folder.join(AGENT)));
    let mut agent: Vec<String> = agent
        .filter(|name| AGENT_ENDINGS.iter().any(|ending| name.ends_with(ending)))
        .map(|name| format!("{AGENT}/{name}"))
        .collect();
    agent.sort();
    agent.dedup();
    let fixed = MADE_AGAIN.iter().copied().chain(BROUGHT.iter().map(|(_, live)| *live));
    fixed.map(String::from).chain(agent).collect()
}

/// The volumes in a folder of a set's or of what was moved aside, by their names below k3s's folder. Of those that are
/// there already no others are touched: a set has few of them, or none.
fn volumes(folder: &Path) -> impl Iterator<Item = String> + use<> {
    names_in(folder.join(STORAGE)).into_iter().map(|name| format!("{STORAGE}/{name}"))
}

/// The rename that is next, if there is one.
fn next(places: &Places) -> Option<(PathBuf, PathBuf)> {
    for item in all(&[&places.live]).into_iter().chain(volumes(&places.staged)) {
        let (live, aside) = (places.live.join(&item), places.aside.join(&item));
        let staged = BROUGHT.iter().find(|(_, brought)| *brought == item).map(|(name, _)| places.staged.join(name));
        let staged = staged.or_else(|| item.starts_with(STORAGE).then(|| places.staged.join(&item)));
        match staged {
            // It stands in its place already.
            Some(staged) if !exists(&staged) => {}
            Some(staged) if !exists(&live) => return Some((staged, live)),
            _ if exists(&live) => return Some((live, free(aside))),
            _ => {}
        }
    }
    None
}

/// A name that nothing has: an act that was dropped half-way may have left something.
fn free(path: PathBuf) -> PathBuf {
    let numbered = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    if exists(&path) { (1..).map(numbered).find(|path| !exists(path)).unwrap_or(path) } else { path }
}

/// Whether a name is there, be it a link that leads nowhere.
fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// One rename, durable in both folders. What is moved isn't opened: it may be a link to what went before it, as k3s's
/// `node-token` is.
fn step(from: &Path, to: &Path) -> Result<(), SysError> {
    let parent = |path: &Path| path.parent().unwrap_or(Path::new("/")).to_path_buf();
    durable::make_folder(parent(to))?;
    durable::rename(from, to)?;
    durable::sync_folder(&parent(to))?;
    durable::sync_folder(&parent(from))
}

#[cfg(test)]
mod tests;
