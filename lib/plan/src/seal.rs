//! Seal: the identity's copy on the data disk. With it a new card and the old disk are the same node, reachable as before.

use crate::Settings;
use crate::action::Action;
use crate::disk::Data;
use crate::facts::Facts;
use crate::identity::{self, DEVICE_KEY, PASSWORD, RECORD, TOKEN};
use crate::settings::HOST_KEY;
use crate::step::Decision;
use bakelite_spec::status::paths;

/// The seal's file on the data disk.
pub const SEAL: &str = "/disk/bakelite/seal";
/// Files that are sealed, and folders with all files in them; the record is taken out last.
pub const SEALED: &[&str] = &[
    TOKEN,
    PASSWORD,
    DEVICE_KEY,
    HOST_KEY,
    crate::address::LAST,
    bakelite_spec::secret::FOLDER,
    paths::SEED,
    paths::APPLIED,
    paths::OVERLAY,
    "/var/lib/bakelite/accepted",
    RECORD,
];

/// The identity sealed once more onto a data disk.
pub(crate) fn again(data: &Data) -> Action {
    let sealed = data.content.as_ref().and_then(|content| content.seal.as_ref());
    Action::Seal { generation: sealed.map_or(1, |seal| seal.generation + 1) }
}

/// Decides about the seal.
pub fn decide(facts: &Facts, _: &Settings) -> Decision {
    let Some((disk, data)) = facts.attached() else {
        return Decision::Skip("there is no data disk to seal the identity onto".into());
    };
    if identity::of(facts).is_none() || facts.to_seal.is_empty() {
        return Decision::Skip("there is no identity to seal".into());
    }
    let sealed = data.content.as_ref().and_then(|content| content.seal.as_ref());
    match sealed {
        Some(seal) if seal.digest == facts.to_seal => {
            Decision::Done(format!("the identity is sealed on {}, generation {}", disk.name, seal.generation))
        }
        seal => {
            let generation = seal.map_or(1, |seal| seal.generation + 1);
            let why = format!("the identity is sealed on {}, generation {generation}", disk.name);
            Decision::Run(why, vec![again(data)])
        }
    }
}
