//! Proxy: the way to the world for k3s and containerd, as lines of their environment.
//!
//! What is in the cluster or on the machine's own networks never goes by the proxy: with it the API server would look for
//! its own kubelet out there. A secret stays a reference in the file; init puts its value in when it starts k3s.

use crate::Settings;
use crate::action::Action;
use crate::address::node_address;
use crate::facts::Facts;
use crate::k3s_config::CHANGED;
use crate::step::{Decision, tell};
use crate::{firewall, identity};
use bakelite_spec::appliance::{Payload as Kind, Proxy, TextOrSecret};
use bakelite_spec::fault::{Code, Fault};
use bakelite_spec::status::paths;

/// Decides about the proxy's part of k3s's environment.
pub fn decide(facts: &Facts, settings: &Settings) -> Decision {
    if settings.manifest.payload.kind == Kind::None && settings.appliance.update.from.is_none() {
        return Decision::Skip("nothing here needs a proxy".into());
    }
    let proxy = &settings.appliance.proxy;
    let told = tell(facts, paths::PROXY_ENVIRONMENT, environment(facts, settings), 0o600);
    // At power-on the file is always new, and nothing runs yet that would have read another.
    let replaced = told.is_some() && facts.files.contains_key(paths::PROXY_ENVIRONMENT);
    let changed = replaced.then(|| Action::Tell { path: CHANGED.into(), text: "the proxy\n".into(), mode: 0o644 });
    let actions: Vec<Action> = changed.into_iter().chain(told).collect();
    let lacking: Vec<&str> = addresses(proxy)
        .filter_map(|(_, address)| match address {
            TextOrSecret::Secret(secret) if !facts.has(&secret.path()) => Some(secret.name()),
            _ => None,
        })
        .collect();
    if actions.is_empty() && !lacking.is_empty() {
        let text = format!("k3s starts without a proxy whose address is the secret {}", lacking.join(", "));
        return Decision::Warn(Fault::new(Code::SecretMissing, text));
    }
    let what = match addresses(proxy).count() {
        _ if settings.manifest.payload.kind == Kind::None => "what fetches updates knows its way to the world".into(),
        0 => "k3s needs no proxy".to_string(),
        _ => "k3s reaches the world by its proxy, and the cluster without".into(),
    };
    Decision::of(actions, what.clone(), what)
}

fn addresses(proxy: &Proxy) -> impl Iterator<Item = (&'static str, &TextOrSecret)> {
    [("HTTP_PROXY", &proxy.http), ("HTTPS_PROXY", &proxy.https)]
        .into_iter()
        .filter_map(|(name, address)| Some((name, address.as_ref()?)))
}

/// The lines; none without a proxy.
fn environment(facts: &Facts, settings: &Settings) -> String {
    let proxy = &settings.appliance.proxy;
    let mut lines: Vec<String> = addresses(proxy).map(|(name, address)| format!("{name}={address}")).collect();
    if !lines.is_empty() {
        lines.push(format!("NO_PROXY={}", without(facts, settings).join(",")));
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

/// What is reached without the proxy, each once.
fn without(facts: &Facts, settings: &Settings) -> Vec<String> {
    let (k3s, proxy) = (&settings.appliance.k3s, &settings.appliance.proxy);
    let domain = k3s.config.get("cluster-domain").and_then(|domain| domain.as_str()).unwrap_or("cluster.local");
    // k3s joins by name or address: `https://HOST:PORT`, in brackets where it is IPv6.
    let server = k3s.server.as_deref().and_then(|server| server.strip_prefix("https://"));
    let server = server.map(|server| match server.split_once(']') {
        Some((address, _)) => address.trim_start_matches('[').to_string(),
        None => server.split(':').next().unwrap_or_default().to_string(),
    });
    let own = ["localhost", "127.0.0.0/8", "::1", ".svc"].map(String::from);
    let all = own
        .into_iter()
        .chain([format!(".{domain}"), identity::node_name(facts, settings), node_address(facts).to_string()])
        .chain(k3s.pod_networks())
        .chain(k3s.service_networks())
        .chain(facts.networks.iter().cloned())
        .chain(firewall::merged(&settings.appliance.firewall.peers))
        .chain(server)
        .chain(proxy.no_proxy.iter().cloned());
    let mut each = Vec::new();
    for entry in all {
        if !each.contains(&entry) {
            each.push(entry);
        }
    }
    each
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::settings;
    use serde_json::json;

    fn told(facts: &Facts, settings: &Settings) -> Vec<(String, String)> {
        let Decision::Run(_, actions) = decide(facts, settings) else { panic!("nothing to do") };
        let tell = |action| match action {
            Action::Tell { path, text, .. } => (path, text),
            other => panic!("{other:?}"),
        };
        actions.into_iter().map(tell).collect()
    }

    #[test]
    fn the_cluster_and_the_machines_own_networks_go_without_it() {
        let facts = Facts {
            address: Some(("eth0".into(), "192.168.1.10".parse().unwrap())),
            networks: vec!["192.168.1.0/24".into()],
            ..Facts::default()
        };
        let settings = settings(&json!({
            "proxy": { "http": "http://proxy.shop.lan:3128", "https": { "secret": "proxy" }, "no-proxy": [".shop.lan"] },
            "firewall": { "peers": ["192.168.1.7", "10.1.0.0/16"] },
            "k3s": { "server": "https://[fd00::1]:6443", "token": { "secret": "t" },
                     "config": { "cluster-cidr": "10.50.0.0/16,fd01::/56" } },
        }));
        let expected = "HTTP_PROXY=http://proxy.shop.lan:3128\nHTTPS_PROXY={secret: proxy}\n\
            NO_PROXY=localhost,127.0.0.0/8,::1,.svc,.cluster.local,shop-1,192.168.1.10,10.50.0.0/16,fd01::/56,\
            10.43.0.0/16,192.168.1.0/24,10.1.0.0/16,192.168.1.7/32,fd00::1,.shop.lan\n";
        assert_eq!(told(&facts, &settings), [(paths::PROXY_ENVIRONMENT.to_string(), expected.to_string())]);
        let mut written = facts.clone();
        written.files.insert(paths::PROXY_ENVIRONMENT.into(), expected.into());
        let Decision::Warn(fault) = decide(&written, &settings) else { panic!("no word about the secret") };
        assert_eq!(fault.code, Code::SecretMissing);
        written.present.push("/var/lib/bakelite/secrets/proxy".into());
        assert!(matches!(decide(&written, &settings), Decision::Done(_)));
    }

    #[test]
    fn a_proxy_that_comes_later_has_k3s_started_again() {
        let mut facts = Facts::default();
        let none = settings(&json!({}));
        assert_eq!(told(&facts, &none), [(paths::PROXY_ENVIRONMENT.to_string(), String::new())]);
        facts.files.insert(paths::PROXY_ENVIRONMENT.into(), String::new());
        assert!(matches!(decide(&facts, &none), Decision::Done(_)));
        let some = settings(&json!({ "proxy": { "http": "http://p:1" } }));
        assert_eq!(told(&facts, &some)[0].0, CHANGED, "said first");
    }
}
