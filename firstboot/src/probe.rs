//! Looks at the machine and changes nothing.

use crate::placed;
use bakelite_plan::facts::{Dummy, Facts, Link};
use bakelite_plan::{address, debris, identity, k3s_config, payload, settings};
use bakelite_spec::status::paths;
use bakelite_sys::{block, link, machine, mount, names_in, read_text};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Files whose content steps read.
const FILES: &[&str] = &[
    identity::RECORD,
    address::LAST,
    k3s_config::CONFIG,
    k3s_config::KUBELET,
    k3s_config::AUDIT_POLICY,
    k3s_config::tier::FIRST,
    k3s_config::quiet::REFUSED,
    k3s_config::quiet::LAST_START,
    paths::PAYLOAD_ENVIRONMENT,
    bakelite_plan::placed::RECORD,
    paths::HOSTNAME,
    paths::AUTHORIZED_KEYS,
    "/run/bakelite/hosts",
    "/run/bakelite/resolv.conf",
    "/run/bakelite/dhcpcd.conf",
    "/run/bakelite/chrony.conf",
];

/// Files of which only the presence matters.
const SECRETS: &[&str] = &[identity::TOKEN, settings::HOST_KEY];

/// The facts below a root. `waited` is how long this pass has waited for an address, in seconds.
pub fn facts(root: &Path, waited: u64) -> Facts {
    let at = |path: &str| root.join(path.trim_start_matches('/'));
    let mut addresses = link::addresses();
    let dummy = addresses.remove(link::STAND_IN).map(|addresses| Dummy { addresses });
    let images = at(payload::IMAGES);
    let files: BTreeMap<String, String> =
        FILES.iter().filter_map(|path| Some((path.to_string(), text_of(&at(path))?))).collect();
    let recorded =
        files.get(bakelite_plan::placed::RECORD).map_or_else(Vec::new, |text| placed::still_there(root, text));
    Facts {
        serial: machine::serial(root),
        machine_id: read_text(at("/etc/machine-id")).unwrap_or_default(),
        links: link::wired(root)
            .into_iter()
            .map(|link| Link { name: link.name, mac: link.mac, path: link.path, carrier: link.carrier })
            .collect(),
        address: link::default_address(),
        default_route: link::default_link(root).is_some(),
        dummy,
        state_is_durable: !mount::is_volatile(&at(paths::STATE)),
        files,
        present: SECRETS.iter().filter(|path| is_there(&at(path))).map(ToString::to_string).chain(recorded).collect(),
        image_links: names_in(&images)
            .into_iter()
            .filter_map(|name| {
                let target = std::fs::read_link(images.join(&name)).ok()?;
                Some((format!("{}/{name}", payload::IMAGES), target.to_string_lossy().into_owned()))
            })
            .collect(),
        placed: placed::states(root),
        hollow: hollow(&at),
        memory: machine::memory(),
        slow_medium: block::is_slow(&at("/var/lib/rancher")),
        waited,
    }
}

/// Empty files where there must be none.
fn hollow(at: &impl Fn(&str) -> PathBuf) -> Vec<String> {
    let mut found = Vec::new();
    for path in debris::FILES {
        if std::fs::symlink_metadata(at(path)).is_ok_and(|file| file.is_file() && file.len() == 0) {
            found.push(path.to_string());
        }
    }
    let mut folders: Vec<String> = debris::FOLDERS.iter().map(ToString::to_string).collect();
    while let Some(folder) = folders.pop() {
        for name in names_in(at(&folder)) {
            let path = format!("{folder}/{name}");
            match std::fs::symlink_metadata(at(&path)) {
                Ok(entry) if entry.is_dir() => folders.push(path),
                Ok(entry) if entry.is_file() && entry.len() == 0 => found.push(path),
                _ => {}
            }
        }
    }
    found
}

/// An empty secret is what a cut in the wrong moment of somebody else's program leaves; it counts as absent.
fn is_there(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.len() > 0)
}

fn text_of(path: &Path) -> Option<String> {
    path.exists().then(|| std::fs::read_to_string(path).unwrap_or_default())
}
