//! Address: k3s needs one and a default route, also on a machine without a network.
//!
//! A wired link takes seconds to find its carrier; with one, the step waits for DHCP, at most `network.wait`. Then the node
//! keeps the address it had last, on a link that leads nowhere; without any, that link's own address serves (docs.k3s.io:
//! air-gap, default route).

use crate::Settings;
use crate::action::Action;
use crate::facts::Facts;
use crate::step::{Decision, publish};
use bakelite_spec::appliance::Payload as Kind;
use std::net::{IpAddr, Ipv4Addr};

/// The stand-in's own address, from a range that is never routed (RFC 5737).
pub const DUMMY: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 254));
/// Seconds in which a wired link finds its carrier: autonegotiation takes two to four.
const CARRIER_WAIT: u64 = 5;
/// Where the last real address is kept.
pub const LAST: &str = "/var/lib/bakelite/last-address";

/// The address that k3s is to use: the real one, else the last one, else the stand-in's.
pub fn node_address(facts: &Facts) -> IpAddr {
    facts.address.as_ref().map(|(_, address)| *address).or_else(|| last(facts)).unwrap_or(DUMMY)
}

fn last(facts: &Facts) -> Option<IpAddr> {
    facts.file(LAST)?.trim().parse().ok()
}

/// Decides about the address.
pub fn decide(facts: &Facts, settings: &Settings) -> Decision {
    if settings.manifest.payload.kind == Kind::None {
        return Decision::Skip("nothing here needs an address".into());
    }
    if let Some((link, address)) = &facts.address {
        let remember = publish(facts, LAST, format!("{address}\n"), 0o644);
        // k3s wants a default route even where the network has no gateway.
        let route = match (facts.default_route, &facts.dummy) {
            (true, Some(_)) => Some(Action::RemoveDummy),
            (false, None) => Some(Action::MakeDummy { addresses: Vec::new() }),
            _ => None,
        };
        let actions = route.into_iter().chain(remember).collect();
        return Decision::of(
            actions,
            format!("{address} on {link}"),
            format!("{address} on {link}, new since last time"),
        );
    }
    let wait = settings.appliance.network.wait.0;
    let carrier = facts.links.iter().find(|link| link.carrier);
    if carrier.is_none() && !facts.links.is_empty() && facts.dummy.is_none() && facts.waited < CARRIER_WAIT.min(wait) {
        let seconds = CARRIER_WAIT.min(wait) - facts.waited;
        let why = "no link has a carrier yet, waiting for one".to_string();
        return Decision::Run(why, vec![Action::AwaitAddress { seconds, or_carrier: true }]);
    }
    if let Some(link) = carrier.filter(|_| facts.waited < wait) {
        let why = format!("{} has a carrier, waiting for an address", link.name);
        return Decision::Run(why, vec![Action::AwaitAddress { seconds: wait - facts.waited, or_carrier: false }]);
    }
    let extra: Vec<IpAddr> = last(facts).into_iter().collect();
    let up = facts
        .dummy
        .as_ref()
        .is_some_and(|dummy| extra.iter().chain([&DUMMY]).all(|address| dummy.addresses.contains(address)));
    let reason = match carrier {
        Some(_) => "nobody gives an address",
        None if facts.links.is_empty() => "this machine has no wired link",
        None => "no link has a carrier",
    };
    let why = format!("{reason}: the node keeps {} on a link that leads nowhere", node_address(facts));
    let actions = if up { Vec::new() } else { vec![Action::MakeDummy { addresses: extra }] };
    Decision::of(actions, why.clone(), why)
}
