//! Rules across keys: what the check of single keys can't see. Data, so that they can be listed and documented.

use crate::appliance::{Appliance, K3sRole, Payload};
use crate::board::Board;
use crate::finding::Finding;

pub mod k3s;
pub mod user;

/// One rule.
pub struct Rule {
    /// Its stable name.
    pub name: &'static str,
    /// What it guards against, for a person.
    pub meaning: &'static str,
    /// The key that a finding is tied to.
    pub key: &'static str,
    check: fn(&Appliance, &Board) -> Option<Finding>,
}

impl std::fmt::Debug for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rule").field("name", &self.name).field("meaning", &self.meaning).finish_non_exhaustive()
    }
}

/// All rules.
pub const RULES: &[Rule] = &[
    Rule {
        name: "debug-shell",
        meaning: "A debug image gives root to whoever has the serial console.",
        key: "debug",
        check: |appliance, _| {
            appliance.debug.then(|| {
                Finding::warning(
                    "debug",
                    "this image gives a root shell on the serial console",
                    "taking `debug: true` out before it leaves the bench",
                )
            })
        },
    },
    Rule {
        name: "backup-recipients",
        meaning: "Without a recipient nobody but the device itself can open its backups.",
        key: "backup.recipients",
        check: |appliance, _| {
            let has_database = appliance.k3s.payload != Payload::None && appliance.k3s.role == K3sRole::Server;
            (has_database && appliance.backup.recipients.is_empty()).then(|| {
                Finding::warning(
                    "backup.recipients",
                    "is empty: backups won't be restorable after the loss of both media",
                    "`bakelite new`, which makes a key pair",
                )
            })
        },
    },
    Rule {
        name: "link-named-once",
        meaning: "A link's settings apply to one link, named by its MAC address or by its device path.",
        key: "network.links",
        check: |appliance, _| {
            appliance.network.links.iter().enumerate().find_map(|(number, link)| {
                let key = format!("network.links[{number}]");
                match (&link.mac, &link.path) {
                    (Some(_), None) | (None, Some(_)) => {}
                    _ => return Some(Finding::error(key, "has to name its link in one way", "either `mac` or `path`")),
                }
                let lonely_gateway = link.gateway.is_some() && link.address.is_none();
                lonely_gateway
                    .then(|| Finding::error(key, "has a gateway without an address", "`address: 192.168.1.10/24`"))
            })
        },
    },
];

/// What the rules find in an appliance for its board.
pub fn findings(appliance: &Appliance, board: &Board) -> Vec<(&'static Rule, Finding)> {
    RULES.iter().filter_map(|rule| (rule.check)(appliance, board).map(|finding| (rule, finding))).collect()
}
