//! A machine as it is asked for, and the QEMU command line that makes it.
//!
//! The board's own properties (machine, processor) come from the image's manifest. Turning a machine into a command
//! line is pure ([`Setup::arguments`]); making its files is [`Machine::set_up`]. Nothing here starts anything.

use crate::accel::Accelerator;
use crate::door;
use crate::error::{VmError, at_file};
use crate::firmware::{self, Flash};
use crate::image::{self, Contents};
use crate::media::{self, Bus, Disk, Source};
use bakelite_spec::board::Arch;
use bakelite_spec::cmdline::Cmdline;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// How the kernel is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// UEFI firmware starts what is on the medium, as on a real machine.
    Uefi {
        /// With Secure Boot on.
        secure_boot: bool,
    },
    /// QEMU starts the kernel of the image's slot A itself: quicker, and the only way from an SD card.
    Direct,
}

/// What the machine boots from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Medium {
    /// A copy that is thrown away.
    Copy,
    /// The image itself, which keeps what the machine writes.
    Image,
    /// Another file, which keeps what the machine writes.
    File(PathBuf),
    /// Nothing: kernel and initramfs alone.
    Absent,
}

/// How the machine is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// No network card at all.
    None,
    /// A network of its own behind this host, by QEMU.
    User {
        /// Ports of this host and of the machine.
        forward: Vec<(u16, u16)>,
        /// Whether the machine reaches nothing but this host's forwarded ports.
        restricted: bool,
        /// How many links, each on a network of its own: 10.0.2.0/24, 10.0.3.0/24 and so on.
        links: u8,
    },
}

impl Network {
    /// Reads `none`, `user`, `user,6443`, `user,2222:22,restrict`.
    ///
    /// # Errors
    /// When it isn't of that form.
    pub fn parse(words: &str) -> Result<Self, VmError> {
        let wrong = || VmError::NetworkWords(words.into());
        let mut parts = words.split(',');
        match parts.next() {
            Some("none") if parts.next().is_none() => return Ok(Self::None),
            Some("user") => {}
            _ => return Err(wrong()),
        }
        let (mut forward, mut restricted) = (Vec::new(), false);
        for part in parts {
            if part == "restrict" {
                restricted = true;
                continue;
            }
            let (host, guest) = part.split_once(':').unwrap_or((part, part));
            forward.push((host.parse().map_err(|_| wrong())?, guest.parse().map_err(|_| wrong())?));
        }
        Ok(Self::User { forward, restricted, links: 1 })
    }
}

/// A machine to run an image on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The image: what the machine is, and what a direct start takes the kernel from.
    pub image: PathBuf,
    /// Memory in MiB.
    pub memory: u32,
    /// Processors.
    pub cpus: u32,
    /// How the kernel is started.
    pub firmware: Firmware,
    /// What it boots from.
    pub medium: Medium,
    /// How that is attached.
    pub bus: Bus,
    /// The medium's size in bytes, if that is more than the image's.
    pub size: u64,
    /// A second medium of the same image, as if two cards had been flashed.
    pub second: Option<Bus>,
    /// Disks besides.
    pub disks: Vec<Disk>,
    /// The network.
    pub network: Network,
    /// Kernel arguments besides the image's own.
    pub kernel_arguments: String,
    /// The accelerator; `None` for what a probe finds.
    pub accelerator: Option<Accelerator>,
}

/// A medium of this size has room for a state partition and some use of it.
pub const DEFAULT_SIZE: u64 = 8 << 30;

impl Machine {
    /// A machine with 2 GiB and two processors, no network, UEFI, and a copy of the image on virtio.
    pub fn new(image: impl Into<PathBuf>) -> Self {
        Self {
            image: image.into(),
            memory: 2048,
            cpus: 2,
            firmware: Firmware::Uefi { secure_boot: false },
            medium: Medium::Copy,
            bus: Bus::Virtio,
            size: DEFAULT_SIZE,
            second: None,
            disks: Vec::new(),
            network: Network::None,
            kernel_arguments: String::new(),
            accelerator: None,
        }
    }

