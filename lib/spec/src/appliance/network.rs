//! What an appliance says about its network: links, who may reach the machine, and its way to the world. The table of keys
//! has the meanings.

use crate::quantity::Seconds;
use crate::secret::SecretRef;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

/// Wired links and name servers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys documents each field")]
pub struct Network {
    pub wait: Seconds,
    pub dns: Vec<IpAddr>,
    pub hosts: BTreeMap<String, IpAddr>,
    pub links: Vec<Link>,
}

/// A link with settings of its own, named by MAC address or device path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys documents each field")]
pub struct Link {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(default = "yes")]
    pub dhcp: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    #[serde(default)]
    pub dns: Vec<IpAddr>,
}

fn yes() -> bool {
    true
}

/// Who may reach the machine itself. What pods publish is none of its business.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys documents each field")]
pub struct Firewall {
    pub input: Input,
    pub ssh: Vec<String>,
    pub api: Vec<String>,
    pub open: Vec<String>,
    pub peers: Vec<String>,
}

/// What becomes of a packet for the machine that no key speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Input {
    /// It is dropped.
    Closed,
    /// There is no firewall.
    Open,
}

/// The way to the world, where there is only one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys documents each field")]
pub struct Proxy {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<TextOrSecret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub https: Option<TextOrSecret>,
    pub no_proxy: Vec<String>,
}

/// A text, or where it isn't for everybody's eyes, the secret that holds all of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TextOrSecret {
    /// A secret.
    Secret(SecretRef),
    /// The text itself.
    Plain(String),
}

impl fmt::Display for TextOrSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(reference) => reference.fmt(f),
            Self::Plain(address) => f.write_str(address),
        }
    }
}

/// The wireless network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys documents each field")]
pub struct Wifi {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssid: Option<TextOrSecret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretRef>,
    #[serde(default)]
    pub hidden: bool,
}
