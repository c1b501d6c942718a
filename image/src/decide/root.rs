//! The root tree: what of the packages stays, and what their maintainer scripts would have made and the appliance needs.
//!
//! All that is done in place of maintainer scripts stands here, in [`complete`]: merged /usr, passwd and group, the CA
//! bundle, the table of radio channels, busybox's links. The index of kernel modules (depmod's) is made by `apply`, as it
//! takes a program.

use crate::decide::modules::Closure;
use crate::tree::{Blob, Tree};
use bakelite_spec::appliance::Payload;
use bakelite_spec::manifest::PayloadManifest;
use std::collections::BTreeSet;
use std::io;

/// Folders of packages that no appliance needs: documentation, locales, other inits, package management, boot files.
const DROPPED: &[&str] = &[
    "boot",
    "etc/apt",
    "etc/cron.d",
    "etc/cron.daily",
    "etc/cron.weekly",
    "etc/default",
    "etc/dhcp",
    "etc/init.d",
    "etc/kernel",
    "etc/logrotate.d",
    "etc/modprobe.d",
    "etc/network",
    "etc/NetworkManager",
    "etc/ppp",
    "etc/resolvconf",
    "etc/ucf.conf",
    "usr/include",
    "usr/lib/NetworkManager",
    "usr/lib/locale",
    "usr/lib/shim",
    "usr/lib/systemd",
    "usr/lib/sysusers.d",
    "usr/lib/tmpfiles.d",
    "usr/lib/udev",
    "usr/share",
    "var",
];

/// What of the dropped folders stays all the same.
const KEPT: &[&str] = &["etc/modprobe.d/dhcpcd"];

/// The busybox applets that get a link where no package brings the program.
const APPLETS: &[&str] = &[
    "arping",
    "ash",
    "awk",
    "basename",
    "cat",
    "chmod",
    "chown",
    "clear",
    "cmp",
    "cp",
    "cut",
    "date",
    "dd",
    "df",
    "diff",
    "dirname",
    "dmesg",
    "du",
    "echo",
    "egrep",
    "env",
    "expr",
    "false",
    "fdisk",
    "fgrep",
    "find",
    "free",
    "getty",
    "grep",
    "gunzip",
    "gzip",
    "halt",
    "head",
    "hexdump",
    "hostname",
    "id",
    "ifconfig",
    "ip",
    "kill",
    "killall",
    "less",
    "link",
    "ln",
    "losetup",
    "ls",
    "md5sum",
    "mkdir",
    "mkfifo",
    "mknod",
    "mkswap",
    "mktemp",
    "more",
    "mount",
    "mv",
    "nc",
    "netstat",
    "nslookup",
    "od",
    "pidof",
    "ping",
    "ping6",
    "poweroff",
    "printf",
    "ps",
    "pwd",
    "readlink",
    "realpath",
    "reboot",
    "reset",
    "rm",
    "rmdir",
    "route",
    "sed",
    "seq",
    "setsid",
    "sh",
    "sha256sum",
    "sleep",
    "sort",
    "stat",
    "stty",
    "swapoff",
    "swapon",
    "sync",
    "tail",
    "tar",
    "tee",
    "telnet",
    "test",
    "time",
    "timeout",
    "top",
    "touch",
    "tr",
    "traceroute",
    "true",
    "tty",
    "umount",
    "uname",
    "uniq",
    "uptime",
    "vi",
    "watch",
    "wc",
    "wget",
    "which",
    "whoami",
    "xargs",
    "xz",
    "xzcat",
    "yes",
    "zcat",
];

/// Empty folders that things are mounted on.
const MOUNT_POINTS: &[&str] = &[
    "boot",
    "data",
    "dev",
    "disk",
    "etc/rancher",
    "mnt",
    "opt",
    "proc",
    "root",
    "run",
    "srv",
    "state",
    "sys",
    "tmp",
    "var",
];

/// Files that change while the machine runs live in /run; here are their links.
const LINKS: &[(&str, &str)] = &[
    ("bin", "usr/bin"),
    ("lib", "usr/lib"),
    ("lib64", "usr/lib64"),
    ("sbin", "usr/sbin"),
    ("etc/hostname", "/run/bakelite/hostname"),
    ("etc/hosts", "/run/bakelite/hosts"),
    ("etc/machine-id", "/run/bakelite/machine-id"),
    ("etc/mtab", "/proc/self/mounts"),
    ("etc/resolv.conf", "/run/bakelite/resolv.conf"),
    ("etc/dropbear", "/var/lib/dropbear"),
    ("usr/bin/bakelite", "/usr/lib/bakelite/firstboot"),
    ("root/.ssh/authorized_keys", "/run/bakelite/authorized_keys"),
];

