//! Settings: what network, time and ssh read in this boot. Written to /run, from the appliance and the links there are.
//!
//! This step never refuses: it is what lets an operator in.

use crate::Settings;
use crate::action::Action;
use crate::facts::{Facts, Link};
use crate::identity::node_name;
use crate::step::{Decision, tell};
use bakelite_spec::appliance::Link as LinkSettings;
use bakelite_spec::dhcp;
use bakelite_spec::status::paths;

/// The ssh server's key. Made here and not with the identity: also a machine whose state is lost lets its operator in,
/// if with a key of this boot only.
pub const HOST_KEY: &str = "/var/lib/dropbear/dropbear_ed25519_host_key";

/// Decides about the settings of this boot.
pub fn decide(facts: &Facts, settings: &Settings) -> Decision {
    let appliance = &settings.appliance;
    let name = node_name(facts, settings);
    let lines = |lines: Vec<String>| lines.into_iter().map(|line| line + "\n").collect::<String>();
    let servers = appliance.time.servers.iter().map(|server| format!("server {server} iburst"));
    let chrony = if appliance.time.servers.is_empty() {
        String::new()
    } else {
        lines(servers.chain(CHRONY.iter().map(ToString::to_string)).collect())
    };
    let own = ["127.0.0.1 localhost".to_string(), format!("127.0.1.1 {name}"), "::1 localhost".into()];
    let named = appliance.network.hosts.iter().map(|(host, address)| format!("{address} {host}"));
    let files = [
        (paths::HOSTNAME, format!("{name}\n"), 0o644),
        ("/run/bakelite/hosts", lines(own.into_iter().chain(named).collect()), 0o644),
        ("/run/bakelite/dhcpcd.conf", dhcpcd(facts, settings), 0o644),
        ("/run/bakelite/chrony.conf", chrony, 0o644),
        (paths::AUTHORIZED_KEYS, lines(appliance.ssh.keys.clone()), 0o600),
    ];
    let mut actions: Vec<_> =
        files.into_iter().filter_map(|(path, text, mode)| tell(facts, path, text, mode)).collect();
    // Name servers belong to dhcpcd once it runs; before that, and without it, those of the appliance count.
    if !facts.has("/run/bakelite/resolv.conf") {
        let servers = appliance.network.dns.iter().map(|server| format!("nameserver {server}")).collect();
        actions.extend(tell(facts, "/run/bakelite/resolv.conf", lines(servers), 0o644));
    }
    if !facts.has(HOST_KEY) {
        actions.push(Action::MakeHostKey { path: HOST_KEY.into() });
    }
    let keys = appliance.ssh.keys.len();
    let access = if keys == 0 { "no ssh".into() } else { format!("ssh for {keys} key(s)") };
    Decision::of(actions, format!("{name} has its settings, {access}"), format!("{name} gets its settings, {access}"))
}

/// Steps the clock only in the first updates; later it is slewed, as k3s's certificates don't like jumps.
const CHRONY: [&str; 5] = ["driftfile /var/lib/chrony/drift", "makestep 1 3", "rtcsync", "port 0", "cmdport 0"];

fn dhcpcd(facts: &Facts, settings: &Settings) -> String {
    let network = &settings.appliance.network;
    let mut text = dhcp::frame();
    let everywhere: Vec<String> = network.dns.iter().map(ToString::to_string).collect();
    if !everywhere.is_empty() {
        text += &format!("static domain_name_servers={}\n", everywhere.join(" "));
    }
    for wanted in &network.links {
        let Some(link) = facts.links.iter().find(|link| is_meant(wanted, link)) else { continue };
        text += &format!("interface {}\n", link.name);
        match &wanted.address {
            Some(address) => {
                let family = if address.contains(':') { "ip6_address" } else { "ip_address" };
                text += &format!("static {family}={address}\n");
                text += &wanted.gateway.map_or_else(String::new, |gateway| format!("static routers={gateway}\n"));
                let servers: Vec<String> =
                    wanted.dns.iter().map(ToString::to_string).chain(everywhere.clone()).collect();
                if !servers.is_empty() {
                    text += &format!("static domain_name_servers={}\n", servers.join(" "));
                }
            }
            None if !wanted.dhcp => text += "nodhcp\nnodhcp6\nnoipv6rs\n",
            None => {}
        }
    }
    text
}

fn is_meant(wanted: &LinkSettings, link: &Link) -> bool {
    wanted.mac.as_ref().is_some_and(|mac| mac.eq_ignore_ascii_case(&link.mac))
        || wanted.path.as_ref().is_some_and(|path| link.path == *path || link.path.starts_with(&format!("{path}/")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::settings;
    use serde_json::json;

    #[test]
    fn static_links_name_servers_hosts_and_time_are_written_for_their_programs() {
        let link = |name: &str, mac: &str, path: &str| Link {
            name: name.into(),
            mac: mac.into(),
            path: path.into(),
            carrier: true,
        };
        let facts = Facts {
            links: vec![link("eth0", "dc:a6:32:01:02:03", "pci0/a"), link("eth1", "02:00:00:00:00:01", "pci0/b/net")],
            present: vec![HOST_KEY.into()],
            ..Facts::default()
        };
        let settings = settings(&json!({
            "network": {
                "dns": ["9.9.9.9"], "hosts": { "registry.shop.lan": "192.168.10.5" },
                "links": [
                    { "mac": "DC:A6:32:01:02:03", "address": "192.168.10.20/24", "gateway": "192.168.10.1", "dns": ["192.168.10.1"] },
                    { "path": "pci0/b", "dhcp": false },
                    { "mac": "00:00:00:00:00:99", "address": "10.9.9.9/8" },
                ],
            },
            "time": { "servers": ["192.168.10.1"] },
        }));
        let Decision::Run(_, actions) = decide(&facts, &settings) else { panic!("nothing to do") };
        let text = |name: &str| {
            let text = actions.iter().find_map(|action| match action {
                Action::Tell { path, text, .. } if path.ends_with(name) => Some(text.as_str()),
                _ => None,
            });
            text.unwrap_or_else(|| panic!("{name} is not written"))
        };
        assert_eq!(
            text("dhcpcd.conf").strip_prefix(&dhcp::frame()),
            Some(
                "static domain_name_servers=9.9.9.9\n\
                 interface eth0\nstatic ip_address=192.168.10.20/24\nstatic routers=192.168.10.1\n\
                 static domain_name_servers=192.168.10.1 9.9.9.9\n\
                 interface eth1\nnodhcp\nnodhcp6\nnoipv6rs\n"
            )
        );
        assert_eq!(
            text("hosts"),
            "127.0.0.1 localhost\n127.0.1.1 shop-1\n::1 localhost\n192.168.10.5 registry.shop.lan\n"
        );
        assert_eq!(text("resolv.conf"), "nameserver 9.9.9.9\n");
        assert!(text("chrony.conf").starts_with("server 192.168.10.1 iburst\n"));
    }
}
