//! A machine whose files are made, and the QEMU command line that makes it a machine: pure, and compared as text.

use crate::accel::Accelerator;
use crate::attached::Attached;
use crate::firmware::Flash;
use crate::machine::Network;
use crate::media::Bus;
use bakelite_spec::board::Arch;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The machine's serial number.
const SERIAL: &str = "qemu-0001";

/// A medium as QEMU gets it.
#[derive(Debug)]
pub struct Drive {
    /// Its id, also its serial number.
    pub id: String,
    /// The file.
    pub path: PathBuf,
    /// How it is attached.
    pub bus: Bus,
    /// Whether writes are thrown away.
    pub snapshot: bool,
}

impl Drive {
    /// What `-drive` gets. A fixed machine has a place for a card, and QEMU puts it there.
    fn backend(&self, fixed: bool) -> String {
        let place = if fixed && self.bus == Bus::Sd { "sd" } else { "none" };
        let snapshot = if self.snapshot { ",snapshot=on" } else { "" };
        // A killed QEMU loses nothing that the host's page cache has; flushing that to the host's disk proves nothing.
        format!(
            "if={place},id={},format=raw,cache=unsafe,discard=unmap,detect-zeroes=unmap{snapshot},file={}",
            self.id,
            escaped(&self.path)
        )
    }

    /// What `-device` gets. Firmware tries the media in their order, the boot medium first where there is one, as that of real
    /// machines does; QEMU's leaves out what has no place in that order. A kernel that QEMU starts itself comes before all.
    fn device(&self, port: usize, shared: bool, fixed: bool) -> Vec<String> {
        let Self { id, bus, .. } = self;
        let usb = if fixed { "usb-bus.0" } else { "xhci.0" };
        let index = if fixed && port > 0 { String::new() } else { format!(",bootindex={}", port + 1) };
        let share = if shared { ",share-rw=on" } else { "" };
        let common = format!("drive={id},id={id}-device{share}");
        match bus {
            // The log adds two pieces to those of a write, and merged writes have as many as pwritev takes: such a one would fail.
            Bus::Virtio if shared => vec![format!("virtio-blk-pci,{common},request-merging=off,serial={id}{index}")],
            Bus::Virtio => vec![format!("virtio-blk-pci,{common},serial={id}{index}")],
            Bus::Nvme => vec![format!("nvme,{common},serial={id}{index}")],
            Bus::Ahci => vec![format!("ide-hd,{common},bus=ide.{port},serial={id}{index}")],
            Bus::Usb => vec![format!("usb-storage,{common},bus={usb},serial={id}{index}")],
            Bus::Uas => vec![
                format!("usb-uas,id={id}-bridge,bus={usb}"),
                format!("scsi-hd,{common},bus={id}-bridge.0,serial={id}{index}"),
            ],
            Bus::Sd if fixed => Vec::new(),
            Bus::Sd => vec![format!("sdhci-pci,id={id}-host"), format!("sd-card,{common}")],
        }
    }
}

/// The first drives as parts of one file behind QEMU's log of writes: only so their writes have one order.
#[derive(Debug)]
pub struct Recording {
    pub whole: PathBuf,
    pub log: PathBuf,
    /// First byte and length of each.
    pub parts: Vec<(u64, u64)>,
}

impl Recording {
    /// What `-blockdev` gets.
    fn nodes(&self, drives: &[Drive]) -> Vec<String> {
        let file = |name: &str, path: &Path, more: &str| {
            format!("driver=file,filename={},node-name={name},cache.no-flush=on{more}", escaped(path))
        };
        let mut nodes = vec![
            file("whole-file", &self.whole, ",discard=unmap,detect-zeroes=unmap"),
            file("log-file", &self.log, ""),
            "driver=blklogwrites,file=whole-file,log=log-file,node-name=whole,log-sector-size=512".into(),
        ];
        nodes.extend(drives.iter().zip(&self.parts).map(|(drive, (start, length))| {
            format!("driver=raw,node-name={},file=whole,offset={start},size={length}", drive.id)
        }));
        nodes
    }
}

