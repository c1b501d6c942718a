//! What keeps the machine going: memory, storage, updates, backups.

use crate::keys::{Form, Key, Kind, key, optional, section};
use crate::quantity::{Seconds, Size};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

pub const UPKEEP: &[Key] = &[
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
        "The appliance's own version: one to four numbers with dots. A machine takes no update that has a lower one, and of apps only a higher one.",
    ),
    section("update", "How a machine takes updates."),
    key(
        "update.patience",
        Kind::Duration(Seconds(180), Seconds(6 * 3600)),
        "900",
        "How long an updated machine may take, from its start, until the boot is a good one. After that it goes back to what ran before. Apps have as long from when they are put in, and from each start.",
    ),
    optional(
        "update.window",
        Kind::Text(Form::Window),
        "The part of the day, in UTC, in which a machine takes an update by itself, such as `02:00-04:00`; each of many begins at a time of its own in the first half. Without it: at any time.",
    ),
    optional(
        "update.from",
        Kind::Text(Form::Download),
        "Where a machine looks for a bundle by itself, each hour while `update.window` is open: `https://…` or `http://…`, as the bundle itself is signed. An image without this key has no program to fetch with.",
    ),
    section("installer", "The installer stick of this appliance (`bakelite build --installer`)."),
    key(
        "installer.ask",
        Kind::Flag,
        "true",
        "Whether a person at the machine has to type `yes` before its disk is written. `false`: nothing has to be typed.",
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
        "How often the datastore is backed up while k3s runs: `auto` (each hour onto a data disk, each day onto a card), `off`, a duration such as `6h`, or hours in UTC such as `03:00`, `03:00, 15:00` or `sunday 03:00`; each of many machines begins at a time of its own in the half hour after one.",
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
        "How often the newest backup is restored into a scratch folder and checked from end to end: `auto` (each week), `off`, a duration, or hours as for `backup.every`.",
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
