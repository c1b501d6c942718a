//! Settings: what network, time and ssh read in this boot. Written to /run, from the appliance and the links there are.
//!
//! This step never refuses: it is what lets an operator in. Settings written at the machine that are wrong are told, and
//! the last accepted ones count.

use crate::action::Action;
use crate::facts::{Facts, Link};
use crate::identity::node_name;
use crate::step::{Decision, publish, tell};
use crate::{Overlay, Settings};
use bakelite_spec::appliance::{Appliance, Link as LinkSettings};
use bakelite_spec::dhcp;
use bakelite_spec::fault::{Code, Fault};
use bakelite_spec::status::paths;

/// The ssh server's key. Made here and not with the identity: also a machine whose state is lost lets its operator in,
/// if with a key of this boot only.
pub const HOST_KEY: &str = "/var/lib/dropbear/dropbear_ed25519_host_key";

/// That this card's boot partition had an overlay. Not sealed: it is about the card.
pub const OVERLAY_SEEN: &str = "/var/lib/bakelite/settings/overlay-seen";
/// What dhcpcd reads.
const DHCPCD: &str = "/run/bakelite/dhcpcd.conf";

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
        (DHCPCD, dhcpcd(facts, settings), 0o644),
        ("/run/bakelite/chrony.conf", chrony, 0o644),
        (paths::AUTHORIZED_KEYS, lines(authorized(appliance)), 0o600),
    ];
    let stale = Action::ForgetAddresses { links: stale_links(facts, &files[2].1) };
    let mut actions: Vec<_> =
        files.into_iter().filter_map(|(path, text, mode)| tell(facts, path, text, mode)).collect();
    if stale != (Action::ForgetAddresses { links: Vec::new() }) {
        actions.push(stale);
    }
    // Name servers belong to dhcpcd once it runs; before that, and without it, those of the appliance count.
    if !facts.has("/run/bakelite/resolv.conf") {
        let servers = appliance.network.dns.iter().map(|server| format!("nameserver {server}")).collect();
        actions.extend(tell(facts, "/run/bakelite/resolv.conf", lines(servers), 0o644));
    }
    if !facts.has(HOST_KEY) {
        actions.push(Action::MakeHostKey { path: HOST_KEY.into() });
    }
    actions.extend(overlay(facts, &settings.local.overlay));
    if actions.is_empty() && !settings.local.refused.is_empty() {
        return Decision::Without(Fault::new(Code::SettingsRefused, settings.local.refused.join("; ")));
    }
    let keys = appliance.ssh.keys.len();
    let access = if keys == 0 { "no ssh".into() } else { format!("ssh for {keys} key(s)") };
    Decision::of(actions, format!("{name} has its settings, {access}"), format!("{name} gets its settings, {access}"))
}

/// Who may log in, and who may only fetch backups: nothing but that is permitted to them (dropbear(8), authorized_keys).
fn authorized(appliance: &Appliance) -> Vec<String> {
    let pullers = appliance.backup.pull.keys.iter().map(|key| format!("{PULL} {key}"));
    appliance.ssh.keys.iter().cloned().chain(pullers).collect()
}

/// What a puller's key may do.
const PULL: &str = "command=\"/usr/bin/bakelite serve-sets\",restrict";

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

/// The links that get other settings than those with which dhcpcd runs: it leaves their addresses in place when it ends.
fn stale_links(facts: &Facts, wanted: &str) -> Vec<String> {
    let Some(before) = facts.file(DHCPCD) else { return Vec::new() };
    let section = |text: &str, link: &str| {
        let start = format!("interface {link}");
        let mut lines = text.lines().skip_while(|line| *line != start).map(String::from);
        lines.next().into_iter().chain(lines.take_while(|line| !line.starts_with("interface "))).collect::<Vec<_>>()
    };
    let names = facts.links.iter().map(|link| link.name.clone());
    names.filter(|link| section(before, link) != section(wanted, link)).collect()
}

