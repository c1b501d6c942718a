//! What an appliance says about its network: links, and who may reach the machine. The table of keys has the meanings.

use crate::quantity::Seconds;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Wired links and name servers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys documents each field")]
pub struct Network {
    pub wait: Seconds,
    pub dns: Vec<IpAddr>,
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
