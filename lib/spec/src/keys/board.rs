//! The keys of a board: what its file in board-configs/ may say.

use super::{Form, Key, Kind, key, optional, required, section};
use crate::pi::models::NAMES;
use crate::quantity::Seconds;

/// The keys of a board.
pub const BOARD: &[Key] = &[
    required("description", Kind::Text(Form::Any), "What the board is, in a few words."),
    required("arch", Kind::Choice(&["x86_64", "aarch64", "armv7"]), "The processor architecture."),
    optional(
        "extends",
        Kind::Text(Form::BoardName),
        "The board whose keys count where this one has none; that one extends no other.",
    ),
    section("boot", "How the board starts."),
    key(
        "boot.flow",
        Kind::Choice(&["uefi", "raspberry-pi", "direct"]),
        "\"uefi\"",
        "`uefi`: shim and signed systemd-boot with counted entries on a GPT disk. `raspberry-pi`: the Pi's own firmware and config.txt on an MBR disk. `direct`: QEMU starts the image's kernel itself.",
    ),
    key(
        "boot.models",
        Kind::List(&Kind::Choice(NAMES)),
        "[]",
        "The models of the Raspberry Pi that one image starts: firmware and device trees of each are in it.",
    ),
    key(
        "boot.config",
        Kind::List(&Kind::Text(Form::Any)),
        "[]",
        "Lines of config.txt besides those that say what is started, such as `[cm4]` and what only that model needs.",
    ),
    section("kernel", "The kernel."),
    required(
        "kernel.package",
        Kind::Text(Form::Package),
        "The Debian package that stands for the kernel; a metapackage is followed to the real one.",
    ),
    key(
        "kernel.device-trees",
        Kind::List(&Kind::Text(Form::Any)),
        "[\"usr/lib/linux-image-{release}\", \"usr/lib/modules/{release}/dtb\"]",
        "Where the kernel's packages have device trees, `{release}` being the kernel's; by default both places that Debian has used.",
    ),
    key(
        "kernel.backports",
        Kind::Flag,
        "false",
        "Whether the kernel is that of Debian's backports to the suite: newer, for boards that the suite's own can't drive, and without Debian's promise of security updates.",
    ),
    key(
        "kernel.downstream",
        Kind::Flag,
        "false",
        "Whether it is a Raspberry Pi kernel of the makers' own: its device trees have their names for the models, not kernel.org's, and firmware adapts them.",
    ),
    key(
        "kernel.tryboot",
        Kind::Flag,
        "false",
        "Whether this kernel tells a Raspberry Pi's firmware to try (`reboot \"0 tryboot\"`), without which nothing is updated there. Raspberry Pi's own kernels do, Debian's don't.",
    ),
    key(
        "packages",
        Kind::List(&Kind::Text(Form::Package)),
        "[]",
        "Debian packages this board needs besides the common ones, such as firmware and microcode.",
    ),
    section("modules", "Kernel modules, by the names of sets in module-sets.yaml."),
    key("modules.root", Kind::List(&Kind::Text(Form::Any)), "[]", "Sets that the running system can load."),
    key(
        "modules.initramfs",
        Kind::List(&Kind::Text(Form::Any)),
        "[]",
        "Sets that are needed to find the system partition.",
    ),
    key("cmdline", Kind::List(&Kind::Text(Form::Any)), "[]", "Kernel arguments, such as the consoles."),
    section("console", "Where the machine speaks."),
    optional(
        "console.shell",
        Kind::Text(Form::Any),
        "The serial device that gets a root shell with `debug: true`, such as `ttyS0`.",
    ),
    optional(
        "console.events",
        Kind::Text(Form::Any),
        "The serial device that gets events as JSON lines, if it is there.",
    ),
    key(
        "console.lights",
        Kind::List(&Kind::Text(Form::Any)),
        "[]",
        "LEDs by their names in /sys/class/leds. The first one that is there shows the state: on while all is well, slow while the machine gets ready, quick when it needs a human.",
    ),
    key(
        "watchdog",
        Kind::Duration(Seconds(0), Seconds(600)),
        "60",
        "The hardware watchdog's time-out, if there is a watchdog; 0 leaves it alone.",
    ),
    optional(
        "throttles-at",
        Kind::Number(40, 120),
        "The degrees Celsius from which the board's firmware slows the processor without the kernel's knowing.",
    ),
    key(
        "usb-quirks",
        Kind::List(&Kind::Text(Form::UsbQuirk)),
        "[]",
        "USB bridges that the kernel has to treat in their own way, as its `usb-storage.quirks` has them: `152d:0578:u` is a bridge without UAS.",
    ),
    section("qemu", "How QEMU shows this board; a board without it can't be run in QEMU."),
    optional("qemu.machine", Kind::Text(Form::Any), "QEMU's -machine."),
    key("qemu.cpu", Kind::Text(Form::Any), "\"max\"", "QEMU's -cpu."),
    optional(
        "qemu.model",
        Kind::Choice(NAMES),
        "The model of the Raspberry Pi that QEMU shows: it has only what is built in, and starts what that model's firmware would.",
    ),
    key(
        "qemu.device-tree",
        Kind::Records,
        "[]",
        "What QEMU's machine has otherwise than the board, as changes to the kernel's device tree on its way to QEMU; the image has the tree as it is.",
    ),
    required(
        "qemu.device-tree[].nodes",
        Kind::List(&Kind::Text(Form::Any)),
        "The nodes by their paths, such as `/soc/serial@7e215040`. One that isn't there stops the start.",
    ),
    key(
        "qemu.device-tree[].set",
        Kind::Map(&Kind::Text(Form::Argument)),
        "{}",
        "Properties with their texts; an empty text is a property without a value.",
    ),
    key("qemu.device-tree[].remove", Kind::List(&Kind::Text(Form::Any)), "[]", "Properties that go."),
    key("defaults", Kind::Free, "{}", "Keys of an appliance whose defaults this board changes."),
];