/// How QEMU starts the kernel.
#[derive(Debug)]
pub enum Start {
    /// By firmware in flash; the loader is handed more kernel arguments.
    Flash(Flash, String),
    /// By itself.
    Kernel { kernel: PathBuf, initramfs: PathBuf, options: String, device_tree: Option<PathBuf> },
}

/// Where the machine's lines go.
#[derive(Debug, Clone, Copy)]
pub enum Lines<'a> {
    /// To sockets of these names in a folder; the machine waits for `cont`.
    Sockets(&'a Path),
    /// The console to this terminal, with QEMU's monitor behind Ctrl-A c.
    Terminal,
}

/// A machine whose files are made.
#[derive(Debug)]
pub struct Setup {
    pub program: PathBuf,
    pub name: String,
    pub machine: String,
    pub cpu: String,
    pub arch: Arch,
    /// Whether it has nothing but what is built in: no PCI bus, and memory and processors as they are (Raspberry Pi).
    pub fixed: bool,
    pub accelerator: Accelerator,
    pub memory: u32,
    pub cpus: u32,
    /// Whether its screen is virtio's.
    pub virtio_screen: bool,
    pub attached: Vec<Attached>,
    pub start: Start,
    pub drives: Vec<Drive>,
    pub recording: Option<Recording>,
    pub network: Network,
    /// Goes with the machine.
    pub folder: TempDir,
    pub medium: Option<PathBuf>,
}

impl Setup {
    /// QEMU's arguments.
    pub fn arguments(&self, lines: Lines<'_>) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        let mut add = |name: &str, value: String| all.extend([name.to_string(), value]);
        add("-name", format!("bakelite-{}", self.name));
        let secure = matches!(&self.start, Start::Flash(flash, _) if flash.secure);
        add("-machine", format!("{}{}", self.machine, if secure { ",smm=on" } else { "" }));
        let (accelerator, cpu) = match self.accelerator {
            Accelerator::Kvm => ("kvm", "host"),
            Accelerator::Tcg => ("tcg,thread=multi", self.cpu.as_str()),
        };
        add("-accel", accelerator.into());
        add("-cpu", cpu.into());
        if !self.fixed {
            add("-smp", self.cpus.to_string());
            add("-m", self.memory.to_string());
            // Firmware of real machines knows a serial number, which names are made of.
            add("-smbios", format!("type=1,serial={SERIAL}"));
        }
        add("-display", "none".into());
        self.built_in().into_iter().for_each(|device| add("-device", device.into()));
        for (name, value) in self.attached.iter().flat_map(|attached| attached.arguments()) {
            add(name, (*value).into());
        }
        self.add_start(&mut add);
        let recorded = self.recording.as_ref().map_or(0, |recording| recording.parts.len());
        for node in self.recording.iter().flat_map(|recording| recording.nodes(&self.drives)) {
            add("-blockdev", node);
        }
        for (port, drive) in self.drives.iter().enumerate() {
            let shared = port < recorded;
            if !shared {
                add("-drive", drive.backend(self.fixed));
            }
            drive.device(port, shared, self.fixed).into_iter().for_each(|device| add("-device", device));
        }
        self.add_network(&mut add);
        match lines {
            Lines::Sockets(folder) => {
                for name in ["console", "events", "qmp"] {
                    add("-chardev", format!("socket,id={name},path={}", escaped(&folder.join(name))));
                }
                add("-serial", "chardev:console".into());
                if self.has_two_lines() {
                    add("-serial", "chardev:events".into());
                } else {
                    add("-device", "pci-serial,chardev=events".into());
                }
                add("-mon", "chardev=qmp,mode=control".into());
                all.push("-S".into());
            }
            Lines::Terminal => {
                add("-serial", "mon:stdio".into());
                if self.has_two_lines() {
                    add("-serial", "null".into());
                }
            }
        }
        if self.fixed && matches!(lines, Lines::Sockets(_)) {
            // What is started next is on the medium, for whoever plays the firmware.
            all.extend(["-action".into(), "reboot=shutdown".into()]);
        }
        all.extend(["-nodefaults".into(), "-no-user-config".into()]);
        all
    }

