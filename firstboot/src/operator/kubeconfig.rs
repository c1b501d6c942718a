//! `bakelite kubeconfig`: the administrator's kubeconfig as another computer can use it.
//!
//! k3s writes it for 127.0.0.1 and calls everything `default`. Here it gets an address that others reach, and the node's
//! name, so that those of several machines don't collide. It is the key to the whole cluster: it goes to the standard
//! output and nowhere else, never to a log.

use crate::error::FirstbootError;
use crate::layers;
use bakelite_plan::identity::{Identity, RECORD};
use bakelite_spec::appliance::{Appliance, K3sRole, Payload};
use bakelite_sys::{link, read_text};
use serde_json::Value;
use std::net::IpAddr;
use std::path::Path;

/// Where k3s writes it, unless `k3s.config.write-kubeconfig` says otherwise.
const FILE: &str = "/etc/rancher/k3s/k3s.yaml";
/// What k3s calls cluster, context and user.
const DEFAULT: &str = "default";

/// The kubeconfig, and what a person should know of it.
///
/// # Errors
/// When there is none here, none yet, or no address to put into it.
pub fn read(root: &Path, server: Option<&str>) -> Result<(Value, Option<String>), FirstbootError> {
    let at = |path: &str| root.join(path.trim_start_matches('/'));
    let settings = layers::settings(root)?;
    let k3s = &settings.appliance.k3s;
    if k3s.role == K3sRole::Agent || settings.manifest.payload.kind == Payload::None {
        let server = k3s.server.as_deref().unwrap_or("the server of its cluster");
        let why = if k3s.role == K3sRole::Agent { format!("this is an agent; ask {server}") } else { "no k3s".into() };
        return Err(FirstbootError::NoKubeconfig(why));
    }
    let written = k3s.config.get("write-kubeconfig").and_then(Value::as_str).unwrap_or(FILE);
    let path = at(written);
    if !path.exists() {
        return Err(FirstbootError::NotYet(format!("k3s hasn't written {written} so far; try again once it is ready")));
    }
    let text = read_text(&path)?;
    // What is wrong with it is told without what stands in it.
    let mut config: Value = serde_yaml::from_str(&text).map_err(|_| FirstbootError::OddKubeconfig(written.into()))?;
    let own = own_addresses();
    let host = match server {
        Some(server) => server.to_string(),
        None => link::default_address()
            .map(|(_, address)| bracketed(address))
            .ok_or_else(|| FirstbootError::NotYet("this machine has no address; name one with --server".into()))?,
    };
    let identity = read_text(at(RECORD)).ok().and_then(|text| Identity::read(&text));
    let name = identity.map_or_else(|| DEFAULT.into(), |identity| identity.node);
    point(&mut config, &host, &name).ok_or_else(|| FirstbootError::OddKubeconfig(written.into()))?;
    let doubt = server.and_then(|_| doubt(&config, &settings.appliance, &own, &name));
    Ok((config, doubt))
}

/// The same as YAML, as kubectl has it.
///
/// # Errors
/// When it can't be written as such.
pub fn yaml(config: &Value) -> Result<String, FirstbootError> {
    serde_yaml::to_string(config).map_err(|_| FirstbootError::OddKubeconfig(FILE.into()))
}

fn own_addresses() -> Vec<IpAddr> {
    link::addresses().into_values().flatten().collect()
}

fn bracketed(address: IpAddr) -> String {
    if address.is_ipv6() { format!("[{address}]") } else { address.to_string() }
}

/// The host of an address such as `https://10.0.0.1:6443`, `shop.lan:6443`, `[fd00::1]`.
fn host_of(server: &str) -> &str {
    let server = server.trim_start_matches("https://");
    let server = server.split('/').next().unwrap_or_default();
    match server.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, _)) => host,
        None => server.split(':').next().unwrap_or_default(),
    }
}

