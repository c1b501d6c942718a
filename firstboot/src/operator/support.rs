//! `bakelite support`: all that somebody needs who is asked for help with this machine, in one archive without secrets.
//!
//! A file is in it only if it is named here; keys, certificates, databases and volumes never are. Every text goes through
//! `redact`, which knows this machine's secrets. Nothing is changed but that the archive is written, whole or not at all.

use super::logs::{FOLDER, LAST_BOOT, LAST_WORDS, logs_in};
use super::redact::Redactor;
use super::{status, stick};
use crate::disks::Looked;
use crate::error::FirstbootError;
use crate::{account, config, layers, probe};
use bakelite_datastore::check::{self, Depth};
use bakelite_plan::identity::{DEVICE_KEY, PASSWORD, TOKEN};
use bakelite_plan::{cluster, forecast, home, k3s_config, restore, table};
use bakelite_spec::quantity::Size;
use bakelite_spec::status::paths;
use bakelite_spec::{account as accounts, attempts, firewall, secret, set};
use bakelite_sys::{SysError, durable, kmsg, machine, mount, names_in, read_text, words};
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};

/// zstd's level: logs shrink to a tenth, and a small machine takes seconds.
const LEVEL: i32 = 3;
/// More of one file is cut off at its beginning: what is newest says most.
const MOST: usize = 4 << 20;
/// Where an archive goes that nobody has named a place for: in memory.
const PLACE: &str = "/run/bakelite";
const ENDING: &str = ".tar.zst";
/// The folder on a stick.
const ON_STICK: &str = "support";

/// Records and files of the kernel that are texts, by their names in the archive.
const TEXTS: &[(&str, &str)] = &[
    ("records/cluster.json", cluster::ON_STATE),
    ("records/cluster-disk.json", cluster::ON_DISK),
    ("records/home.json", home::HOME),
    ("records/home-disk.json", home::DISK_HOME),
    ("records/intent.json", home::INTENT),
    ("records/restored.json", restore::RESTORED),
    ("records/attempts.json", attempts::PATH),
    ("records/good.json", accounts::GOOD),
    ("records/last-start.json", paths::LAST_START),
    ("records/medium.json", paths::MEDIUM),
    ("records/backup.json", "/run/bakelite/backup.json"),
    ("network/dhcpcd.conf", "/run/bakelite/dhcpcd.conf"),
    ("network/resolv.conf", "/run/bakelite/resolv.conf"),
    ("network/hosts", "/run/bakelite/hosts"),
    ("network/chrony.conf", "/run/bakelite/chrony.conf"),
    ("network/firewall.nft", firewall::RULES),
    ("network/routes", "/proc/net/route"),
    ("network/routes6", "/proc/net/ipv6_route"),
    ("network/links", "/proc/net/dev"),
    ("kernel/cmdline", "/proc/cmdline"),
    ("kernel/version", "/proc/version"),
    ("kernel/memory", "/proc/meminfo"),
    ("kernel/load", "/proc/loadavg"),
    ("kernel/pressure-cpu", "/proc/pressure/cpu"),
    ("kernel/pressure-io", "/proc/pressure/io"),
    ("kernel/pressure-memory", "/proc/pressure/memory"),
    ("kernel/modules", "/proc/modules"),
    ("disks/partitions", "/proc/partitions"),
    ("disks/statistics", "/proc/diskstats"),
    ("disks/mounts", "/proc/self/mountinfo"),
    ("k3s/containerd.toml", k3s_config::CONTAINERD),
];
/// Files of k3s's whose trees are gone through key by key.
const TREES: &[(&str, &str)] = &[
    ("k3s/config.yaml", k3s_config::CONFIG),
    ("k3s/kubelet.yaml", k3s_config::KUBELET),
    ("k3s/registries.yaml", "/etc/rancher/k3s/registries.yaml"),
];
/// More of k3s's configuration.
const DROP_INS: &str = "/etc/rancher/k3s/config.yaml.d";
/// k3s's own copies of what is a secret.
const K3S: &str = "/var/lib/rancher/k3s/server";

