//! `manifests`: Kubernetes objects that k3s deploys at its start. Each is parsed as k3s would, its containers are looked
//! at, and what would only fail in the field is said here, with the file and the line.

use super::files::{INSTEAD, holds_private_key};
use super::lookup::Wanted;
use super::reference::Reference;
use super::{Loading, MANIFESTS, placed};
use bakelite_spec::check::{Path as KeyPath, Step};
use bakelite_spec::finding::Finding;
use bakelite_spec::manifest::Pass;
use bakelite_spec::secret::{Quoting, SecretRef, count};
use bakelite_spec::workload::workload;
use bakelite_spec::yaml::place_in;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The most a manifest may have, in bytes: an object in the cluster has at most 1.5 MB.
const LIMIT: u64 = 3 << 20;
/// The most files that a folder may bring.
const FILES_LIMIT: usize = 1000;
/// Endings that k3s's controller reads (k3s.md 5.5).
const ENDINGS: &[&str] = &["yaml", "yml", "json"];

/// One object of a manifest.
struct Object<'a> {
    /// The file as a person named it.
    file: &'a str,
    text: &'a str,
    document: usize,
    path: KeyPath,
    value: &'a Value,
}

pub(super) fn load(loading: &mut Loading<'_>) {
    let mut names: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut objects: BTreeMap<String, String> = BTreeMap::new();
    for (number, given) in loading.config.appliance.manifests.iter().enumerate() {
        let key = format!("manifests[{number}]");
        let top = loading.path(given);
        let files = match files_of(&top) {
            Ok(files) => files,
            Err(problem) => {
                let problem = format!("{} {problem}", top.display());
                loading.report(Finding::error(&key, problem, "a YAML or JSON file, or a folder of them"));
                continue;
            }
        };
        for path in files {
            let name = file_name(&top, &path);
            if let Some(other) = names.insert(name.clone(), path.clone()) {
                let problem = format!("{} would have the name of {} on the device", path.display(), other.display());
                loading.report(Finding::error(&key, problem, "another name for one of them"));
            }
            let Some(bytes) = loading.read(&key, &path, LIMIT) else { continue };
            load_file(loading, &path, &name, bytes, &mut objects);
        }
    }
}

/// The files that a path stands for, sorted.
fn files_of(top: &Path) -> Result<Vec<PathBuf>, String> {
    let unreadable = |error: std::io::Error| format!("can't be read: {error}");
    let has_ending = |path: &Path| path.extension().is_some_and(|end| ENDINGS.iter().any(|known| end == *known));
    if !std::fs::metadata(top).map_err(unreadable)?.is_dir() {
        return if has_ending(top) {
            Ok(vec![top.into()])
        } else {
            Err(format!("ends in none of {}", ENDINGS.join(", ")))
        };
    }
    let (mut files, mut folders) = (Vec::new(), vec![top.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let kind = entry.file_type().map_err(unreadable)?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if has_ending(&entry.path()) {
                files.push(entry.path());
            }
            if files.len() + folders.len() > FILES_LIMIT {
                return Err(format!("holds more than {FILES_LIMIT} files and folders"));
            }
        }
    }
    files.sort();
    if files.is_empty() { Err("holds no manifest".into()) } else { Ok(files) }
}

/// `bakelite-app-web.yaml` for `app/web.yaml` of the folder `app`: flat, stable (k3s makes it the name of an Addon), and
/// never that of a file of k3s's own or a person's.
fn file_name(top: &Path, path: &Path) -> String {
    let inside = path.strip_prefix(top.parent().unwrap_or(Path::new(""))).unwrap_or(path);
    let (stem, ending) =
        (inside.with_extension(""), inside.extension().unwrap_or_default().to_string_lossy().into_owned());
    let words = stem.to_string_lossy().to_lowercase();
    let words: Vec<&str> = words.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    format!("bakelite-{}.{ending}", words.join("-"))
}

