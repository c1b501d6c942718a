//! What runs on the appliance: which k3s, as what, and how it is tuned.

use crate::secret::SecretRef;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Where k3s's API listens unless its configuration says otherwise.
const API_PORT: u16 = 6443;

/// What runs on the appliance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys documents each field")]
pub struct K3s {
    pub payload: Payload,
    pub version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<String>,
    pub airgap: bool,
    pub role: K3sRole,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretRef>,
    pub cluster_init: bool,
    pub agents: bool,
    pub tier: Tier,
    pub quiet: Quiet,
    pub hardened: bool,
    pub config: Map<String, Value>,
    pub kubelet: Map<String, Value>,
}

impl K3s {
    /// Whether this machine is the only server of its cluster: then nobody else holds a lease or watches it.
    pub fn is_single_server(&self) -> bool {
        self.role == K3sRole::Server
            && !self.cluster_init
            && self.server.is_none()
            && !["cluster-init", "server", "datastore-endpoint"].iter().any(|key| self.config.contains_key(*key))
    }

    /// Whether the appliance says that its cluster has other machines.
    pub fn has_peers(&self) -> bool {
        self.role == K3sRole::Agent || self.cluster_init || self.server.is_some() || self.agents
    }

    /// The port of the API.
    pub fn api_port(&self) -> u16 {
        let port = self.config.get("https-listen-port").and_then(Value::as_u64);
        port.and_then(|port| u16::try_from(port).ok()).unwrap_or(API_PORT)
    }

    /// The networks of the cluster's pods.
    pub fn pod_networks(&self) -> Vec<String> {
        self.networks("cluster-cidr", "10.42.0.0/16")
    }

    /// The networks of the cluster's services.
    pub fn service_networks(&self) -> Vec<String> {
        self.networks("service-cidr", "10.43.0.0/16")
    }

    /// A flag of k3s's that takes a list, or one text with commas.
    fn networks(&self, flag: &str, default: &str) -> Vec<String> {
        let texts: Vec<&str> = match self.config.get(flag) {
            Some(Value::Array(entries)) => entries.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(text)) => vec![text],
            _ => vec![default],
        };
        texts.iter().flat_map(|text| text.split(',')).map(|text| text.trim().to_string()).collect()
    }
}

/// The kind of payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Payload {
    /// k3s's own release files.
    Official,
    /// The stand-in.
    Rehearsal,
    /// Nothing.
    None,
}

impl Payload {
    /// The unit that runs it; `None` where there is nothing to run.
    pub fn unit(self) -> Option<&'static str> {
        match self {
            Self::Official => Some("k3s"),
            Self::Rehearsal => Some("rehearsal"),
            Self::None => None,
        }
    }
}

/// What a machine is in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum K3sRole {
    /// Control plane and workloads.
    Server,
    /// Workloads only.
    Agent,
}

impl K3sRole {
    /// k3s's sub-command.
    pub fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Agent => "agent",
        }
    }
}

/// For how much memory k3s is tuned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tier {
    /// By the machine's memory.
    #[serde(rename = "auto")]
    Auto,
    /// About 512 MB.
    #[serde(rename = "512M")]
    M512,
    /// About 1 GB.
    #[serde(rename = "1G")]
    G1,
    /// About 2 GB.
    #[serde(rename = "2G")]
    G2,
    /// 4 GB and more.
    #[serde(rename = "4G")]
    G4,
}

/// Whether an idle server is kept from writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quiet {
    /// Where it is safe: on the only server of a cluster.
    Auto,
    /// Never.
    Off,
}
