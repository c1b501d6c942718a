//! The manifest: what is in an image. Written by the workshop, read by init, firstboot and lint.

use crate::board::Board;
use crate::secret::{Quoting, SecretRef};
use serde::{Deserialize, Serialize};

/// The format this code writes and reads.
pub const FORMAT: u32 = 1;

/// What is in an image. One manifest a slot, in the last member of the slot's initramfs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// Bakelite's version.
    pub version: String,
    /// The image's id: the first 16 hexadecimal digits of a hash over its inputs.
    pub image: String,
    /// The appliance's own version, `image.version`; empty where it has none.
    #[serde(default)]
    pub appliance: String,
    /// The newest Release date in the lock, in seconds since 1970: the clock is never before this.
    pub time: i64,
    /// The board's name.
    pub board_name: String,
    /// What the board is.
    pub board: Board,
    /// What firmware, loader and kernel read of the boot partition before any of our programs runs.
    #[serde(default)]
    pub boot: Vec<BootFile>,
    /// The system partition.
    pub system: System,
    /// The payload.
    pub payload: PayloadManifest,
    /// What the user has added.
    #[serde(default)]
    pub user: UserManifest,
}

impl Manifest {
    /// What an image that isn't baked would say of itself, as far as decisions need it: of a simulation, and of tests.
    pub fn unbaked(board_name: impl Into<String>, board: Board, payload: PayloadManifest) -> Self {
        Self {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            image: String::new(),
            appliance: String::new(),
            time: 0,
            board_name: board_name.into(),
            board,
            boot: Vec::new(),
            system: System { length: 0, sha256: String::new(), kernel: String::new() },
            payload,
            user: UserManifest::default(),
        }
    }
}

/// What the user has added, as far as the device has to know of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct UserManifest {
    /// Files that the device puts in their place, secrets filled in.
    pub placed: Vec<PlacedFile>,
    /// All secrets that anything in this image refers to.
    pub secrets: Vec<SecretRef>,
    /// The workloads of its manifests, such as `deployments/default/till`. What charts make isn't known before they run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workloads: Vec<String>,
}

/// A file of the system partition that the device puts in another place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PlacedFile {
    /// Its absolute path in the system partition.
    pub from: String,
    /// Where it goes.
    pub to: String,
    /// Permission bits.
    pub mode: u32,
    /// The owner's number.
    pub owner: u32,
    /// The group's number.
    pub group: u32,
    /// How secrets are put into it; without any it is copied as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quoting: Option<Quoting>,
    /// In which pass.
    pub pass: Pass,
}

/// One of firstboot's passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pass {
    /// Before network, time and ssh: what lives in /run.
    Early,
    /// Before every start of the payload: what lies on a medium.
    Settle,
}

/// One file of the boot partition. The loader's entries aren't among them: they are renamed while boots are counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BootFile {
    /// Its path on that partition.
    pub path: String,
    /// Its size in bytes; of the initramfs that of the part before this manifest.
    pub size: u64,
    /// The SHA-256 of so many bytes in hexadecimal digits.
    pub sha256: String,
    /// Whether the file goes on behind them: the initramfs does, with the baked settings.
    pub continues: bool,
}

/// The squashfs of a system partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct System {
    /// Its length in bytes, padding excluded.
    pub length: u64,
    /// Its SHA-256 in hexadecimal digits, as in the slot's footer.
    pub sha256: String,
    /// The kernel's release, such as `6.12.117+deb13-amd64`.
    pub kernel: String,
}

/// The payload in a system partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PayloadManifest {
    /// The kind of payload.
    pub kind: crate::appliance::Payload,
    /// Its version; empty without a payload.
    pub version: String,
    /// The program's absolute path; empty without a payload.
    pub program: String,
    /// All of its files.
    pub files: Vec<PayloadFile>,
}

impl PayloadManifest {
    /// As the screen and the events call it: `k3s v1.36.2+k3s1`, `rehearsal`, `none`.
    pub fn title(&self) -> String {
        match self.kind {
            crate::appliance::Payload::Official => format!("k3s {}", self.version),
            crate::appliance::Payload::Rehearsal => "rehearsal".into(),
            crate::appliance::Payload::None => "none".into(),
        }
    }
}

/// One file of the payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PayloadFile {
    /// Its absolute path in the system partition.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256 in hexadecimal digits.
    pub sha256: String,
    /// Whether it is an archive of container images.
    pub images: bool,
}
