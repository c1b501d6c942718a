//! What can be typed.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Bakes bootable appliance images that run k3s, from one short YAML.
#[derive(Debug, Parser)]
#[command(
    version,
    max_term_width = 100,
    after_help = "On a machine:\n  bakelite --host NAME COMMAND…  runs a command of its own over ssh: status, logs, backup list, help, …"
)]
pub struct Arguments {
    /// Tell what happens as JSON lines
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a short appliance and a key pair
    New {
        /// The board to bake for
        #[arg(long, required_unless_present = "list")]
        board: Option<String>,
        /// List the boards there are
        #[arg(long)]
        list: bool,
        /// The file to write
        #[arg(required_unless_present = "list")]
        file: Option<PathBuf>,
    },
    /// Check an appliance: all findings at once
    Check {
        /// The appliance's YAML
        config: PathBuf,
        /// Also ask k3s's release site whether it has the release
        #[arg(long)]
        site: bool,
    },
    /// What a key means, its default, and who set it
    Explain {
        /// The key, such as network.wait; a section lists its keys
        key: String,
        /// Also tell its value in this appliance
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Print the JSON schema that editors use
    Schema {
        /// Of which files
        #[arg(value_enum, default_value = "appliance")]
        of: Schema,
    },
    /// Write down every input of an image with version, size and hash
    Lock {
        #[command(flatten)]
        inputs: Inputs,
        /// The lock to write [default: beside the configuration]
        #[arg(short, long)]
        output: Option<PathBuf>,
    },
    /// Bring all that a build needs into the cache, for `build --offline`
    Fetch {
        #[command(flatten)]
        inputs: Inputs,
        /// The lock to obey [default: beside the configuration, and made there if it is missing]
        #[arg(long)]
        lock: Option<PathBuf>,
    },
    /// What firstboot would do to a machine, and why; nothing is done
    Simulate {
        /// The appliance's YAML
        config: PathBuf,
        /// The machine, as `bakelite facts --json` on a device prints it, or a few lines of it by hand
        #[arg(long)]
        machine: PathBuf,
    },
    /// Bake an image
    Build(Build),
    /// Make one signed file that updates machines, of an appliance or of an image that was built
    Bundle(Bundle),
    /// What a build would put where, and who set what; writes no image
    Plan {
        #[command(flatten)]
        inputs: Inputs,
        /// The lock to obey [default: beside the configuration, else made for this alone]
        #[arg(long)]
        lock: Option<PathBuf>,
    },
    /// What is in an image: partitions, versions, settings, files; exit status 1: something can't be read
    Inspect {
        /// The image, its .zst, or a device
        image: PathBuf,
        /// Look at this path: /usr/bin of slot A's system, boot:/loader, initramfs:/bakelite
        path: Option<String>,
        /// Write the file's content to standard output
        #[arg(long, requires = "path", conflicts_with = "json")]
        content: bool,
    },
    /// Prove an image by named rules; exit status 1: one failed, 3: a check could not be made
    Lint {
        /// The image, its .zst, or a device
        image: PathBuf,
    },
    /// Put sets onto a mounted stick, with a grant that lets machines restore them
    Stick(Stick),
    /// Write an image onto cards, sticks or files, read it back, and give each its own seed
    Flash(Flash),
    /// Flash media all day from a table of machines, remember which is which, and judge what comes back
    Factory(Factory),
    /// Boot an image in QEMU; the image itself isn't changed
    Run(Run),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Schema {
    Appliance,
    Board,
}

#[derive(Debug, Args)]
pub struct Inputs {
    /// The appliance's YAML
    pub config: PathBuf,
    /// Debian's mirror [default: the configuration's, BAKELITE_MIRROR, or this machine's apt sources]
    #[arg(long)]
    pub mirror: Option<String>,
    /// Make a lock without this suite of Debian's, where the mirror can't serve it; may be given several times
    #[arg(long = "without-suite", value_name = "SUITE", value_enum)]
    pub without_suites: Vec<LesserSuite>,
    /// The cache's folder [default: ~/.cache/bakelite]
    #[arg(long)]
    pub cache: Option<PathBuf>,
    /// Take everything from the cache
    #[arg(long)]
    pub offline: bool,
}

/// A suite that Debian's main one can be used without.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LesserSuite {
    Security,
    Updates,
}

impl LesserSuite {
    /// How its name ends.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Security => "-security",
            Self::Updates => "-updates",
        }
    }
}

