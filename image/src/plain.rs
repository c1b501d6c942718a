//! The kernel modules that an image gets. Those of its board are unpacked: the kernel takes most of a boot's time for
//! unpacking xz on one core, and squashfs packs them again, to nearly the same size, with what unpacks ten times as fast.
//! What an appliance adds stays as Debian packs it: few boots load much of it, and it is smaller so.
//!
//! All of them, unpacked, are one layer of the cache, named by the packages' modules and the names that were asked for, so
//! that a rebuild unpacks none and reads no module to know its closure. All processors unpack; few modules at a time are in
//! memory.

use crate::decide::modules::{Catalogue, Closure, plain_path};
use crate::derived::{Derived, Kind, Work};
use crate::error::{BuildError, io_error};
use crate::host::file;
use crate::source::digest::Sha256;
use crate::tree::{Blob, Node, Tree};
use crate::unpack::layer::{self, Chunk, Layer};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;

/// The layer's name; no package has one with a space.
const NAME: &str = "kernel modules";

/// The last chunk of the layer: what is in the others.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Index {
    /// The board's modules and what they need.
    own: Vec<Place>,
    /// What the appliance adds to them.
    added: Vec<Place>,
    /// The firmware that all of them ask for.
    firmware: BTreeSet<String>,
}

/// A module's path in the packages' tree, and where it begins in the layer, and its length there, in bytes.
type Place = (String, u64, u64);

/// The names of the modules that an image gets.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// Those of its board.
    pub own: &'a [String],
    /// Those that its appliance adds.
    pub added: &'a [String],
}

/// The packages' tree with the modules as the image gets them.
#[derive(Debug, PartialEq)]
pub struct Unpacked {
    /// The tree.
    pub tree: Tree,
    /// The modules with what they need.
    pub modules: Closure,
    /// The modules that stay packed in the tree, by their paths there, unpacked: for whoever reads them.
    pub packed: Vec<(String, Blob)>,
}

/// Unpacks the board's modules in the place of the packed ones.
///
/// # Errors
/// When a name is unknown, a module can't be read, or the cache can't be written.
pub fn unpack(packages: &Tree, names: Names<'_>, derived: &Derived, work: &Work) -> Result<Unpacked, BuildError> {
    let catalogue = Catalogue::new(packages)?;
    let key = key(packages, names);
    let (layer, index) = match kept(derived, &key)? {
        Some(found) => found,
        None => make(&catalogue, names, derived, work, &key)?,
    };
    let layer = Arc::new(layer);
    let blob = |offset, length| Blob::Part { layer: layer.clone(), offset, length };
    let mut tree = packages.clone();
    let replaced: BTreeSet<&str> = index.own.iter().map(|(path, ..)| path.as_str()).collect();
    tree.retain(|path, _| !replaced.contains(path));
    let mut modules = Closure { paths: BTreeSet::new(), firmware: index.firmware };
    for (path, offset, length) in index.own {
        let path = plain_path(&path);
        tree.file(path, 0o644, blob(offset, length));
        modules.paths.insert(path.into());
    }
    modules.paths.extend(index.added.iter().map(|(path, ..)| path.clone()));
    let packed = index.added.into_iter().map(|(path, offset, length)| (path, blob(offset, length))).collect();
    Ok(Unpacked { tree, modules, packed })
}

/// Stands for all modules that there are, and for those that are wanted.
fn key(packages: &Tree, names: Names<'_>) -> Sha256 {
    let mut text = format!("{NAME}\n{}\n{}\n", names.own.join(" "), names.added.join(" "));
    for (path, entry) in packages.entries().filter(|(path, _)| path.starts_with("usr/lib/modules/")) {
        if let Node::File(blob) = &entry.node {
            text.push_str(&format!("{path} {}\n", blob.key()));
        }
    }
    Sha256::of(text.as_bytes())
}

/// The layer that the cache has; a damaged one is removed.
fn kept(derived: &Derived, key: &Sha256) -> Result<Option<(Layer, Index)>, BuildError> {
    let Some(file) = derived.find(Kind::Layer, key) else { return Ok(None) };
    let whole = Layer::new(NAME, *key, file).filter(|layer| layer::damaged(&[layer]).is_empty());
    match whole.and_then(|layer| read_index(&layer).map(|index| (layer, index))) {
        Some(found) => Ok(Some(found)),
        None => derived.remove(Kind::Layer, key).map(|()| None),
    }
}