    /// Makes the machine's files and finds its programs.
    ///
    /// # Errors
    /// When the image isn't one, something isn't installed, or a file can't be made.
    pub(crate) fn set_up(&self) -> Result<Setup, VmError> {
        let contents = image::read(&self.image)?;
        let (program, packages) = emulator(contents.manifest.board.arch);
        let program = door::find(program).ok_or(VmError::NoQemu { program, packages })?;
        if self.bus == Bus::Sd && self.firmware != Firmware::Direct {
            return Err(VmError::Unsupported(
                "UEFI firmware doesn't boot from an SD card here; start it directly".into(),
            ));
        }
        // Not in /tmp, which may be kept in memory, unless TMPDIR says so.
        let base = std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
        let folder = tempfile::Builder::new().prefix("bakelite-vm-").tempdir_in(base).map_err(VmError::Prepare)?;
        let medium = self.make_medium(folder.path())?;
        let accelerator = match self.accelerator {
            Some(accelerator) => accelerator,
            None => crate::accel::choose(&program, &contents.kernel),
        };
        let start = self.make_start(&contents, medium.as_deref(), folder.path())?;
        let mut drives = Vec::new();
        if let Some(path) = &medium {
            drives.push(Drive { id: "boot".into(), path: path.clone(), bus: self.bus, snapshot: false });
        }
        if let Some(bus) = self.second {
            let path = folder.path().join("second.img");
            media::copy_sparse(&self.image, &path, bus.fitting(self.size))?;
            drives.push(Drive { id: "second".into(), path, bus, snapshot: false });
        }
        for (number, disk) in self.disks.iter().enumerate() {
            drives.push(self.make_disk(number, disk, folder.path())?);
        }
        Ok(Setup {
            program,
            name: contents.manifest.image.clone(),
            machine: contents
                .manifest
                .board
                .qemu
                .machine
                .clone()
                .ok_or_else(|| VmError::Unsupported("its board has no `qemu` section".into()))?,
            cpu: contents.manifest.board.qemu.cpu.clone(),
            accelerator,
            memory: self.memory,
            cpus: self.cpus,
            start,
            drives,
            network: self.network.clone(),
            folder,
            medium,
        })
    }

    fn make_medium(&self, folder: &Path) -> Result<Option<PathBuf>, VmError> {
        let path = match &self.medium {
            Medium::Absent => return Ok(None),
            Medium::Copy => {
                let path = folder.join("boot.img");
                media::copy_sparse(&self.image, &path, self.size)?;
                path
            }
            Medium::Image => self.image.clone(),
            Medium::File(path) => path.clone(),
        };
        let file = std::fs::File::options().write(true).open(&path).map_err(at_file("opening", &path))?;
        let length = file.metadata().map_err(at_file("looking at", &path))?.len();
        let wanted = self.bus.fitting(length.max(self.size));
        if wanted > length {
            file.set_len(wanted).map_err(at_file("enlarging", &path))?;
        }
        Ok(Some(path))
    }

    fn keeps(&self) -> bool {
        matches!(self.medium, Medium::Image | Medium::File(_))
    }

    fn make_disk(&self, number: usize, disk: &Disk, folder: &Path) -> Result<Drive, VmError> {
        let id = format!("disk{number}");
        let path = disk.file(&if self.keeps() { beside(&self.image, &id) } else { folder.join(&id) })?;
        let snapshot = !self.keeps() && matches!(disk.source, Source::File(_));
        Ok(Drive { id, path, bus: disk.bus, snapshot })
    }