#[derive(Debug, Args)]
pub struct Build {
    #[command(flatten)]
    pub inputs: Inputs,
    /// The image to write, compressed if the name ends in .zst. Beside it come OUTPUT.bmap (what bmaptool has to write)
    /// and OUTPUT.spdx.json (each part with version and licence)
    #[arg(short, long)]
    pub output: PathBuf,
    /// The lock to obey [default: beside the configuration, else beside the output, else made anew]
    #[arg(long)]
    pub lock: Option<PathBuf>,
    /// Replace an image that is there
    #[arg(long)]
    pub force: bool,
    /// Build a recovery stick for the machines of this appliance instead of an image for one of them (docs/recovery.md)
    #[arg(long, requires = "key")]
    pub recovery: bool,
    /// The same stick, which also puts its system onto machines that never had one (docs/installer.md)
    #[arg(long, requires = "key", conflicts_with = "recovery")]
    pub installer: bool,
    /// With --installer: a table of machines, CSV, a column a key, each found by its mac or serial, else in order
    #[arg(long, value_name = "CSV", requires = "installer")]
    pub rows: Option<PathBuf>,
    /// With --installer: a factory line's YAML, whose table the machines are of and which hears their reports (docs/factory.md)
    #[arg(long, value_name = "YAML", requires = "installer", conflicts_with_all = ["rows", "seed"])]
    pub line: Option<PathBuf>,
    /// With --rows: settings that all rows have in common, a YAML
    #[arg(long, value_name = "YAML", requires = "rows")]
    pub seed: Option<PathBuf>,
    /// The owner's key file, which signs the stick: `bakelite new` made it
    #[arg(long)]
    pub key: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Bundle {
    #[command(flatten)]
    pub inputs: Inputs,
    /// The bundle to write
    #[arg(short, long)]
    pub output: PathBuf,
    /// The owner's key file, which `bakelite new` made; machines know its public half by `owner.keys`
    #[arg(long)]
    pub key: PathBuf,
    /// An image or a whole bundle that the machines run: the new one is a delta against it, which only they take, where that saves
    /// more than half
    #[arg(long, value_name = "OLD", conflicts_with = "apps")]
    pub from: Option<PathBuf>,
    /// Only the appliance's `images`, `manifests` and `charts`, which machines take without a restart; of a configuration
    #[arg(long, conflicts_with = "lock")]
    pub apps: bool,
    /// The lowest `image.version` that it may take the place of; with --apps, that it may be put upon
    #[arg(long, value_name = "VERSION", default_value = "")]
    pub after: String,
    /// The highest `image.version` that it may take the place of; with --apps, that it may be put upon
    #[arg(long, value_name = "VERSION", default_value = "")]
    pub until: String,
    /// With --apps: what k3s may delete with all that is in it, such as persistentvolumeclaims/default/till; may be given several times
    #[arg(long, value_name = "OBJECT", requires = "apps")]
    pub drops: Vec<String>,
    /// The lock to obey [default: beside the configuration, else beside the output, else made anew]
    #[arg(long)]
    pub lock: Option<PathBuf>,
    /// Replace a bundle that is there
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct Stick {
    /// Where the stick is mounted (FAT, exFAT or ext4)
    pub folder: PathBuf,
    /// The sets to put on it, as they were fetched from a machine
    #[arg(required = true)]
    pub sets: Vec<PathBuf>,
    /// The nodes that may restore them: a name, or a pattern such as 'shop-*'; may be given several times
    #[arg(long = "for", value_name = "PATTERN", required = true)]
    pub nodes: Vec<String>,
    /// The owner's key file, which `bakelite new` made
    #[arg(long)]
    pub key: PathBuf,
    /// For how many days the grant counts
    #[arg(long, default_value_t = 30)]
    pub days: u32,
}

#[derive(Debug, Args)]
pub struct Flash {
    /// The image, raw or .zst; its block map is taken from beside it
    pub image: PathBuf,
    /// What to write it onto: /dev/sdX, serial:NUMBER, port:NAME (as in /dev/disk/by-path), or a file [default: asks]
    pub devices: Vec<String>,
    /// The block map, where it isn't beside the image
    #[arg(long)]
    pub bmap: Option<PathBuf>,
    /// Settings of this one machine, a YAML (docs/settings.md)
    #[arg(long)]
    pub seed: Option<PathBuf>,
    /// One of them, on top: hostname=shop-017, seed.secrets.wifi=...; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
    /// A table of machines: CSV, a column a key
    #[arg(long, requires = "rows")]
    pub table: Option<PathBuf>,
    /// The table's row for a device, by its name, MAC or serial number; once for each device, in their order
    #[arg(long = "row", value_name = "ROW", requires = "table")]
    pub rows: Vec<String>,
    /// Don't find out whether media hold as much as they say
    #[arg(long)]
    pub no_probe: bool,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Factory {
    /// The line's YAML (docs/factory.md)
    #[arg(required = true)]
    pub line: Option<PathBuf>,
    /// Who works here
    #[arg(long)]
    pub operator: Option<String>,
    /// Only what is plugged in now
    #[arg(long)]
    pub once: bool,
    /// The row for the next medium: its name, or its board's MAC or serial number; implies --once
    #[arg(long, value_name = "ROW")]
    pub board: Option<String>,
    #[command(subcommand)]
    pub act: Option<FactoryAct>,
}

#[derive(Debug, Subcommand)]
pub enum FactoryAct {
    /// Judge what came back from its machine: a card, a stick, or its report.json; exit status 1: not good
    Pass {
        /// The line's YAML
        line: PathBuf,
        /// Media and reports
        #[arg(required = true)]
        media: Vec<PathBuf>,
    },
    /// Take over what installer sticks have recorded; exit status 1: something of it can't be taken
    Merge {
        /// The line's YAML
        line: PathBuf,
        /// The stick, an image of it, or where it is mounted
        #[arg(required = true)]
        sticks: Vec<PathBuf>,
    },
    /// What the record has: which row, which medium, what became of it
    Record {
        /// The line's YAML
        line: PathBuf,
        /// In which form
        #[arg(long, value_enum, default_value = "table")]
        form: RecordForm,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RecordForm {
    Table,
    Csv,
    Json,
}

#[derive(Debug, Args)]
pub struct Run {
    /// The image, or a recovery or installer stick; a machine that is started from that has the disks of --disk and no other
    pub image: PathBuf,
    /// How the boot medium is attached and how large it is: virtio, nvme, ahci, usb, sd; nvme:20G; a stick is behind USB
    #[arg(long, default_value = "virtio")]
    pub medium: String,
    /// A disk besides: nvme:20G makes one, usb:backup.img attaches a file; may be given several times
    #[arg(long = "disk", value_name = "BUS:WHAT")]
    pub disks: Vec<String>,
    /// The network: none; user; user,6443 or user,2222:22 with ports; user,restrict reaches nothing outside
    #[arg(long, default_value = "none")]
    pub net: String,
    /// Memory in MiB
    #[arg(long, default_value_t = 2048)]
    pub memory: u32,
    /// What starts the kernel
    #[arg(long, value_enum, default_value = "uefi")]
    pub start: Start,
    /// Kernel arguments besides the image's
    #[arg(long, default_value = "")]
    pub append: String,
    /// Let the machine write to the image
    #[arg(long)]
    pub persist: bool,
    /// Tell events instead of showing the console, and end when this has happened
    #[arg(long, value_enum)]
    pub until: Option<Until>,
    /// With --until: go on for so many seconds then, and tell how many bytes were written to each medium meanwhile
    #[arg(long, value_name = "SECONDS", requires = "until")]
    pub then: Option<u64>,
    /// With --until: give up after so many seconds
    #[arg(long, default_value_t = 600)]
    pub seconds: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Start {
    Uefi,
    SecureBoot,
    Direct,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Until {
    Ready,
    Good,
}
