//! The keys of an appliance, by section.

mod cluster;
mod network;
mod system;
mod upkeep;

use super::Key;
use cluster::CLUSTER;
use network::NETWORK;
use system::SYSTEM;
use upkeep::UPKEEP;

/// The keys of an appliance.
pub const APPLIANCE: &[Key] = &joined::<{ SYSTEM.len() + CLUSTER.len() + NETWORK.len() + UPKEEP.len() }>();

const fn joined<const ALL: usize>() -> [Key; ALL] {
    let (parts, mut part) = ([SYSTEM, CLUSTER, NETWORK, UPKEEP], 0);
    let (mut keys, mut at) = ([SYSTEM[0]; ALL], 0);
    while part < parts.len() {
        let mut of_part = 0;
        while of_part < parts[part].len() {
            keys[at] = parts[part][of_part];
            (of_part, at) = (of_part + 1, at + 1);
        }
        part += 1;
    }
    keys
}
