//! The packages a mirror offers: `Packages` of each suite and component, read once into a compact index.
//!
//! Reads a stream that `InRelease` vouches for and still trusts no size in it: decompression is capped by what the
//! Release said. Keeps only what resolving, fetching and locking need; relations stay text until one is asked for.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read};

use super::deb822::{Stanza, Stanzas};
use super::digest::Sha256;
use super::relation::{self, Relation, is_package_name, is_version};
use liblzma::bufread::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};

/// Memory that decompressing an index or package may take, in bytes; `xz -9` needs 65 MiB.
const XZ_MEMORY: u64 = 128 << 20;

/// By how much the priority of a further repository's packages ranks lower; greater than any rank of Debian's.
const FURTHER: u8 = 16;

/// One package as a suite offers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// "amd64" and such, or "all".
    pub architecture: String,
    /// Position of its suite in the list of suites.
    pub suite: usize,
    /// Path of the .deb below the archive's root.
    pub pool: String,
    /// Size of the .deb in bytes.
    pub size: u64,
    /// Sum of the .deb.
    pub sha256: Sha256,
    /// Rank of its priority, 0 for "required", Debian's before others'; decides between packages that provide the same.
    pub priority: u8,
    /// `Pre-Depends` and `Depends`.
    pub depends: String,
    /// `Provides`.
    pub provides: String,
    /// `Conflicts`.
    pub conflicts: String,
    /// `Breaks`.
    pub breaks: String,
}

/// All packages of all suites.
#[derive(Debug, Default)]
pub struct Index {
    packages: Vec<Package>,
    by_name: HashMap<String, Vec<usize>>,
    /// Who provides a name; what they say about it stays text until it is asked for.
    providers: HashMap<String, Vec<usize>>,
}

impl Index {
    /// Adds what one `Packages` file lists for `architecture` (and "all"). Other architectures are passed over.
    pub fn add(&mut self, reader: impl BufRead, suite: usize, architecture: &str) -> io::Result<()> {
        let mut stanzas = Stanzas::new(reader);
        while let Some(stanza) = stanzas.next_stanza()? {
            if !stanza.get("Architecture").is_some_and(|found| found == architecture || found == "all") {
                continue;
            }
            let package = read_package(&stanza, suite).map_err(|field| {
                let name = stanza.get("Package").unwrap_or("?");
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("package {name:?}: the field {field} is missing or bad"),
                )
            })?;
            self.insert(package)?;
        }
        Ok(())
    }

    /// Adds what another index has under names that aren't taken, and under those of `prefer` in place of what is there.
    pub(crate) fn add_further(&mut self, other: Self, prefer: &[String]) -> io::Result<()> {
        for name in prefer {
            for place in self.by_name.remove(name).into_iter().flatten() {
                self.providers.values_mut().for_each(|providers| providers.retain(|provider| *provider != place));
            }
        }
        let taken: std::collections::HashSet<String> = self.by_name.keys().cloned().collect();
        for mut package in other.packages {
            if !taken.contains(&package.name) {
                // Of several that provide the same, Debian's comes first.
                package.priority = package.priority.saturating_add(FURTHER);
                self.insert(package)?;
            }
        }
        Ok(())
    }

    fn insert(&mut self, package: Package) -> io::Result<()> {
        let place = self.packages.len();
        if !package.provides.is_empty() {
            let provided = relation::parse_list(&package.provides).map_err(|error| {
                io::Error::new(io::ErrorKind::InvalidData, format!("package {}: {error}", package.name))
            })?;
            for relation in provided {
                let providers = self.providers.entry(relation.name).or_default();
                if providers.last() != Some(&place) {
                    providers.push(place);
                }
            }
        }
        self.by_name.entry(package.name.clone()).or_default().push(place);
        self.packages.push(package);
        Ok(())
    }

    /// All versions of a package, in the order of suites.
    pub fn named(&self, name: &str) -> impl Iterator<Item = &Package> {
        self.by_name.get(name).into_iter().flatten().filter_map(|place| self.packages.get(*place))
    }

    /// All packages that provide a name, with what they say about it.
    pub fn providing(&self, name: &str) -> impl Iterator<Item = (&Package, Relation)> {
        let found = self.providers.get(name).into_iter().flatten().filter_map(|place| self.packages.get(*place));
        found.flat_map(move |package| {
            let provided = relation::parse_list(&package.provides).unwrap_or_default();
            provided.into_iter().filter(move |relation| relation.name == name).map(move |relation| (package, relation))
        })
    }
}

/// Opens a compressed index by the end of its name; gives at most `limit` bytes, more is an error.
pub fn decompress<'a>(name: &str, reader: impl Read + 'a, limit: u64) -> io::Result<Box<dyn BufRead + 'a>> {
    let reader: Box<dyn Read + 'a> = match name.rsplit_once('.').map(|(_, end)| end) {
        Some("xz") => Box::new(xz(BufReader::with_capacity(1 << 16, reader))?),
        Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(reader)),
        _ => Box::new(reader),
    };
    Ok(Box::new(BufReader::with_capacity(1 << 16, Capped { inner: reader, left: limit })))
}