    fn make_start(&self, contents: &Contents, medium: Option<&Path>, folder: &Path) -> Result<Start, VmError> {
        match self.firmware {
            Firmware::Uefi { secure_boot } => {
                let variables = match medium.filter(|_| self.keeps()) {
                    Some(medium) => beside(medium, if secure_boot { "secure-boot.vars" } else { "uefi.vars" }),
                    None => folder.join("uefi.vars"),
                };
                let flash = firmware::prepare(contents.manifest.board.arch, secure_boot, &variables)?;
                Ok(Start::Flash(flash, self.kernel_arguments.clone()))
            }
            Firmware::Direct => {
                let put = |name: &str, bytes: &[u8]| {
                    let path = folder.join(name);
                    let mut file = std::fs::File::create(&path).map_err(at_file("making", &path))?;
                    std::io::Write::write_all(&mut file, bytes).map_err(at_file("writing", &path))?;
                    Ok::<_, VmError>(path)
                };
                let mut options = Cmdline::parse(&contents.options);
                options.add(&self.kernel_arguments);
                Ok(Start::Kernel {
                    kernel: put("vmlinuz", &contents.kernel)?,
                    initramfs: put("initrd", &contents.initramfs)?,
                    options: options.render(),
                })
            }
        }
    }
}

/// The emulator of an architecture, and the packages that bring it with its firmware.
pub(crate) fn emulator(arch: Arch) -> (&'static str, &'static str) {
    match arch {
        Arch::X86_64 => ("qemu-system-x86_64", "qemu-system-x86 ovmf"),
        Arch::Aarch64 => ("qemu-system-aarch64", "qemu-system-arm qemu-efi-aarch64"),
        Arch::Armv7 => ("qemu-system-arm", "qemu-system-arm"),
    }
}

fn beside(image: &Path, ending: &str) -> PathBuf {
    let mut name = image.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{ending}"));
    image.with_file_name(name)
}

/// A medium as QEMU gets it.
#[derive(Debug)]
pub(crate) struct Drive {
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
    /// What `-drive` gets.
    fn backend(&self) -> String {
        let snapshot = if self.snapshot { ",snapshot=on" } else { "" };
        // A killed QEMU loses nothing that the host's page cache has; flushing that to the host's disk proves nothing.
        format!(
            "if=none,id={},format=raw,cache=unsafe,discard=unmap,detect-zeroes=unmap{snapshot},file={}",
            self.id,
            escaped(&self.path)
        )
    }

    /// What `-device` gets; the boot medium comes before everything but a kernel that QEMU starts itself.
    fn device(&self, port: usize) -> Vec<String> {
        let Self { id, bus, .. } = self;
        let index = if id == "boot" { ",bootindex=1" } else { "" };
        let common = format!("drive={id},id={id}-device");
        match bus {
            Bus::Virtio => vec![format!("virtio-blk-pci,{common},serial={id}{index}")],
            Bus::Nvme => vec![format!("nvme,{common},serial={id}{index}")],
            Bus::Ahci => vec![format!("ide-hd,{common},bus=ide.{port},serial={id}{index}")],
            Bus::Usb => vec![format!("usb-storage,{common},bus=xhci.0,serial={id}{index}")],
            Bus::Sd => vec![format!("sdhci-pci,id={id}-host"), format!("sd-card,{common}")],
        }
    }
}

/// How QEMU starts the kernel.
#[derive(Debug)]
pub(crate) enum Start {
    /// By firmware in flash; the loader is handed more kernel arguments.
    Flash(Flash, String),
    /// By itself.
    Kernel { kernel: PathBuf, initramfs: PathBuf, options: String },
}

/// Where the machine's lines go.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lines<'a> {
    /// To sockets of these names in a folder; the machine waits for `cont`.
    Sockets(&'a Path),
    /// The console to this terminal, with QEMU's monitor behind Ctrl-A c.
    Terminal,
}

