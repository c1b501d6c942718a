//! What a person adds to an appliance: files, units, certificates, container images, manifests, charts, registries.
//!
//! Everything is read and judged here, before there is an image: all findings at once, each with the file and line that
//! it is about. What is then put into the root tree is fixed; nothing here fetches, and no secret comes near it: only
//! references to them, which the device fills in.

pub mod archive;
pub mod chart;
mod files;
mod lookup;
mod manifests;
mod programs;
pub mod reference;
pub mod trust;

pub use files::holds_private_key;

use crate::config::Config;
use crate::error::{BuildError, io_error};
use crate::payload::Payload;
use crate::tree::{Blob, Entry, Node, Tree};
use archive::Archive;
use bakelite_spec::appliance::{K3s, Proxy, Registries, TextOrSecret};
use bakelite_spec::apps::{ARCHIVES, CHARTS, MANIFESTS, may_be_placed};
use bakelite_spec::bundle::Part;
use bakelite_spec::finding::{Finding, stops};
use bakelite_spec::manifest::{Pass, PayloadFile, PlacedFile, UserManifest};
use bakelite_spec::secret::{self, Quoting, SecretRef};
use bakelite_spec::status::paths;
use serde_json::{Map, Value};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

const REGISTRIES: &str = "/etc/rancher/k3s/registries.yaml";
/// A drop-in of config.yaml (k3s.md 5.1: read after it, in lexical order).
const SECRET_CONFIG: &str = "/etc/rancher/k3s/config.yaml.d/90-bakelite-secrets.yaml";
const BUNDLE: &str = "etc/ssl/certs/ca-certificates.crt";

/// What a person adds, read and judged.
#[derive(Debug, Default)]
pub struct User {
    /// What the device has to know.
    pub manifest: UserManifest,
    /// What a person should know although nothing is wrong.
    pub warnings: Vec<Finding>,
    /// The archives of container images, in the order of the configuration.
    archives: Vec<Archive>,
    /// Entries of the root tree.
    entries: Vec<(String, Entry)>,
    /// Certificates in PEM, to be trusted besides the public ones.
    certificates: Vec<u8>,
    /// Images that manifests and charts name, to be looked up once all archives are known.
    wanted: Vec<lookup::Wanted>,
}

/// Reads all that a configuration adds.
///
/// # Errors
/// All findings, when one of them stops the work.
pub fn load(config: &Config) -> Result<User, Vec<Finding>> {
    let mut loading = Loading { config, user: User::default(), findings: Vec::new() };
    files::load(&mut loading);
    trust::load(&mut loading);
    archive::load(&mut loading);
    manifests::load(&mut loading);
    chart::load(&mut loading);
    loading.registries(&config.appliance.registries);
    loading.secret_config(&config.appliance.k3s);
    loading.proxy(&config.appliance.proxy);
    let Loading { mut user, findings, .. } = loading;
    user.manifest.secrets.sort();
    user.manifest.secrets.dedup();
    user.manifest.workloads.sort();
    user.manifest.placed.sort_by(|left, right| left.to.cmp(&right.to));
    if stops(&findings) {
        return Err(findings);
    }
    user.warnings = findings;
    Ok(user)
}

/// What is being read.
struct Loading<'a> {
    config: &'a Config,
    user: User,
    findings: Vec<Finding>,
}

impl Loading<'_> {
    /// A finding about a key of the appliance.
    fn report(&mut self, finding: Finding) {
        self.findings.push(self.config.placed(finding));
    }

    /// The path of a file that the appliance names.
    fn path(&self, name: &str) -> PathBuf {
        self.config.folder.join(name)
    }

    /// Reads a file of at most so many bytes, or reports why not.
    fn read(&mut self, key: &str, path: &Path, limit: u64) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let opened = std::fs::File::open(path).and_then(|file| {
            if file.metadata()?.is_file() { file.take(limit + 1).read_to_end(&mut bytes) } else { Err(not_a_file()) }
        });
        let problem = match opened {
            Err(error) => format!("{} can't be read: {error}", path.display()),
            Ok(count) if count as u64 > limit => {
                format!("{} is larger than {} KiB", path.display(), limit >> 10)
            }
            Ok(_) => return Some(bytes),
        };
        self.report(Finding::error(key, problem, "the name of a file, relative to this one"));
        None
    }

    /// Puts a file into the system partition, and has the device put it in its place.
    fn place(&mut self, folder: &str, name: &str, content: Vec<u8>, mut placed: PlacedFile) {
        placed.from = format!("{}/user/{folder}/{name}", paths::LIBRARY);
        if let Some(text) = std::str::from_utf8(&content).ok().filter(|_| placed.quoting.is_some()) {
            self.user.manifest.secrets.extend(secret::references(text));
        }
        let entry = Entry { mode: 0o600, owner: 0, group: 0, node: Node::File(content.into()) };
        self.user.entries.push((placed.from.trim_start_matches('/').into(), entry));
        self.user.manifest.placed.push(placed);
    }

    /// registries.yaml.
    fn registries(&mut self, registries: &Registries) {
        if !registries.is_empty() {
            let values = serde_json::to_value(registries).unwrap_or_default();
            self.place_values("registries.yaml", REGISTRIES, "registries", &values);
        }
    }

    /// The keys of `k3s.config` that are secrets, as a drop-in of config.yaml: no decision ever sees their values.
    fn secret_config(&mut self, k3s: &K3s) {
        let secrets: Map<String, Value> = k3s
            .config
            .iter()
            .filter(|(_, value)| SecretRef::of(value).is_some())
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        if !secrets.is_empty() {
            self.place_values("secrets.yaml", SECRET_CONFIG, "k3s.config", &Value::Object(secrets));
        }
        self.user.manifest.secrets.extend(k3s.token.clone());
    }

    /// A proxy's address stays a reference up to the start of k3s.
    fn proxy(&mut self, proxy: &Proxy) {
        for address in [&proxy.http, &proxy.https].into_iter().flatten() {
            if let TextOrSecret::Secret(reference) = address {
                self.user.manifest.secrets.push(reference.clone());
            }
        }
    }

    /// A file for k3s: JSON, which is YAML, with a reference wherever a secret goes.
    fn place_values(&mut self, name: &str, to: &str, key: &str, values: &Value) {
        let mut content = format!("# Written by bakelite from `{key}` in the appliance.\n{values}");
        for reference in secret::references_in(values) {
            // As a tree, a reference would be a mapping with quotes; as a text, it is what the device looks for.
            let tree = serde_json::to_string(&reference).unwrap_or_default();
            content = content.replace(&tree, &reference.to_string());
        }
        content.push('\n');
        self.place("k3s", name, content.into_bytes(), placed(to, Some(Quoting::Json), Pass::Settle));
    }
}

