//! The table of keys: each key a person may write, its type, range, default and meaning.
//!
//! One table serves four: the check of a YAML file, `bakelite explain`, the JSON schemas that editors use, and the
//! defaults of the typed [`crate::appliance::Appliance`]. A key that is not here does not exist.

use crate::quantity::{Seconds, Size};
use serde_json::Value;

/// What a scalar text has to look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Anything but an empty text.
    Any,
    /// The name of a board: lower-case letters, digits, `-` and `_`.
    BoardName,
    /// A host name with placeholders such as `{serial}`; RFC 1123 letters else.
    HostnamePattern,
    /// An official k3s release, such as `v1.36.2+k3s1`.
    K3sVersion,
    /// One line of an `authorized_keys` file.
    SshKey,
    /// `ed25519:` and 43 letters of unpadded base64 (32 bytes).
    OwnerKey,
    /// An age recipient, `age1…`.
    AgeRecipient,
    /// A MAC address, six pairs of hexadecimal digits with colons.
    Mac,
    /// An address with its prefix length, such as `192.168.1.10/24`.
    Cidr,
    /// An IPv4 or IPv6 address.
    Address,
    /// A host name or an address, as time servers are given.
    Host,
    /// A Debian package name.
    Package,
    /// An `http://`, `https://` or `file://` address, or a folder.
    Mirror,
}

/// The type of a key's value.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A mapping whose keys are in this table.
    Section,
    /// A text of the given form.
    Text(Form),
    /// `true` or `false`.
    Flag,
    /// A number of bytes between two bounds, both included.
    Size(Size, Size),
    /// A duration between two bounds, both included.
    Duration(Seconds, Seconds),
    /// One of some words.
    Choice(&'static [&'static str]),
    /// A list of scalars.
    List(&'static Kind),
    /// A list of sections; their keys stand in the table as `path[].key`.
    Records,
    /// A mapping that is handed on as it is.
    Free,
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The dotted path; `[]` stands for an entry of a list.
    pub path: &'static str,
    /// The type of its value.
    pub kind: Kind,
    /// The default as JSON text; empty when there is none (a section, or a value that may stay out).
    pub default: &'static str,
    /// Whether the file is of no use without it.
    pub required: bool,
    /// What it means, for a person, in one or two sentences.
    pub meaning: &'static str,
}

const fn key(path: &'static str, kind: Kind, default: &'static str, meaning: &'static str) -> Key {
    Key { path, kind, default, required: false, meaning }
}

