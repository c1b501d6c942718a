//! The table of keys: each key a person may write, its type, range, default and meaning.
//!
//! One table serves four: the check of a YAML file, `bakelite explain`, the JSON schemas that editors use, and the
//! defaults of the typed [`crate::appliance::Appliance`]. A key that is not here does not exist.

use crate::quantity::{Seconds, Size};

mod board;
mod kind;
mod lookup;
pub use board::BOARD;
pub use kind::{Form, Kind};
pub use lookup::{children, defaults, find};

/// A section for which a text may stand, and the key that the text is then meant for.
pub type ShortForm = (&'static str, fn(&str) -> &'static str);

/// All sections that have a short form.
pub const SHORT_FORMS: &[ShortForm] = &[
    ("board", |_| "name"),
    ("firewall", |_| "input"),
    ("k3s", |text| if matches!(text, "rehearsal" | "none") { "payload" } else { "version" }),
];

/// What a board may be used with: sets of modules with their firmware, by their names in module-sets.yaml.
pub const EXTRAS: &[&str] = &["audio", "display", "touch", "usb-serial", "wifi"];

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The dotted path; `[]` stands for an entry of a list, `{}` for one of a mapping with free names.
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

const fn section(path: &'static str, meaning: &'static str) -> Key {
    optional(path, Kind::Section, meaning)
}

/// A key that is off unless somebody switches it on.
const fn flag(path: &'static str, meaning: &'static str) -> Key {
    key(path, Kind::Flag, "false", meaning)
}