const PASSWD: &str = "\
root:*:0:0:root:/root:/bin/sh
dhcpcd:*:101:65534:DHCP client:/usr/lib/dhcpcd:/bin/false
_chrony:*:102:102:Chrony daemon:/var/lib/chrony:/bin/false
nobody:*:65534:65534:nobody:/nonexistent:/bin/false
";
const GROUP: &str = "root:*:0:\ntty:*:5:\ndisk:*:6:\n_chrony:*:102:\nnogroup:*:65534:\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n";
const PROFILE: &str = "\
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin
export KUBECONFIG=/etc/rancher/k3s/k3s.yaml
export PS1='\\h:\\w\\$ '
";

/// Where a package's member goes: with /usr merged, as Debian's base system has it.
pub fn merged(path: &str) -> String {
    let top = path.split('/').next().unwrap_or_default();
    if matches!(top, "bin" | "sbin" | "lib" | "lib32" | "lib64" | "libx32") {
        format!("usr/{path}")
    } else {
        path.into()
    }
}

/// Where firmware lies.
const FIRMWARE: &str = "usr/lib/firmware/";

/// What of /usr/share even a package that a person asked for has no use for on an appliance.
const DROPPED_SHARED: &[&str] = &["bug", "doc", "doc-base", "info", "lintian", "locale", "man", "menu"];

/// The table of radio channels by country and its signature: cfg80211 asks for them, without its module saying so. The
/// package brings two of each; its script links Debian's own into place.
const REGULATORY: [&str; 2] = ["regulatory.db", "regulatory.db.p7s"];
/// What Debian's own are called.
const DEBIANS: &str = "-debian";

/// Takes away what no appliance needs; modules and firmware stay only as far as they are in the closure.
///
/// `keeps_shared` keeps most of /usr/share, without which a person's own packages may not run. What is in `boot` is only
/// read by what starts the kernel, and has its place on the boot partition. Gives the firmware that is asked for and that
/// no package brought.
pub fn prune(tree: &mut Tree, closure: &Closure, keeps_shared: bool, boot: &[String]) -> Vec<String> {
    let below = |path: &str, folder: &str| {
        path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let firmware = |path: &str| path.strip_prefix(FIRMWARE).map(str::to_string);
    let gconv =
        |path: &str| path.split('/').any(|part| matches!(part, "gconv" | "audit" | "engines-3" | "ossl-modules"));
    let regulatory = |name: &str| name.strip_suffix(DEBIANS).is_some_and(|table| REGULATORY.contains(&table));
    let wanted_firmware =
        |name: &str| regulatory(name) || closure.firmware.iter().any(|wanted| wanted_by(wanted, name));
    tree.retain(|path, _| {
        if boot.iter().any(|folder| below(path, folder)) {
            return false;
        }
        if path.starts_with("usr/lib/modules/") {
            return closure.paths.contains(path) || path.rsplit('/').next().is_some_and(is_index_source);
        }
        if let Some(name) = firmware(path) {
            return wanted_firmware(&name);
        }
        let shared = path.strip_prefix("usr/share/").filter(|_| keeps_shared);
        KEPT.iter().any(|kept| below(path, kept))
            || shared.is_some_and(|path| !DROPPED_SHARED.iter().any(|dropped| below(path, dropped)))
            || !(DROPPED.iter().any(|dropped| below(path, dropped)) || gconv(path))
    });
    let brought = tree.entries().filter_map(|(path, _)| path.strip_prefix(FIRMWARE));
    missing_firmware(brought, &closure.firmware)
}

/// What of the wanted firmware isn't among what was brought.
pub fn missing_firmware<'a>(brought: impl Iterator<Item = &'a str>, wanted: &BTreeSet<String>) -> Vec<String> {
    let brought: Vec<&str> = brought.collect();
    wanted.iter().filter(|wanted| !brought.iter().any(|name| wanted_by(wanted, name))).cloned().collect()
}

/// Whether a module's wish (which may end in a pattern) means a file (which may be compressed).
fn wanted_by(wanted: &str, name: &str) -> bool {
    let plain = name.strip_suffix(".xz").or_else(|| name.strip_suffix(".zst")).unwrap_or(name);
    match wanted.split_once('*') {
        Some((start, end)) => {
            plain.starts_with(start) && plain.ends_with(end) && plain.len() >= start.len() + end.len()
        }
        None => plain == wanted,
    }
}

/// What the kernel package itself brings of the index; depmod makes the rest from it.
fn is_index_source(file: &str) -> bool {
    matches!(file, "modules.order" | "modules.builtin" | "modules.builtin.modinfo")
}

