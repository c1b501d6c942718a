//! The index of kernel modules, made by Debian's own depmod from the lock, run unprivileged through its own loader.
//!
//! The build host needs no kmod of its own, and its version can't change an image. Where the device's architecture is
//! another, the tool and its libraries are those of the build host's architecture, also from the lock.

use crate::error::{BuildError, io_error};
use crate::host::tool;
use crate::tree::{Blob, Node, Tree};
use std::ffi::OsStr;
use std::os::unix::fs::symlink;
use std::path::Path;

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

/// Makes the index of all modules in `tree` and puts it in. `tools` is a tree that holds kmod and its libraries.
///
/// # Errors
/// When the working folder can't be written, or depmod fails.
pub fn index(tree: &mut Tree, release: &str, tools: &Tree, folder: &Path) -> Result<(), BuildError> {
    let base = folder.join("base");
    let modules = format!("usr/lib/modules/{release}/");
    materialise(tree, &base, |path| path.starts_with(&modules))?;
    symlink("usr/lib", base.join("lib")).map_err(io_error("making a link in", &base))?;
    let tool_folder = folder.join("tools");
    let library = |path: &str| path.contains(".so") && path.starts_with("usr/lib") && path.matches('/').count() == 3;
    materialise(tools, &tool_folder, |path| library(path) || path == "usr/bin/kmod")?;
    let (loader, libraries) = loader(tools)?;
    let (libraries, program) = (tool_folder.join(libraries), tool_folder.join("usr/bin/kmod"));
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
    for name in INDEX {
        let path = base.join(&modules).join(name);
        if path.exists() {
            let bytes = std::fs::read(&path).map_err(io_error("reading", &path))?;
            tree.file(&format!("{modules}{name}"), 0o644, bytes);
        }
    }
    std::fs::remove_dir_all(folder).map_err(io_error("removing", folder))
}

/// The dynamic loader among the tools, and the folder of libraries that it is in.
fn loader(tools: &Tree) -> Result<(String, String), BuildError> {
    let found = tools.entries().find(|(path, entry)| {
        let name = path.rsplit('/').next().unwrap_or_default();
        matches!(entry.node, Node::File(_)) && path.starts_with("usr/lib/") && name.starts_with("ld-linux")
    });
    let missing = || crate::decide::boot::MissingFile {
        path: "usr/lib/*/ld-linux*".into(),
        needed_for: "starts depmod on this machine",
    };
    let (path, _) = found.ok_or_else(missing)?;
    let folder = path.rsplit_once('/').map_or("usr/lib", |(folder, _)| folder);
    Ok((path.into(), folder.into()))
}

/// Puts a part of a tree onto the disk; names come from a tree whose paths have been checked when it was unpacked.
fn materialise(tree: &Tree, base: &Path, wanted: impl Fn(&str) -> bool) -> Result<(), BuildError> {
    for (path, entry) in tree.entries().filter(|(path, _)| wanted(path)) {
        let target = base.join(path);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent).map_err(io_error("making", parent))?;
        }
        match &entry.node {
            Node::Folder => std::fs::create_dir_all(&target).map_err(io_error("making", &target))?,
            Node::Link(to) => symlink(to, &target).map_err(io_error("making a link", &target))?,
            Node::File(Blob::File { path: source, .. }) if entry.mode & 0o111 == 0 => {
                std::fs::hard_link(source, &target).map_err(io_error("linking", &target))?;
            }
            Node::File(blob) => {
                let mut reader = blob.open().map_err(io_error("reading", path))?;
                let mut file = std::fs::File::create(&target).map_err(io_error("making", &target))?;
                std::io::copy(&mut reader, &mut file).map_err(io_error("writing", &target))?;
                if entry.mode & 0o111 != 0 {
                    use std::os::unix::fs::PermissionsExt;
                    file.set_permissions(PermissionsExt::from_mode(0o755)).map_err(io_error("making", &target))?;
                }
            }
        }
    }
    Ok(())
}