    /// What a machine of this architecture has that its type leaves out: on ARM a keyboard, and a SATA controller where
    /// there is something for it.
    fn built_in(&self) -> Vec<&'static str> {
        if self.fixed {
            return Vec::new();
        }
        let sata = self.drives.iter().any(|drive| drive.bus == Bus::Ahci).then_some("ahci,id=ide");
        let own = match self.arch {
            Arch::X86_64 if self.virtio_screen => vec!["virtio-vga"],
            Arch::X86_64 => vec!["VGA"],
            Arch::Aarch64 | Arch::Armv7 => {
                let screen = self.virtio_screen.then_some("virtio-gpu-pci");
                ["virtio-keyboard-pci"].into_iter().chain(screen).chain(sata).collect()
            }
        };
        own.into_iter().chain(["qemu-xhci,id=xhci"]).collect()
    }

    /// Whether its type has two serial lines.
    fn has_two_lines(&self) -> bool {
        self.fixed || self.arch == Arch::X86_64
    }

    fn add_start(&self, add: &mut impl FnMut(&str, String)) {
        match &self.start {
            Start::Flash(flash, arguments) => {
                if flash.secure {
                    add("-global", "driver=cfi.pflash01,property=secure,value=on".into());
                }
                add("-drive", format!("if=pflash,format=raw,unit=0,readonly=on,file={}", escaped(&flash.code)));
                add("-drive", format!("if=pflash,format=raw,unit=1,file={}", escaped(&flash.variables)));
                if !arguments.is_empty() {
                    // systemd-boot appends it to the options of its entries (systemd-boot(7), SMBIOS type 11).
                    let value = format!("io.systemd.boot.kernel-cmdline-extra={arguments}");
                    add("-smbios", format!("type=11,value={}", value.replace(',', ",,")));
                }
            }
            Start::Kernel { kernel, initramfs, options, device_tree } => {
                device_tree.iter().for_each(|path| add("-dtb", path.display().to_string()));
                add("-kernel", kernel.display().to_string());
                add("-initrd", initramfs.display().to_string());
                add("-append", options.clone());
            }
        }
    }

    fn add_network(&self, add: &mut impl FnMut(&str, String)) {
        let Network::User { forward, restricted, links } = &self.network else {
            add("-nic", "none".into());
            return;
        };
        for link in 0..*links {
            let restrict = if *restricted { "on" } else { "off" };
            let mut backend = format!("user,id=net{link},net=10.0.{}.0/24,restrict={restrict}", link + 2);
            for (host, guest) in forward.iter().filter(|_| link == 0) {
                backend.push_str(&format!(",hostfwd=tcp:127.0.0.1:{host}-:{guest}"));
            }
            add("-netdev", backend);
            // romfile= : without it firmware spends minutes in PXE.
            let (card, more) = if self.fixed { ("usb-net", "") } else { ("virtio-net-pci", ",romfile=") };
            add("-device", format!("{card},netdev=net{link},id=link{link},mac=52:54:00:ba:4e:{link:02x}{more}"));
        }
    }
}