/// Where the archive goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// A file in memory, with a name of its own.
    Memory,
    /// The standard output.
    Output,
    /// The stick that is plugged in.
    Stick,
    /// This file.
    File(&'a str),
}

/// Makes the archive; where it is, and its bytes.
///
/// # Errors
/// When the machine can't be looked at, or the archive can't be written. Nothing is left at its place then.
pub fn make(root: &Path, target: Target<'_>) -> Result<(PathBuf, u64), FirstbootError> {
    let now = machine::clock();
    let node = account::account(root)?.node;
    let name = format!("support-{}-{}", if node.is_empty() { "machine" } else { &node }, set::stamp(now));
    let bytes = pack(&name, &collect(root)?, now).map_err(|source| SysError::Write { path: (&name).into(), source })?;
    let path = match target {
        Target::Output => {
            let written = std::io::stdout().lock().write_all(&bytes);
            written.map_err(|source| SysError::Write { path: "the standard output".into(), source })?;
            return Ok(("-".into(), bytes.len() as u64));
        }
        Target::Stick => {
            let place = Path::new(ON_STICK).join(name + ENDING);
            stick::change(root, |folder| {
                durable::make_folder(folder.join(ON_STICK))?;
                put(&folder.join(&place), &bytes)
            })?;
            return Ok((place, bytes.len() as u64));
        }
        Target::Memory => Path::new(PLACE).join(name + ENDING),
        Target::File(file) => PathBuf::from(file),
    };
    put(&path, &bytes)?;
    Ok((path, bytes.len() as u64))
}

/// Writes a file whole or not at all, and makes it and its file system durable: sticks are pulled out.
fn put(path: &Path, bytes: &[u8]) -> Result<(), FirstbootError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (free, needed) = (mount::free(folder), bytes.len() as u64);
    if free < needed {
        let (free, needed) = (Size(free).human(), Size(needed).human());
        return Err(FirstbootError::NoRoom { path: path.into(), free, needed });
    }
    durable::write_durable(path, bytes, 0o600)?;
    Ok(durable::sync_file_system(folder)?)
}

fn pack(name: &str, files: &[(String, String)], now: i64) -> std::io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(zstd::Encoder::new(Vec::new(), LEVEL)?);
    for (path, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(now).unwrap_or(0));
        tar.append_data(&mut header, format!("{name}/{path}"), text.as_bytes())?;
    }
    tar.into_inner()?.finish()
}

/// What goes in, without secrets.
fn collect(root: &Path) -> Result<Vec<(String, String)>, FirstbootError> {
    let at = |path: &str| root.join(path.trim_start_matches('/'));
    let redactor = Redactor::new(&secrets(root));
    let mut files = answers(root)?;
    for (name, path) in TEXTS {
        files.extend(text(&at(path)).map(|text| (name.to_string(), text)));
    }
    let drop_ins = names_in(at(DROP_INS));
    let drop_ins: Vec<(String, String)> =
        drop_ins.iter().map(|name| (format!("k3s/config.yaml.d/{name}"), format!("{DROP_INS}/{name}"))).collect();
    let trees = TREES.iter().map(|(name, path)| (name.to_string(), path.to_string())).chain(drop_ins);
    for (name, path) in trees {
        files.extend(text(&at(&path)).map(|text| (name, tree(&redactor, &text))));
    }
    let state = at(paths::STATE);
    let logs =
        [("logs", at(FOLDER)), ("logs/previous", state.join(LAST_BOOT)), ("logs/last-words", state.join(LAST_WORDS))];
    for (place, folder) in logs {
        for (name, parts) in logs_in(&folder) {
            let text: String = parts.iter().filter_map(|part| text(part)).collect();
            files.push((format!("{place}/{name}.log"), text));
        }
    }
    files.push(("kernel/messages".into(), kmsg::read()));
    for (_, text) in &mut files {
        *text = redactor.text(&newest(text));
    }
    files.insert(0, ("README.txt".into(), README.into()));
    Ok(files)
}

const README: &str = "\
A support bundle of a Bakelite machine, made by `bakelite support`.

