//! Rules about the system partition: its bytes, its files, what runs on which processor, and what mustn't be there.

use super::Found;
use crate::decide::modules;
use crate::decide::root::missing_firmware;
use crate::opened::Opened;
use crate::source::digest::Hashing;
use crate::user::holds_private_key;
use backhand::InnerNode;
use bakelite_spec::appliance::Payload;
use bakelite_spec::board::Arch;
use bakelite_spec::hexadecimal::hexadecimal;
use bakelite_spec::layout::Role;
use bakelite_spec::secret::SecretRef;
use bakelite_spec::status::paths;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Read;

/// Set-user-id and set-group-id.
const SET_ID: u16 = 0o6000;
/// Files up to this length are looked through for secrets, in bytes.
const MOST_TEXT: usize = 1 << 20;
/// Words of keys whose values are secrets.
const SECRET_WORDS: &[&str] = &["token", "password", "passphrase", "secret", "private-key", "psk"];

/// Where a program's ELF header says its processor.
const MACHINE: usize = 18;

pub fn slot_hash(image: &Opened) -> Found {
    let footer = image.footer.as_ref().map_err(Clone::clone)?;
    let slot = image.partition(Role::SystemA).ok_or("slot A wasn't found")?;
    let mut hashing = Hashing::new(image.span(slot.start(), footer.length));
    drain(&mut hashing).map_err(|error| error.to_string())?;
    let sum = *hashing.finish().0.bytes();
    let mut found = Vec::new();
    if sum != footer.sha256 {
        found.push("slot A's bytes aren't those that its footer speaks of".into());
    }
    let said = hexadecimal(footer.sha256);
    let system = &image.manifest.as_ref().map_err(Clone::clone)?.system;
    if system.sha256 != said || system.length != footer.length {
        found.push("the manifest speaks of another system than slot A's footer".into());
    }
    Ok(found)
}

pub(super) fn drain(reader: &mut impl Read) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    while reader.read(&mut buffer)? > 0 {}
    Ok(())
}

pub fn payload_hashes(image: &Opened) -> Found {
    let payload = &image.manifest.as_ref().map_err(Clone::clone)?.payload;
    image.system.as_ref().map_err(Clone::clone)?;
    let mut found = Vec::new();
    for file in &payload.files {
        let reader = match image.on_system(&file.path) {
            Ok(reader) => reader,
            Err(problem) => {
                found.push(problem);
                continue;
            }
        };
        let mut hashing = Hashing::new(reader);
        if let Err(error) = drain(&mut hashing) {
            found.push(format!("{}: {error}", file.path));
            continue;
        }
        let (sum, size) = hashing.finish();
        if size != file.size || sum.to_string() != file.sha256 {
            found.push(format!("{} isn't the file of the manifest", file.path));
        }
    }
    Ok(found)
}

pub fn architecture(image: &Opened) -> Found {
    let manifest = image.manifest.as_ref().map_err(Clone::clone)?;
    image.system.as_ref().map_err(Clone::clone)?;
    let (machine, class) = match manifest.board.arch {
        Arch::X86_64 => (62u16, 2u8),
        Arch::Aarch64 => (183, 2),
        Arch::Armv7 => (40, 1),
    };
    let mut programs = vec![format!("{}/init", paths::LIBRARY), format!("{}/firstboot", paths::LIBRARY)];
    if manifest.payload.kind != Payload::None {
        programs.push(manifest.payload.program.clone());
    }
    let mut found = Vec::new();
    for path in programs {
        let mut head = [0; 20];
        match image.on_system(&path).map(|mut reader| reader.read_exact(&mut head)) {
            Err(problem) => found.push(problem),
            Ok(read) => {
                let is_program = read.is_ok() && head[..4] == *b"\x7fELF" && head[4] == class;
                if !is_program || u16::from_le_bytes([head[MACHINE], head[MACHINE + 1]]) != machine {
                    found.push(format!("{path} is no program for {}", manifest.board.arch.name()));
                }
            }
        }
    }
    Ok(found)
}

pub fn setuid(image: &Opened) -> Found {
    let system = image.system.as_ref().map_err(Clone::clone)?;
    let bad =
        system.files().filter(|node| matches!(node.inner, InnerNode::File(_)) && node.header.permissions & SET_ID != 0);
    Ok(bad.map(|node| format!("{} (mode {:o})", node.fullpath.display(), node.header.permissions)).collect())
}

