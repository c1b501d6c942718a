//! The machine of a scenario, as it is written down.

use bakelite_spec::quantity::Size;
use bakelite_vm::{Attached, Bus, Disk, Firmware, Network};
use serde::{Deserialize, Deserializer, de::Error};

/// The machine of a scenario; a step `boot` may change any of it for one boot.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Hardware {
    /// `direct` (by default: quick), `uefi` or `secure-boot`.
    #[serde(default, deserialize_with = "firmware")]
    pub firmware: Option<Firmware>,
    /// The boot medium's bus; `absent` for none.
    #[serde(default, deserialize_with = "boot_bus")]
    pub medium: Option<BootBus>,
    /// Memory in MiB.
    pub memory: Option<u32>,
    /// Kernel arguments besides the image's.
    pub arguments: Option<String>,
    /// Disks besides, as `bakelite run --disk` takes them, with a name in front: `ssd=nvme:10GiB`.
    #[serde(default, deserialize_with = "disks")]
    pub disks: Option<Vec<Disk>>,
    /// Whether all writes to the boot medium and the first disk are recorded, for a step `replay`.
    pub record: Option<bool>,
    /// A network as `bakelite run --net` takes it.
    #[serde(default, deserialize_with = "network")]
    pub network: Option<Network>,
    /// How many links the network has.
    pub links: Option<u8>,
    /// Links that are down from the start.
    pub links_down: Option<Vec<u8>>,
    /// A second medium of the same image, by its bus.
    #[serde(default, deserialize_with = "bus")]
    pub second: Option<Bus>,
    /// The size of the boot medium.
    pub size: Option<Size>,
    /// Whether the screen is virtio's.
    pub virtio_screen: Option<bool>,
    /// What is attached besides, by the words of `board.with`.
    #[serde(default, deserialize_with = "attached")]
    pub attached: Option<Vec<Attached>>,
}

/// The bus of a boot medium, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootBus {
    /// There is a boot medium.
    On(Bus),
    /// There is none.
    Absent,
}

impl Hardware {
    /// This hardware, with another's words where it has some.
    pub fn changed_by(&self, other: &Self) -> Self {
        let (mut new, over) = (self.clone(), other.clone());
        new.firmware = over.firmware.or(new.firmware);
        new.medium = over.medium.or(new.medium);
        new.memory = over.memory.or(new.memory);
        new.arguments = over.arguments.or(new.arguments);
        new.disks = over.disks.or(new.disks);
        new.record = over.record.or(new.record);
        new.network = over.network.or(new.network);
        new.links = over.links.or(new.links);
        new.links_down = over.links_down.or(new.links_down);
        new.second = over.second.or(new.second);
        new.size = over.size.or(new.size);
        new.virtio_screen = over.virtio_screen.or(new.virtio_screen);
        new.attached = over.attached.or(new.attached);
        new
    }
}

/// Reads a word that stands for something.
pub fn word<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, D::Error> {
    let word = String::deserialize(deserializer)?;
    read(&word).map(Some).ok_or_else(|| D::Error::custom(format!("`{word}` means nothing here")))
}

fn firmware<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Firmware>, D::Error> {
    word(deserializer, |word| match word {
        "direct" => Some(Firmware::Direct),
        "uefi" => Some(Firmware::Uefi { secure_boot: false }),
        "secure-boot" => Some(Firmware::Uefi { secure_boot: true }),
        _ => None,
    })
}

fn bus<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Bus>, D::Error> {
    word(deserializer, Bus::parse)
}

fn boot_bus<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<BootBus>, D::Error> {
    word(deserializer, |word| match word {
        "absent" => Some(BootBus::Absent),
        word => Bus::parse(word).map(BootBus::On),
    })
}

fn network<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Network>, D::Error> {
    word(deserializer, |word| Network::parse(word).ok())
}

fn attached<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Attached>>, D::Error> {
    let words = Vec::<String>::deserialize(deserializer)?;
    let one = |word: &String| {
        Attached::parse(word).ok_or_else(|| D::Error::custom(format!("`{word}` is nothing that can be attached")))
    };
    words.iter().map(one).collect::<Result<_, _>>().map(Some)
}

fn disks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Disk>>, D::Error> {
    let words = Vec::<String>::deserialize(deserializer)?;
    let disk = |word: &String| {
        let (name, word) = word.split_once('=').map_or((None, word.as_str()), |(name, word)| (Some(name.into()), word));
        Disk::parse(word).map(|disk| Disk { name, ..disk })
    };
    words.iter().map(disk).collect::<Result<_, _>>().map(Some).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_changes_only_what_it_names() {
        let base = Hardware { memory: Some(512), arguments: Some("a".into()), ..Hardware::default() };
        let changed = base.changed_by(&Hardware { arguments: Some("b".into()), ..Hardware::default() });
        assert_eq!((changed.memory, changed.arguments.as_deref()), (Some(512), Some("b")));
    }
}