/// Does what maintainer scripts would have done, and what makes a root of the pile of files.
///
/// # Errors
/// When a CA certificate can't be read.
pub fn complete(tree: &mut Tree, certificates: &[(String, Blob)], version: &str) -> io::Result<()> {
    for path in MOUNT_POINTS {
        tree.folder(path);
    }
    for (path, target) in LINKS {
        tree.link(path, target);
    }
    for applet in APPLETS {
        let taken = ["usr/bin", "usr/sbin"].iter().any(|folder| tree.get(&format!("{folder}/{applet}")).is_some());
        if !taken {
            tree.link(&format!("usr/bin/{applet}"), "busybox");
        }
    }
    for table in REGULATORY {
        let target = format!("{table}{DEBIANS}");
        if tree.get(&format!("{FIRMWARE}{target}")).is_some() {
            tree.link(&format!("{FIRMWARE}{table}"), &target);
        }
    }
    let mut bundle = Vec::new();
    for (_, certificate) in certificates {
        bundle.extend(certificate.read()?);
        if !bundle.ends_with(b"\n") {
            bundle.push(b'\n');
        }
    }
    tree.file("etc/ssl/certs/ca-certificates.crt", 0o644, bundle);
    tree.file("etc/passwd", 0o644, PASSWD);
    tree.file("etc/group", 0o644, GROUP);
    tree.file("etc/nsswitch.conf", 0o644, NSSWITCH);
    tree.file("etc/profile", 0o644, PROFILE);
    tree.file("etc/shells", 0o644, "/bin/sh\n");
    let release = format!(
        "ID=bakelite\nID_LIKE=debian\nNAME=Bakelite\nVERSION_ID={version}\nPRETTY_NAME=\"Bakelite {version}\"\n"
    );
    tree.file("etc/os-release", 0o644, release);
    Ok(())
}

/// The CA certificates of the packages, in the order of their names. Read before [`prune`] takes them away.
pub fn certificates(tree: &Tree) -> Vec<(String, Blob)> {
    tree.entries()
        .filter(|(path, _)| path.starts_with("usr/share/ca-certificates/") && path.ends_with(".crt"))
        .filter_map(|(path, _)| Some((path.to_string(), tree.blob(path)?.clone())))
        .collect()
}

/// Puts the payload in, with the operator's commands on the PATH.
pub fn add_payload(tree: &mut Tree, payload: &PayloadManifest, blobs: &[Blob]) {
    for (file, blob) in payload.files.iter().zip(blobs) {
        let mode = if file.path == payload.program { 0o755 } else { 0o644 };
        tree.file(file.path.trim_start_matches('/'), mode, blob.clone());
    }
    let own = match payload.kind {
        Payload::Official => "k3s",
        Payload::Rehearsal => "rehearsal-k3s",
        Payload::None => return,
    };
    for name in [own, "kubectl", "crictl", "ctr"] {
        tree.link(&format!("usr/local/bin/{name}"), &payload.program);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usr_is_merged() {
        assert_eq!(merged("lib64/ld-linux-x86-64.so.2"), "usr/lib64/ld-linux-x86-64.so.2");
        assert_eq!(merged("sbin/modprobe"), "usr/sbin/modprobe");
        assert_eq!(merged("libexec/x"), "libexec/x");
        assert_eq!(merged("etc/passwd"), "etc/passwd");
    }

    #[test]
    fn firmware_stays_by_what_modules_ask_for() {
        let mut tree = Tree::default();
        for path in [
            "usr/lib/firmware/nic/a.fw.xz",
            "usr/lib/firmware/nic/b.fw",
            "usr/lib/firmware/tigon/tg3.bin",
            "usr/lib/firmware/regulatory.db-debian",
            "usr/lib/firmware/regulatory.db-upstream",
            "usr/share/doc/x",
            "usr/bin/x",
        ] {
            tree.file(path, 0o644, b"x".to_vec());
        }
        let firmware = ["nic/a.fw", "tigon/*.bin", "nic/absent.fw"].map(String::from).into();
        let missing = prune(&mut tree, &Closure { firmware, ..Closure::default() }, false, &[]);
        assert_eq!(missing, ["nic/absent.fw"]);
        assert!(
            tree.get("usr/lib/firmware/nic/a.fw.xz").is_some() && tree.get("usr/lib/firmware/tigon/tg3.bin").is_some()
        );
        assert!(tree.get("usr/lib/firmware/nic/b.fw").is_none() && tree.get("usr/share/doc").is_none());
        assert!(tree.get("usr/bin/x").is_some());
        complete(&mut tree, &[], "0").unwrap();
        let radio = tree.entries().filter_map(|(path, _)| path.strip_prefix("usr/lib/firmware/reg"));
        assert_eq!(radio.collect::<Vec<_>>(), ["ulatory.db", "ulatory.db-debian"]);
        let mut tree = Tree::default();
        tree.file("usr/share/doc/x", 0o644, b"x".to_vec());
        tree.file("usr/share/till/x", 0o644, b"x".to_vec());
        tree.file("usr/include/x.h", 0o644, b"x".to_vec());
        tree.file("usr/lib/trees/x.dtb", 0o644, b"x".to_vec());
        prune(&mut tree, &Closure::default(), true, &["usr/lib/trees".into()]);
        let paths: Vec<_> = tree.entries().map(|(path, _)| path).collect();
        assert_eq!(paths, ["usr", "usr/lib", "usr/share", "usr/share/till", "usr/share/till/x"]);
    }
}
