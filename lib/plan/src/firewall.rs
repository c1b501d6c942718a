//! Firewall: the rules for what may reach the machine itself, and which rules are loaded when nft refuses them.
//!
//! Refused rules never leave a machine open or out of reach: those of before stay; where there are none, the last accepted
//! ones are tried, then ssh from anywhere alone. It is told as a fault, and the machine goes on.

use crate::Settings;
use crate::action::Action;
use crate::facts::Facts;
use crate::step::Decision;
use bakelite_spec::appliance::{Firewall, Input, K3s, K3sRole, Payload as Kind};
use bakelite_spec::fault::{Code, Fault};
use bakelite_spec::firewall::{NO_RULES, RULES, fallback, rules};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Rules that nft has refused in this boot, with its words.
pub const REFUSED: &str = "/run/bakelite/nftables-refused.json";
/// The rules that early last ended well with.
pub const ACCEPTED: &str = "/var/lib/bakelite/accepted/nftables";

/// What the machines of a cluster ask of each other (k3s.md 2.11): the API, etcd, the embedded registry, the kubelet.
const PEER_TCP: &str = "2379-2381, 5001, 10250";
/// VXLAN and WireGuard, by which the pods of two machines reach each other.
const PEER_UDP: &str = "8472, 51820-51821";

/// Decides about the rules that are loaded.
pub fn decide(facts: &Facts, settings: &Settings) -> Decision {
    let loaded = facts.file(RULES).filter(|rules| *rules != NO_RULES);
    if settings.appliance.firewall.input == Input::Open {
        let rules = NO_RULES.to_string();
        let actions = loaded.map(|_| Action::LoadRules { rules }).into_iter().collect();
        return Decision::of(actions, "there is no firewall", "the firewall is turned off");
    }
    let (wanted, what) = (closed(settings), words(settings));
    if loaded == Some(&wanted) {
        return Decision::Done(format!("the machine is {what}"));
    }
    let refused: BTreeMap<String, String> =
        facts.file(REFUSED).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let Some(why) = refused.get(&wanted) else {
        return Decision::Run(format!("the machine becomes {what}"), vec![Action::LoadRules { rules: wanted }]);
    };
    let fault = |instead: &str| {
        let text = format!("nft refuses the firewall's rules ({}); {instead}", why.trim());
        Decision::Without(Fault::new(Code::FirewallRefused, text))
    };
    if let Some(loaded) = loaded {
        return fault(if loaded == fallback() { "only ssh is let in" } else { "those of before are in force" });
    }
    let accepted = facts.file(ACCEPTED).filter(|rules| *rules != NO_RULES).map(String::from);
    match accepted.into_iter().chain([fallback()]).find(|rules| !refused.contains_key(rules)) {
        Some(rules) => Decision::Run(
            "nft refuses the firewall's rules; the last accepted ones, or ssh alone".into(),
            vec![Action::LoadRules { rules }],
        ),
        None => fault("it refuses all others, too, and nothing is closed"),
    }
}

fn has_api(k3s: &K3s) -> bool {
    k3s.payload != Kind::None && k3s.role == K3sRole::Server
}

/// The rules of a closed machine.
fn closed(settings: &Settings) -> String {
    let (firewall, k3s) = (&settings.appliance.firewall, &settings.appliance.k3s);
    let mut lines = from(&firewall.ssh, "tcp dport 22");
    if has_api(k3s) {
        lines.extend(from(&firewall.api, &format!("tcp dport {}", k3s.api_port())));
    }
    lines.extend(firewall.open.iter().filter_map(|open| {
        let (port, protocol) = open.split_once('/')?;
        Some(format!("{protocol} dport {port} accept"))
    }));
    if k3s.payload != Kind::None {
        let mut peers = firewall.peers.clone();
        // Without a tunnel the pods of other machines come with their own addresses.
        if !peers.is_empty() && k3s.config.get("flannel-backend").is_some_and(|backend| backend == "host-gw") {
            peers.extend(k3s.pod_networks());
        }
        lines.extend(from(&peers, &format!("tcp dport {{ {}, {PEER_TCP} }}", k3s.api_port())));
        lines.extend(from(&peers, &format!("udp dport {{ {PEER_UDP} }}")));
    }
    rules(&lines)
}

/// Lines that let some traffic in from networks; none without networks.
fn from(networks: &[String], what: &str) -> Vec<String> {
    let (six, four): (Vec<String>, Vec<String>) = merged(networks).into_iter().partition(|text| text.contains(':'));
    let line = |family: &str, whole: &str, networks: Vec<String>| match &networks[..] {
        [] => None,
        [all] if all.ends_with("/0") => Some(format!("meta nfproto {whole} {what} accept")),
        _ => Some(format!("{family} saddr {{ {} }} {what} accept", networks.join(", "))),
    };
    [line("ip", "ipv4", four), line("ip6", "ipv6", six)].into_iter().flatten().collect()
}

/// Networks and addresses as networks of which none overlaps another, as nft and others refuse such.
pub fn merged(networks: &[String]) -> Vec<String> {
    let networks: Vec<IpNet> =
        networks.iter().filter_map(|text| network(text)).map(|network| network.trunc()).collect();
    IpNet::aggregate(&networks).iter().map(ToString::to_string).collect()
}

/// A network, or a single address as one.
fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// What is let in, for a person.
fn words(settings: &Settings) -> String {
    let Firewall { ssh, api, open, peers, .. } = &settings.appliance.firewall;
    let networks = |networks: &[String]| {
        let everywhere = networks.iter().filter_map(|text| network(text)).any(|network| network.prefix_len() == 0);
        match networks.len() {
            _ if everywhere => "anywhere".to_string(),
            0 => "nowhere".into(),
            1 => networks.concat(),
            count => format!("{count} networks"),
        }
    };
    let mut parts = vec![format!("ssh from {}", networks(ssh))];
    let k3s = &settings.appliance.k3s;
    if has_api(k3s) {
        parts.push(format!("the API from {}", networks(api)));
    }
    if !open.is_empty() {
        parts.push(open.join(", "));
    }
    if k3s.payload != Kind::None && !peers.is_empty() {
        parts.push(format!("its cluster's machines from {}", networks(peers)));
    }
    format!("closed but for {}", parts.join("; "))
}

#[cfg(test)]
mod tests;
