//! The appliance as types: what a checked and merged tree of values becomes.
//!
//! Each field's meaning, range and default stand once, in [`crate::keys::APPLIANCE`]; a test holds the two together.

use crate::backup::{Every, Keep};
use crate::check::expand;
use crate::cmdline::Cmdline;
use crate::quantity::{Seconds, Size};
use crate::window::Window;
use serde::{Deserialize, Serialize};
use serde_json::Value;

mod k3s;
mod network;
mod user;
pub use k3s::{K3s, K3sRole, Payload, Quiet, Tier};
pub use network::{Firewall, Input, Link, Network, Proxy, TextOrSecret, Wifi};
pub use user::{
    File, Registries, RegistryAuth, RegistryConfig, RegistryMirror, RegistryTls, Repository, UnitKind, UnitReady,
    UserUnit,
};

/// One appliance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys documents each field")]
pub struct Appliance {
    pub board: BoardChoice,
    pub hostname: String,
    pub debug: bool,
    pub console: Screen,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<String>,
    pub without: Vec<String>,
    pub packages: Vec<String>,
    pub repositories: Vec<Repository>,
    pub modules: Vec<String>,
    pub kernel: KernelArguments,
    pub files: Vec<File>,
    pub units: Vec<UserUnit>,
    pub trust: Vec<String>,
    pub images: Vec<String>,
    pub manifests: Vec<String>,
    pub charts: Vec<String>,
    pub registries: Registries,
    pub k3s: K3s,
    pub ssh: Ssh,
    pub network: Network,
    pub wifi: Wifi,
    pub firewall: Firewall,
    pub proxy: Proxy,
    pub time: Time,
    pub memory: Memory,
    pub storage: Storage,
    pub image: Image,
    pub update: Updates,
    pub installer: Installer,
    pub owner: Owner,
    pub backup: Backup,
    pub restore: Restore,
}

/// The board, and what is attached to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys documents each field")]
pub struct BoardChoice {
    pub name: String,
    #[serde(default)]
    pub with: Vec<String>,
    #[serde(default)]
    pub config_txt: Vec<String>,
}

/// What the kernel is started with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys documents each field")]
pub struct KernelArguments {
    pub cmdline: Vec<String>,
}

impl KernelArguments {
    /// As one line.
    pub fn line(&self) -> Cmdline {
        Cmdline::parse(&self.cmdline.join(" "))
    }
}

/// What the screen is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Screen {
    /// The status page, always.
    #[default]
    Status,
    /// A program of the user's, from Ready on.
    App,
    /// Nothing is shown.
    Off,
}

impl Screen {
    /// Whether the status page is shown: to whoever waits for a program of their own until that has a machine to run on,
    /// and whenever somebody has to act.
    pub fn shows_status(self, is_ready: bool, needs_human: bool) -> bool {
        match self {
            Self::Status => true,
            Self::App => !is_ready || needs_human,
            Self::Off => false,
        }
    }
}

/// Access by ssh.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys documents each field")]
pub struct Ssh {
    pub keys: Vec<String>,
}

/// The clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys documents each field")]
pub struct Time {
    pub servers: Vec<String>,
    pub wait: Seconds,
    pub required: bool,
}

/// How the machine's memory is used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys documents each field")]
pub struct Memory {
    pub zram: Zram,
}

/// Whether part of the memory is used as compressed swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Zram {
    /// By the amount of memory.
    Auto,
    /// Never.
    Off,
}

impl Zram {
    /// Bytes of compressed swap on a machine with `memory` bytes (k3s.md 5.4: half at 1 GB, a quarter at 2 GB).
    pub fn bytes(self, memory: u64) -> u64 {
        const GIB: u64 = 1 << 30;
        match self {
            Self::Off => 0,
            Self::Auto if memory < GIB + GIB / 2 => memory / 2,
            Self::Auto if memory < 3 * GIB => memory / 4,
            Self::Auto => 0,
        }
    }
}

/// The data disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys documents each field")]
pub struct Storage {
    pub claim: Claim,
    pub prefer: Vec<String>,
    pub min_size: Size,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without_disk: Option<WithoutDisk>,
    pub settle: Seconds,
}

/// Which disk may be made the data disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Claim {
    /// One that holds nothing.
    Blank,
    /// Also one with a single empty file system.
    EmptyFilesystem,
    /// The only one of a preferred kind.
    Any,
}

/// What happens without a data disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WithoutDisk {
    /// k3s isn't started.
    Wait,
    /// k3s runs on the boot medium.
    RunOnCard,
}

