//! The index of kernel modules, made by Debian's own depmod from the lock, run unprivileged through its own loader.
//!
//! The build host needs no kmod of its own, and its version can't change an image. Where the device's architecture is
//! another, the tool and its libraries are those of the build host's architecture, also from the lock.

use crate::derived::{Derived, Kind, Work};
use crate::error::{BuildError, io_error};
use crate::host::{file, tool};
use crate::parallel;
use crate::source::digest::Sha256;
use crate::tree::{Blob, Node, Tree};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

/// The files of the index that modprobe or init read.
const INDEX: &[&str] = &[
    "modules.alias",
    "modules.alias.bin",
    "modules.builtin.alias.bin",
    "modules.builtin.bin",
    "modules.dep",
    "modules.dep.bin",
    "modules.devname",
    "modules.softdep",
    "modules.symbols.bin",
];

/// Makes the index of all modules in `tree`: its files by their paths. `tools` is a tree that holds kmod and its
/// libraries. What was made of the same modules by the same tools before comes from the cache.
///
/// # Errors
/// When the working folder can't be written, or depmod fails.
pub fn index(
    tree: &Tree,
    release: &str,
    tools: &Tree,
    derived: &Derived,
    work: &Work,
) -> Result<Vec<(String, Blob)>, BuildError> {
    let modules = format!("usr/lib/modules/{release}/");
    let key = key(tree, &modules, tools);
    if let Some(kept) = derived.find(Kind::Index, &key) {
        match read(kept) {
            Some(kept) => return Ok(files(&modules, kept)),
            None => derived.remove(Kind::Index, &key)?,
        }
    }
    let folder = tempfile::tempdir_in(work.path()).map_err(io_error("making a folder in", work.path()))?;
    let base = folder.path().join("base");
    materialise(tree, &base, |path| path.starts_with(&modules))?;
    symlink("usr/lib", base.join("lib")).map_err(io_error("making a link in", &base))?;
    let tool_folder = folder.path().join("tools");
    materialise(tools, &tool_folder, is_tool)?;
    let (loader, libraries) = loader(tools)?;
    let (libraries, program) = (tool_folder.join(libraries), tool_folder.join(KMOD));
    let arguments: [&OsStr; 8] = [
        OsStr::new("--argv0"),
        OsStr::new("depmod"),
        OsStr::new("--library-path"),
        libraries.as_os_str(),
        program.as_os_str(),
        OsStr::new("-b"),
        base.as_os_str(),
        OsStr::new(release),
    ];
    tool::run(tool_folder.join(loader).as_os_str(), &arguments, &[], None)?;
    let mut made = Vec::new();
    for name in INDEX {
        let path = base.join(&modules).join(name);
        if path.exists() {
            made.push((name.to_string(), std::fs::read(&path).map_err(io_error("reading", &path))?));
        }
    }
    let mut temporary = file::begin(work.path())?;
    let bytes = serde_json::to_vec(&made).map_err(|error| io_error("writing", "an index")(error.into()))?;
    let written = temporary.write_all(&bytes).and_then(|()| temporary.write_all(Sha256::of(&bytes).bytes()));
    written.map_err(io_error("writing", work.path()))?;
    derived.keep(temporary, Kind::Index, &key)?;
    Ok(files(&modules, made))
}

const KMOD: &str = "usr/bin/kmod";

fn is_tool(path: &str) -> bool {
    path == KMOD || (path.contains(".so") && path.starts_with("usr/lib") && path.matches('/').count() == 3)
}

fn files(modules: &str, made: Vec<(String, Vec<u8>)>) -> Vec<(String, Blob)> {
    made.into_iter().map(|(name, bytes)| (format!("{modules}{name}"), Blob::from(bytes))).collect()
}

/// Reads a kept index; `None` for one that is damaged.
fn read(mut kept: File) -> Option<Vec<(String, Vec<u8>)>> {
    let mut bytes = Vec::new();
    kept.read_to_end(&mut bytes).ok()?;
    let sum = bytes.split_off(bytes.len().checked_sub(32)?);
    (*Sha256::of(&bytes).bytes() == sum[..]).then(|| serde_json::from_slice(&bytes).ok())?
}

/// Stands for the modules and the tools.
fn key(tree: &Tree, modules: &str, tools: &Tree) -> Sha256 {
    let mut text = String::new();
    let inputs = tree.entries().filter(|(path, _)| path.starts_with(modules));
    for (path, entry) in inputs.chain(tools.entries().filter(|(path, _)| is_tool(path))) {
        match &entry.node {
            Node::Folder => {}
            Node::Link(target) => text.push_str(&format!("{path} -> {target}\n")),
            Node::File(blob) => text.push_str(&format!("{path} {}\n", blob.key())),
        }
    }
    Sha256::of(text.as_bytes())
}

/// The dynamic loader among the tools, and the folder of libraries that it is in.
fn loader(tools: &Tree) -> Result<(String, String), BuildError> {
    let found = tools.entries().find(|(path, entry)| {
        let name = path.rsplit('/').next().unwrap_or_default();
        matches!(entry.node, Node::File(_)) && path.starts_with("usr/lib/") && name.starts_with("ld-linux")
    });
    let missing = || crate::decide::boot::MissingFile {
        path: "usr/lib/*/ld-linux*".into(),
        needed_for: "starts depmod on this machine".into(),
    };
    let (path, _) = found.ok_or_else(missing)?;
    let folder = path.rsplit_once('/').map_or("usr/lib", |(folder, _)| folder);
    Ok((path.into(), folder.into()))
}

/// Puts a part of a tree onto the disk, with all processors; names come from a tree whose paths have been checked when it
/// was unpacked.
fn materialise(tree: &Tree, base: &Path, wanted: impl Fn(&str) -> bool) -> Result<(), BuildError> {
    let mut files = Vec::new();
    for (path, entry) in tree.entries().filter(|(path, _)| wanted(path)) {
        let target = base.join(path);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent).map_err(io_error("making", parent))?;
        }
        match &entry.node {
            Node::Folder => std::fs::create_dir_all(&target).map_err(io_error("making", &target))?,
            Node::Link(to) => symlink(to, &target).map_err(io_error("making a link", &target))?,
            Node::File(blob) => files.push((target, entry.mode, blob)),
        }
    }
    let write = |_: &mut (), (target, mode, blob): &(PathBuf, u16, &Blob)| {
        let mut reader = blob.open().map_err(io_error("reading what goes to", target))?;
        let mode = if mode & 0o111 == 0 { 0o644 } else { 0o755 };
        let mut file =
            File::options().write(true).create_new(true).mode(mode).open(target).map_err(io_error("making", target))?;
        std::io::copy(&mut reader, &mut file).map_err(io_error("writing", target)).map(drop)
    };
    parallel::ordered(parallel::threads(), &files, || Ok(()), write, Ok)
}
