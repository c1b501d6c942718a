//! Kernel modules: the closure of some names over what each module says of itself, and the firmware it asks for.
//!
//! Read from the modules' own `.modinfo` sections, so no index of the whole kernel package has to be made first.
//! A name that is neither a module nor built in fails the build: a machine must not lose its network card in silence.

use crate::parallel;
use crate::source::packages::xz;
use crate::tree::Tree;
use object::{Object, ObjectSection};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};

/// The most a module may unpack to, in bytes; the largest of Debian's (amdgpu) is under 40 MB.
pub const MODULE_LIMIT: u64 = 128 << 20;

/// What can't be decided about modules.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// A set names modules that the kernel package hasn't.
    #[error("the kernel {release} has no module {}", names.join(", "))]
    Unknown {
        /// The kernel's release.
        release: String,
        /// The names.
        names: Vec<String>,
    },
    /// The board's own sets name modules that the kernel package hasn't.
    #[error(
        "the kernel {release} of the package {package} can't drive this board: it has no module {}; the board needs \
         another one as its `kernel.package`", names.join(", ")
    )]
    CantDrive {
        /// The kernel's package.
        package: String,
        /// The kernel's release.
        release: String,
        /// The names.
        names: Vec<String>,
    },
    /// A module can't be read.
    #[error("reading kernel module {path}: {problem}")]
    Read {
        /// Its path in the tree.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// There isn't exactly one kernel.
    #[error("the packages hold {count} kernels, not one")]
    Kernels {
        /// How many.
        count: usize,
    },
}

/// What modules need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Closure {
    /// The modules' paths in the tree.
    pub paths: BTreeSet<String>,
    /// The firmware files that they ask for, relative to the firmware folder.
    pub firmware: BTreeSet<String>,
}

/// The modules of one kernel in a tree.
#[derive(Clone, Debug)]
pub struct Catalogue<'a> {
    tree: &'a Tree,
    /// The kernel's release, such as `6.12.117+deb13-amd64`.
    pub release: String,
    paths: BTreeMap<String, String>,
    built_in: BTreeSet<String>,
}

/// A module's bytes, and what it says of itself.
type Read = (Vec<u8>, Vec<(String, String)>);

const MODULES: &str = "usr/lib/modules/";

impl<'a> Catalogue<'a> {
    /// Lists the modules of the one kernel in a tree.
    ///
    /// # Errors
    /// When there is no kernel or more than one, or its list of built-in modules can't be read.
    pub fn new(tree: &'a Tree) -> Result<Self, ModuleError> {
        let below = |path: &'a str| path.strip_prefix(MODULES).and_then(|rest| rest.split_once('/'));
        let releases: BTreeSet<&str> = tree.entries().filter_map(|(path, _)| Some(below(path)?.0)).collect();
        let mut found = releases.iter();
        let (Some(release), None) = (found.next(), found.next()) else {
            return Err(ModuleError::Kernels { count: releases.len() });
        };
        let paths = tree
            .entries()
            .filter(|(path, _)| path.starts_with(MODULES))
            .filter_map(|(path, _)| Some((name_of(path)?, path.to_string())))
            .collect();
        let list = format!("{MODULES}{release}/modules.builtin");
        let text = match tree.blob(&list) {
            Some(blob) => blob.read().map_err(|error| ModuleError::Read { path: list, problem: error.to_string() })?,
            None => Vec::new(),
        };
        let built_in = String::from_utf8_lossy(&text).lines().filter_map(name_of).collect();
        Ok(Self { tree, release: (*release).into(), paths, built_in })
    }

    /// The closure of some modules over their dependencies, soft ones included.
    ///
    /// # Errors
    /// When a name is unknown, with all unknown names; when a module can't be read.
    pub fn closure(&self, names: &[String]) -> Result<Closure, ModuleError> {
        let mut closure = Closure::default();
        self.extend(&mut closure, names, &mut |_, _| Ok::<_, ModuleError>(()))?;
        Ok(closure)
    }

