//! The rules of several appliances, word for word, and what becomes of refused ones.

use super::*;
use crate::testing::settings;
use serde_json::{Value, json};

fn of(firewall: Value, k3s: Value) -> Settings {
    settings(&json!({ "firewall": firewall, "k3s": k3s }))
}

/// What is in the rules besides the frame.
fn own(firewall: Value, k3s: Value) -> Vec<String> {
    let (rules, frame) = (closed(&of(firewall, k3s)), bakelite_spec::firewall::rules(&[]));
    rules.lines().filter(|line| !frame.lines().any(|other| other == *line)).map(|line| line.trim().into()).collect()
}

#[test]
fn by_default_ssh_comes_from_anywhere_and_the_api_from_private_networks() {
    assert_eq!(
        closed(&of(json!({}), json!({}))),
        r#"# Written by bakelite; set keys by `firewall` in the appliance.
table inet bakelite
delete table inet bakelite
table inet bakelite {
	chain input {
		type filter hook input priority filter - 10; policy drop;
		iifname "lo" accept
		iifname "cni*" accept
		iifname "flannel*" accept
		iifname "kube*" accept
		iifname "cali*" accept
		iifname "tunl*" accept
		ct state established,related accept
		meta l4proto { icmp, ipv6-icmp } accept
		udp sport 67 udp dport 68 accept
		ip6 saddr fe80::/10 udp dport 546 accept
		ct state invalid drop
		meta nfproto ipv4 tcp dport 22 accept
		meta nfproto ipv6 tcp dport 22 accept
		ip saddr { 10.0.0.0/8, 100.64.0.0/10, 172.16.0.0/12, 192.168.0.0/16 } tcp dport 6443 accept
		ip6 saddr { fc00::/7, fe80::/10 } tcp dport 6443 accept
	}
}
"#
    );
}

#[test]
fn networks_are_merged_and_only_peers_reach_what_the_nodes_ask_of_each_other() {
    let firewall = json!({
        "ssh": ["192.168.7.9", "192.168.7.0/24", "192.168.6.4/24"], "api": [],
        "open": ["8080/tcp", "5000-5100/udp"], "peers": ["192.168.7.0/24"],
    });
    let peers = [
        "ip saddr { 192.168.6.0/23 } tcp dport 22 accept",
        "tcp dport 8080 accept",
        "udp dport 5000-5100 accept",
        "ip saddr { 192.168.7.0/24 } tcp dport { 7443, 2379-2381, 5001, 10250 } accept",
        "ip saddr { 192.168.7.0/24 } udp dport { 8472, 51820-51821 } accept",
    ];
    assert_eq!(own(firewall.clone(), json!({ "config": { "https-listen-port": 7443 } })), peers);
    let routed = own(firewall.clone(), json!({ "config": { "flannel-backend": "host-gw" } }));
    assert!(routed[4].starts_with("ip saddr { 10.42.0.0/16, 192.168.7.0/24 } udp"), "{routed:?}");
    assert_eq!(own(firewall, json!({ "payload": "none" })), &peers[..3]);
    let agent = own(json!({}), json!({ "role": "agent" }));
    assert!(!agent.concat().contains("6443"), "{agent:?}");
}

#[test]
fn refused_rules_leave_those_of_before_then_the_accepted_ones_then_ssh_alone() {
    let settings = of(json!({}), json!({}));
    let wanted = closed(&settings);
    let load = |decision| match decision {
        Decision::Run(_, actions) => match &actions[..] {
            [Action::LoadRules { rules }] => rules.clone(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    let told = |decision| match decision {
        Decision::Without(fault) => fault.text,
        other => panic!("{other:?}"),
    };
    let mut facts = Facts::default();
    let mut refused = BTreeMap::new();
    let mut refuse = |facts: &mut Facts, rules: &str| {
        refused.insert(rules.to_string(), "line 1: no".to_string());
        facts.files.insert(REFUSED.into(), serde_json::to_string(&refused).unwrap());
    };
    assert_eq!(load(decide(&facts, &settings)), wanted);
    refuse(&mut facts, &wanted);
    // A firewall that was turned off is none that could stay.
    facts.files.insert(RULES.into(), NO_RULES.into());
    facts.files.insert(ACCEPTED.into(), rules(&["tcp dport 2222 accept".into()]));
    let accepted = load(decide(&facts, &settings));
    assert!(accepted.contains("2222"));
    refuse(&mut facts, &accepted);
    assert_eq!(load(decide(&facts, &settings)), fallback());
    facts.files.insert(RULES.into(), fallback());
    assert!(told(decide(&facts, &settings)).ends_with("(line 1: no); only ssh is let in"));
    facts.files.insert(RULES.into(), accepted);
    assert!(told(decide(&facts, &settings)).ends_with("those of before are in force"));
    facts.files.remove(RULES);
    refuse(&mut facts, &fallback());
    assert!(told(decide(&facts, &settings)).ends_with("nothing is closed"));
}

#[test]
fn turned_off_the_table_goes_away_once() {
    let settings = of(json!("open"), json!({}));
    let mut facts = Facts::default();
    assert!(matches!(decide(&facts, &settings), Decision::Done(_)));
    facts.files.insert(RULES.into(), fallback());
    let Decision::Run(_, actions) = decide(&facts, &settings) else { panic!("nothing to do") };
    assert_eq!(actions, [Action::LoadRules { rules: NO_RULES.into() }]);
}

#[test]
fn nft_takes_the_rules() {
    let every = json!({
        "ssh": ["10.0.0.0/8", "10.1.0.0/16", "fd00::/8"], "api": ["0.0.0.0/0"],
        "open": ["80/tcp", "5000-5100/udp"], "peers": ["192.168.1.7", "fe80::/10"],
    });
    let sets = [closed(&of(json!({}), json!({}))), closed(&of(every, json!({}))), fallback(), NO_RULES.to_string()];
    for rules in sets {
        let file = std::env::temp_dir().join(format!("bakelite-rules-{}", std::process::id()));
        std::io::Write::write_all(&mut std::fs::File::create(&file).unwrap(), rules.as_bytes()).unwrap();
        #[expect(clippy::disallowed_methods, reason = "a test, on the host")]
        let checked = std::process::Command::new("/usr/sbin/nft").args(["-c", "-f"]).arg(&file).output();
        std::fs::remove_file(&file).unwrap();
        let words = |output: &std::process::Output| String::from_utf8_lossy(&output.stderr).into_owned();
        match checked {
            Ok(output) if output.status.success() => {}
            Ok(output) if words(&output).contains("Operation not permitted") => {
                eprintln!("SKIPPED: nft asks the kernel, which takes no questions from this user or container");
                return;
            }
            Ok(output) => panic!("{}{rules}", words(&output)),
            Err(error) => {
                eprintln!("SKIPPED: no /usr/sbin/nft ({error}); sudo apt-get install nftables");
                return;
            }
        }
    }
}
