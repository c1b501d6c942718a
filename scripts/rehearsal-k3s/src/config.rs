//! What the stand-in is told: configuration file, drop-ins, environment and command line, merged as k3s merges them
//! (k3s.md 5.1 and 11.5). Refuses what k3s refuses, with its words. It decides nothing from the settings: that is for
//! whoever asks. Parsed values only ever come from the table in `flags`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::flags::{self, Flag, Kind};
use crate::paths::{Root, read_if_there};
use crate::yaml;

/// Which half of k3s is rehearsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Server,
    Agent,
}

impl Role {
    /// The sub-command's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Agent => "agent",
        }
    }
}

/// The merged settings of one start.
#[derive(Debug)]
pub struct Settings {
    role: Role,
    values: BTreeMap<&'static str, Vec<String>>,
    /// What to log as a warning once the logger runs.
    pub warnings: Vec<String>,
}

impl Settings {
    /// Merges everything; `arguments` are those after the sub-command, `environment` looks a variable up.
    pub fn load(
        role: Role,
        arguments: &[String],
        environment: impl Fn(&str) -> Option<String>,
        root: &Root,
    ) -> Result<Self, Error> {
        let file = config_file(arguments, &environment);
        let mut settings = Self { role, values: BTreeMap::new(), warnings: Vec::new() };
        let mut expanded = Vec::new();
        for (key, values) in merged(&root.at(file))? {
            if role == Role::Server && flags::find(role, &key).is_none() {
                settings.warnings.push(format!("Unknown flag --{key} found in config.yaml, skipping\n"));
                continue;
            }
            expanded.extend(values.iter().map(|value| format!("--{key}={value}")));
        }
        expanded.extend_from_slice(arguments);
        settings.take(&expanded)?;
        for flag in flags::all().filter(|flag| flag.role == role.name()) {
            if !settings.values.contains_key(flag.name)
                && let Some(value) = flag.environment().find_map(&environment).filter(|value| !value.is_empty())
            {
                settings.set(flag, value)?;
            }
        }
        Ok(settings)
    }

    fn take(&mut self, arguments: &[String]) -> Result<(), Error> {
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let Some(named) = argument.strip_prefix('-') else { continue };
            let named = named.strip_prefix('-').unwrap_or(named);
            let (name, inline) = match named.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (named, None),
            };
            let flag = flags::find(self.role, name).ok_or_else(|| Error::UnknownFlag(name.to_owned()))?;
            let value = match inline {
                Some(value) => value,
                None if flag.kind == Kind::Boolean => "true".to_owned(),
                None => rest.next().cloned().ok_or_else(|| Error::MissingValue(name.to_owned()))?,
            };
            self.set(flag, value)?;
        }
        Ok(())
    }

    fn set(&mut self, flag: Flag, value: String) -> Result<(), Error> {
        match flag.kind {
            Kind::Boolean if boolean(&value).is_none() => {
                return Err(Error::ParseBoolean { flag: flag.name.to_owned(), value });
            }
            Kind::Integer if value.parse::<i64>().is_err() => {
                return Err(Error::ParseNumber { flag: flag.name.to_owned(), value });
            }
            _ => {}
        }
        let held = self.values.entry(flag.name).or_default();
        if flag.kind != Kind::List {
            held.clear();
        }
        held.push(value);
        Ok(())
    }

    /// Which half of k3s this is for.
    pub const fn role(&self) -> Role {
        self.role
    }

    /// A text or number as given, else k3s's default; empty counts as not given.
    pub fn text(&self, name: &str) -> Option<String> {
        let given = self.values.get(name).and_then(|values| values.last().cloned());
        given.or_else(|| flags::find(self.role, name)?.default.map(str::to_owned)).filter(|text| !text.is_empty())
    }

    /// A switch.
    pub fn is_on(&self, name: &str) -> bool {
        self.values.get(name).and_then(|values| boolean(values.last()?)).unwrap_or(false)
    }

    /// All values of a list.
    pub fn list(&self, name: &str) -> &[String] {
        self.values.get(name).map_or(&[], Vec::as_slice)
    }

    /// A list that k3s splits at commas itself.
    pub fn split_list(&self, name: &str) -> Vec<String> {
        let parts = self.list(name).iter().flat_map(|text| text.split(','));
        parts.map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
    }

    /// `<D>` of the reference, without the root.
    pub fn data_dir(&self) -> PathBuf {
        self.text("data-dir").unwrap_or_else(|| "/var/lib/rancher/k3s".to_owned()).into()
    }
}

/// Go's idea of a truth value.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn config_file(arguments: &[String], environment: &impl Fn(&str) -> Option<String>) -> PathBuf {
    let on_command_line = || {
        arguments.iter().enumerate().find_map(|(at, argument)| match argument.as_str() {
            "-c" | "--config" | "-config" => arguments.get(at + 1).cloned(),
            other => other.strip_prefix("--config=").or_else(|| other.strip_prefix("-c=")).map(str::to_owned),
        })
    };
    environment("K3S_CONFIG_FILE")
        .filter(|path| !path.is_empty())
        .or_else(on_command_line)
        .unwrap_or_else(|| "/etc/rancher/k3s/config.yaml".to_owned())
        .into()
}