status.txt says how the machine is; settings.txt what counts on it and who set it; facts.txt what it sees; plan.txt what
firstboot would do now, and why. logs/ is this boot, logs/previous/ the end of the one before, logs/last-words/ the end
of what failed. Private keys, the database and volumes are not in it. Passwords, tokens and the machine's own secrets
are replaced by <redacted>; what programs of your own write into their logs is as safe as they are: look before you
hand it on.
";

/// What this machine answers to those who ask, as texts.
fn answers(root: &Path) -> Result<Vec<(String, String)>, FirstbootError> {
    let (page, page_text, _) = status::look(root)?;
    let (facts, layers) = (probe::facts(root, &Looked::by_early(root), 0), layers::read(root)?);
    let manifest = &layers.settings.manifest;
    let versions = json!({
        "bakelite": manifest.version, "image": manifest.image, "board": manifest.board_name,
        "payload": manifest.payload.title(), "system": manifest.system.sha256, "kernel": machine::kernel_release(),
        "made": machine::clock(),
    });
    let json = |value: &Value| serde_json::to_string_pretty(value).map_err(FirstbootError::WriteReport);
    let value = |value: serde_json::Result<Value>| value.map_err(FirstbootError::WriteReport).and_then(|v| json(&v));
    Ok([
        ("status.txt", page_text),
        ("status.json", value(serde_json::to_value(&page))?),
        ("report.json", value(serde_json::to_value(account::account(root)?))?),
        ("facts.txt", table::text(&facts)),
        ("facts.json", value(serde_json::to_value(&facts))?),
        ("plan.txt", forecast::text(&facts, &layers.settings)),
        ("settings.txt", config::text_of(&layers)),
        ("versions.json", json(&versions)?),
        ("datastore.json", json(&datastore(root))?),
        ("disks/room.txt", room()),
        ("processes.txt", processes(root)),
    ]
    .map(|(name, text)| (name.to_string(), text))
    .into())
}

/// What SQLite and kine's table say of the database; nothing of it is changed.
fn datastore(root: &Path) -> Value {
    let path = root.join(cluster::DATABASE.trim_start_matches('/'));
    let length = |ending: &str| std::fs::metadata(format!("{}{ending}", path.display())).map(|meta| meta.len()).ok();
    if !path.exists() {
        return json!({ "there": false });
    }
    let sizes = json!({ "database": length(""), "wal": length("-wal") });
    match check::live(&path, Depth::Quick, 0) {
        Ok(Ok(found)) => json!({
            "there": true, "whole": true, "bytes": sizes, "page-size": found.page_size, "revision": found.revision,
            "compacted": found.compacted, "live": found.live,
        }),
        Ok(Err(flaw)) => json!({ "there": true, "whole": false, "bytes": sizes, "why": flaw.to_string() }),
        Err(error) => json!({ "there": true, "bytes": sizes, "unread": words(&error) }),
    }
}

fn room() -> String {
    let mut points = mount::points();
    points.dedup();
    let line = |point: &String| {
        let (free, size) = (mount::free(Path::new(point)), mount::size(Path::new(point)));
        (size > 0).then(|| format!("{:>10} free of {:>10}  {point}\n", Size(free).human(), Size(size).human()))
    };
    points.iter().filter_map(line).collect()
}

/// Names only: arguments of programs may hold anything.
fn processes(root: &Path) -> String {
    let proc = root.join("proc");
    let line = |pid: String| {
        pid.parse::<u32>().ok()?;
        let status = read_text(proc.join(&pid).join("status")).ok()?;
        let of = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
        Some(format!("{pid:>7} {:<16} {:<14} {}\n", of("Name:"), of("State:"), of("VmRSS:")))
    };
    names_in(&proc).into_iter().filter_map(line).collect()
}

/// A YAML gone through key by key; one that can't be read isn't shown.
fn tree(redactor: &Redactor, text: &str) -> String {
    match serde_yaml::from_str::<Value>(text) {
        Ok(mut value) => {
            redactor.tree(&mut value);
            serde_yaml::to_string(&value).unwrap_or_default()
        }
        Err(_) => "# this isn't YAML, and isn't shown\n".into(),
    }
}

