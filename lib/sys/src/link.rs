//! Network links: which are wired hardware, whether there is carrier, which addresses they have, where the default goes.
//!
//! Reads sysfs, /proc/net/route and getifaddrs; changes nothing but the loopback link.

use crate::{SysError, names_in, read_text, tool};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

/// One wired link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// The kernel's name.
    pub name: String,
    /// The MAC address, lower case with colons.
    pub mac: String,
    /// Whether something is at the other end.
    pub carrier: bool,
    /// The hardware's place below /sys/devices, such as `pci0000:00/0000:00:03.0/virtio0`.
    pub path: String,
}

/// All wired links of real hardware, by name. `root` is `/` but in tests.
pub fn wired(root: &Path) -> Vec<Link> {
    let folder = root.join("sys/class/net");
    names_in(&folder)
        .into_iter()
        .filter_map(|name| {
            let link = folder.join(&name);
            let text = |file: &str| read_text(link.join(file)).unwrap_or_default();
            // Hardware has a device; ARPHRD_ETHER is 1.
            if !link.join("device").exists() || text("type") != "1" || is_wireless(&link) {
                return None;
            }
            let place = link.join("device").canonicalize().ok()?.to_string_lossy().into_owned();
            let path = place.split_once("sys/devices/").map(|(_, path)| path.to_string()).unwrap_or_default();
            Some(Link { mac: text("address").to_lowercase(), carrier: text("carrier") == "1", path, name })
        })
        .collect()
}

/// The names of wireless links. `root` is `/` but in tests.
pub fn wireless(root: &Path) -> Vec<String> {
    let folder = root.join("sys/class/net");
    names_in(&folder).into_iter().filter(|name| is_wireless(&folder.join(name))).collect()
}

/// Wireless links have a folder of their own, the older one only where the kernel has the older interface.
fn is_wireless(link: &Path) -> bool {
    ["phy80211", "wireless"].iter().any(|folder| link.join(folder).exists())
}

/// The addresses of all links that are up, loopback and link-local ones left out, by the link's name.
pub fn addresses() -> BTreeMap<String, Vec<IpAddr>> {
    let mut found: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    for entry in nix::ifaddrs::getifaddrs().into_iter().flatten() {
        let Some(address) = entry.address else { continue };
        let address = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
            (Some(v4), _) => IpAddr::V4(v4.ip()),
            (_, Some(v6)) => IpAddr::V6(v6.ip()),
            _ => continue,
        };
        if !is_local(&address) {
            found.entry(entry.interface_name).or_default().push(address);
        }
    }
    found
}

/// The networks that the wired links are in, each once, as `192.168.1.0/24`; loopback and link-local ones left out.
pub fn networks(root: &Path) -> Vec<String> {
    let wired: Vec<String> = wired(root).into_iter().map(|link| link.name).collect();
    let mut found = Vec::new();
    for entry in nix::ifaddrs::getifaddrs().into_iter().flatten() {
        let (Some(address), Some(mask)) = (entry.address, entry.netmask) else { continue };
        if !wired.contains(&entry.interface_name) {
            continue;
        }
        let v4 = address.as_sockaddr_in().zip(mask.as_sockaddr_in());
        let v6 = address.as_sockaddr_in6().zip(mask.as_sockaddr_in6());
        let network = match (v4, v6) {
            (Some((address, mask)), _) => {
                let mask = mask.ip().to_bits();
                (IpAddr::V4(Ipv4Addr::from_bits(address.ip().to_bits() & mask)), mask.count_ones())
            }
            (_, Some((address, mask))) => {
                let mask = mask.ip().to_bits();
                (IpAddr::V6(Ipv6Addr::from_bits(address.ip().to_bits() & mask)), mask.count_ones())
            }
            _ => continue,
        };
        let text = format!("{}/{}", network.0, network.1);
        if !is_local(&network.0) && !found.contains(&text) {
            found.push(text);
        }
    }
    found.sort();
    found
}

fn is_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_link_local(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unicast_link_local(),
    }
}

/// The link that firstboot makes where there is no network; it leads nowhere, so its address is nobody's.
pub const STAND_IN: &str = "dummy0";

/// The link of the best IPv4 default route, the stand-in's own left out. `root` is `/` but in tests.
pub fn default_link(root: &Path) -> Option<String> {
    best(&read_text(root.join("proc/net/route")).unwrap_or_default())
}

/// Columns: link, destination, gateway, flags, references, use, metric, mask. Flag 1: up; 0x200: rejects.
fn best(text: &str) -> Option<String> {
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let flags = u32::from_str_radix(words.get(3)?, 16).ok()?;
            let default = *words.get(1)? == "00000000" && *words.get(7)? == "00000000" && flags & 0x201 == 1;
            let link = *words.first()?;
            (default && link != STAND_IN).then_some((words.get(6)?.parse::<u32>().ok()?, link.to_string()))
        })
        .min()
        .map(|(_, link)| link)
}

/// The address by which others reach this machine, and its link: that of the default route, else (a network without a
/// gateway) of the first wired link that has one. IPv4 only: k3s takes IPv6 only together with ranges of its own.
pub fn default_address() -> Option<(String, IpAddr)> {
    let root = Path::new("/");
    let addresses = addresses();
    let of = |link: String| {
        let address = *addresses.get(&link)?.iter().find(|address| address.is_ipv4())?;
        Some((link, address))
    };
    default_link(root).and_then(of).or_else(|| wired(root).into_iter().find_map(|link| of(link.name)))
}

/// Whether something on this machine accepts connections on a TCP port. Loopback answers at once; 1 s at most.
pub fn is_port_open(port: u16) -> bool {
    [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
        .into_iter()
        .any(|address| std::net::TcpStream::connect_timeout(&(address, port).into(), Duration::from_secs(1)).is_ok())
}

/// Has this program and its children be in a network of their own, which leads nowhere: loopback is all there is.
///
/// # Errors
/// The kernel's answer, or busybox's words.
pub fn apart() -> Result<(), SysError> {
    let failed = |source| SysError::System { act: "making a network apart", source };
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).map_err(|error| failed(error.into()))?;
    loopback_up()
}

/// Takes the loopback link up.
///
/// # Errors
/// busybox's words.
pub fn loopback_up() -> Result<(), SysError> {
    tool::must("/usr/bin/busybox", &["ip", "link", "set", "lo", "up"], Duration::from_secs(5)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_metric_that_is_up_wins() {
        let text = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
            eth1\t00000000\t0202000A\t0003\t0\t0\t1003\t00000000\t0\t0\t0\n\
            eth0\t00000000\t0202000A\t0003\t0\t0\t1002\t00000000\t0\t0\t0\n\
            eth2\t00000000\t0202000A\t0002\t0\t0\t1\t00000000\t0\t0\t0\n\
            eth0\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        assert_eq!(best(text).as_deref(), Some("eth0"));
        assert_eq!(best(&text.replace("eth0", STAND_IN)).as_deref(), Some("eth1"));
    }

    #[test]
    fn an_open_port_is_told_from_a_closed_one() {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(is_port_open(port));
        drop(listener);
        assert!(!is_port_open(port));
    }
}
