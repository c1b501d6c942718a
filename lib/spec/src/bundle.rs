//! A bundle's manifest: what an update says of itself, for whoever writes, proves and judges one.

use crate::secret::Quoting;
use serde::{Deserialize, Serialize};

/// The version of the format that is written, and the newest that is read.
pub const FORMAT: u32 = 1;
/// The kind of a bundle with a whole system for a slot.
pub const SYSTEM: &str = "system";
/// The kind of a bundle with a system for a slot of which parts are deltas against what runs. A Bakelite that doesn't know deltas
/// refuses the kind by its name.
pub const DELTA: &str = "delta";
/// The kind of a bundle with archives of container images, manifests and charts, which are laid over those of the image.
pub const APPS: &str = "apps";
/// The parts of a system, in their order: what is small and goes onto the boot partition comes first.
pub const KERNEL: &str = "vmlinuz";
/// The initramfs, which holds the settings.
pub const INITRAMFS: &str = "initrd";
/// The ending of a device tree's name, of which a Raspberry Pi has some between initramfs and system.
pub const DEVICE_TREE: &str = ".dtb";
/// The squashfs of the slot.
pub const ROOT: &str = "system.squashfs";
/// The base-2 logarithm of what a packed delta (zstd) may need in memory, in bytes.
pub const WINDOW: u32 = 21;
/// The ending of a bundle's name.
pub const ENDING: &str = ".bundle";

/// What a bundle says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Bundle {
    /// [`FORMAT`].
    pub format: u32,
    /// [`SYSTEM`], [`DELTA`] or [`APPS`].
    pub kind: String,
    /// What kind of appliance it is; empty where it has no name.
    pub name: String,
    /// The appliance's own version; empty where it has none.
    pub version: String,
    /// The image's id; of apps what tells their content from any other.
    pub image: String,
    /// The image's time, in seconds since 1970: of two without a version the later one is the newer. Apps have none.
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
    /// Of apps: objects that k3s may delete with all that is in them, such as `persistentvolumeclaims/default/till`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drops: Vec<String>,
    /// Of apps: what their manifests have that holds more than itself, by the same names. A bundle without it is read for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds: Option<Vec<String>>,
    /// The boot loader's entry as the image has it, for slot a; apps have none.
    pub entry: String,
    /// Of [`DELTA`]: what has to run on the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// Its parts, in the archive's order.
    pub parts: Vec<Part>,
}

/// What deltas are against.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Base {
    /// The image's id.
    pub image: String,
    /// The appliance's version; empty where it has none.
    pub version: String,
    /// The SHA-256 of its squashfs in hexadecimal digits.
    pub sha256: String,
}

impl Base {
    /// What names it for a person.
    pub fn words(&self) -> String {
        if self.version.is_empty() {
            format!("image {}", self.image)
        } else {
            format!("{} (image {})", self.version, self.image)
        }
    }
}

/// One part: what it is on the machine, and how it comes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Part {
    /// Its name in the archive.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// Its SHA-256 in hexadecimal digits.
    pub sha256: String,
    /// How it comes where it doesn't come whole: what the archive has is a delta against the part of the same name that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta: Option<Delta>,
    /// Of apps: where k3s looks for it; without it, it is an archive of container images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Of apps: how the machine puts secrets into it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quoting: Option<Quoting>,
}

/// A delta, as the archive has it: instructions (`bakelite_disk::delta`) in one frame of zstd, whose window is [`WINDOW`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Delta {
    /// Its bytes.
    pub size: u64,
    /// Its SHA-256 in hexadecimal digits.
    pub sha256: String,
}

impl Part {
    /// What the archive has of it: how many bytes, and their SHA-256 in hexadecimal digits.
    pub fn member(&self) -> (u64, &str) {
        self.delta.as_ref().map_or((self.size, &self.sha256), |delta| (delta.size, &delta.sha256))
    }
}

impl Bundle {
    /// Whether it is [`APPS`].
    pub fn is_apps(&self) -> bool {
        self.kind == APPS
    }

    /// Whether a part belongs onto the boot partition, into the slot's folder.
    pub fn is_boot_file(name: &str) -> bool {
        let is_plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b".-_+".contains(&c);
        let stem = name.strip_suffix(DEVICE_TREE).filter(|stem| !stem.is_empty() && !stem.starts_with('.'));
        name == KERNEL || name == INITRAMFS || stem.is_some_and(|stem| stem.bytes().all(is_plain))
    }

    /// The part of a name.
    pub fn part(&self, name: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.name == name)
    }

    /// What names it for a person.
    pub fn words(&self) -> String {
        let name = if self.name.is_empty() { String::new() } else { format!("{} ", self.name) };
        let version = if self.version.is_empty() { String::new() } else { format!("{} ", self.version) };
        if self.is_apps() {
            return format!("{name}{version}(apps {} for {})", self.image, self.board);
        }
        let k3s = if self.k3s.is_empty() { String::new() } else { format!(", k3s {}", self.k3s) };
        let base = self.base.as_ref().map_or_else(String::new, |base| format!(", a delta against {}", base.words()));
        format!("{name}{version}(image {} for {}{k3s}{base})", self.image, self.board)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_onto_the_boot_partition_has_a_plain_name() {
        for good in [KERNEL, INITRAMFS, "bcm2837-rpi-3-b.dtb", "bcm2837-rpi-3-b+.dtb"] {
            assert!(Bundle::is_boot_file(good), "{good}");
        }
        for bad in [ROOT, ".dtb", "../a.dtb", "a/b.dtb", ".hidden.dtb", "config.txt", "A.dtb", ""] {
            assert!(!Bundle::is_boot_file(bad), "{bad}");
        }
    }
}