fn text(path: &Path) -> Option<String> {
    std::fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The end of a text that is too long, from a whole line on.
fn newest(text: &str) -> String {
    let Some(mut from) = text.len().checked_sub(MOST) else { return text.into() };
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let from = text[from..].find('\n').map_or(from, |end| from + end + 1);
    format!("(the first {} are left out)\n{}", Size(from as u64).human(), &text[from..])
}

/// All that is a secret on this machine and can be in a text.
fn secrets(root: &Path) -> Vec<String> {
    let at = |path: &str| root.join(path.trim_start_matches('/'));
    let in_folder =
        |folder: &str| -> Vec<String> { names_in(at(folder)).iter().map(|name| format!("{folder}/{name}")).collect() };
    let tokens = ["token", "node-token", "agent-token"].map(|name| format!("{K3S}/{name}"));
    let own = [TOKEN, PASSWORD, DEVICE_KEY].map(String::from);
    let credentials = [in_folder(&format!("{K3S}/cred")), in_folder(&format!("{K3S}/tls"))].concat();
    let keys = credentials.into_iter().filter(|path| path.ends_with(".key"));
    let files = own.into_iter().chain(tokens).chain(in_folder(secret::FOLDER)).chain(keys);
    let mut found: Vec<String> = files.filter_map(|path| text(&at(&path))).collect();
    // The password in a whole token stands alone in many places (k3s.md 4).
    let passwords: Vec<String> = found
        .iter()
        .filter_map(|token| token.trim().rsplit_once("::")?.1.rsplit(':').next().map(String::from))
        .collect();
    // Lines of `password,user,…` (k3s: pkg/passwd).
    let accounts = text(&at(&format!("{K3S}/cred/passwd"))).unwrap_or_default();
    found.extend(accounts.lines().filter_map(|line| line.split(',').next().map(String::from)));
    found.extend(passwords);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::{machine, write};
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use std::collections::BTreeMap;
    use std::io::Read;

    /// A secret for each place in which a machine has one.
    fn planted(number: usize) -> String {
        format!("hunter2planted{number:04}")
    }

    fn unpack(bytes: &[u8]) -> BTreeMap<String, String> {
        let mut archive = tar::Archive::new(zstd::Decoder::new(bytes).unwrap());
        let read = |entry: std::io::Result<tar::Entry<'_, _>>| {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            (path.split_once('/').unwrap().1.to_string(), text)
        };
        archive.entries().unwrap().map(read).collect()
    }

    /// A machine with secrets in all their files, and with all of them in its logs in many forms.
    fn full_of_secrets() -> tempfile::TempDir {
        let root = machine("k3s: rehearsal\nnetwork: {wait: 5}\n");
        let put = |path: &str, text: &str| write(root.path(), path, text);
        put("/var/lib/bakelite/identity.json", "{\"format\":1,\"node\":\"shop-1\"}");
        put(TOKEN, &planted(1));
        put(PASSWORD, &format!("{}\n", planted(2)));
        put(DEVICE_KEY, &format!("AGE-SECRET-KEY-1{}\n", planted(3).to_uppercase()));
        put(&format!("{}/till", secret::FOLDER), &planted(4));
        put(&format!("{K3S}/token"), &format!("K10{}::server:{}\n", "ab".repeat(32), planted(5)));
        put(
            &format!("{K3S}/cred/passwd"),
            &format!("{},node,node,k3s:agent\n{},server,server,x\n", planted(6), planted(7)),
        );
        let key =
            |number| format!("-----BEGIN EC PRIVATE KEY-----\n{}\n-----END EC PRIVATE KEY-----\n", planted(number));
        put(&format!("{K3S}/tls/server-ca.key"), &key(8));
        put(&format!("{K3S}/cred/ipsec.key"), &key(9));
        put("/etc/rancher/k3s/k3s.yaml", &format!("users: [{{user: {{client-key-data: {}}}}}]\n", planted(10)));
        put("/var/lib/dropbear/dropbear_ed25519_host_key", &planted(11));
        put(
            k3s_config::CONFIG,
            &format!(
                "token: {}\ndatastore-endpoint: postgres://u:{}@h/d\nnode-name: shop-1\n",
                planted(12),
                planted(13)
            ),
        );
        put(
            &format!("{DROP_INS}/own.yaml"),
            &format!("etcd-s3-secret-key: {}\nagent-token: |\n  {}\n", planted(14), planted(15)),
        );
        put(
            "/etc/rancher/k3s/registries.yaml",
            &format!("configs: {{r: {{auth: {{username: u, password: {}}}}}}}\n", planted(16)),
        );
        put(k3s_config::CONTAINERD, &format!("[x.auth]\n  username = \"u\"\n  password = \"{}\"\n", planted(17)));
        put("/run/bakelite/proxy.env", &format!("HTTPS_PROXY=http://u:{}@p:3128\n", planted(18)));
        put(&format!("{}/wifi", secret::FOLDER), &planted(19));
        put(paths::SEED, &format!("seed: {{secrets: {{wifi: {}}}}}\n", planted(19)));
        put(paths::STATUS, &serde_json::to_string(&json!({
            "version": "", "image": "", "slot": "a", "hostname": "shop-1", "addresses": {}, "good": true, "payload": "",
            "doing": format!("token {} was refused", planted(1)), "debug": false, "units": {}, "faults": []
        })).unwrap());
        let mut log = String::new();
        for number in 1..=19 {
            let secret = planted(number);
            // What isn't known by a file of this machine is told by what it is called.
            log += &format!("password={secret}\n{{\"token\":\"{secret}\"}}\n");
        }
        for number in [1, 2, 4, 5, 6, 7] {
            let secret = planted(number);
            log += &format!(
                "plain {secret} and {} and {}\n",
                STANDARD.encode(&secret),
                STANDARD.encode(format!("{secret}\n"))
            );
        }
        log += &format!("{}\nlevel=info msg={:?}\n", key(8), key(9));
        for place in [
            "/run/log/bakelite/k3s.log",
            "/var/lib/bakelite/last-boot/k3s.log",
            "/var/lib/bakelite/last-words/till.log",
        ] {
            put(place, &format!("begin\n{log}end\n"));
        }
        root
    }

    #[test]
    fn no_secret_of_a_machine_is_in_its_bundle() {
        let root = full_of_secrets();
        let bytes = pack("support", &collect(root.path()).unwrap(), 0).unwrap();
        let files = unpack(&bytes);
        for name in [
            "README.txt",
            "status.txt",
            "facts.json",
            "plan.txt",
            "settings.txt",
            "datastore.json",
            "versions.json",
            "k3s/config.yaml",
            "k3s/config.yaml.d/own.yaml",
            "k3s/registries.yaml",
            "logs/k3s.log",
            "logs/previous/k3s.log",
            "logs/last-words/till.log",
            "kernel/messages",
            "disks/mounts",
        ] {
            assert!(files.contains_key(name) || name == "disks/mounts", "{name} is missing");
        }
        for (name, text) in &files {
            assert!(!text.to_lowercase().contains("hunter2"), "{name}: {text}");
            assert!(!text.contains(&STANDARD.encode("hunter2planted")[..18]), "{name}: {text}");
        }
        // It isn't empty either.
        assert!(files["k3s/config.yaml"].contains("node-name: shop-1"));
        assert!(files["logs/k3s.log"].starts_with("begin\n") && files["logs/k3s.log"].ends_with("end\n"));
        assert!(files["settings.txt"].contains("network.wait: 5  # appliance"));
    }

    #[test]
    fn a_bundle_is_whole_at_its_place_or_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.tar.zst");
        put(&path, b"a bundle").unwrap();
        assert_eq!(names_in(folder.path()), ["x.tar.zst"]);
        assert!(put(&folder.path().join("none/x.tar.zst"), b"x").is_err());
        let text = "first line\n".repeat(MOST / 10);
        assert!(newest(&text).len() < MOST + 100 && newest(&text).starts_with("(the first "));
        assert_eq!(newest("short"), "short");
    }
}
