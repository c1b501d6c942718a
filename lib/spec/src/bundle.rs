//! A bundle's manifest: what an update says of itself, for whoever writes, proves and judges one.

use serde::{Deserialize, Serialize};

/// The version of the format that is written, and the newest that is read.
pub const FORMAT: u32 = 1;
/// The kind of a bundle with a whole system for a slot.
pub const SYSTEM: &str = "system";
/// The parts of a system, in their order: what is small and goes onto the boot partition comes first.
pub const KERNEL: &str = "vmlinuz";
/// The initramfs, which holds the settings.
pub const INITRAMFS: &str = "initrd";
/// The squashfs of the slot.
pub const ROOT: &str = "system.squashfs";
/// The ending of a bundle's name.
pub const ENDING: &str = ".bundle";

/// What a bundle says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Bundle {
    /// [`FORMAT`].
    pub format: u32,
    /// [`SYSTEM`].
    pub kind: String,
    /// What kind of appliance it is; empty where it has no name.
    pub name: String,
    /// The appliance's own version; empty where it has none.
    pub version: String,
    /// The image's id.
    pub image: String,
    /// The image's time, in seconds since 1970: of two without a version the later one is the newer.
    pub time: i64,
    /// Bakelite's version.
    pub bakelite: String,
    /// The board's name.
    pub board: String,
    /// The payload's kind, as the appliance has it.
    pub payload: String,
    /// The payload's version; empty where it has none.
    pub k3s: String,
    /// The lowest version that it may take the place of; empty for any.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub after: String,
    /// The highest version that it may take the place of; empty for any.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub until: String,
    /// The boot loader's entry as the image has it, for slot a.
    pub entry: String,
    /// Its parts, in the archive's order.
    pub parts: Vec<Part>,
}

/// One part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Part {
    /// Its name in the archive.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// Its SHA-256 in hexadecimal digits.
    pub sha256: String,
}

impl Bundle {
    /// The part of a name.
    pub fn part(&self, name: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.name == name)
    }

    /// What names it for a person.
    pub fn words(&self) -> String {
        let name = if self.name.is_empty() { String::new() } else { format!("{} ", self.name) };
        let version = if self.version.is_empty() { String::new() } else { format!("{} ", self.version) };
        let k3s = if self.k3s.is_empty() { String::new() } else { format!(", k3s {}", self.k3s) };
        format!("{name}{version}(image {} for {}{k3s})", self.image, self.board)
    }
}