    /// Adds some modules and their dependencies to a closure. The path of each module that wasn't in it, and its bytes as
    /// the kernel runs them, are given to `each`, in an order that depends on nothing but names and modules.
    ///
    /// # Errors
    /// When a name is unknown, with all unknown names; when a module can't be read; what `each` gives.
    pub fn extend<E: From<ModuleError> + Send>(
        &self,
        closure: &mut Closure,
        names: &[String],
        each: &mut impl FnMut(&str, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let names: Vec<String> = names.iter().map(|name| self.one_of(name)).collect();
        let unknown: Vec<String> = names.iter().filter(|name| !self.knows(name)).cloned().collect();
        if !unknown.is_empty() {
            return Err(ModuleError::Unknown { release: self.release.clone(), names: unknown }.into());
        }
        let mut open = names;
        while !open.is_empty() {
            // A soft dependency may be an alias or absent; what is built in needs no file.
            let paths = open.drain(..).filter_map(|name| self.paths.get(&name));
            let fresh: Vec<&String> = paths.filter(|path| closure.paths.insert((*path).clone())).collect();
            let read = |_: &mut (), path: &&String| Ok(((*path).clone(), self.read(path)?));
            let take = |(path, (module, info)): (String, Read)| {
                for (key, value) in info {
                    match key.as_str() {
                        "depends" => open.extend(value.split(',').filter(|name| !name.is_empty()).map(canonical)),
                        "softdep" => {
                            open.extend(value.split_whitespace().filter(|word| !word.ends_with(':')).map(canonical));
                        }
                        "firmware" => drop(closure.firmware.insert(value)),
                        _ => {}
                    }
                }
                each(&path, &module)
            };
            parallel::ordered(parallel::threads(), &fresh, || Ok(()), read, take)?;
        }
        Ok(())
    }

    /// The one that this kernel has of the names that kernels had for the same: `ntfs3|ntfs`.
    fn one_of(&self, names: &str) -> String {
        names.split('|').map(canonical).find(|name| self.knows(name)).unwrap_or_else(|| canonical(names))
    }

    fn knows(&self, name: &str) -> bool {
        self.paths.contains_key(name) || self.built_in.contains(name)
    }

    fn read(&self, path: &str) -> Result<Read, ModuleError> {
        let failed = |problem: String| ModuleError::Read { path: path.into(), problem };
        let packed = match self.tree.blob(path) {
            Some(blob) => blob.read().map_err(|error| failed(error.to_string()))?,
            None => return Err(failed("is not a file".into())),
        };
        let module = plain(path, packed).map_err(|error| failed(error.to_string()))?;
        let info = modinfo(&module).map_err(failed)?;
        Ok((module, info))
    }
}

/// A module's bytes as the kernel runs them, its signature behind them, from what is at a path.
///
/// # Errors
/// When it is damaged.
pub fn plain(path: &str, packed: Vec<u8>) -> io::Result<Vec<u8>> {
    if plain_path(path) == path {
        return Ok(packed);
    }
    let mut module = Vec::new();
    xz(&packed[..])?.take(MODULE_LIMIT).read_to_end(&mut module)?;
    Ok(module)
}

/// A module's path when it isn't packed any more.
pub fn plain_path(path: &str) -> &str {
    path.strip_suffix(".xz").unwrap_or(path)
}

/// The key=value texts of a module's `.modinfo` section.
///
/// # Errors
/// Why it is no module, in words.
pub fn modinfo(module: &[u8]) -> Result<Vec<(String, String)>, String> {
    let file = object::File::parse(module).map_err(|error| error.to_string())?;
    let section = file.section_by_name(".modinfo").ok_or("has no .modinfo section")?;
    let bytes = section.data().map_err(|error| error.to_string())?;
    Ok(bytes
        .split(|byte| *byte == 0)
        .filter_map(|text| std::str::from_utf8(text).ok()?.split_once('='))
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect())
}

/// The module's name from its path: without folders and endings, dashes as underscores (as the kernel shows it).
pub fn name_of(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let (name, ending) = file.split_once(".ko")?;
    ["", ".xz", ".zst", ".gz"].contains(&ending).then(|| canonical(name))
}

fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
pub mod testing {
    //! A kernel module for tests.

