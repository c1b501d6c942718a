//! What runs on the appliance: which k3s, as what, and how it is tuned.

use crate::secret::SecretRef;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

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
