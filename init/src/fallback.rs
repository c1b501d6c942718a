//! Settings for network, time and ssh when early itself died: the last accepted ones, else what the image says.
//!
//! An operator with a key gets in, in every refusal; so this needs nothing but the baked appliance.

use crate::baked::Baked;
use bakelite_spec::appliance::Input;
use bakelite_spec::dhcp;
use bakelite_spec::firewall::{RULES, fallback};
use bakelite_spec::status::paths;
use bakelite_sys::{SysError, durable, names_in, read_text, tool, words};
use std::path::Path;
use std::time::Duration;

/// Files of /run/bakelite as early last left them when it ended well.
const ACCEPTED: &str = "/var/lib/bakelite/accepted";
const RUN: &str = "/run/bakelite";
const NFT_LIMIT: Duration = Duration::from_secs(20);
const FILES: [&str; 7] =
    ["hostname", "hosts", "resolv.conf", "dhcpcd.conf", "chrony.conf", "authorized_keys", "nftables"];

/// Keeps what early has decided, for a boot on which it dies. Writes only what differs.
///
/// # Errors
/// When a file can't be kept.
pub fn accept() -> Result<(), SysError> {
    for name in FILES {
        let kept = Path::new(ACCEPTED).join(name);
        match std::fs::read(Path::new(RUN).join(name)) {
            Ok(bytes) if std::fs::read(&kept).is_ok_and(|kept| kept == bytes) => {}
            Ok(bytes) => {
                durable::make_folder(ACCEPTED)?;
                durable::write_durable(&kept, &bytes, 0o600)?;
            }
            Err(_) => durable::remove_file(&kept)?,
        }
    }
    Ok(())
}

/// Puts the settings in place that early would have; where they come from, in words.
///
/// # Errors
/// When a file can't be written.
pub fn settle_for(baked: &Baked) -> Result<String, SysError> {
    let accepted = names_in(ACCEPTED);
    if baked.appliance.firewall.input == Input::Closed && !Path::new(RULES).exists() {
        close(&accepted)?;
    }
    if accepted.is_empty() {
        for (name, text) in of_image(baked) {
            write(name, text.as_bytes())?;
        }
        return Ok("took the image's own settings for network and ssh".into());
    }
    for name in accepted.iter().filter(|name| !RULES.ends_with(&format!("/{name}"))) {
        let path = Path::new(ACCEPTED).join(name);
        let bytes = std::fs::read(&path).map_err(|source| SysError::Read { path, source })?;
        write(name, &bytes)?;
    }
    Ok("took the last accepted settings for network and ssh".into())
}

/// Loads the last accepted rules of the firewall, else ssh alone; the file is there when they are in force.
fn close(accepted: &[String]) -> Result<(), SysError> {
    let accepted = accepted.iter().find(|name| RULES.ends_with(&format!("/{name}")));
    let accepted = accepted.and_then(|name| read_text(Path::new(ACCEPTED).join(name)).ok());
    let candidate = format!("{RULES}.new");
    let mut refused = Ok(());
    for rules in accepted.into_iter().chain([fallback()]) {
        durable::replace(&candidate, rules.as_bytes(), 0o600)?;
        refused = tool::must("nft", &["-f", &candidate], NFT_LIMIT).map(drop);
        if refused.is_ok() {
            return durable::publish(Path::new(&candidate), Path::new(RULES));
        }
    }
    // Network and ssh come up all the same.
    refused.or_else(|error| {
        log::error!("{}", words(&error));
        Ok(())
    })
}

/// What early had written before it died stays.
fn write(name: &str, bytes: &[u8]) -> Result<(), SysError> {
    let path = Path::new(RUN).join(name);
    // All but the keys are read by programs that aren't root.
    let mode = if path == Path::new(paths::AUTHORIZED_KEYS) { 0o600 } else { 0o644 };
    if path.exists() { Ok(()) } else { durable::replace(path, bytes, mode) }
}

fn of_image(baked: &Baked) -> Vec<(&'static str, String)> {
    let appliance = &baked.appliance;
    // A name with a place-holder is early's to fill.
    let name = appliance.hostname.split('{').next().unwrap_or_default().trim_end_matches('-');
    let name = if name.is_empty() { "bakelite" } else { name };
    let servers: String = appliance.network.dns.iter().map(|server| format!("nameserver {server}\n")).collect();
    let chrony: String = appliance.time.servers.iter().map(|server| format!("server {server} iburst\n")).collect();
    let chrony = chrony + "driftfile /var/lib/chrony/drift\nmakestep 1 3\nport 0\ncmdport 0\n";
    vec![
        ("hostname", format!("{name}\n")),
        ("hosts", format!("127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {name}\n")),
        ("resolv.conf", servers),
        ("dhcpcd.conf", dhcp::frame()),
        ("chrony.conf", if appliance.time.servers.is_empty() { String::new() } else { chrony }),
        (paths::AUTHORIZED_KEYS.trim_start_matches("/run/bakelite/"), appliance.ssh.keys.join("\n")),
    ]
}