    /// A minimal ELF object with just a `.modinfo` section.
    pub fn module(info: &str) -> Vec<u8> {
        let names = b"\0.modinfo\0.shstrtab\0";
        let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let sections_at = 64 + info.len() + names.len();
        elf.extend([1u16, 62].iter().flat_map(|half| half.to_le_bytes()));
        elf.extend(1u32.to_le_bytes());
        elf.extend([0u64, 0, sections_at as u64].iter().flat_map(|word| word.to_le_bytes()));
        elf.extend(0u32.to_le_bytes());
        elf.extend([64u16, 0, 0, 64, 3, 2].iter().flat_map(|half| half.to_le_bytes()));
        elf.extend(info.as_bytes());
        elf.extend(names);
        let mut section = |name: u32, kind: u32, at: usize, length: usize| {
            elf.extend(name.to_le_bytes());
            elf.extend(kind.to_le_bytes());
            elf.extend([0u64, 0, at as u64, length as u64, 0, 1, 0].iter().flat_map(|word| word.to_le_bytes()));
        };
        section(0, 0, 0, 0);
        section(1, 1, 64, info.len());
        section(10, 3, 64 + info.len(), names.len());
        elf
    }
}

#[cfg(test)]
mod tests {
    use super::testing::module;
    use super::*;

    fn kernel() -> Tree {
        let mut tree = Tree::default();
        let folder = "usr/lib/modules/6.12/kernel";
        tree.file(
            &format!("{folder}/net/wired-card.ko"),
            0o644,
            module("depends=phy-lib\0firmware=card/a.fw\0softdep=pre: ghost\0"),
        );
        tree.file(&format!("{folder}/net/phy_lib.ko"), 0o644, module("depends=\0"));
        tree.file(&format!("{folder}/net/other.ko"), 0o644, module("depends=\0"));
        tree.file("usr/lib/modules/6.12/modules.builtin", 0o644, b"kernel/fs/proc-fs.ko\n".to_vec());
        tree
    }

    #[test]
    fn the_closure_follows_dependencies_and_collects_firmware() {
        let tree = kernel();
        let catalogue = Catalogue::new(&tree).unwrap();
        assert_eq!(catalogue.release, "6.12");
        let closure = catalogue.closure(&["wired-card".into(), "proc_fs".into()]).unwrap();
        let names: Vec<_> = closure.paths.iter().filter_map(|path| name_of(path)).collect();
        assert_eq!(names, ["phy_lib", "wired_card"]);
        assert_eq!(closure.firmware.into_iter().collect::<Vec<_>>(), ["card/a.fw"]);
    }

    #[test]
    fn all_unknown_names_are_told() {
        let tree = kernel();
        let catalogue = Catalogue::new(&tree).unwrap();
        let error = catalogue.closure(&["nope".into(), "other".into(), "nada".into()]).unwrap_err();
        assert_eq!(error.to_string(), "the kernel 6.12 has no module nope, nada");
        let error = catalogue.closure(&["nope|nada".into()]).unwrap_err();
        assert_eq!(error.to_string(), "the kernel 6.12 has no module nope|nada");
        assert_eq!(catalogue.closure(&["nope|other".into()]).unwrap(), catalogue.closure(&["other".into()]).unwrap());
    }

    #[test]
    fn a_damaged_module_is_named() {
        let mut tree = kernel();
        tree.file("usr/lib/modules/6.12/kernel/bad.ko", 0o644, b"\x7fELF".to_vec());
        let error = Catalogue::new(&tree).unwrap().closure(&["bad".into()]).unwrap_err();
        assert!(error.to_string().contains("kernel/bad.ko"), "{error}");
    }
}
