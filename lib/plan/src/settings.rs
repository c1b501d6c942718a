//! Settings: what network, time and ssh read in this boot. Written to /run, from the appliance and the links there are.
//!
//! This step never refuses: it is what lets an operator in.

use crate::Settings;
use crate::action::Action;
use crate::facts::{Facts, Link};
use crate::identity::node_name;
use crate::step::{Decision, tell};
use bakelite_spec::appliance::Link as LinkSettings;
use bakelite_spec::status::paths;

/// Links that k3s makes and that are none of DHCP's business.
const NOT_OURS: &str = "cni* flannel* veth* kube* dummy* tunl* wg* docker* cali* lo";

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
    let files = [
        (paths::HOSTNAME, format!("{name}\n"), 0o644),
        ("/run/bakelite/hosts", format!("127.0.0.1 localhost\n127.0.1.1 {name}\n::1 localhost\n"), 0o644),
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

/// `nodev`: without it dhcpcd waits for a udev that isn't here and sees no link at all.
fn dhcpcd(facts: &Facts, settings: &Settings) -> String {
    let network = &settings.appliance.network;
    let mut text = format!(
        "nodev\ndenyinterfaces {NOT_OURS}\nhostname\nclientid\npersistent\nnoipv4ll\nnohook hostname, ntp, timesyncd, yp\n\
         option domain_name_servers, domain_name, domain_search, classless_static_routes, interface_mtu\n"
    );
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
