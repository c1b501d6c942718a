//! Rules across keys: what the check of single keys can't see. Data, so that they can be listed and documented.

use crate::appliance::{Appliance, Encryption, Input, K3sRole, Payload};
use crate::board::Board;
use crate::finding::Finding;
use crate::form::form_of;
use crate::keys::Form;
use std::net::IpAddr;

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
            let is_closed = appliance.backup.encryption == Encryption::Age && appliance.backup.recipients.is_empty();
            (has_database && is_closed).then(|| {
                Finding::warning(
                    "backup.recipients",
                    "is empty: backups won't be restorable after the loss of both media",
                    "`bakelite new`, which makes a key pair",
                )
            })
        },
    },
    Rule {
        name: "backup-plain",
        meaning: "Whoever gets at a plain backup has the cluster's keys.",
        key: "backup.encryption",
        check: |appliance, _| {
            (appliance.backup.encryption == Encryption::None).then(|| {
                Finding::warning(
                    "backup.encryption",
                    "is none: whoever gets at a backup has the cluster",
                    "`backup.recipients`, which keeps it to you and the machine",
                )
            })
        },
    },
    Rule {
        name: "pull-key-apart",
        meaning: "The ssh server takes the first line that has a key: one key can't be the operator's and a puller's.",
        key: "backup.pull.keys",
        check: |appliance, _| {
            let own = |key: &&String| appliance.ssh.keys.iter().any(|other| key_of(other) == key_of(key));
            appliance.backup.pull.keys.iter().find(own).map(|_| {
                let problem = "has a key that is in `ssh.keys`, too";
                Finding::error("backup.pull.keys", problem, "a key of its own, by `ssh-keygen -t ed25519`")
            })
        },
    },
    Rule {
        name: "wifi-whole",
        meaning: "A radio needs modules and firmware, the law of a country, and a network to join.",
        key: "wifi",
        check: |appliance, _| {
            let wifi = &appliance.wifi;
            let has_radio = appliance.board.with.iter().any(|what| what == "wifi");
            let (key, problem, hint) = match (&wifi.ssid, &wifi.country) {
                (None, _) if wifi.password.is_some() || wifi.hidden => {
                    ("wifi.ssid", "is missing, and without it no network is joined", "the network's name")
                }
                (Some(_), None) => {
                    ("wifi.country", "is missing, and a radio must obey a country's law", "`country: DE`")
                }
                (Some(_), _) if !has_radio => {
                    ("wifi", "has no radio: the image gets no modules and firmware for one", "`board.with: [wifi]`")
                }
                _ => return None,
            };
            Some(Finding::error(key, problem, hint))
        },
    },
    Rule {
        name: "update-signed",
        meaning: "A machine that fetches updates believes only what an owner has signed.",
        key: "update.from",
        check: |appliance, _| {
            (appliance.update.from.is_some() && appliance.owner.keys.is_empty()).then(|| {
                let problem = "is an address, and without `owner.keys` nothing from there is ever believed";
                Finding::error("update.from", problem, "the key that `bakelite new` printed in `owner.keys`")
            })
        },
    },
    Rule {
        name: "restore-replaces",
        meaning: "A living cluster is replaced only by a word that names it.",
        key: "restore.replaces",
        check: |appliance, _| {
            let restore = &appliance.restore;
            let problem = match (&restore.set, &restore.replaces) {
                (Some(_), None) => "has to be named together with `restore.set`",
                (None, Some(_)) => "means nothing without `restore.set`",
                _ => return None,
            };
            let hint = "`restore: {set: newest, replaces: ID}` with the cluster's id from report.json";
            Some(Finding::error("restore.replaces", problem, hint))
        },
    },
    Rule {
        name: "peers-named",
        meaning: "Behind a closed firewall the machines of a cluster reach each other only where they are named.",
        key: "firewall.peers",
        check: |appliance, _| {
            let is_closed = appliance.firewall.input == Input::Closed && appliance.firewall.peers.is_empty();
            (is_closed && appliance.k3s.payload != Payload::None && appliance.k3s.has_peers()).then(|| {
                Finding::error(
                    "firewall.peers",
                    "is empty: the other machines of its cluster could not reach this one",
                    "the network they are in, `peers: [192.168.1.0/24]`, or `firewall: open`",
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
    Rule {
        name: "hosts-named",
        meaning: "A line of /etc/hosts holds one name and its address.",
        key: "network.hosts",
        check: |appliance, _| {
            let wrong = appliance.network.hosts.keys().find(|name| form_of(Form::Host, name).is_err())?;
            let problem = format!("`{wrong}` is not a host name");
            Some(Finding::error("network.hosts", problem, "a name such as `registry.shop.lan`"))
        },
    },
    Rule {
        name: "gateway-within-reach",
        meaning: "A gateway outside the link's own network is never found, and the machine with it.",
        key: "network.links",
        check: |appliance, _| {
            appliance.network.links.iter().enumerate().find_map(|(number, link)| {
                let (address, gateway) = (link.address.as_deref()?, link.gateway?);
                (!is_in_network(gateway, address)).then(|| {
                    let problem = format!("{gateway} is not in the network of {address}");
                    let hint = "the router's address in that network, or another prefix length";
                    Finding::error(format!("network.links[{number}].gateway"), problem, hint)
                })
            })
        },
    },
];

/// A public key without its comment.
fn key_of(line: &str) -> Option<&str> {
    line.split_whitespace().nth(1)
}

/// Whether an address is in the network of another one, which has its prefix length with it.
fn is_in_network(address: IpAddr, network: &str) -> bool {
    let Some((base, prefix)) = network.split_once('/') else { return false };
    let (Ok(base), Ok(prefix)) = (base.parse::<IpAddr>(), prefix.parse::<u32>()) else { return false };
    match (address, base) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            (one.to_bits() ^ other.to_bits()).checked_shr(32 - prefix.min(32)).unwrap_or(0) == 0
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            (one.to_bits() ^ other.to_bits()).checked_shr(128 - prefix.min(128)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// What the rules find in an appliance for its board.
pub fn findings(appliance: &Appliance, board: &Board) -> Vec<(&'static Rule, Finding)> {
    RULES.iter().filter_map(|rule| (rule.check)(appliance, board).map(|finding| (rule, finding))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_is_in_the_network_of_its_link() {
        let is_in = |gateway: &str, address| is_in_network(gateway.parse().unwrap(), address);
        assert!(is_in("192.168.10.1", "192.168.10.20/24") && is_in("10.200.0.1", "10.0.0.5/8"));
        assert!(!is_in("192.168.1.1", "192.168.10.20/24") && !is_in("fd00::1", "192.168.10.20/24"));
        assert!(is_in("fd00::1", "fd00::2/64") && !is_in("fd00:0:0:1::1", "fd00::2/64"));
        assert!(is_in("1.2.3.4", "9.9.9.9/0") && is_in("1.2.3.4", "1.2.3.4/32") && !is_in("1.2.3.5", "1.2.3.4/32"));
    }
}