/// The shape of the image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys documents each field")]
pub struct Image {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot_size: Option<Size>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// How a machine takes updates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys documents each field")]
pub struct Updates {
    pub patience: Seconds,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// The installer stick.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys documents each field")]
pub struct Installer {
    pub ask: bool,
}

/// Whose machines these are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys documents each field")]
pub struct Owner {
    pub keys: Vec<String>,
}

/// Backups of the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys documents each field")]
pub struct Backup {
    pub every: Every,
    pub keep: Keep,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    pub drill: Every,
    pub volumes: Vec<String>,
    pub recipients: Vec<String>,
    pub pull: Pull,
    pub encryption: Encryption,
}

/// Who may fetch backups.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys documents each field")]
pub struct Pull {
    pub keys: Vec<String>,
}

/// Who can open a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encryption {
    /// The machine and the recipients.
    Age,
    /// Everybody.
    None,
}

/// Which backup is restored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys documents each field")]
pub struct Restore {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rekey: Option<String>,
}

impl Appliance {
    /// The typed appliance of a merged tree that has passed the check; short forms are allowed in it.
    ///
    /// # Errors
    /// serde's words, for a tree that has not passed the check.
    pub fn from_values(values: &Value) -> Result<Self, serde_json::Error> {
        let mut values = values.clone();
        expand(&mut values);
        Self::deserialize(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::is_known;
    use crate::keys::{APPLIANCE, Kind, defaults};
    use serde_json::json;

    fn typed() -> Appliance {
        let mut values = defaults(APPLIANCE);
        values["board"] = "qemu-x86_64".into();
        Appliance::from_values(&values).unwrap()
    }

    #[test]
    fn the_defaults_of_the_table_make_an_appliance() {
        let appliance = typed();
        assert_eq!(appliance.network.wait, Seconds(15));
        assert_eq!(appliance.k3s.payload, Payload::Official);
    }

    #[test]
    fn entries_of_lists_have_their_own_defaults_and_they_are_the_tables() {
        let mut values = defaults(APPLIANCE);
        values["board"] = "qemu-x86_64".into();
        values["network"]["links"] = json!([{ "mac": "dc:a6:32:01:02:03" }]);
        values["files"] = json!([{ "text": "x", "to": "/etc/x" }]);
        values["units"] = json!([{ "name": "x", "command": ["/usr/bin/x"] }]);
        values["repositories"] =
            json!([{ "name": "x", "url": "/x", "suite": "s", "key": "k", "fingerprint": "0".repeat(40) }]);
        values["registries"] = json!({
            "mirrors": { "*": {} }, "configs": { "r:5000": { "auth": { "password": { "secret": "p" } }, "tls": {} } }
        });
        let appliance = Appliance::from_values(&values).unwrap();
        let typed = serde_json::to_value(&appliance).unwrap();
        for key in APPLIANCE.iter().filter(|key| key.path.contains(['[', '{']) && !key.default.is_empty()) {
            let place =
                key.path.replace("[]", "/0").replace("mirrors{}", "mirrors/*").replace("configs{}", "configs/r:5000");
            let found = typed.pointer(&format!("/{}", place.replace('.', "/")));
            let default: Value = serde_json::from_str(key.default).unwrap();
            assert_eq!(found, Some(&default), "{}", key.path);
        }
    }

    #[test]
    fn each_field_is_in_the_table_and_each_key_is_a_field() {
        fn leaves(value: &Value, prefix: &str, into: &mut Vec<String>) {
            for (name, value) in value.as_object().into_iter().flatten() {
                let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                into.push(key.clone());
                leaves(value, &key, into);
            }
        }
        let mut fields = Vec::new();
        leaves(&serde_json::to_value(typed()).unwrap(), "", &mut fields);
        for field in &fields {
            assert!(is_known(APPLIANCE, field), "{field} is not in the table");
        }
        let optional = [
            "mirror",
            "k3s.files",
            "k3s.server",
            "k3s.token",
            "proxy.http",
            "proxy.https",
            "wifi.country",
            "wifi.ssid",
            "wifi.password",
            "image.slot-size",
            "image.name",
            "image.version",
            "update.window",
            "update.from",
            "storage.serial",
            "storage.without-disk",
            "backup.target",
            "restore.node",
            "restore.set",
            "restore.replaces",
            "restore.rekey",
        ];
        for key in APPLIANCE.iter().filter(|key| !key.path.contains(['[', '{']) && !matches!(key.kind, Kind::Section)) {
            assert!(
                fields.iter().any(|field| field == key.path) || optional.contains(&key.path),
                "{} is no field",
                key.path
            );
        }
    }
}
