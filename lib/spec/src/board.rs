//! A board as types: what a board's YAML says of a machine. The meaning of each field stands in [`crate::keys::BOARD`].
//!
//! Code asks a board for its properties, never for its name.

use crate::layout::Scheme;
use crate::quantity::Seconds;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// One board.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys documents each field")]
pub struct Board {
    pub description: String,
    pub arch: Arch,
    pub boot: Boot,
    pub kernel: Kernel,
    pub packages: Vec<String>,
    pub modules: Modules,
    pub cmdline: Vec<String>,
    pub console: Console,
    pub watchdog: Seconds,
    #[serde(rename = "throttles-at", default, skip_serializing_if = "Option::is_none")]
    pub throttles_at: Option<u64>,
    #[serde(rename = "usb-quirks", default)]
    pub usb_quirks: Vec<String>,
    pub qemu: Qemu,
    pub defaults: Map<String, Value>,
}

/// A processor architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// 64-bit x86.
    #[serde(rename = "x86_64")]
    X86_64,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM with hard float.
    Armv7,
}

impl Arch {
    /// As `uname -m`, cargo and QEMU call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
            Self::Armv7 => "armv7",
        }
    }

    /// As Debian calls it.
    pub fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
            Self::Armv7 => "armhf",
        }
    }
}

/// How the board starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys documents each field")]
pub struct Boot {
    pub flow: Flow,
    #[serde(default)]
    pub models: Vec<String>,
    #[serde(default)]
    pub config: Vec<String>,
}

/// A way of starting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flow {
    /// shim and signed systemd-boot with counted entries on a GPT disk.
    Uefi,
    /// The Raspberry Pi's own firmware, which reads config.txt from the first partition of an MBR disk.
    RaspberryPi,
    /// QEMU takes the kernel and the initramfs of slot A's entry out of the image and starts them itself.
    Direct,
}

impl Flow {
    /// How the boot medium's partition table is written.
    pub fn scheme(self) -> Scheme {
        match self {
            Self::Uefi | Self::Direct => Scheme::Gpt,
            Self::RaspberryPi => Scheme::Mbr,
        }
    }

    /// Whether what starts the kernel counts its tries, so that a good boot has to be marked and a bad one falls back. A
    /// Pi's firmware starts what is committed, as often as it takes, and something else for one start at most.
    pub fn counts_tries(self) -> bool {
        match self {
            Self::Uefi => true,
            Self::RaspberryPi | Self::Direct => false,
        }
    }
}

/// The kernel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys documents each field")]
pub struct Kernel {
    pub package: String,
    #[serde(default)]
    pub device_trees: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backports: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub downstream: bool,
    #[serde(default)]
    pub tryboot: bool,
}

/// How another system than the one that runs can be tried, such that a bad one falls back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tries {
    /// The boot loader counts how often it may start it.
    Counted,
    /// Firmware starts it once, when a restart asks for that.
    Once,
}

/// Sets of kernel modules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys documents each field")]
pub struct Modules {
    pub root: Vec<String>,
    pub initramfs: Vec<String>,
}

/// Where the machine speaks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys documents each field")]
pub struct Console {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<String>,
    #[serde(default)]
    pub lights: Vec<String>,
}

/// How QEMU shows the board.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys documents each field")]
pub struct Qemu {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    pub cpu: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(rename = "device-tree", default, skip_serializing_if = "Vec::is_empty")]
    pub device_tree: Vec<TreeChange>,
}

/// What is changed in a device tree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table of keys documents each field")]
pub struct TreeChange {
    pub nodes: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}

impl Board {
    /// How another system can be tried; `None` where nothing would bring back what ran before.
    pub fn tries(&self) -> Option<Tries> {
        match self.boot.flow {
            Flow::Uefi => Some(Tries::Counted),
            Flow::RaspberryPi => self.kernel.tryboot.then_some(Tries::Once),
            Flow::Direct => None,
        }
    }

    /// Those of its kernel arguments without which k3s finds no cgroups; the others are only how the board likes it.
    pub fn cgroup_arguments(&self) -> impl Iterator<Item = &str> {
        let is_cgroup =
            |text: &&str| text.starts_with("cgroup") || text.starts_with("systemd.unified_cgroup_hierarchy");
        self.cmdline.iter().map(String::as_str).filter(is_cgroup)
    }

    /// The typed board of a tree that has passed the check.
    ///
    /// # Errors
    /// serde's words, for a tree that has not passed the check.
    pub fn from_values(values: &Value) -> Result<Self, serde_json::Error> {
        Self::deserialize(values)
    }
}