const fn required(path: &'static str, kind: Kind, meaning: &'static str) -> Key {
    Key { path, kind, default: "", required: true, meaning }
}

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The keys of an appliance.
pub const APPLIANCE: &[Key] = &[
    required(
        "board",
        Kind::Text(Form::BoardName),
        "The board to bake for: a name from board-configs, such as `generic-x86_64`.",
    ),
    key(
        "hostname",
        Kind::Text(Form::HostnamePattern),
        "\"bakelite-{serial}\"",
        "The node's name. `{serial}` is the machine's serial number (the first network card's MAC where the firmware gives a useless one), `{mac}` that MAC, `{board}` the board.",
    ),
    key(
        "debug",
        Kind::Flag,
        "false",
        "A root shell on the serial console, for a bench. The image shows it loudly; never ship it.",
    ),
    key(
        "mirror",
        Kind::Text(Form::Mirror),
        "",
        "Debian's mirror for the build. Without it: the BAKELITE_MIRROR environment variable, else the host's own apt sources.",
    ),
    key(
        "without",
        Kind::List(&Kind::Text(Form::Package)),
        "[]",
        "Debian packages to leave out although others depend on them, besides those that the workshop leaves out by itself.",
    ),
    key(
        "k3s",
        Kind::Section,
        "",
        "The payload. `k3s: v1.36.2+k3s1` is short for `k3s.version`, `k3s: rehearsal` and `k3s: none` are short for `k3s.payload`.",
    ),
    key(
        "k3s.payload",
        Kind::Choice(&["official", "rehearsal", "none"]),
        "\"official\"",
        "`official`: k3s's own release files. `rehearsal`: a small stand-in that keeps k3s's outer contract, for trying things out. `none`: no workload at all.",
    ),
    key(
        "k3s.version",
        Kind::Text(Form::K3sVersion),
        "\"v1.36.2+k3s1\"",
        "The k3s release to fetch from its official site.",
    ),
    key(
        "k3s.files",
        Kind::Text(Form::Any),
        "",
        "A folder with the release's own files (binary, air-gap images, sha256sum list), used in place of the official site.",
    ),
    key("k3s.config", Kind::Free, "{}", "Keys for k3s's config.yaml; they win over what the appliance would choose."),
    key("ssh", Kind::Section, "", "Access by ssh: keys only; without a key no ssh server runs."),
    key("ssh.keys", Kind::List(&Kind::Text(Form::SshKey)), "[]", "Public keys that may log in as root."),
    key("network", Kind::Section, "", "Wired links and name servers. Without any entry each link asks by DHCP."),
    key(
        "network.wait",
        Kind::Duration(Seconds(0), Seconds(300)),
        "15",
        "How long the start of k3s waits for an address while a link has a carrier. Without a carrier it waits no longer than one takes to appear, 5 s.",
    ),
    key(
        "network.dns",
        Kind::List(&Kind::Text(Form::Address)),
        "[]",
        "Name servers, in place of those that DHCP gives.",
    ),
    key("network.links", Kind::Records, "[]", "Links with settings of their own; every other link asks by DHCP."),
    key("network.links[].mac", Kind::Text(Form::Mac), "", "The link, by its MAC address."),
    key(
        "network.links[].path",
        Kind::Text(Form::Any),
        "",
        "The link, by the place of its device below /sys/devices, such as `pci0000:00/0000:00:02.0`.",
    ),
    key(
        "network.links[].dhcp",
        Kind::Flag,
        "true",
        "Whether the link asks by DHCP; `false` with no address leaves it alone.",
    ),
    key(
        "network.links[].address",
        Kind::Text(Form::Cidr),
        "",
        "A static address with its prefix length; turns DHCP off on this link.",
    ),
    key("network.links[].gateway", Kind::Text(Form::Address), "", "The default gateway of a static link."),
    key("network.links[].dns", Kind::List(&Kind::Text(Form::Address)), "[]", "Name servers of a static link."),
    key("time", Kind::Section, "", "The clock."),
    key(
        "time.servers",
        Kind::List(&Kind::Text(Form::Host)),
        "[\"2.debian.pool.ntp.org\"]",
        "NTP servers; an empty list turns time synchronisation off.",
    ),
    key("memory", Kind::Section, "", "How the machine's memory is used."),
    key(
        "memory.zram",
        Kind::Choice(&["auto", "off"]),
        "\"auto\"",
        "Compressed swap in memory: `auto` gives half of it below 1.5 GiB, a quarter below 3 GiB, none above.",
    ),
    key("storage", Kind::Section, "", "The data disk: an SSD that holds k3s's state in place of the card."),
    key(
        "storage.claim",
        Kind::Choice(&["blank", "empty-filesystem", "any"]),
        "\"blank\"",
        "Which disk may be made the data disk: `blank`: one that holds nothing at all. `empty-filesystem`: also one with a single FAT, exFAT or NTFS without a file, as shops sell them. `any`: the only disk of a preferred kind, whatever is on it; everything on it is lost.",
    ),
    key(
        "storage.prefer",
        Kind::List(&Kind::Choice(&["nvme", "sata", "virtio", "usb", "emmc", "sd"])),
        "[\"nvme\", \"sata\", \"virtio\", \"usb\"]",
        "The kinds of disk to use, the best one first. A kind that isn't listed is never used.",
    ),
    key(
        "storage.min-size",
        Kind::Size(Size(GIB), Size(64 * 1024 * GIB)),
        "8589934592",
        "A smaller disk is never made the data disk.",
    ),
    key(
        "storage.serial",
        Kind::Text(Form::Any),
        "",
        "The serial number or world-wide name of the one disk to use, whatever is on it; everything on it is lost.",
    ),
    key(
        "storage.without-disk",
        Kind::Choice(&["wait", "run-on-card"]),
        "",
        "What happens without a data disk. `wait`: k3s isn't started. `run-on-card`: it runs on the boot medium. Without a word here a machine that never had a data disk runs on the card, and one whose cluster lives on a disk waits for it.",
    ),
    key(
        "storage.settle",
        Kind::Duration(Seconds(0), Seconds(45)),
        "15",
        "How long no disk may have come or gone before a blank one is taken, a known one is called missing, or a new machine gets its identity. Network and ssh don't wait for it.",
    ),
    key("image", Kind::Section, "", "The shape of the image."),
    key(
        "image.slot-size",
        Kind::Size(Size(64 * MIB), Size(64 * GIB)),
        "",
        "The size of each of the two system partitions, which can never grow later. Without it: twice the content, at least 1 GiB.",
    ),
    key("owner", Kind::Section, "", "Whose machines these are."),
    key(
        "owner.keys",
        Kind::List(&Kind::Text(Form::OwnerKey)),
        "[]",
        "Public keys against which grants, recovery sticks and updates are checked. `bakelite new` makes one.",
    ),
    key("backup", Kind::Section, "", "Backups of the cluster."),
    key(
        "backup.recipients",
        Kind::List(&Kind::Text(Form::AgeRecipient)),
        "[]",
        "Who can open a backup. `bakelite new` makes one; its private half stays with you.",
    ),
];