fn not_a_file() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is not a file")
}

/// A file of root's that the device places, mode 0600; its source is filled in later.
fn placed(to: &str, quoting: Option<Quoting>, pass: Pass) -> PlacedFile {
    PlacedFile { from: String::new(), to: to.into(), mode: 0o600, owner: 0, group: 0, quoting, pass }
}

impl User {
    /// Adds the archives of container images to a payload, where k3s finds them like its own.
    pub fn add_images(&self, payload: &mut Payload) {
        for archive in &self.archives {
            payload.manifest.files.push(PayloadFile {
                path: format!("{ARCHIVES}/{}", archive.name),
                size: archive.size,
                sha256: archive.sha256.to_string(),
                images: true,
            });
            payload.blobs.push(Blob::File { path: archive.path.clone(), length: archive.size, sha256: archive.sha256 });
        }
    }

    /// What a bundle of apps takes of it: archives of container images, then what k3s is to find beside its own manifests and
    /// charts; each with its bytes.
    ///
    /// # Errors
    /// When a file of its can't be read any more.
    pub fn apps(&self) -> io::Result<Vec<(Part, Blob)>> {
        let archives = self.archives.iter().map(|archive| {
            let blob = Blob::File { path: archive.path.clone(), length: archive.size, sha256: archive.sha256 };
            (format!("images/{}", archive.name), None, None, blob)
        });
        let user = format!("{}/user/", paths::LIBRARY);
        let files = self.manifest.placed.iter().filter(|file| may_be_placed(&file.to)).filter_map(|file| {
            let path = file.from.trim_start_matches('/');
            let (_, entry) = self.entries.iter().find(|(known, _)| known == path)?;
            let Node::File(blob) = &entry.node else { return None };
            Some((file.from.strip_prefix(&user)?.to_string(), Some(file.to.clone()), file.quoting, blob.clone()))
        });
        let all = archives.chain(files).map(|(name, to, quoting, blob)| {
            let sha256 = blob.sum()?.to_string();
            Ok((Part { name, size: blob.length(), sha256, to, quoting, ..Part::default() }, blob))
        });
        all.collect()
    }

    /// Looks up each image that a manifest or a chart names, also in the payload's own archives; tells images that are
    /// there twice.
    ///
    /// # Errors
    /// All findings, when one of them stops the work; when the payload's archive can't be read.
    pub fn look_up(&self, config: &Config, payload: Option<&Payload>) -> Result<Vec<Finding>, Vec<Finding>> {
        let findings = lookup::findings(self, config, payload);
        if stops(&findings) { Err(findings) } else { Ok(findings) }
    }

    /// Puts all of it into the root tree, and proves that the programs of the units are there and are for the board.
    ///
    /// # Errors
    /// When a file is in the way of another, or with findings about units.
    pub fn add_to(&self, root: &mut Tree, config: &Config) -> Result<(), BuildError> {
        for (path, entry) in &self.entries {
            let above = path.match_indices('/').map(|(at, _)| &path[..at]);
            let blocked = above.clone().find(|above| root.get(above).is_some_and(|found| found.node != Node::Folder));
            if let Some(blocked) = blocked {
                return Err(BuildError::UserFile { path: format!("/{path}"), blocked: format!("/{blocked}") });
            }
            if root.get(path).is_some_and(|found| found.node == Node::Folder) {
                return Err(BuildError::UserFile { path: format!("/{path}"), blocked: format!("/{path}") });
            }
            root.put(path, entry.clone());
        }
        if !self.certificates.is_empty() {
            let mut bundle = match root.blob(BUNDLE) {
                Some(blob) => blob.read().map_err(io_error("reading", BUNDLE))?,
                None => Vec::new(),
            };
            bundle.extend_from_slice(&self.certificates);
            root.file(BUNDLE, 0o644, bundle);
        }
        let findings = programs::findings(root, config);
        if findings.is_empty() { Ok(()) } else { Err(BuildError::Config { findings }) }
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
