//! Looks at the machine and changes nothing.

use crate::disks::{self, Looked};
use crate::{loader, moving, payload as files_of_payload, placed, put_back, sealing, seed};
use bakelite_plan::facts::{Database, Dummy, Facts, Link};
use bakelite_plan::update::{GOING_BACK, rehearsal};
use bakelite_plan::{
    address, certificates, cluster, cmdline, data_disk, debris, firewall, home, identity, k3s_config, latency,
    old_copy, payload, reset, restore, settings, trim,
};
use bakelite_spec::apps;
use bakelite_spec::attempts;
use bakelite_spec::fault::Code;
use bakelite_spec::firewall::RULES;
use bakelite_spec::places;
use bakelite_spec::records::Place;
use bakelite_spec::secret;
use bakelite_spec::status::{Status, paths};
use bakelite_spec::tried;
use bakelite_spec::update;
use bakelite_sys::{block, is_hollow, link, machine, mount, names_in, power, raw, read_text, words};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Files whose content steps read.
const FILES: &[&str] = &[
    attempts::PATH,
    identity::RECORD,
    home::HOME,
    home::DISK_HOME,
    home::INTENT,
    home::COPIED,
    home::COPIED_ON_CARD,
    home::AT_ONCE,
    old_copy::RECORD,
    reset::WISH,
    reset::DONE,
    reset::FRESH,
    trim::RECORD,
    paths::GOOD,
    update::PATH,
    update::LAST,
    update::ARMED,
    tried::PATH,
    apps::RECORD,
    apps::LAST,
    GOING_BACK,
    cluster::ON_STATE,
    cluster::ON_DISK,
    restore::STAGED,
    restore::mirror::LINE,
    restore::RESTORED,
    restore::WORD,
    restore::trial::TRIAL,
    restore::trial::ROLLED_BACK,
    restore::blank::BORN_NOW,
    cluster::CHECKED,
    cluster::LAST_START,
    data_disk::DEVICES,
    latency::RECORD,
    cmdline::RECORD,
    bakelite_spec::records::USB_QUIRKS,
    cmdline::BY_HAND[0],
    cmdline::BY_HAND[1],
    address::LAST,
    k3s_config::CONFIG,
    k3s_config::KUBELET,
    k3s_config::AUDIT_POLICY,
    k3s_config::tier::FIRST,
    k3s_config::quiet::REFUSED,
    paths::LAST_START,
    debris::VERIFIED,
    certificates::RENEWED,
    payload::CACHE,
    payload::VERIFIED,
    payload::WRITTEN,
    k3s_config::CONTAINERD,
    paths::PAYLOAD_ENVIRONMENT,
    paths::PROXY_ENVIRONMENT,
    bakelite_plan::placed::RECORD,
    firewall::REFUSED,
    firewall::ACCEPTED,
    RULES,
    paths::SEED,
    bakelite_plan::seed::SPENDING,
    paths::OVERLAY,
    settings::OVERLAY_SEEN,
    paths::HOSTNAME,
    paths::AUTHORIZED_KEYS,
    "/run/bakelite/hosts",
    "/run/bakelite/resolv.conf",
    "/run/bakelite/dhcpcd.conf",
    "/run/bakelite/chrony.conf",
];

/// Files of which only the presence matters.
const PRESENT: &[&str] = &[
    identity::TOKEN,
    identity::PASSWORD,
    identity::DEVICE_KEY,
    settings::HOST_KEY,
    payload::STORE_ASIDE,
    restore::blank::BASELINE,
    paths::TRIAL,
    paths::CLOCK_LIFTED,
    rehearsal::FOLDER,
    rehearsal::HELD,
];

