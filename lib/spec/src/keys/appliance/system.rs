//! What the image is made of: the board, packages, files and programs of the user's own.

use crate::keys::{EXTRAS, Form, Key, Kind, flag, key, optional, required, section};
use crate::quantity::Seconds;

pub const SYSTEM: &[Key] = &[
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
];