/// The keys of a board.
pub const BOARD: &[Key] = &[
    required("description", Kind::Text(Form::Any), "What the board is, in a few words."),
    required("arch", Kind::Choice(&["x86_64", "aarch64", "armv7"]), "The processor architecture."),
    key("boot", Kind::Section, "", "How the board starts."),
    key(
        "boot.flow",
        Kind::Choice(&["uefi"]),
        "\"uefi\"",
        "`uefi`: shim and signed systemd-boot with counted entries on a GPT disk.",
    ),
    key("kernel", Kind::Section, "", "The kernel."),
    required(
        "kernel.package",
        Kind::Text(Form::Package),
        "The Debian package that stands for the kernel; a metapackage is followed to the real one.",
    ),
    key(
        "packages",
        Kind::List(&Kind::Text(Form::Package)),
        "[]",
        "Debian packages this board needs besides the common ones, such as firmware and microcode.",
    ),
    key("modules", Kind::Section, "", "Kernel modules, by the names of sets in module-sets.yaml."),
    key("modules.root", Kind::List(&Kind::Text(Form::Any)), "[]", "Sets that the running system can load."),
    key(
        "modules.initramfs",
        Kind::List(&Kind::Text(Form::Any)),
        "[]",
        "Sets that are needed to find the system partition.",
    ),
    key("cmdline", Kind::List(&Kind::Text(Form::Any)), "[]", "Kernel arguments, such as the consoles."),
    key("console", Kind::Section, "", "Where the machine speaks."),
    key(
        "console.shell",
        Kind::Text(Form::Any),
        "",
        "The serial device that gets a root shell with `debug: true`, such as `ttyS0`.",
    ),
    key(
        "console.events",
        Kind::Text(Form::Any),
        "",
        "The serial device that gets events as JSON lines, if it is there.",
    ),
    key(
        "watchdog",
        Kind::Duration(Seconds(0), Seconds(600)),
        "60",
        "The hardware watchdog's time-out, if there is a watchdog; 0 leaves it alone.",
    ),
    key("qemu", Kind::Section, "", "How QEMU shows this board; a board without it can't be run in QEMU."),
    key("qemu.machine", Kind::Text(Form::Any), "", "QEMU's -machine."),
    key("qemu.cpu", Kind::Text(Form::Any), "\"max\"", "QEMU's -cpu."),
    key("defaults", Kind::Free, "{}", "Keys of an appliance whose defaults this board changes."),
];

/// Finds the entry of a path with its indices written as `[]`.
pub fn find<'a>(table: &'a [Key], path: &str) -> Option<&'a Key> {
    table.iter().find(|key| key.path == path)
}

/// The last names of the keys directly below a section; the empty path is the top.
pub fn children<'a>(table: &'a [Key], section: &'a str) -> impl Iterator<Item = (&'a str, &'a Key)> {
    table.iter().filter_map(move |key| {
        let name = match section {
            "" => key.path,
            _ => key.path.strip_prefix(section)?.strip_prefix('.')?,
        };
        (!name.contains(['.', '[']) && !name.is_empty()).then_some((name, key))
    })
}

/// The layer of defaults: a mapping with the default of each key that has one (entries of lists apart).
pub fn defaults(table: &[Key]) -> Value {
    fn section(table: &[Key], path: &str) -> Value {
        let mut map = serde_json::Map::new();
        for (name, key) in children(table, path) {
            if matches!(key.kind, Kind::Section) {
                map.insert(name.into(), section(table, key.path));
            } else if let Ok(value) = serde_json::from_str(key.default) {
                map.insert(name.into(), value);
            }
        }
        Value::Object(map)
    }
    section(table, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_section_a_meaning_and_a_default_that_is_json() {
        for table in [APPLIANCE, BOARD] {
            for key in table {
                assert!(key.meaning.ends_with('.'), "{}: the meaning is a sentence", key.path);
                assert!(key.default.is_empty() || serde_json::from_str::<Value>(key.default).is_ok(), "{}", key.path);
                if let Some((parent, _)) = key.path.rsplit_once('.') {
                    let parent = parent.trim_end_matches("[]");
                    assert!(find(table, parent).is_some(), "{} stands in no section", key.path);
                }
                assert_eq!(table.iter().filter(|other| other.path == key.path).count(), 1, "{} twice", key.path);
            }
        }
    }
}
