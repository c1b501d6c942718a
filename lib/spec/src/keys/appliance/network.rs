//! How the machine is reached and reaches others, and where it gets the time from.

use crate::keys::{Form, Key, Kind, flag, key, optional, section};
use crate::quantity::Seconds;

pub const NETWORK: &[Key] = &[
    section("ssh", "Access by ssh: keys only; without a key no ssh server runs."),
    key("ssh.keys", Kind::List(&Kind::Text(Form::SshKey)), "[]", "Public keys that may log in as root."),
    section("network", "Wired links and name servers. Without any entry each link asks by DHCP."),
    key(
        "network.wait",
        Kind::Duration(Seconds(0), Seconds(300)),
        "15",
        "How long the start of k3s waits for an address while a link has a carrier. Without a carrier it waits no longer than one takes to appear, 5 s.",
    ),
    key(
        "network.dns",
        Kind::List(&Kind::Text(Form::Address)),
        "[]",
        "Name servers, in place of those that DHCP gives.",
    ),
    key(
        "network.hosts",
        Kind::Map(&Kind::Text(Form::Address)),
        "{}",
        "Names that no name server knows, with their addresses, such as `registry.shop.lan: 192.168.1.5`; for the machine and k3s, not for pods.",
    ),
    key("network.links", Kind::Records, "[]", "Links with settings of their own; every other link asks by DHCP."),
    optional("network.links[].mac", Kind::Text(Form::Mac), "The link, by its MAC address."),
    optional(
        "network.links[].path",
        Kind::Text(Form::Any),
        "The link, by the place of its device below /sys/devices, such as `pci0000:00/0000:00:02.0`.",
    ),
    key(
        "network.links[].dhcp",
        Kind::Flag,
        "true",
        "Whether the link asks by DHCP; `false` with no address leaves it alone.",
    ),
    optional(
        "network.links[].address",
        Kind::Text(Form::Cidr),
        "A static address with its prefix length; turns DHCP off on this link.",
    ),
    optional("network.links[].gateway", Kind::Text(Form::Address), "The default gateway of a static link."),
    key("network.links[].dns", Kind::List(&Kind::Text(Form::Address)), "[]", "Name servers of a static link."),
    section(
        "wifi",
        "The wireless network, joined besides the wired links by the radio that `board.with: [wifi]` brings modules and firmware for.",
    ),
    optional(
        "wifi.country",
        Kind::Text(Form::Country),
        "The country that the machine stands in: its law says which channels may be used, and how loud.",
    ),
    optional(
        "wifi.ssid",
        Kind::SecretOr(Form::Ssid),
        "The network's name, or `{secret: name}`, such as `{seed: wifi-name}` where each machine has another one.",
    ),
    optional(
        "wifi.password",
        Kind::Secret,
        "Its password (WPA2 or WPA3), as `{secret: name}` or `{seed: name}`. Without it the network is an open one.",
    ),
    flag("wifi.hidden", "Whether the network doesn't tell its name, and is asked for by it."),
    section(
        "firewall",
        "Who may reach the machine itself. What pods publish (NodePorts, host ports, load balancers) is reachable as Kubernetes says. `firewall: open` is short for `firewall.input: open`.",
    ),
    key(
        "firewall.input",
        Kind::Choice(&["closed", "open"]),
        "\"closed\"",
        "`closed`: only what the keys beside it name comes in. `open`: there is no firewall.",
    ),
    key(
        "firewall.ssh",
        Kind::List(&Kind::Text(Form::Network)),
        "[\"0.0.0.0/0\", \"::/0\"]",
        "Where ssh may come from; by default from anywhere, as it takes keys only and a machine that nobody reaches can't be helped.",
    ),
    key(
        "firewall.api",
        Kind::List(&Kind::Text(Form::Network)),
        "[\"10.0.0.0/8\", \"100.64.0.0/10\", \"172.16.0.0/12\", \"192.168.0.0/16\", \"fc00::/7\", \"fe80::/10\"]",
        "Where kubectl and others may reach a server's API (6443) from; by default from private networks.",
    ),
    key(
        "firewall.open",
        Kind::List(&Kind::Text(Form::Port)),
        "[]",
        "Ports of programs of your own, and of pods with `hostNetwork`, such as `8080/tcp` or `5000-5100/udp`; from anywhere.",
    ),
    key(
        "firewall.peers",
        Kind::List(&Kind::Text(Form::Network)),
        "[]",
        "The other machines of the cluster: only they reach the pods' network (VXLAN, WireGuard), the kubelet, etcd and the embedded registry.",
    ),
    section(
        "proxy",
        "The way to the world for k3s and containerd. The cluster and the machine's own networks are left out by themselves.",
    ),
    optional(
        "proxy.http",
        Kind::SecretOr(Form::Proxy),
        "For `http://`: an address, or `{secret: name}` where it has a password in it.",
    ),
    optional("proxy.https", Kind::SecretOr(Form::Proxy), "For `https://`, images of containers among it."),
    key(
        "proxy.no-proxy",
        Kind::List(&Kind::Text(Form::NoProxy)),
        "[]",
        "What else is reached without it: hosts, domains such as `.shop.lan`, addresses and networks.",
    ),
    section("time", "The clock."),
    key(
        "time.servers",
        Kind::List(&Kind::Text(Form::Host)),
        "[\"2.debian.pool.ntp.org\"]",
        "NTP servers; an empty list turns time synchronisation off.",
    ),
    key(
        "time.wait",
        Kind::Duration(Seconds(0), Seconds(600)),
        "60",
        "How long the very first start of k3s waits for the network's time on a machine without a clock of its own, while a link has a carrier.",
    ),
    flag("time.required", "Whether that start waits until somebody tells the time, however long, on any machine."),
];