/// A key that may be left out, and for which nothing stands then.
const fn optional(path: &'static str, kind: Kind, meaning: &'static str) -> Key {
    key(path, kind, "", meaning)
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
    required("board", Kind::Section, "The board to bake for. `board: NAME` is short for `board.name`."),
    required(
        "board.name",
        Kind::Text(Form::BoardName),
        "The board's name from board-configs, such as `generic-x86_64`.",
    ),
    key(
        "board.with",
        Kind::List(&Kind::Choice(EXTRAS)),
        "[]",
        "What is attached to the board besides disks and network cables: kernel modules with their firmware.",
    ),
    key(
        "board.config-txt",
        Kind::List(&Kind::Text(Form::Any)),
        "[]",
        "Lines behind a Raspberry Pi's config.txt, such as `dtparam=…`. What would change which kernel, device tree or arguments are started is refused.",
    ),
    key(
        "hostname",
        Kind::Text(Form::HostnamePattern),
        "\"bakelite-{serial}\"",
        "The node's name. `{serial}` is the machine's serial number (the first network card's MAC where the firmware gives a useless one), `{mac}` that MAC, `{board}` the board, `{seed.NAME}` what the seed says.",
    ),
    flag("debug", "A root shell on the serial console, for a bench. The image shows it loudly; never ship it."),
    key(
        "console",
        Kind::Choice(&["status", "app", "off"]),
        "\"status\"",
        "What the screen is for. `status`: the status page. `app`: a program of yours has it from Ready on, and the status page comes back with the fault's code when somebody has to act. `off`: it stays dark, unless the machine can't start at all.",
    ),
    optional(
        "mirror",
        Kind::Text(Form::Mirror),
        "Debian's mirror for the build. Without it: the BAKELITE_MIRROR environment variable, else the host's own apt sources.",
    ),
    key(
        "without",
        Kind::List(&Kind::Text(Form::Package)),
        "[]",
        "Debian packages to leave out although others depend on them, besides those that the workshop leaves out by itself.",
    ),
    key(
        "packages",
        Kind::List(&Kind::Text(Form::Package)),
        "[]",
        "Debian packages to add, with all they depend on. They are unpacked, not installed: no script of theirs is run.",
    ),
    key(
        "repositories",
        Kind::Records,
        "[]",
        "APT repositories besides Debian's. What Debian has as well is taken from Debian, unless `prefer` says otherwise.",
    ),
    required("repositories[].name", Kind::Text(Form::Name), "What the lock and messages call it."),
    required("repositories[].url", Kind::Text(Form::Mirror), "Its address: the folder that `dists` lies in."),
    required("repositories[].suite", Kind::Text(Form::Package), "The suite or codename, such as `trixie` or `stable`."),
    key(
        "repositories[].components",
        Kind::List(&Kind::Text(Form::Package)),
        "[\"main\"]",
        "The components to look at.",
    ),
    required(
        "repositories[].key",
        Kind::Text(Form::Any),
        "The file with its public OpenPGP key, armored or binary, relative to this file.",
    ),
    required(
        "repositories[].fingerprint",
        Kind::Text(Form::Fingerprint),
        "The fingerprint of that key, from a place that you trust.",
    ),
    key(
        "repositories[].prefer",
        Kind::List(&Kind::Text(Form::Package)),
        "[]",
        "Packages to take from here although Debian, or a repository before this one, has them.",
    ),
    key(
        "modules",
        Kind::List(&Kind::Text(Form::Module)),
        "[]",
        "Kernel modules, or sets of them from module-sets.yaml, that the running system can load; their firmware comes along, if a package brings it.",
    ),
    section("kernel", "The kernel."),
    key(
        "kernel.cmdline",
        Kind::List(&Kind::Text(Form::KernelArgument)),
        "[]",
        "Arguments for the kernel besides the board's, such as `nomodeset` or `usb-storage.quirks=152d:0578:u`; an argument that is there with another value gets this one.",
    ),
    key("files", Kind::Records, "[]", "Your own files in the system."),
    optional(
        "files[].from",
        Kind::Text(Form::Any),
        "The file to take, relative to this file. References such as `{secret: name}` in a text are filled in on the device.",
    ),
    optional(
        "files[].text",
        Kind::Text(Form::Argument),
        "The text itself, in place of `from`. References such as `{secret: name}` in it are filled in on the device.",
    ),
    required(
        "files[].to",
        Kind::Text(Form::DevicePath),
        "Where it goes: an absolute path, such as `/etc/shop/till.conf`.",
    ),
    key("files[].mode", Kind::Text(Form::Mode), "\"0644\"", "Permission bits, in quotes."),
    key("files[].owner", Kind::Number(0, 65_534), "0", "The owner's number; 0 is root."),
    key("files[].group", Kind::Number(0, 65_534), "0", "The group's number; 0 is root's."),
    optional("files[].sha256", Kind::Text(Form::Sum), "The file's sum; a file with another one is refused."),
    key("units", Kind::Records, "[]", "Your own programs, started and kept running by init."),
    required("units[].name", Kind::Text(Form::Name), "The unit's name, unique in the machine."),
    required(
        "units[].command",
        Kind::List(&Kind::Text(Form::Argument)),
        "The program by its absolute path, and its arguments.",
    ),
    key(
        "units[].environment",
        Kind::Map(&Kind::Text(Form::Argument)),
        "{}",
        "Environment variables. Secrets don't belong here: every program can read them; use `files`.",
    ),
    key(
        "units[].after",
        Kind::List(&Kind::Text(Form::Name)),
        "[\"early\"]",
        "Units that must be there first: `early` (settings), `network`, `time`, `settle`, `k3s`, or one of yours.",
    ),
    key(
        "units[].kind",
        Kind::Choice(&["service", "oneshot"]),
        "\"service\"",
        "`service`: kept running, and started again when it ends, after 5, 10, 20, 40, then 60 s. `oneshot`: ends by itself, with exit status 0.",
    ),
    key(
        "units[].ready",
        Kind::Choice(&["started", "notify"]),
        "\"started\"",
        "When others may start after it: as soon as it runs, or when it says READY=1 to NOTIFY_SOCKET.",
    ),
    key("units[].stop", Kind::Duration(Seconds(1), Seconds(120)), "10", "How long it gets from SIGTERM to SIGKILL."),
    key(
        "trust",
        Kind::List(&Kind::Text(Form::Any)),
        "[]",
        "Files with certificates (PEM) of authorities that the machine trusts besides the public ones, such as a company's own.",
    ),
    key(
        "images",
        Kind::List(&Kind::Text(Form::Any)),
        "[]",
        "Archives of container images, as `docker save` or an OCI layout, plain or compressed with gzip or zstd. k3s imports them without a network.",
    ),
    key(
        "manifests",
        Kind::List(&Kind::Text(Form::Any)),
        "[]",
        "Kubernetes manifests, files or folders of them, which k3s deploys at its start. A secret value is `{secret: name}`, without quotes.",
    ),
    key(
        "charts",
        Kind::List(&Kind::Text(Form::Any)),
        "[]",
        "Helm charts (.tgz), served by k3s itself; a HelmChart manifest names one as `https://%{KUBERNETES_API}%/static/charts/FILE.tgz`.",
    ),
    section("registries", "Mirrors and logins of container registries, as in k3s's registries.yaml."),
    key(
        "registries.mirrors",
        Kind::Named,
        "{}",
        "Where images of a registry come from, by its name; `\"*\"` means all.",
    ),
    key(
        "registries.mirrors{}.endpoint",
        Kind::List(&Kind::Text(Form::Any)),
        "[]",
        "Addresses that are tried in this order.",
    ),
    key(
        "registries.mirrors{}.rewrite",
        Kind::Map(&Kind::Text(Form::Any)),
        "{}",
        "Patterns of image names, and what they become at the mirror.",
    ),
    key("registries.configs", Kind::Named, "{}", "Logins and certificates, by the registry's host and port."),
    section("registries.configs{}.auth", "The login."),
    optional("registries.configs{}.auth.username", Kind::Text(Form::Any), "The user's name."),
    optional("registries.configs{}.auth.password", Kind::Secret, "The password, as `{secret: name}`."),
    optional("registries.configs{}.auth.token", Kind::Secret, "The token, as `{secret: name}`."),
    section("registries.configs{}.tls", "Certificates, by their paths on the device."),
    optional("registries.configs{}.tls.ca_file", Kind::Text(Form::DevicePath), "The authority's certificate."),
    optional("registries.configs{}.tls.cert_file", Kind::Text(Form::DevicePath), "This machine's certificate."),
    optional("registries.configs{}.tls.key_file", Kind::Text(Form::DevicePath), "The key of that certificate."),
    flag("registries.configs{}.tls.insecure_skip_verify", "Whether any certificate is believed."),
    section(
        "k3s",
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
    optional(
        "k3s.files",
        Kind::Text(Form::Any),
        "A folder with the release's own files (binary, air-gap images, sha256sum list), used in place of the official site.",
    ),
    flag(
        "k3s.airgap",
        "The machine never has a network to pull images from: an image that a manifest names and no archive holds is an error, not a warning.",
    ),
    key(
        "k3s.role",
        Kind::Choice(&["server", "agent"]),
        "\"server\"",
        "`server`: control plane and workloads. `agent`: workloads only; it joins the server that `k3s.server` names.",
    ),
    optional(
        "k3s.server",
        Kind::Text(Form::K3sServer),
        "The server to join, such as `https://192.168.1.100:6443`. Needs `k3s.token`.",
    ),
    optional(
        "k3s.token",
        Kind::Secret,
        "The token of the cluster to join, or of the one to found. Without it a machine that founds a cluster makes its own.",
    ),
    flag("k3s.cluster-init", "Founds a cluster of several servers, with etcd in place of SQLite. It needs an SSD."),
    flag(
        "k3s.agents",
        "Other machines join this server as agents: it then goes on looking after them as often as k3s does by itself.",
    ),
    key(
        "k3s.tier",
        Kind::Choice(&["auto", "512M", "1G", "2G", "4G"]),
        "\"auto\"",
        "For how much memory k3s is tuned: its components, limits of requests, reservations, evictions. `auto`: by the machine's memory.",
    ),
    key(
        "k3s.quiet",
        Kind::Choice(&["auto", "off"]),
        "\"auto\"",
        "`auto`: the only server of a cluster is kept from writing 1.6 GB a day while idle; it writes 0.1. `off`: k3s's own settings.",
    ),
    flag(
        "k3s.hardened",
        "No anonymous requests, an audit log of who changed what for 30 days, and a kubelet that insists on the kernel's settings.",
    ),
    key(
        "k3s.kubelet",
        Kind::Free,
        "{}",
        "Keys of a KubeletConfiguration, such as `nodeStatusUpdateFrequency: 20s`; they win over what the appliance would choose.",
    ),
    key("k3s.config", Kind::Free, "{}", "Keys for k3s's config.yaml; they win over what the appliance would choose."),
    section("ssh", "Access by ssh: keys only; without a key no ssh server runs."),
    key("ssh.keys", Kind::List(&Kind::Text(Form::SshKey)), "[]", "Public keys that may log in as root."),
    section("network", "Wired links and name servers. Without any entry each link asks by DHCP."),
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
    key(
        "network.hosts",
        Kind::Map(&Kind::Text(Form::Address)),
        "{}",
        "Names that no name server knows, with their addresses, such as `registry.shop.lan: 192.168.1.5`; for the machine and k3s, not for pods.",
    ),
    key("network.links", Kind::Records, "[]", "Links with settings of their own; every other link asks by DHCP."),
    optional("network.links[].mac", Kind::Text(Form::Mac), "The link, by its MAC address."),
    optional(
        "network.links[].path",
        Kind::Text(Form::Any),
        "The link, by the place of its device below /sys/devices, such as `pci0000:00/0000:00:02.0`.",
    ),
    key(
        "network.links[].dhcp",
        Kind::Flag,
        "true",
        "Whether the link asks by DHCP; `false` with no address leaves it alone.",
    ),
    optional(
        "network.links[].address",
        Kind::Text(Form::Cidr),
        "A static address with its prefix length; turns DHCP off on this link.",
    ),
    optional("network.links[].gateway", Kind::Text(Form::Address), "The default gateway of a static link."),
    key("network.links[].dns", Kind::List(&Kind::Text(Form::Address)), "[]", "Name servers of a static link."),
    section(
        "wifi",
        "The wireless network, joined besides the wired links by the radio that `board.with: [wifi]` brings modules and firmware for.",
    ),
    optional(
        "wifi.country",
        Kind::Text(Form::Country),
        "The country that the machine stands in: its law says which channels may be used, and how loud.",
    ),
    optional(
        "wifi.ssid",
        Kind::SecretOr(Form::Ssid),
        "The network's name, or `{secret: name}`, such as `{seed: wifi-name}` where each machine has another one.",
    ),
    optional(
        "wifi.password",
        Kind::Secret,
        "Its password (WPA2 or WPA3), as `{secret: name}` or `{seed: name}`. Without it the network is an open one.",
    ),
    flag("wifi.hidden", "Whether the network doesn't tell its name, and is asked for by it."),
    section(
        "firewall",
        "Who may reach the machine itself. What pods publish (NodePorts, host ports, load balancers) is reachable as Kubernetes says. `firewall: open` is short for `firewall.input: open`.",
    ),
    key(
        "firewall.input",
        Kind::Choice(&["closed", "open"]),
        "\"closed\"",
        "`closed`: only what the keys beside it name comes in. `open`: there is no firewall.",
    ),
    key(
        "firewall.ssh",
        Kind::List(&Kind::Text(Form::Network)),
        "[\"0.0.0.0/0\", \"::/0\"]",
        "Where ssh may come from; by default from anywhere, as it takes keys only and a machine that nobody reaches can't be helped.",
    ),
    key(
        "firewall.api",
        Kind::List(&Kind::Text(Form::Network)),
        "[\"10.0.0.0/8\", \"100.64.0.0/10\", \"172.16.0.0/12\", \"192.168.0.0/16\", \"fc00::/7\", \"fe80::/10\"]",
        "Where kubectl and others may reach a server's API (6443) from; by default from private networks.",
    ),
    key(
        "firewall.open",
        Kind::List(&Kind::Text(Form::Port)),
        "[]",
        "Ports of programs of your own, and of pods with `hostNetwork`, such as `8080/tcp` or `5000-5100/udp`; from anywhere.",
    ),
    key(
        "firewall.peers",
        Kind::List(&Kind::Text(Form::Network)),
        "[]",
        "The other machines of the cluster: only they reach the pods' network (VXLAN, WireGuard), the kubelet, etcd and the embedded registry.",
    ),
    section(
        "proxy",
        "The way to the world for k3s and containerd. The cluster and the machine's own networks are left out by themselves.",
    ),
    optional(
        "proxy.http",
        Kind::SecretOr(Form::Proxy),
        "For `http://`: an address, or `{secret: name}` where it has a password in it.",
    ),
    optional("proxy.https", Kind::SecretOr(Form::Proxy), "For `https://`, images of containers among it."),
    key(
        "proxy.no-proxy",
        Kind::List(&Kind::Text(Form::NoProxy)),
        "[]",
        "What else is reached without it: hosts, domains such as `.shop.lan`, addresses and networks.",
    ),
    section("time", "The clock."),
    key(
        "time.servers",
        Kind::List(&Kind::Text(Form::Host)),
        "[\"2.debian.pool.ntp.org\"]",
        "NTP servers; an empty list turns time synchronisation off.",
    ),
    key(
        "time.wait",
        Kind::Duration(Seconds(0), Seconds(600)),
        "60",
        "How long the very first start of k3s waits for the network's time on a machine without a clock of its own, while a link has a carrier.",
    ),
    flag("time.required", "Whether that start waits until somebody tells the time, however long, on any machine."),
    section("memory", "How the machine's memory is used."),
    key(
        "memory.zram",
        Kind::Choice(&["auto", "off"]),
        "\"auto\"",
        "Compressed swap in memory: `auto` gives half of it below 1.5 GiB, a quarter below 3 GiB, none above.",
    ),
    section("storage", "The data disk: an SSD that holds k3s's state in place of the card."),
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
    optional(
        "storage.serial",
        Kind::Text(Form::Any),
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
    section("image", "The shape of the image."),
    optional(
        "image.slot-size",
        Kind::Size(Size(64 * MIB), Size(64 * GIB)),
        "The size of each of the two system partitions, which can never grow later. Without it: twice the content, at least 1 GiB.",
    ),
    optional(
        "image.name",
        Kind::Text(Form::Name),
        "What kind of appliance this is. A machine takes no update that has another name.",
    ),
    optional(
        "image.version",
        Kind::Text(Form::Version),
        "The appliance's own version: one to four numbers with dots. A machine takes no update that has a lower one.",
    ),
    section("update", "How a machine takes updates."),
    key(
        "update.patience",
        Kind::Duration(Seconds(180), Seconds(6 * 3600)),
        "900",
        "How long an updated machine may take, from its start, until the boot is a good one. After that it goes back to what ran before.",
    ),
    section("owner", "Whose machines these are."),
    key(
        "owner.keys",
        Kind::List(&Kind::Text(Form::OwnerKey)),
        "[]",
        "Public keys against which grants, recovery sticks and updates are checked. `bakelite new` makes one.",
    ),
    section("backup", "Backups of the cluster."),
    key(
        "backup.every",
        Kind::Text(Form::BackupEvery),
        "\"auto\"",
        "How often the datastore is backed up while k3s runs: `auto` (each hour onto a data disk, each day onto a card), `off`, or a duration.",
    ),
    key(
        "backup.keep",
        Kind::Text(Form::BackupKeep),
        "\"24 hourly, 7 daily, 4 weekly\"",
        "Which backups are kept: the newest of each hour, day and week, a count such as `\"720\"`, or an age such as `7 days`. The newest always is.",
    ),
    optional(
        "backup.target",
        Kind::Text(Form::Label),
        "The label of a file system (FAT, exFAT or ext4) on an attached disk or stick. Whenever it is plugged in, it gets each backup, too, below `bakelite-backup`. Without it nothing is ever written to one.",
    ),
    key(
        "backup.drill",
        Kind::Text(Form::BackupEvery),
        "\"auto\"",
        "How often the newest backup is restored into a scratch folder and checked from end to end: `auto` (each week), `off`, or a duration.",
    ),
    key(
        "backup.volumes",
        Kind::List(&Kind::Text(Form::Claim)),
        "[]",
        "Claims of local-path, `namespace/name`, whose data is part of each backup. It is copied while pods may write to it.",
    ),
    key(
        "backup.recipients",
        Kind::List(&Kind::Text(Form::AgeRecipient)),
        "[]",
        "Who can open a backup besides the machine itself. `bakelite new` makes one; its private half stays with you.",
    ),
    section("backup.pull", "Who may fetch backups over ssh."),
    key(
        "backup.pull.keys",
        Kind::List(&Kind::Text(Form::SshKey)),
        "[]",
        "Public keys that may list and fetch this machine's backups over ssh, and nothing else: no shell, no forwarding, nothing written.",
    ),
    key(
        "backup.encryption",
        Kind::Choice(&["age", "none"]),
        "\"age\"",
        "`age`: only the machine and the recipients can open a backup. `none`: everybody who gets at one can, and has the cluster with it.",
    ),
    section("restore", "Which backup a machine takes, where it can't tell by itself."),
    optional(
        "restore.node",
        Kind::Text(Form::Host),
        "The node whose backup a machine without a cluster restores. Without it: the one whose name fits `hostname`, if there is only one.",
    ),
    optional(
        "restore.set",
        Kind::Text(Form::Any),
        "The backup to restore in place of a living cluster, by its file's name or `newest`. Needs `restore.replaces`.",
    ),
    optional(
        "restore.replaces",
        Kind::Text(Form::Any),
        "The id of the cluster that is replaced, as report.json has it. It is spent by the act: the cluster has another id then.",
    ),
    optional("restore.rekey", Kind::Text(Form::Any), "The id of the cluster that gets a new token for a lost one."),
];