fn read_index(layer: &Layer) -> Option<Index> {
    let (at, chunk) = layer.chunks().last()?;
    let mut bytes = vec![0; usize::try_from(chunk.length).ok()?];
    layer.read_at(&mut bytes, at).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn make(
    catalogue: &Catalogue<'_>,
    names: Names<'_>,
    derived: &Derived,
    work: &Work,
    key: &Sha256,
) -> Result<(Layer, Index), BuildError> {
    let mut temporary = file::begin(work.path())?;
    let path = temporary.path().to_path_buf();
    let (mut chunks, mut index, mut at) = (Vec::new(), Index::default(), 0);
    let mut add = |bytes: &[u8]| -> Result<u64, BuildError> {
        temporary.write_all(bytes).map_err(io_error("writing", &path))?;
        chunks.push(Chunk { length: bytes.len() as u64, sha256: *Sha256::of(bytes).bytes() });
        at += bytes.len() as u64;
        Ok(at - bytes.len() as u64)
    };
    let mut closure = Closure::default();
    for (names, places) in [(names.own, &mut index.own), (names.added, &mut index.added)] {
        catalogue.extend(&mut closure, names, &mut |path, module| {
            places.push((path.into(), add(module)?, module.len() as u64));
            Ok::<_, BuildError>(())
        })?;
    }
    index.firmware = closure.firmware;
    add(&serde_json::to_vec(&index).map_err(|error| io_error("writing", &path)(error.into()))?)?;
    Layer::finish(temporary.as_file(), &chunks).map_err(io_error("writing", &path))?;
    let file = derived.keep(temporary, Kind::Layer, key)?;
    let layer = Layer::new(NAME, *key, file)
        .ok_or_else(|| io_error("reading back", path)(std::io::Error::other("it is not what was just written")))?;
    Ok((layer, index))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::modules::testing::module;
    use crate::source::testing::pack_xz;

    #[test]
    fn wanted_modules_are_unpacked_once_and_a_damaged_layer_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let derived = Derived::open(folder.path()).unwrap();
        let work = derived.work().unwrap();
        let mut packages = Tree::default();
        let (one, other) = (module("depends=b\0firmware=a.fw\0"), module("depends=\0"));
        for (name, content) in [("a", &one), ("b", &other), ("c", &other)] {
            packages.file(&format!("usr/lib/modules/6.12/kernel/{name}.ko.xz"), 0o644, pack_xz(content));
        }
        let names = Names { own: &["a".into()], added: &[] };
        let unpack = |packages: &Tree| unpack(packages, names, &derived, &work).unwrap();
        let Unpacked { tree, modules: closure, .. } = unpack(&packages);
        let names = |tree: &Tree| -> Vec<String> {
            let files = tree.entries().filter(|(_, entry)| entry.node != Node::Folder);
            files.map(|(path, _)| path.rsplit('/').next().unwrap().to_string()).collect()
        };
        assert_eq!(names(&tree), ["a.ko", "b.ko", "c.ko.xz"]);
        assert_eq!(tree.blob("usr/lib/modules/6.12/kernel/a.ko").unwrap().read().unwrap(), one);
        assert_eq!(closure.paths.len(), 2);
        assert_eq!(closure.firmware.iter().collect::<Vec<_>>(), ["a.fw"]);

        let entry = || std::fs::read_dir(folder.path().join("made/1/layers")).unwrap().next().unwrap().unwrap().path();
        let made = std::fs::metadata(entry()).unwrap().modified().unwrap();
        assert_eq!(unpack(&packages), Unpacked { tree, modules: closure, packed: Vec::new() });
        let mut bytes = std::fs::read(entry()).unwrap();
        bytes[100] ^= 1;
        file::write(&entry(), &bytes).unwrap();
        let again = unpack(&packages).tree;
        assert_eq!(again.blob("usr/lib/modules/6.12/kernel/a.ko").unwrap().read().unwrap(), one);
        assert!(std::fs::metadata(entry()).unwrap().modified().unwrap() > made);
        packages.file("usr/lib/modules/6.12/kernel/b.ko.xz", 0o644, pack_xz(&one));
        assert_eq!(unpack(&packages).modules.paths.len(), 2, "other modules are another layer");
        assert_eq!(std::fs::read_dir(folder.path().join("made/1/layers")).unwrap().count(), 2);
    }
    #[test]
    fn what_an_appliance_adds_stays_packed_and_can_be_read_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let derived = Derived::open(folder.path()).unwrap();
        let work = derived.work().unwrap();
        let mut packages = Tree::default();
        let path = |name: &str| format!("usr/lib/modules/6.12/kernel/{name}");
        for (name, info) in
            [("a", "depends=b\0"), ("b", "depends=\0"), ("c", "depends=b,d\0"), ("d", "firmware=d.fw\0")]
        {
            packages.file(&path(&format!("{name}.ko.xz")), 0o644, pack_xz(&module(info)));
        }
        let names = Names { own: &["a".into()], added: &["c".into()] };
        let unpacked = unpack(&packages, names, &derived, &work).unwrap();
        let paths: Vec<String> = ["a.ko", "b.ko", "c.ko.xz", "d.ko.xz"].map(path).to_vec();
        assert_eq!(unpacked.modules.paths.iter().cloned().collect::<Vec<_>>(), paths);
        assert_eq!(unpacked.modules.firmware.iter().collect::<Vec<_>>(), ["d.fw"]);
        assert_eq!(unpacked.tree.blob(&paths[2]), packages.blob(&paths[2]));
        let (found, plain): (Vec<String>, Vec<Vec<u8>>) =
            unpacked.packed.iter().map(|(path, blob)| (path.clone(), blob.read().unwrap())).unzip();
        assert_eq!(found, paths[2..]);
        assert_eq!(plain, [module("depends=b,d\0"), module("firmware=d.fw\0")]);
    }
}
