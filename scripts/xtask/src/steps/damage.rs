//! What is damaged while a scenario's machine is off: its medium, or k3s's database on that.

use crate::hardware::word;
use bakelite_spec::layout::Role;
use bakelite_spec::quantity::Size;
use serde::{Deserialize, Deserializer, de::Error};

/// Damage to a medium.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum Damage {
    /// Overwrites bytes of a partition; a negative place counts from its end.
    Overwrite {
        /// The partition.
        #[serde(deserialize_with = "role")]
        partition: Role,
        /// From which byte.
        at: i64,
        /// How many bytes.
        length: Size,
        /// With what: one byte for all of them, or noise.
        #[serde(default)]
        byte: Option<u8>,
    },
    /// Spoils the footer of a system partition.
    Footer {
        /// `a` or `b`.
        slot: String,
    },
    /// Spoils all superblocks of the state partition's ext4, or only the first.
    Superblocks {
        /// Only the first: e2fsck finds the others.
        #[serde(default)]
        first_only: bool,
    },
    /// Makes the state partition one that was never finished: no record, noise at its start.
    HalfMade,
    /// Takes the state partition out of the table.
    StateEntry,
    /// Destroys the first or the last copy of the partition table.
    Table {
        /// The copy at the end.
        #[serde(default)]
        backup: bool,
    },
    /// Makes zeros of files of the boot partition.
    BootFiles {
        /// Their paths begin with this.
        below: String,
    },
    /// Fills the state partition, but for so many bytes.
    FillState {
        /// What is left free.
        leave: Size,
    },
}

/// Damage to k3s's database on the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DamageDatabase {
    /// Four KiB in the middle become zeros.
    Page,
    /// All pages after the first to the eleventh become zeros.
    FirstPages,
    /// The first 100 bytes become noise.
    Header,
    /// The file ends half-way, and its -wal is gone.
    Half,
    /// It is empty, and its -wal is gone.
    Empty,
    /// It is gone with its -wal.
    Missing,
    /// Its -wal alone is gone.
    NoLog,
    /// Beside it lies a -wal of before it was made anew, whose pages are other ones by now.
    StaleLog,
    /// The root page of an index becomes zeros.
    IndexRoot,
    /// The row with the cluster's keys doesn't open any more.
    Keys,
}

impl DamageDatabase {
    /// Whether what is in its -wal is lost, too.
    pub fn takes_the_log(self) -> bool {
        matches!(self, Self::Half | Self::Empty | Self::Missing | Self::NoLog)
    }
}

/// A partition by its role.
pub(super) fn role<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Role, D::Error> {
    let found = word(deserializer, |word| {
        Role::ALL.into_iter().find(|role| role.label().strip_prefix("bakelite-") == Some(word))
    })?;
    found.ok_or_else(|| D::Error::custom("no partition"))
}