/// The facts below a root. `waited` is how long this pass has waited for an address, in seconds.
pub fn facts(root: &Path, looked: &Looked, waited: u64) -> Facts {
    let at = |path: &str| root.join(path.trim_start_matches('/'));
    let mut addresses = link::addresses();
    let dummy = addresses.remove(link::STAND_IN).map(|addresses| Dummy { addresses });
    let images = at(payload::IMAGES);
    let files: BTreeMap<String, String> =
        FILES.iter().filter_map(|path| Some((path.to_string(), text_of(&at(path))?))).collect();
    let recorded =
        files.get(bakelite_plan::placed::RECORD).map_or_else(Vec::new, |text| placed::still_there(root, text));
    let disks = disks::all(root, looked);
    let mut facts = Facts {
        serial: machine::serial(root),
        machine_id: read_text(at("/etc/machine-id")).unwrap_or_default(),
        links: link::wired(root)
            .into_iter()
            .map(|link| Link { name: link.name, mac: link.mac, path: link.path, carrier: link.carrier })
            .collect(),
        address: link::default_address(),
        networks: link::networks(root),
        default_route: link::default_link(root).is_some(),
        dummy,
        state_is_durable: !mount::is_volatile(&at(paths::STATE)),
        files,
        present: PRESENT
            .iter()
            .map(ToString::to_string)
            .chain(names_in(at(secret::FOLDER)).into_iter().map(|name| format!("{}/{name}", secret::FOLDER)))
            .filter(|path| is_there(&at(path)))
            .chain(recorded)
            .collect(),
        image_links: names_in(&images)
            .into_iter()
            .filter_map(|name| {
                let target = std::fs::read_link(images.join(&name)).ok()?;
                Some((format!("{}/{name}", payload::IMAGES), target.to_string_lossy().into_owned()))
            })
            .collect(),
        placed: placed::states(root),
        stored: stored(&at(apps::STORE)),
        hollow: hollow(&at),
        unclean: at(paths::UNCLEAN).exists(),
        payload_checked: looked.payload.clone(),
        store: files_of_payload::store(&at(payload::STORE)),
        memory: machine::memory(),
        slow_medium: block::is_slow(&at("/var/lib/rancher")),
        waited,
        sets: looked.sets.clone(),
        words: looked.words.clone(),
        beyond_baseline: looked.beyond_baseline.clone(),
        climbed: looked.climbed.clone(),
        mirrored: looked.mirrored.clone(),
        lost: looked.lost.clone(),
        token_lost: looked.token_lost,
        vanished: disks::has_vanished(&disks),
        disks,
        uptime: machine::uptime().as_secs(),
        boot: machine::boot(root),
        seed: seed::seen(root),
        loader: loader::seen(root),
        cmdline: read_text(at("/proc/cmdline")).unwrap_or_default(),
        controllers: controllers(&at("/sys/fs/cgroup/cgroup.controllers")),
        to_seal: sealing::digest(&sealing::collect(root)),
        shown: shown(),
        payload_ran: (at("/run/k3s").exists() || at(paths::LAST_START).exists()) && !at(home::AT_ONCE).exists(),
        power_is_low: power_is_low(&at(paths::STATUS)),
        on_battery: power::on_battery(root),
        clock: machine::clock(),
        clock_is_set: raw::clock_is_synchronised(),
        ..Facts::default()
    };
    look_at_home(&mut facts, looked);
    if facts.has(paths::GOOD) {
        facts.asides = put_back::asides(root);
        facts.free_beside_data = mount::free(&at(restore::FOLDER));
    }
    facts
}

fn power_is_low(status: &Path) -> bool {
    let status = read_text(status).ok().and_then(|text| serde_json::from_str::<Status>(&text).ok());
    status.is_some_and(|status| status.faults.iter().any(|fault| fault.code == Code::PowerLow))
}

fn controllers(path: &Path) -> Vec<String> {
    read_text(path).unwrap_or_default().split_whitespace().map(String::from).collect()
}

/// What is shown at the places of k3s's data, as folders of the card or the data disk.
fn shown() -> BTreeMap<String, String> {
    let mounts = mount::all();
    let device = |point: &str| mounts.iter().find(|mounted| mounted.point == point).map(|mounted| &mounted.device);
    let media = [paths::DATA_MOUNT, paths::STATE_MOUNT].map(|point| (point, device(point)));
    let shown = |place: &str| {
        let mounted = mounts.iter().rev().find(|mounted| mounted.point == place)?;
        let (medium, _) = media.iter().find(|(_, device)| *device == Some(&mounted.device))?;
        Some(format!("{medium}{}", mounted.folder))
    };
    places::on_disk().filter_map(|place| Some((place.at.to_string(), shown(place.at)?))).collect()
}