/// A path as QEMU's option lists want it.
pub fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(start: Start) -> Setup {
        let drive =
            |id: &str, bus| Drive { id: id.into(), path: format!("/m/{id},x").into(), bus, snapshot: id == "disk0" };
        Setup {
            program: "qemu".into(),
            name: "0123".into(),
            machine: "q35".into(),
            cpu: "max".into(),
            arch: Arch::X86_64,
            fixed: false,
            accelerator: Accelerator::Tcg,
            memory: 512,
            cpus: 2,
            virtio_screen: false,
            attached: Vec::new(),
            start,
            drives: vec![drive("boot", Bus::Ahci), drive("disk0", Bus::Nvme), drive("disk1", Bus::Sd)],
            recording: None,
            network: Network::None,
            folder: tempfile::tempdir().unwrap(),
            medium: None,
        }
    }

    fn text(setup: &Setup, lines: Lines<'_>) -> String {
        setup.arguments(lines).join(" ").replace(" -", "\n-")
    }

    #[test]
    fn a_direct_start_with_three_disks_and_no_network() {
        let start = Start::Kernel {
            kernel: "/k".into(),
            initramfs: "/i".into(),
            options: "quiet a=b".into(),
            device_tree: None,
        };
        let expected = "-name bakelite-0123\n-machine q35\n-accel tcg,thread=multi\n-cpu max\n-smp 2\n-m 512
-smbios type=1,serial=qemu-0001
-display none\n-device VGA\n-device qemu-xhci,id=xhci\n-kernel /k\n-initrd /i\n-append quiet a=b
-drive if=none,id=boot,format=raw,cache=unsafe,discard=unmap,detect-zeroes=unmap,file=/m/boot,,x
-device ide-hd,drive=boot,id=boot-device,bus=ide.0,serial=boot,bootindex=1
-drive if=none,id=disk0,format=raw,cache=unsafe,discard=unmap,detect-zeroes=unmap,snapshot=on,file=/m/disk0,,x
-device nvme,drive=disk0,id=disk0-device,serial=disk0,bootindex=2
-drive if=none,id=disk1,format=raw,cache=unsafe,discard=unmap,detect-zeroes=unmap,file=/m/disk1,,x
-device sdhci-pci,id=disk1-host\n-device sd-card,drive=disk1,id=disk1-device
-nic none
-chardev socket,id=console,path=/s/console\n-chardev socket,id=events,path=/s/events\n-chardev socket,id=qmp,path=/s/qmp
-serial chardev:console\n-serial chardev:events\n-mon chardev=qmp,mode=control\n-S\n-nodefaults\n-no-user-config";
        assert_eq!(text(&setup(start), Lines::Sockets(Path::new("/s"))), expected);
    }

    #[test]
    fn an_arm_machine_has_its_second_line_on_its_bus() {
        let start =
            Start::Kernel { kernel: "/k".into(), initramfs: "/i".into(), options: String::new(), device_tree: None };
        let mut setup = Setup { arch: Arch::Armv7, machine: "virt,highmem=off".into(), ..setup(start) };
        setup.drives.truncate(1);
        let text = text(&setup, Lines::Sockets(Path::new("/s")));
        for part in [
            "\n-machine virt,highmem=off\n-accel tcg,thread=multi\n",
            "\n-device virtio-keyboard-pci\n-device ahci,id=ide\n-device qemu-xhci,id=xhci\n-kernel /k\n",
            "\n-serial chardev:console\n-device pci-serial,chardev=events\n",
        ] {
            assert!(text.contains(part), "{text}");
        }
        setup.attached = vec![Attached::Touch, Attached::UsbSerial];
        let attached = super::tests::text(&setup, Lines::Terminal);
        let expected = "\n-device usb-tablet,id=touch,bus=xhci.0\n-chardev null,id=adapter\n-device usb-serial,";
        assert!(attached.contains(expected), "{attached}");
        assert!(!text.contains("VGA") && !super::tests::text(&setup, Lines::Terminal).contains("-serial null"));
    }

    #[test]
    fn a_fixed_machine_has_its_card_in_its_slot_and_takes_a_device_tree() {
        let start = Start::Kernel {
            kernel: "/k".into(),
            initramfs: "/i".into(),
            options: "a".into(),
            device_tree: Some("/t".into()),
        };
        let mut setup = Setup { fixed: true, arch: Arch::Aarch64, machine: "raspi3b".into(), ..setup(start) };
        setup.drives.truncate(2);
        (setup.drives[0].bus, setup.drives[1].bus) = (Bus::Sd, Bus::Usb);
        let expected = "-name bakelite-0123\n-machine raspi3b\n-accel tcg,thread=multi\n-cpu max\n-display none
-dtb /t\n-kernel /k\n-initrd /i\n-append a
-drive if=sd,id=boot,format=raw,cache=unsafe,discard=unmap,detect-zeroes=unmap,file=/m/boot,,x
-drive if=none,id=disk0,format=raw,cache=unsafe,discard=unmap,detect-zeroes=unmap,snapshot=on,file=/m/disk0,,x
-device usb-storage,drive=disk0,id=disk0-device,bus=usb-bus.0,serial=disk0
-nic none\n-serial mon:stdio\n-serial null\n-nodefaults\n-no-user-config";
        assert_eq!(text(&setup, Lines::Terminal), expected);
        let played = text(&setup, Lines::Sockets(Path::new("/s")));
        assert!(played.contains("\n-action reboot=shutdown"), "{played}");
    }

    #[test]
    fn recorded_media_are_parts_of_one_file() {
        let start =
            Start::Kernel { kernel: "/k".into(), initramfs: "/i".into(), options: String::new(), device_tree: None };
        let parts = vec![(0, 1024), (1024, 512)];
        let recording = Some(Recording { whole: "/w".into(), log: "/l".into(), parts });
        let mut recorded = Setup { recording, ..setup(start) };
        let first = text(&recorded, Lines::Terminal);
        let expected = "
-blockdev driver=file,filename=/w,node-name=whole-file,cache.no-flush=on,discard=unmap,detect-zeroes=unmap
-blockdev driver=file,filename=/l,node-name=log-file,cache.no-flush=on
-blockdev driver=blklogwrites,file=whole-file,log=log-file,node-name=whole,log-sector-size=512
-blockdev driver=raw,node-name=boot,file=whole,offset=0,size=1024
-blockdev driver=raw,node-name=disk0,file=whole,offset=1024,size=512
-device ide-hd,drive=boot,id=boot-device,share-rw=on,bus=ide.0,serial=boot,bootindex=1
-device nvme,drive=disk0,id=disk0-device,share-rw=on,serial=disk0,bootindex=2
-drive if=none,id=disk1";
        assert!(first.contains(expected), "{first}");
        recorded.drives[0].bus = Bus::Virtio;
        let with_virtio = text(&recorded, Lines::Terminal);
        let boot = "-device virtio-blk-pci,drive=boot,id=boot-device,share-rw=on,request-merging=off,serial=boot,bootindex=1\n";
        assert!(with_virtio.contains(boot), "{with_virtio}");
    }

    #[test]
    fn secure_boot_with_two_links_on_a_terminal() {
        let flash = Flash { code: "/c".into(), variables: "/v".into(), secure: true };
        let mut setup = setup(Start::Flash(flash, "a=b,c".into()));
        setup.drives.clear();
        setup.accelerator = Accelerator::Kvm;
        setup.network = Network::User { forward: vec![(2222, 22)], restricted: true, links: 2 };
        let expected = "-name bakelite-0123\n-machine q35,smm=on\n-accel kvm\n-cpu host\n-smp 2\n-m 512
-smbios type=1,serial=qemu-0001
-display none\n-device VGA\n-device qemu-xhci,id=xhci
-global driver=cfi.pflash01,property=secure,value=on
-drive if=pflash,format=raw,unit=0,readonly=on,file=/c\n-drive if=pflash,format=raw,unit=1,file=/v
-smbios type=11,value=io.systemd.boot.kernel-cmdline-extra=a=b,,c
-netdev user,id=net0,net=10.0.2.0/24,restrict=on,hostfwd=tcp:127.0.0.1:2222-:22
-device virtio-net-pci,netdev=net0,id=link0,mac=52:54:00:ba:4e:00,romfile=
-netdev user,id=net1,net=10.0.3.0/24,restrict=on
-device virtio-net-pci,netdev=net1,id=link1,mac=52:54:00:ba:4e:01,romfile=
-serial mon:stdio\n-serial null\n-nodefaults\n-no-user-config";
        assert_eq!(text(&setup, Lines::Terminal), expected);
    }
}
