//! What a person adds to an appliance: packages' sources, files, units, registries.

use crate::quantity::Seconds;
use crate::secret::SecretRef;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An APT repository besides Debian's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys documents each field")]
pub struct Repository {
    pub name: String,
    pub url: String,
    pub suite: String,
    #[serde(default = "main_component")]
    pub components: Vec<String>,
    pub key: String,
    pub fingerprint: String,
    #[serde(default)]
    pub prefer: Vec<String>,
}

fn main_component() -> Vec<String> {
    vec!["main".into()]
}

/// A file of the user's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys documents each field")]
pub struct File {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    pub to: String,
    #[serde(default = "readable")]
    pub mode: String,
    #[serde(default)]
    pub owner: u32,
    #[serde(default)]
    pub group: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

fn readable() -> String {
    "0644".into()
}

impl File {
    /// The permission bits.
    pub fn permissions(&self) -> u16 {
        u16::from_str_radix(&self.mode, 8).unwrap_or(0o644)
    }
}

/// A program of the user's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys documents each field")]
pub struct UserUnit {
    pub name: String,
    pub command: Vec<String>,
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    #[serde(default = "after_early")]
    pub after: Vec<String>,
    #[serde(default)]
    pub kind: UnitKind,
    #[serde(default)]
    pub ready: UnitReady,
    #[serde(default = "ten_seconds")]
    pub stop: Seconds,
}

fn after_early() -> Vec<String> {
    vec!["early".into()]
}

fn ten_seconds() -> Seconds {
    Seconds(10)
}

/// Whether a unit ends by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnitKind {
    /// Is kept running.
    #[default]
    Service,
    /// Ends by itself.
    Oneshot,
}

/// When a unit counts as ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnitReady {
    /// As soon as it runs.
    #[default]
    Started,
    /// When it says READY=1.
    Notify,
}

/// Mirrors and logins of container registries. Serialises to what k3s's registries.yaml takes, references apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys documents each field")]
pub struct Registries {
    pub mirrors: BTreeMap<String, RegistryMirror>,
    pub configs: BTreeMap<String, RegistryConfig>,
}

/// Where images of one registry come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys documents each field")]
pub struct RegistryMirror {
    #[serde(default)]
    pub endpoint: Vec<String>,
    #[serde(default)]
    pub rewrite: BTreeMap<String, String>,
}

/// How one registry is spoken to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys documents each field")]
pub struct RegistryConfig {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<RegistryAuth>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<RegistryTls>,
}

/// A login.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys documents each field")]
pub struct RegistryAuth {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretRef>,
}

/// Certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys documents each field")]
pub struct RegistryTls {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<String>,
    #[serde(default)]
    pub insecure_skip_verify: bool,
}

impl Registries {
    /// Whether nothing is said about registries.
    pub fn is_empty(&self) -> bool {
        self.mirrors.is_empty() && self.configs.is_empty()
    }
}