/// A machine whose files are made.
#[derive(Debug)]
pub(crate) struct Setup {
    pub program: PathBuf,
    pub name: String,
    pub machine: String,
    pub cpu: String,
    pub accelerator: Accelerator,
    pub memory: u32,
    pub cpus: u32,
    pub start: Start,
    pub drives: Vec<Drive>,
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
        add("-smp", self.cpus.to_string());
        add("-m", self.memory.to_string());
        add("-display", "none".into());
        add("-device", "VGA".into());
        add("-device", "qemu-xhci,id=xhci".into());
        self.add_start(&mut add);
        for (port, drive) in self.drives.iter().enumerate() {
            add("-drive", drive.backend());
            drive.device(port).into_iter().for_each(|device| add("-device", device));
        }
        self.add_network(&mut add);
        match lines {
            Lines::Sockets(folder) => {
                for name in ["console", "events", "qmp"] {
                    add("-chardev", format!("socket,id={name},path={}", escaped(&folder.join(name))));
                }
                add("-serial", "chardev:console".into());
                add("-serial", "chardev:events".into());
                add("-mon", "chardev=qmp,mode=control".into());
                all.push("-S".into());
            }
            Lines::Terminal => {
                add("-serial", "mon:stdio".into());
                add("-serial", "null".into());
            }
        }
        all.extend(["-nodefaults".into(), "-no-user-config".into()]);
        all
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
            Start::Kernel { kernel, initramfs, options } => {
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
            add(
                "-device",
                format!("virtio-net-pci,netdev=net{link},id=link{link},mac=52:54:00:ba:4e:{link:02x},romfile="),
            );
        }
    }
}

/// A path as QEMU's option lists want it.
pub(crate) fn escaped(path: &Path) -> String {
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
            accelerator: Accelerator::Tcg,
            memory: 512,
            cpus: 2,
            start,
            drives: vec![drive("boot", Bus::Ahci), drive("disk0", Bus::Nvme), drive("disk1", Bus::Sd)],
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
        let start = Start::Kernel { kernel: "/k".into(), initramfs: "/i".into(), options: "quiet a=b".into() };
        let expected = "-name bakelite-0123\n-machine q35\n-accel tcg,thread=multi\n-cpu max\n-smp 2\n-m 512
-display none\n-device VGA\n-device qemu-xhci,id=xhci\n-kernel /k\n-initrd /i\n-append quiet a=b
-drive if=none,id=boot,format=raw,cache=unsafe,discard=unmap,detect-zeroes=unmap,file=/m/boot,,x
-device ide-hd,drive=boot,id=boot-device,bus=ide.0,serial=boot,bootindex=1
-drive if=none,id=disk0,format=raw,cache=unsafe,discard=unmap,detect-zeroes=unmap,snapshot=on,file=/m/disk0,,x
-device nvme,drive=disk0,id=disk0-device,serial=disk0
-drive if=none,id=disk1,format=raw,cache=unsafe,discard=unmap,detect-zeroes=unmap,file=/m/disk1,,x
-device sdhci-pci,id=disk1-host\n-device sd-card,drive=disk1,id=disk1-device
-nic none
-chardev socket,id=console,path=/s/console\n-chardev socket,id=events,path=/s/events\n-chardev socket,id=qmp,path=/s/qmp
-serial chardev:console\n-serial chardev:events\n-mon chardev=qmp,mode=control\n-S\n-nodefaults\n-no-user-config";
        assert_eq!(text(&setup(start), Lines::Sockets(Path::new("/s"))), expected);
    }

    #[test]
    fn secure_boot_with_two_links_on_a_terminal() {
        let flash = Flash { code: "/c".into(), variables: "/v".into(), secure: true };
        let mut setup = setup(Start::Flash(flash, "a=b,c".into()));
        setup.drives.clear();
        setup.accelerator = Accelerator::Kvm;
        setup.network = Network::User { forward: vec![(2222, 22)], restricted: true, links: 2 };
        let expected = "-name bakelite-0123\n-machine q35,smm=on\n-accel kvm\n-cpu host\n-smp 2\n-m 512
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

    #[test]
    fn networks_as_people_write_them() {
        let user = |forward: &[(u16, u16)], restricted| Network::User { forward: forward.into(), restricted, links: 1 };
        assert_eq!(Network::parse("none").unwrap(), Network::None);
        assert_eq!(Network::parse("user,6443").unwrap(), user(&[(6443, 6443)], false));
        assert_eq!(Network::parse("user,2222:22,restrict").unwrap(), user(&[(2222, 22)], true));
        for words in ["", "bridge", "none,22", "user,x", "user,1:2:3", "user,70000"] {
            assert!(matches!(Network::parse(words), Err(VmError::NetworkWords(_))), "{words}");
        }
    }
}
