//! The firewall's frame: what every set of rules lets in, whatever the settings are, and the set for when there are none.
//!
//! A table of its own, before k3s's chains (which live in other tables and are never touched): it only drops what it
//! doesn't know, and what it lets in still meets everybody else's rules. Only packets for the machine itself are looked
//! at; what goes to pods is forwarded, and Kubernetes' business.

/// The rules that are loaded, as `nft -f` read them.
pub const RULES: &str = "/run/bakelite/nftables";

/// Links between the machine and its own pods, or between pods of two machines; their traffic came in another way.
const INNER_LINKS: [&str; 6] = ["lo", "cni*", "flannel*", "kube*", "cali*", "tunl*"];

/// A whole set of rules: the frame with lines of its own.
pub fn rules(lines: &[String]) -> String {
    let inner = INNER_LINKS.iter().map(|link| format!("iifname \"{link}\" accept"));
    // Answers of DHCP servers come to a machine without an address, so no connection is known for them.
    let always = [
        "ct state established,related accept",
        "meta l4proto { icmp, ipv6-icmp } accept",
        "udp sport 67 udp dport 68 accept",
        "ip6 saddr fe80::/10 udp dport 546 accept",
        "ct state invalid drop",
    ];
    let lines: String = inner
        .chain(always.into_iter().map(String::from))
        .chain(lines.iter().cloned())
        .map(|line| format!("\t\t{line}\n"))
        .collect();
    format!(
        "{NO_RULES}table inet bakelite {{\n\tchain input {{\n\t\ttype filter hook input priority filter - 10; policy drop;\n\
         {lines}\t}}\n}}\n"
    )
}

/// Takes the table away, whether or not it is there: a table that is named is made where there is none.
pub const NO_RULES: &str = "# Written by bakelite; set keys by `firewall` in the appliance.\ntable inet bakelite\ndelete table inet bakelite\n";

/// ssh from anywhere and nothing else, for when no other rules can be loaded: neither open nor out of reach.
pub fn fallback() -> String {
    rules(&["tcp dport 22 accept".into()])
}
