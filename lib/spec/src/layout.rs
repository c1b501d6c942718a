//! The layout of a boot medium: partitions, their fixed type GUIDs and labels, their places. Pure arithmetic.
//!
//! Type GUIDs and labels never change; disk and partition GUIDs are restamped by whoever first boots a medium, so
//! that two media of one image differ. A medium that nobody has restamped yet carries [`UNSTAMPED_DISK`], an MBR as well.

use crate::quantity::Size;

/// Bytes of a sector in the partition table.
pub const SECTOR: u64 = 512;
/// Partitions begin and end at multiples of this.
pub const ALIGNMENT: u64 = 1 << 20;
/// Bytes at the end of a system or state partition that hold its record (footer, born).
pub const RECORD: u64 = 4096;

/// The disk GUID of an image that nobody has booted yet.
pub const UNSTAMPED_DISK: &str = "6b1a6c1e-ba4e-4111-8000-000000000000";

/// How a medium's partition table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// With GUIDs and a backup at the medium's end (UEFI).
    Gpt,
    /// With four primary partitions, for firmware that reads nothing else.
    Mbr,
}

impl Scheme {
    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gpt => "GPT",
            Self::Mbr => "MBR",
        }
    }

    /// The roles on a boot medium, in the order of their partitions.
    pub fn roles(self) -> &'static [Role] {
        match self {
            Self::Gpt => &Role::ALL,
            Self::Mbr => &[Role::Boot, Role::SystemA, Role::SystemB, Role::State],
        }
    }
}

/// What a partition is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Room for legacy BIOS boot code; empty.
    BiosBoot,
    /// The FAT partition that firmware reads (EFI system partition).
    Boot,
    /// A system partition.
    SystemA,
    /// The other system partition.
    SystemB,
    /// State, made by the device itself.
    State,
    /// The one partition of a data disk, made by the device itself.
    Data,
}

impl Role {
    /// All roles that a boot medium can have, in the order of their partitions.
    pub const ALL: [Self; 5] = [Self::BiosBoot, Self::Boot, Self::SystemA, Self::SystemB, Self::State];

    /// The partition's number, from 1. A data disk has just one.
    pub fn number(self, scheme: Scheme) -> u32 {
        (1..).zip(scheme.roles()).find(|(_, role)| **role == self).map_or(1, |(number, _)| number)
    }

    /// The fixed type GUID. The first two are those of the UEFI specification and of GRUB; the others are ours.
    pub fn type_guid(self) -> &'static str {
        match self {
            Self::BiosBoot => "21686148-6449-6e6f-744e-656564454649",
            Self::Boot => "c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
            Self::SystemA => "6b1a6c1e-5a57-4a11-9a01-ba4e117e0001",
            Self::SystemB => "6b1a6c1e-5a57-4a11-9a01-ba4e117e0002",
            Self::State => "6b1a6c1e-5a57-4a11-9a01-ba4e117e0003",
            Self::Data => "6b1a6c1e-5a57-4a11-9a01-ba4e117e0004",
        }
    }

    /// The fixed label, also the file system's where it has one.
    pub fn label(self) -> &'static str {
        match self {
            Self::BiosBoot => "bakelite-bios",
            Self::Boot => "bakelite-boot",
            Self::SystemA => "bakelite-a",
            Self::SystemB => "bakelite-b",
            Self::State => "bakelite-state",
            Self::Data => "bakelite-data",
        }
    }

    /// The partition GUID in an image that nobody has booted yet.
    pub fn unstamped_guid(self) -> String {
        format!("{}{:04}", &UNSTAMPED_DISK[..UNSTAMPED_DISK.len() - 4], self.number(Scheme::Gpt))
    }

    /// The system partition of a slot by its letter.
    pub fn of_slot(slot: &str) -> Option<Self> {
        match slot {
            "a" => Some(Self::SystemA),
            "b" => Some(Self::SystemB),
            _ => None,
        }
    }
}

/// One partition of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// What it is for.
    pub role: Role,
    /// Its first byte.
    pub start: u64,
    /// Its length in bytes.
    pub length: u64,
}

/// The partitions of an image, and the image's length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// How the partition table is written.
    pub scheme: Scheme,
    /// All partitions but state, in the order of their places.
    pub partitions: Vec<Partition>,
    /// The image's length in bytes, a backup partition table included.
    pub length: u64,
}

/// The boot partition: both slots' kernels and initramfs with room for a third while updating.
pub const BOOT_SIZE: Size = Size(512 << 20);
/// The FAT cluster of the boot partition.
pub const BOOT_CLUSTER: u32 = 4096;
/// The smallest state partition that the device makes.
pub const STATE_MINIMUM: Size = Size(256 << 20);

/// What is left free on a recovery stick, at least, for reports and backups.
const STICK_ROOM: Size = Size(128 << 20);

/// Lays out an image with two system partitions of the given size.
pub fn layout(scheme: Scheme, slot: Size) -> Layout {
    let mut start = ALIGNMENT;
    let mut partitions = Vec::new();
    for role in scheme.roles() {
        let length = match role {
            Role::BiosBoot => ALIGNMENT,
            Role::Boot => BOOT_SIZE.0,
            Role::SystemA | Role::SystemB => round_up(slot.0),
            // The device makes them.
            Role::State | Role::Data => continue,
        };
        partitions.push(Partition { role: *role, start, length });
        start += length;
    }
    let backup = if scheme == Scheme::Gpt { ALIGNMENT } else { 0 };
    Layout { scheme, partitions, length: start + backup }
}

/// Lays out a recovery stick whose files have so many bytes: one FAT that every firmware reads, with room for backups.
pub fn stick(content: u64) -> Layout {
    let length = round_up((content + content / 16 + STICK_ROOM.0).max(BOOT_SIZE.0));
    let partitions = vec![Partition { role: Role::Boot, start: ALIGNMENT, length }];
    Layout { scheme: Scheme::Gpt, partitions, length: ALIGNMENT + length + ALIGNMENT }
}

impl Layout {
    /// The partition with a role.
    pub fn partition(&self, role: Role) -> Option<&Partition> {
        self.partitions.iter().find(|partition| partition.role == role)
    }
}

/// The size of a slot for a content: what the appliance says, else twice the content and at least 1 GiB.
pub fn slot_size(wanted: Option<Size>, content: u64) -> Size {
    wanted.unwrap_or(Size(round_up((content * 2).max(1 << 30))))
}

/// Rounds up to a multiple of [`ALIGNMENT`].
pub fn round_up(bytes: u64) -> u64 {
    bytes.div_ceil(ALIGNMENT) * ALIGNMENT
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn partitions_are_aligned_and_never_overlap(slot in (1u64 << 20)..(1 << 42)) {
            for (scheme, behind) in [(Scheme::Gpt, 34 * SECTOR), (Scheme::Mbr, 0)] {
                let layout = layout(scheme, Size(slot));
                let mut end = ALIGNMENT;
                for partition in &layout.partitions {
                    prop_assert_eq!(partition.start % ALIGNMENT, 0);
                    prop_assert!(partition.start >= end);
                    end = partition.start + partition.length;
                }
                prop_assert!(layout.length >= end + behind);
                prop_assert!(layout.partition(Role::SystemB).is_some_and(|b| b.length >= slot));
            }
        }
    }
}