/// The keys of the file and its drop-ins, in the order of their first appearance.
fn merged(file: &Path) -> Result<Vec<(String, Vec<String>)>, Error> {
    let mut files = vec![file.to_owned()];
    files.extend(drop_ins(file)?);
    let mut merged: Vec<(String, Vec<String>)> = Vec::new();
    for path in files {
        let Some(bytes) = read_if_there(&path)? else { continue };
        for (key, values) in yaml::pairs(&bytes)? {
            let (name, appends) = match key.strip_suffix('+') {
                Some(name) => (name.to_owned(), true),
                None => (key, false),
            };
            match merged.iter_mut().find(|(known, _)| *known == name) {
                Some((_, held)) if appends => held.extend(values),
                Some((_, held)) => *held = values,
                None => merged.push((name, values)),
            }
        }
    }
    Ok(merged)
}

fn drop_ins(file: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut folder = file.as_os_str().to_owned();
    folder.push(".d");
    let folder = PathBuf::from(folder);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let failed = |source| Error::Read { path: folder.clone(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let extension = path.extension().and_then(|text| text.to_str());
        if path.is_file() && matches!(extension, Some("yaml" | "yml")) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::write;

    fn load(role: Role, files: &[(&str, &str)], arguments: &[&str]) -> Result<Settings, Error> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            write(&folder.path().join("etc/rancher/k3s").join(name), text.as_bytes(), 0o600).unwrap();
        }
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let environment = |name: &str| (name == "K3S_TOKEN").then(|| "from-environment".to_owned());
        Settings::load(role, &arguments, environment, &Root::new(Some(folder.path().to_owned())))
    }

    #[test]
    fn merges_as_k3s_does() {
        let settings = load(
            Role::Server,
            &[
                ("config.yaml", "tls-san: [a, b]\nkubelet-arg: one\nnode-name: base\nnode-name: twice\ndebug: true\n"),
                ("config.yaml.d/10.yaml", "kubelet-arg+: [two]\ntls-san: c\n"),
                ("config.yaml.d/20.yml", "kubelet-arg+: three\nhttps-listen-port: [1, 2]\n"),
                ("config.yaml.d/30.txt", "token: never read\n"),
            ],
            &["--tls-san", "d", "--https-listen-port=7443"],
        )
        .unwrap();
        assert_eq!(settings.list("kubelet-arg"), ["one", "two", "three"]);
        assert_eq!(settings.list("tls-san"), ["c", "d"], "a later file replaces, the command line appends");
        assert_eq!(settings.text("node-name").as_deref(), Some("twice"), "the last of two wins");
        assert_eq!(settings.text("https-listen-port").as_deref(), Some("7443"));
        assert_eq!(settings.text("token").as_deref(), Some("from-environment"));
        assert!(settings.is_on("debug") && !settings.is_on("disable-agent"));
    }

    #[test]
    fn the_file_beats_the_environment() {
        let settings = load(Role::Server, &[("config.yaml", "token: from-file\n")], &[]).unwrap();
        assert_eq!(settings.text("token").as_deref(), Some("from-file"));
        assert_eq!(settings.data_dir(), Path::new("/var/lib/rancher/k3s"));
    }

    #[test]
    fn unknown_keys_warn_the_server_and_stop_the_agent() {
        let files = [("config.yaml", "no-such-key: 1\n")];
        let settings = load(Role::Server, &files, &[]).unwrap();
        assert_eq!(settings.warnings, ["Unknown flag --no-such-key found in config.yaml, skipping\n"]);
        let error = load(Role::Agent, &files, &[]).unwrap_err();
        assert_eq!(error.fatal_words(), "Error: flag provided but not defined: -no-such-key");
    }

    #[test]
    fn refuses_with_the_words_that_were_logged() {
        let words = |text: &str| load(Role::Server, &[("config.yaml", text)], &[]).unwrap_err().fatal_words();
        assert_eq!(
            words("disable-cloud-controller: maybe\n"),
            "Error: invalid boolean value \"maybe\" for -disable-cloud-controller: parse error"
        );
        assert_eq!(
            words("https-listen-port: abc\n"),
            "Error: invalid value \"abc\" for flag -https-listen-port: parse error"
        );
        let broken = words("a: 1\nb: 2\nc: [1, 2\nd: 3\n");
        assert!(broken.starts_with("yaml: line ") && broken.contains("did not find expected ',' or ']'"), "{broken}");
        assert!(!broken.contains("config"), "k3s doesn't name the file");
    }

    #[test]
    fn a_drop_in_needs_no_base_file() {
        let settings = load(Role::Agent, &[("config.yaml.d/1.yaml", "node-name: lone\n")], &[]).unwrap();
        assert_eq!(settings.text("node-name").as_deref(), Some("lone"));
    }
}