/// How much there is to move, and where there is room for it.
pub(crate) fn weigh(facts: &mut Facts) {
    (facts.on_card, facts.on_disk) = (moving::CARD.amount(), moving::DISK.amount());
    facts.free_on_card = mount::free(Path::new(paths::STATE_MOUNT));
    facts.free_on_disk = mount::free(Path::new(paths::DATA_MOUNT));
}

/// What takes a look at the media themselves, and only as far as it is needed: the old copy on a card is left alone.
fn look_at_home(facts: &mut Facts, looked: &Looked) {
    let on_disk = home::of(facts).is_some_and(|home| home.moving.is_none() && matches!(home.place, Place::Disk(_)));
    let unclear = home::of(facts).is_none_or(|home| home.moving.is_some());
    if facts.attached().is_some() && (unclear || home::wish(facts).is_some()) {
        weigh(facts);
    } else if old_copy::goes(facts) {
        facts.on_card = moving::CARD.amount();
    }
    let shown_from_disk =
        facts.shown.get(places::RANCHER.at).is_some_and(|folder| folder.starts_with(paths::DATA_MOUNT));
    if on_disk && !shown_from_disk {
        return;
    }
    let checked = looked.database.is_some();
    facts.database = match bakelite_datastore::state(Path::new(cluster::DATABASE)) {
        Ok(state) => state.map(|state| Database {
            revision: state.revision,
            row: state.row,
            damage: looked.database.clone().unwrap_or_default(),
            checked,
        }),
        Err(error) => Some(Database { damage: words(&error), checked, ..Database::default() }),
    }
}

/// The files in the store of apps.
fn stored(store: &Path) -> BTreeMap<String, u64> {
    let files = |folder: String| {
        names_in(store.join(&folder)).into_iter().map(move |name| format!("{folder}/{name}")).collect::<Vec<_>>()
    };
    let paths = names_in(store).into_iter().flat_map(files);
    paths.filter_map(|path| Some((path.clone(), std::fs::metadata(store.join(path)).ok()?.len()))).collect()
}

/// Files without content where there must be none.
fn hollow(at: &impl Fn(&str) -> PathBuf) -> Vec<String> {
    let mut found = Vec::new();
    for path in debris::FILES {
        if is_hollow(at(path)) {
            found.push(path.to_string());
        }
    }
    let mut folders: Vec<String> = debris::FOLDERS.iter().map(ToString::to_string).collect();
    while let Some(folder) = folders.pop() {
        for name in names_in(at(&folder)) {
            let path = format!("{folder}/{name}");
            if at(&path).symlink_metadata().is_ok_and(|entry| entry.is_dir()) {
                folders.push(path);
            } else if is_hollow(at(&path)) {
                found.push(path);
            }
        }
    }
    found
}

/// A secret without content is what a cut in the wrong moment of somebody else's program leaves; it counts as absent.
fn is_there(path: &Path) -> bool {
    path.canonicalize().is_ok_and(|path| !is_hollow(path))
}

fn text_of(path: &Path) -> Option<String> {
    path.exists().then(|| std::fs::read_to_string(path).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pulled_plug_left_without_content_is_found_wherever_k3s_trusts_it() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path.trim_start_matches('/'));
        let put = |path: &str, bytes: &[u8]| {
            bakelite_sys::durable::make_folder(at(path).parent().unwrap()).unwrap();
            bakelite_sys::durable::write_durable(at(path), bytes, 0o600).unwrap();
            path.to_string()
        };
        put(&format!("{}/server-ca.crt", debris::TLS), b"-----BEGIN");
        let mut torn = vec![
            put(&format!("{}/serving-kube-apiserver.crt", debris::TLS), &[0; 1200]),
            put(&format!("{}/etcd/peer-ca.key", debris::TLS), b""),
            put(debris::FILES[0], &[0; 33]),
        ];
        let mut found = hollow(&at);
        torn.sort();
        found.sort();
        assert_eq!(found, torn);
    }
}