/// Puts a server and a name into a kubeconfig of k3s's; `None` where it isn't shaped like one.
fn point(config: &mut Value, server: &str, name: &str) -> Option<()> {
    let address = config.pointer_mut("/clusters/0/cluster/server")?;
    let port = address.as_str()?.rsplit_once(':')?.1.to_string();
    let bare = server.trim_start_matches("https://").trim_end_matches('/');
    let bare = if bare.parse::<std::net::Ipv6Addr>().is_ok() { format!("[{bare}]") } else { bare.to_string() };
    let has_port = bare
        .rsplit_once(':')
        .is_some_and(|(host, port)| port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']')));
    *address = Value::from(if has_port { format!("https://{bare}") } else { format!("https://{bare}:{port}") });
    let names = [
        "/clusters/0/name",
        "/contexts/0/name",
        "/contexts/0/context/cluster",
        "/contexts/0/context/user",
        "/users/0/name",
        "/current-context",
    ];
    for place in names {
        let found = config.pointer_mut(place)?;
        if found == DEFAULT {
            *found = Value::from(name);
        }
    }
    Some(())
}

/// k3s's certificate is for the machine's own addresses and name, and for what `tls-san` names besides.
fn doubt(config: &Value, appliance: &Appliance, own: &[IpAddr], node: &str) -> Option<String> {
    let host = host_of(config.pointer("/clusters/0/cluster/server")?.as_str()?);
    let named = appliance.k3s.config.get("tls-san").into_iter().flat_map(|names| match names {
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        Value::String(names) => names.split(',').collect(),
        _ => Vec::new(),
    });
    let known = host == node
        || host == "localhost"
        || host.parse::<IpAddr>().is_ok_and(|address| own.contains(&address) || address.is_loopback())
        || named.into_iter().any(|name| name == host);
    (!known).then(|| {
        format!(
            "k3s's certificate may not be for {host}: put it into `k3s.config.tls-san`, or kubectl won't believe it"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::{machine, write};

    const WRITTEN: &str = "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: QQ==\n    server: https://127.0.0.1:6443\n  name: default\ncontexts:\n- context:\n    cluster: default\n    user: default\n  name: default\ncurrent-context: default\nkind: Config\nusers:\n- name: default\n  user:\n    client-certificate-data: QQ==\n    client-key-data: QQ==\n";

    #[test]
    fn it_has_the_address_the_port_and_the_nodes_name() {
        let root = machine("k3s: rehearsal\n");
        assert!(matches!(read(root.path(), Some("x")), Err(FirstbootError::NotYet(_))));
        write(root.path(), FILE, WRITTEN);
        write(root.path(), RECORD, "{\"format\":1,\"node\":\"shop-1\"}");
        for (server, address) in [
            ("10.0.0.9", "https://10.0.0.9:6443"),
            ("shop.lan:7443", "https://shop.lan:7443"),
            ("https://shop.lan/", "https://shop.lan:6443"),
            ("fd00::9", "https://[fd00::9]:6443"),
            ("[fd00::9]:7443", "https://[fd00::9]:7443"),
        ] {
            let (config, _) = read(root.path(), Some(server)).unwrap();
            assert_eq!(config["clusters"][0]["cluster"]["server"], address);
            assert_eq!(config["clusters"][0]["cluster"]["certificate-authority-data"], "QQ==");
            assert_eq!((&config["current-context"], &config["users"][0]["name"]), (&"shop-1".into(), &"shop-1".into()));
            assert!(!yaml(&config).unwrap().contains("127.0.0.1"));
        }
    }

    #[test]
    fn a_name_that_the_certificate_may_lack_is_told() {
        let root = machine("k3s: {payload: rehearsal, config: {tls-san: [shop.lan]}}\n");
        write(root.path(), FILE, WRITTEN);
        write(root.path(), RECORD, "{\"format\":1,\"node\":\"shop-1\"}");
        for (server, is_told) in
            [("shop.lan", false), ("shop-1", false), ("other.lan:6443", true), ("127.0.0.1", false)]
        {
            assert_eq!(read(root.path(), Some(server)).unwrap().1.is_some(), is_told, "{server}");
        }
    }

    #[test]
    fn what_is_no_kubeconfig_is_refused_without_its_text() {
        let root = machine("k3s: rehearsal\n");
        for text in ["{hunter2", "clusters: [{hunter2: 1}]\n"] {
            write(root.path(), FILE, text);
            let error = bakelite_sys::words(&read(root.path(), Some("x")).unwrap_err());
            assert!(error.contains(FILE) && !error.contains("hunter2"), "{error}");
        }
        let agent =
            machine("k3s: {payload: rehearsal, role: agent, server: 'https://10.0.0.1:6443', token: {secret: t}}\n");
        let error = read(agent.path(), None).unwrap_err().to_string();
        assert!(error.contains("ask https://10.0.0.1:6443"), "{error}");
    }
}