/// Decompresses xz, one stream or several, in bounded memory.
pub(crate) fn xz<'a>(reader: impl BufRead + 'a) -> io::Result<impl Read + 'a> {
    let decoder = Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED).map_err(io::Error::from)?;
    Ok(XzDecoder::new_stream(reader, decoder))
}

/// Gives an error instead of more than was allowed.
pub(crate) struct Capped<R> {
    pub(crate) inner: R,
    pub(crate) left: u64,
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self
            .left
            .checked_sub(read as u64)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is bigger than was promised"))?;
        Ok(read)
    }
}

/// Whether a path below an archive's root is plain: relative, no `..`, nothing a URL would read otherwise.
pub fn is_pool_path(path: &str) -> bool {
    !path.is_empty()
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
        && path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/+-._~:".contains(&byte))
}

fn read_package(stanza: &Stanza, suite: usize) -> Result<Package, &'static str> {
    let field = |name: &'static str, fit: fn(&str) -> bool| {
        stanza.get(name).map(str::trim).filter(|value| fit(value)).map(str::to_owned).ok_or(name)
    };
    let list = |name| stanza.get(name).map(|value| value.trim().replace('\n', " ")).unwrap_or_default();
    let depends = [list("Pre-Depends"), list("Depends")];
    let sum = field("SHA256", |_| true)?;
    Ok(Package {
        name: field("Package", is_package_name)?,
        version: field("Version", is_version)?,
        architecture: field("Architecture", is_package_name)?,
        suite,
        pool: field("Filename", is_pool_path)?,
        size: field("Size", |_| true)?.parse().map_err(|_| "Size")?,
        sha256: sum.parse().map_err(|_| "SHA256")?,
        priority: priority_rank(stanza.get("Priority").unwrap_or("")),
        depends: depends.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(", "),
        provides: list("Provides"),
        conflicts: list("Conflicts"),
        breaks: list("Breaks"),
    })
}

fn priority_rank(priority: &str) -> u8 {
    let known = ["required", "important", "standard", "optional"];
    known.iter().position(|name| *name == priority).unwrap_or(known.len()) as u8
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STANZA: &str = "Package: kmod\nVersion: 34.2-2\nArchitecture: amd64\nDepends: libc6 (>= 2.38),\n libkmod2 (= 34.2-2)\n\
        Pre-Depends: a\nProvides: v (= 1), w\nPriority: important\nFilename: pool/main/k/kmod/kmod_34.2-2_amd64.deb\nSize: 5\n\
        SHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n\n";

    fn add(text: &str) -> io::Result<Index> {
        let mut index = Index::default();
        index.add(text.as_bytes(), 0, "amd64").map(|()| index)
    }

    #[test]
    fn keeps_what_is_needed() {
        let index = add(&format!("{STANZA}{}", STANZA.replace("amd64\nDep", "arm64\nDep"))).unwrap();
        assert_eq!(index.named("kmod").count(), 1);
        let kmod = index.named("kmod").next().unwrap();
        assert_eq!(
            (kmod.depends.as_str(), kmod.priority, kmod.size),
            ("a, libc6 (>= 2.38), libkmod2 (= 34.2-2)", 1, 5)
        );
        assert_eq!(relation::parse_groups(&kmod.depends).unwrap().len(), 3);
        assert_eq!(index.providing("v").next().unwrap().1.to_string(), "v (= 1)");
        assert_eq!(index.providing("x").count(), 0);
    }

    #[test]
    fn a_bad_field_is_named() {
        for (from, to, named) in [
            ("pool/main", "../main", "Filename"),
            ("Size: 5", "Size: -5", "Size"),
            ("SHA256: e3", "SHA256: x", "SHA256"),
            ("Version: 34.2-2", "Version: 1 2", "Version"),
            ("Package: kmod", "Package: ../kmod", "Package"),
            ("Provides: v (", "Provides: v [", "kmod"),
        ] {
            let error = add(&STANZA.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn decompression_is_capped() {
        let mut text = String::new();
        assert!(decompress("Packages", &b"12345"[..], 4).unwrap().read_to_string(&mut text).is_err());
        assert!(decompress("Packages", &b"12345"[..], 5).unwrap().read_to_string(&mut text).is_ok());
        let packed = crate::source::testing::pack_xz(&[b'x'; 100_000]);
        assert!(decompress("Packages.xz", packed.as_slice(), 99_999).unwrap().read_to_string(&mut text).is_err());
        assert!(decompress("Packages.xz", packed.as_slice(), 100_000).unwrap().read_to_string(&mut text).is_ok());
        assert!(
            decompress("Packages.xz", &packed[..packed.len() - 1], 100_000).unwrap().read_to_string(&mut text).is_err()
        );
        assert!(decompress("Packages.xz", &b"no xz"[..], 100).unwrap().read_to_string(&mut text).is_err());
        assert!(decompress("Packages.gz", &b"no gz"[..], 100).unwrap().read_to_string(&mut text).is_err());
    }

    proptest! {
        #[test]
        fn any_text_ends_without_panic(text in "(Package|Version|Size|Filename)?: ?.{0,30}\n{1,2}") {
            let _ = add(&text);
        }
    }
}
