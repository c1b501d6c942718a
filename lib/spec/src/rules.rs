//! Rules across keys: what the check of single keys can't see. Data, so that they can be listed and documented.

use crate::appliance::{Appliance, Payload};
use crate::board::Board;
use crate::finding::Finding;
use serde_json::Value;

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
            (appliance.k3s.payload != Payload::None && appliance.backup.recipients.is_empty()).then(|| {
                Finding::warning(
                    "backup.recipients",
                    "is empty: backups won't be restorable after the loss of both media",
                    "`bakelite new`, which makes a key pair",
                )
            })
        },
    },
    Rule {
        name: "k3s-config-owned",
        meaning: "Keys of k3s's configuration whose value the appliance has to choose itself.",
        key: "k3s.config",
        check: |appliance, _| {
            let owned = ["data-dir", "node-name", "token", "token-file", "log", "config"];
            let taken: Vec<&str> = owned.into_iter().filter(|key| appliance.k3s.config.contains_key(*key)).collect();
            (!taken.is_empty()).then(|| {
                let hint = if taken.contains(&"node-name") {
                    "the appliance's own key `hostname` for the node's name"
                } else {
                    "leaving it out"
                };
                Finding::error(
                    "k3s.config",
                    format!("sets {}, which the appliance chooses itself", taken.join(", ")),
                    hint,
                )
            })
        },
    },
    Rule {
        name: "k3s-config-flat",
        meaning: "k3s turns a nested mapping into text, and its API server then dies with exit status 0.",
        key: "k3s.config",
        check: |appliance, _| {
            let nested = appliance.k3s.config.iter().find(|(_, value)| match value {
                Value::Object(_) => true,
                Value::Array(entries) => entries.iter().any(|entry| entry.is_object() || entry.is_array()),
                _ => false,
            })?;
            Some(Finding::error(
                format!("k3s.config.{}", nested.0),
                "is nested; k3s reads only scalars and lists of them",
                "one text for each entry, such as `- name=value`",
            ))
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