pub fn secrets(image: &Opened) -> Found {
    let system = image.system.as_ref().map_err(Clone::clone)?;
    let mut found = Vec::new();
    for node in system.files() {
        let InnerNode::File(file) = &node.inner else { continue };
        if file.file_len() > MOST_TEXT {
            continue;
        }
        let mut bytes = Vec::new();
        let read = system.file(file).reader_checked().map_err(|error| error.to_string());
        read.and_then(|mut reader| reader.read_to_end(&mut bytes).map_err(|error| error.to_string()))?;
        if let Some(what) = secret_in(&bytes) {
            found.push(format!("{} holds {what}", node.fullpath.display()));
        }
    }
    if let Ok(members) = &image.initramfs
        && let Some(member) = members.get("bakelite/appliance.json")
    {
        let settings: Value = serde_json::from_slice(&member.content).map_err(|error| error.to_string())?;
        literals(&settings["values"], "", &mut found);
    }
    Ok(found)
}

/// What secret a file's bytes hold; programs, which may name such things, don't count.
fn secret_in(bytes: &[u8]) -> Option<&'static str> {
    let text = std::str::from_utf8(bytes).ok()?;
    if holds_private_key(bytes) {
        return Some("a private key");
    }
    let is_secret = |line: &str| {
        line.trim_start_matches(['-', ' ']).strip_prefix("kind:").is_some_and(|kind| kind.trim() == "Secret")
    };
    (text.lines().any(is_secret) && !only_refers(text)).then_some("a Kubernetes secret")
}

/// Whether the values of each Secret in some YAML are references, which the device fills in.
fn only_refers(text: &str) -> bool {
    serde_yaml::Deserializer::from_str(text)
        .all(|document| Value::deserialize(document).is_ok_and(|value| secrets_refer(&value)))
}

fn secrets_refer(value: &Value) -> bool {
    let here = value["kind"] != "Secret"
        || ["data", "stringData"].iter().all(|section| {
            let mut values = value[*section].as_object().into_iter().flat_map(|map| map.values());
            values.all(|value| SecretRef::of(value).is_some())
        });
    let below = match value {
        Value::Object(map) => map.values().all(secrets_refer),
        Value::Array(values) => values.iter().all(secrets_refer),
        _ => true,
    };
    here && below
}

fn literals(value: &Value, path: &str, found: &mut Vec<String>) {
    let Some(map) = value.as_object() else { return };
    for (key, value) in map {
        if SecretRef::of(value).is_some() {
            continue;
        }
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        // The name of a file with a secret is none.
        let is_secret = !key.ends_with("-file")
            && SECRET_WORDS.iter().any(|word| key.split(['-', '_']).any(|part| part == *word) || key == word);
        if is_secret && value.as_str().is_some_and(|text| !text.is_empty()) {
            found.push(format!("the setting {path} is a literal; use {{secret: NAME}}"));
        }
        literals(value, &path, found);
    }
}

pub fn modules_indexed(image: &Opened) -> Found {
    let kernel = &image.manifest.as_ref().map_err(Clone::clone)?.system.kernel;
    let system = image.system.as_ref().map_err(Clone::clone)?;
    let folder = format!("usr/lib/modules/{kernel}");
    let mut list = String::new();
    match image.on_system(&format!("{folder}/modules.dep")) {
        Err(problem) => return Ok(vec![problem]),
        Ok(mut reader) => reader.read_to_string(&mut list).map_err(|error| error.to_string())?,
    };
    let there: std::collections::HashSet<String> =
        system.files().map(|node| node.fullpath.to_string_lossy().into_owned()).collect();
    let modules = list.lines().filter_map(|line| line.split_once(':')).map(|(module, _)| module);
    let missing = modules.filter(|module| !there.contains(&format!("/{folder}/{module}")));
    Ok(missing.map(|module| format!("{module} is not there")).collect())
}

pub fn firmware(image: &Opened) -> Found {
    let system = image.system.as_ref().map_err(Clone::clone)?;
    let mut wanted = BTreeSet::new();
    let mut brought = Vec::new();
    for node in system.files() {
        let path = node.fullpath.to_string_lossy();
        if let Some(name) = path.strip_prefix("/usr/lib/firmware/") {
            brought.push(name.to_string());
        }
        let InnerNode::File(file) = &node.inner else { continue };
        if path.starts_with("/usr/lib/modules/") && modules::name_of(&path).is_some() {
            let problem = |why: String| format!("{path}: {why}");
            let most = usize::try_from(modules::MODULE_LIMIT).unwrap_or(usize::MAX);
            let mut bytes = Vec::with_capacity(file.file_len().min(most));
            let opened = system.file(file).reader_checked().map_err(|error| problem(error.to_string()))?;
            opened.take(modules::MODULE_LIMIT).read_to_end(&mut bytes).map_err(|error| problem(error.to_string()))?;
            let module = modules::plain(&path, bytes).map_err(|error| problem(error.to_string()))?;
            let info = modules::modinfo(&module).map_err(problem)?;
            wanted.extend(info.into_iter().filter(|(key, _)| key == "firmware").map(|(_, name)| name));
        }
    }
    Ok(missing_firmware(brought.iter().map(String::as_str), &wanted))
}