fn load_file(
    loading: &mut Loading<'_>,
    path: &Path,
    name: &str,
    bytes: Vec<u8>,
    objects: &mut BTreeMap<String, String>,
) {
    let file = path.display().to_string();
    let whole = |problem: String, hint: &str| Finding { file: file.clone(), ..Finding::error("", problem, hint) };
    let Ok(text) = std::str::from_utf8(&bytes) else {
        return loading.findings.push(whole("is not UTF-8 text".into(), "saving it as UTF-8"));
    };
    if holds_private_key(&bytes) {
        let problem = "holds a private key, which must not be in an image".into();
        return loading.findings.push(whole(problem, INSTEAD));
    }
    let mut references = 0;
    for (document, deserializer) in serde_yaml::Deserializer::from_str(text).enumerate() {
        // By way of the library's own tree, which refuses a key that stands twice.
        let parsed = serde_yaml::Value::deserialize(deserializer)
            .map_err(|error| error.to_string())
            .and_then(|tree| serde_json::to_value(tree).map_err(|error| error.to_string()));
        let value = match parsed {
            Ok(Value::Null) => continue,
            Ok(value) => value,
            Err(error) => {
                return loading.findings.push(whole(format!("is no YAML: {error}"), "mending it at this place"));
            }
        };
        references += references_of(&value);
        let items = match (value["kind"].as_str(), &value["items"]) {
            (Some("List"), Value::Array(items)) => items
                .iter()
                .enumerate()
                .map(|(at, item)| (KeyPath(vec![Step::Key("items".into()), Step::Index(at)]), item))
                .collect(),
            _ => vec![(KeyPath::default(), &value)],
        };
        for (path, value) in items {
            look(loading, &Object { file: &file, text, document, path, value }, objects);
        }
    }
    if references != count(text) {
        let problem = "refers to a secret within a text or a comment, where it can't be filled in safely".into();
        return loading.findings.push(whole(problem, "`{secret: NAME}` as the whole value, without quotes"));
    }
    let quoting = (references > 0).then_some(Quoting::Json);
    loading.place("manifests", name, bytes, placed(&format!("{MANIFESTS}/{name}"), quoting, Pass::Settle));
}

/// How many values of a tree are references.
fn references_of(value: &Value) -> usize {
    match value {
        _ if SecretRef::of(value).is_some() => 1,
        Value::Object(map) => map.values().map(references_of).sum(),
        Value::Array(entries) => entries.iter().map(references_of).sum(),
        _ => 0,
    }
}

impl Object<'_> {
    fn at(&self, path: &KeyPath) -> Finding {
        let place = place_in(self.text, self.document, path);
        Finding { file: self.file.into(), place, ..Finding::warning(path.to_string(), "", "") }
    }

    fn error(&self, path: &KeyPath, problem: impl Into<String>, hint: impl Into<String>) -> Finding {
        Finding {
            file: self.file.into(),
            place: self.at(path).place,
            ..Finding::error(path.to_string(), problem, hint)
        }
    }

    fn warning(&self, path: &KeyPath, problem: impl Into<String>, hint: impl Into<String>) -> Finding {
        Finding { problem: problem.into(), hint: hint.into(), ..self.at(path) }
    }

    /// `Deployment web`.
    fn title(&self) -> String {
        let text = |value: &Value| value.as_str().unwrap_or("?").to_string();
        format!("{} {}", text(&self.value["kind"]), text(&self.value["metadata"]["name"]))
    }
}

fn key(path: &KeyPath, name: &str) -> KeyPath {
    KeyPath(path.0.iter().cloned().chain([Step::Key(name.into())]).collect())
}

fn entry(path: &KeyPath, number: usize) -> KeyPath {
    KeyPath(path.0.iter().cloned().chain([Step::Index(number)]).collect())
}