/// Keeps an overlay that counts, and forgets one that a person has taken away. On a card that never had one, a kept overlay
/// came by the seal of another card, and stays.
fn overlay(facts: &Facts, overlay: &Overlay) -> Vec<Action> {
    let remove = |path: &str| facts.has(path).then(|| Action::Remove { path: path.into() });
    match overlay {
        Overlay::Unknown => Vec::new(),
        Overlay::Accepted(text) => {
            [publish(facts, paths::OVERLAY, text.clone(), 0o600), publish(facts, OVERLAY_SEEN, "yes\n".into(), 0o600)]
                .into_iter()
                .flatten()
                .collect()
        }
        Overlay::Absent if facts.has(OVERLAY_SEEN) => {
            [remove(paths::OVERLAY), remove(OVERLAY_SEEN)].into_iter().flatten().collect()
        }
        Overlay::Absent => Vec::new(),
    }
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
            "ssh": { "keys": ["ssh-ed25519 AAAA me"] },
            "backup": { "pull": { "keys": ["ssh-ed25519 BBBB controller"] } },
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
        let keys = text("authorized_keys");
        assert_eq!(
            keys,
            "ssh-ed25519 AAAA me\ncommand=\"/usr/bin/bakelite serve-sets\",restrict ssh-ed25519 BBBB controller\n"
        );
        assert!(text("chrony.conf").starts_with("server 192.168.10.1 iburst\n"));
    }

    #[test]
    fn a_link_with_new_settings_forgets_its_addresses_and_others_keep_theirs() {
        let link = |name: &str, mac: &str| Link { name: name.into(), mac: mac.into(), ..Link::default() };
        let mut facts = Facts {
            links: vec![link("eth0", "02:00:00:00:00:01"), link("eth1", "02:00:00:00:00:02")],
            ..Facts::default()
        };
        let with = |address: &str| {
            let one = json!({ "mac": "02:00:00:00:00:01", "address": address });
            let two = json!({ "mac": "02:00:00:00:00:02", "address": "10.0.0.2/24" });
            settings(&json!({ "network": { "links": [two, one] } }))
        };
        let forgets = |facts: &Facts, settings: &Settings| match decide(facts, settings) {
            Decision::Run(_, actions) => {
                actions.into_iter().find(|action| matches!(action, Action::ForgetAddresses { .. }))
            }
            _ => None,
        };
        assert_eq!(forgets(&facts, &with("10.0.1.1/24")), None, "at power-on there is nothing to forget");
        facts.files.insert(DHCPCD.into(), dhcpcd(&facts, &with("10.0.1.1/24")));
        assert_eq!(forgets(&facts, &with("10.0.1.1/24")), None);
        let expected = Action::ForgetAddresses { links: vec!["eth0".into()] };
        assert_eq!(forgets(&facts, &with("10.0.1.9/24")), Some(expected.clone()));
        assert_eq!(
            forgets(
                &facts,
                &settings(&json!({ "network": { "links": [
            { "mac": "02:00:00:00:00:02", "address": "10.0.0.2/24" }
        ] } }))
            ),
            Some(expected)
        );
    }

    #[test]
    fn an_overlay_is_kept_and_forgotten_and_a_refused_one_is_told_last() {
        let mut facts = Facts { present: vec![HOST_KEY.into()], ..Facts::default() };
        let mut settings = settings(&json!({}));
        let round = |facts: &mut Facts, settings: &Settings| {
            let Decision::Run(_, actions) = decide(facts, settings) else { return Vec::new() };
            let mut media = Vec::new();
            for action in actions {
                match action {
                    Action::Tell { path, text, .. } => drop(facts.files.insert(path, text)),
                    Action::Publish { path, text, .. } => {
                        media.push(format!("+{path}"));
                        facts.files.insert(path, text);
                    }
                    Action::Remove { path } => {
                        media.push(format!("-{path}"));
                        facts.files.remove(&path);
                    }
                    other => panic!("{other:?}"),
                }
            }
            media
        };
        settings.local.overlay = Overlay::Absent;
        facts.files.insert(paths::OVERLAY.into(), "by a seal".into());
        assert_eq!(round(&mut facts, &settings), [""; 0]);
        settings.local.overlay = Overlay::Accepted("memory: {zram: off}\n".into());
        let (kept, seen) = (paths::OVERLAY, OVERLAY_SEEN);
        assert_eq!(round(&mut facts, &settings), [format!("+{kept}"), format!("+{seen}")]);
        assert_eq!(round(&mut facts, &settings), [""; 0]);
        settings.local = crate::Local { refused: vec!["bakelite.yaml: no".into()], overlay: Overlay::Unknown };
        let Decision::Without(fault) = decide(&facts, &settings) else { panic!("no word") };
        assert_eq!((fault.code, fault.text.as_str()), (Code::SettingsRefused, "bakelite.yaml: no"));
        settings.local = crate::Local { overlay: Overlay::Absent, ..crate::Local::default() };
        assert_eq!(round(&mut facts, &settings), [format!("-{kept}"), format!("-{seen}")]);
        assert!(matches!(decide(&facts, &settings), Decision::Done(_)));
    }
}
