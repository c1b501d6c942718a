//! What k3s asks of the machine before it starts: a clock after 1980, four cgroup controllers, a default route
//! (k3s.md 2.3, 2.4, 2.9, 2.10). Reads only; without an agent, or where a test's root has no such file, nothing is asked.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;
use std::time::SystemTime;

use time::OffsetDateTime;
use time::macros::format_description;

use crate::config::{Role, Settings};
use crate::error::Error;
use crate::paths::Root;

/// Refuses what k3s refuses.
pub fn check(settings: &Settings, root: &Root, now: SystemTime) -> Result<(), Error> {
    check_clock(now)?;
    if settings.role() == Role::Server && settings.is_on("disable-agent") {
        return Ok(());
    }
    let asked = |path: &Path| !root.is_set() || path.exists();
    let controllers = root.at("/sys/fs/cgroup/cgroup.controllers");
    if asked(&controllers) {
        check_controllers(&fs::read_to_string(controllers).unwrap_or_default())?;
    }
    let (route, route6) = (root.at("/proc/net/route"), root.at("/proc/net/ipv6_route"));
    if settings.list("node-ip").is_empty() && asked(&route) {
        let (v4, v6) = (fs::read_to_string(route).unwrap_or_default(), fs::read_to_string(route6).unwrap_or_default());
        if !has_default_route(&v4) && !has_default_route6(&v6) {
            return Err(Error::FindDefaultRoute);
        }
    }
    Ok(())
}

fn check_clock(now: SystemTime) -> Result<(), Error> {
    let now = OffsetDateTime::from(now);
    if now.year() >= 1980 {
        return Ok(());
    }
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second].[subsecond] +0000 UTC");
    Err(Error::ClockNotSet(now.format(format).unwrap_or_default()))
}

fn check_controllers(text: &str) -> Result<(), Error> {
    let has = |wanted: &str| text.split_whitespace().any(|name| name == wanted);
    match ["cpu", "cpuset", "memory"].into_iter().find(|name| !has(name)) {
        Some(missing) => Err(Error::FindController(missing)),
        None if has("pids") => Ok(()),
        None => Err(Error::FindPidsController),
    }
}

/// /proc/net/route: interface, destination, gateway, flags (bit 0: up), three counters, mask.
fn has_default_route(table: &str) -> bool {
    table.lines().skip(1).any(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let is_up =
            columns.get(3).and_then(|flags| u32::from_str_radix(flags, 16).ok()).is_some_and(|flags| flags & 1 == 1);
        columns.get(1) == Some(&"00000000") && columns.get(7) == Some(&"00000000") && is_up
    })
}

/// /proc/net/ipv6_route: the reject route on `lo` isn't one.
fn has_default_route6(table: &str) -> bool {
    table.lines().any(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        columns.first().is_some_and(|to| to.bytes().all(|digit| digit == b'0'))
            && columns.get(1) == Some(&"00")
            && columns.get(9).is_some_and(|interface| *interface != "lo")
    })
}

/// The node's name: as set, else the host's, in lower case.
pub fn node_name(settings: &Settings, root: &Root) -> String {
    let host = || fs::read_to_string(root.at("/proc/sys/kernel/hostname")).ok();
    let name = settings.text("node-name").or_else(host).unwrap_or_default().trim().to_lowercase();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

/// The node's address: as set, else the one that the default route would be used from (no packet is sent).
pub fn node_address(settings: &Settings) -> IpAddr {
    let given = settings.split_list("node-ip").first().and_then(|text| text.parse().ok());
    let by_route = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        socket.connect((Ipv4Addr::new(203, 0, 113, 1), 9)).ok()?;
        socket.local_addr().ok().map(|address| address.ip())
    };
    given.or_else(by_route).unwrap_or(Ipv4Addr::LOCALHOST.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn words_of_the_classifier() {
        let words = |result: Result<(), Error>| result.unwrap_err().fatal_words();
        let in_1975 = SystemTime::UNIX_EPOCH + Duration::from_millis(171_000_000_970);
        assert!(words(check_clock(in_1975)).starts_with("Error: server time isn't set properly: 1975-06-"));
        assert!(check_clock(SystemTime::now()).is_ok());
        assert!(check_controllers("cpuset cpu io memory pids\n").is_ok());
        assert_eq!(words(check_controllers("cpuset cpu pids")), "Error: failed to find memory cgroup (v2)");
        assert_eq!(words(check_controllers("cpuset cpu memory")), "Error: pids cgroup controller not found");
    }

    #[test]
    fn routes() {
        let head = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n";
        assert!(has_default_route(&format!("{head}eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n")));
        assert!(!has_default_route(&format!("{head}eth0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n")));
        let zero = "0".repeat(32);
        let line =
            |interface: &str| format!("{zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200 {interface}\n");
        assert!(has_default_route6(&line("eth0")) && !has_default_route6(&line("lo")));
    }
}