fn look(loading: &mut Loading<'_>, object: &Object<'_>, objects: &mut BTreeMap<String, String>) {
    let value = object.value;
    for name in ["apiVersion", "kind"] {
        if !value[name].is_string() {
            let finding =
                object.error(&object.path, format!("has no `{name}`, so it is no Kubernetes object"), "adding it");
            return loading.findings.push(finding);
        }
    }
    let metadata = &value["metadata"];
    if !metadata["name"].is_string() && !metadata["generateName"].is_string() {
        let finding = object.error(&object.path, "has no `metadata.name`", "adding it");
        return loading.findings.push(finding);
    }
    // The group without the version: an object has one name, whatever version it is written in.
    let group = value["apiVersion"].as_str().and_then(|version| version.split_once('/')).map_or("", |(group, _)| group);
    let identity = format!("{group}/{}/{}", metadata["namespace"].as_str().unwrap_or_default(), object.title());
    if let Some(other) = objects.insert(identity, object.file.into()) {
        let problem = format!("{} is in {other} as well: the two would overwrite each other", object.title());
        loading.findings.push(object.error(&object.path, problem, "taking one of them out"));
    }
    if value["kind"] == "Secret" {
        secret(loading, object);
    }
    loading.user.manifest.workloads.extend(workload(value));
    if value["kind"] == "HelmChart" {
        super::chart::look(loading, &object.at(&key(&object.path, "spec")), &value["spec"]);
    }
    containers(loading, object, value, &object.path);
}

/// A Secret has references where its values are; its type and labels are no secrets.
fn secret(loading: &mut Loading<'_>, object: &Object<'_>) {
    const HINT: &str = "`stringData: {NAME: {secret: NAME}}`, which the device fills in";
    for section in ["data", "stringData"] {
        for (name, value) in object.value[section].as_object().into_iter().flatten() {
            let path = key(&key(&object.path, section), name);
            let title = object.title();
            if section == "stringData" && SecretRef::of(value).is_some() {
                continue;
            }
            let problem = match SecretRef::of(value) {
                Some(_) => format!("{title}: `data` takes base64, which a reference isn't"),
                None => format!("{title} has a secret written out, which must not be in an image"),
            };
            loading.findings.push(object.error(&path, problem, HINT));
        }
    }
}

/// Looks for lists of containers, at whatever depth: of pods, of workloads, of what operators define.
fn containers(loading: &mut Loading<'_>, object: &Object<'_>, value: &Value, path: &KeyPath) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                let path = key(path, name);
                let listed = matches!(name.as_str(), "containers" | "initContainers" | "ephemeralContainers");
                if let (true, Value::Array(entries)) = (listed, value) {
                    for (number, container) in entries.iter().enumerate() {
                        look_at(loading, object, container, &entry(&path, number), name == "containers");
                    }
                }
                containers(loading, object, value, &path);
            }
        }
        Value::Array(entries) => {
            for (number, value) in entries.iter().enumerate() {
                containers(loading, object, value, &entry(path, number));
            }
        }
        _ => {}
    }
}

fn look_at(loading: &mut Loading<'_>, object: &Object<'_>, container: &Value, path: &KeyPath, is_main: bool) {
    let Some(image) = container["image"].as_str() else { return };
    let called = format!("{}, container {}", object.title(), container["name"].as_str().unwrap_or("?"));
    let Some(reference) = Reference::parse(image) else {
        let finding =
            object.error(&key(path, "image"), format!("{called}: `{image}` is no image's name"), "`registry/name:tag`");
        return loading.findings.push(finding);
    };
    match container["imagePullPolicy"].as_str() {
        Some("Always") => {
            let problem = format!(
                "{called}: `imagePullPolicy: Always` asks a registry at each start, and fails without a network"
            );
            loading.findings.push(object.warning(&key(path, "imagePullPolicy"), problem, "`IfNotPresent`"));
        }
        None if reference.tag == "latest" && reference.digest.is_none() => {
            let problem = format!("{called}: `{image}` means the newest, so a registry is asked at each start");
            loading.findings.push(object.warning(
                &key(path, "image"),
                problem,
                "a tag, or `imagePullPolicy: IfNotPresent`",
            ));
        }
        _ => {}
    }
    let resources = &container["resources"];
    let lacks: Vec<&str> = ["requests", "limits"]
        .into_iter()
        .filter(|name| resources[*name].as_object().is_none_or(serde_json::Map::is_empty))
        .collect();
    if is_main && !lacks.is_empty() {
        let problem = format!("{called} has no {}: it may take all that the machine has", lacks.join(" and no "));
        let hint = "`resources: {requests: {cpu: 50m, memory: 64Mi}, limits: {memory: 128Mi}}`";
        loading.findings.push(object.warning(path, problem, hint));
    }
    let mut at = object.at(&key(path, "image"));
    at.key = called;
    loading.user.wanted.push(Wanted { image: reference, at });
}
