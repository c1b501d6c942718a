//! A machine as it is asked for, and the files that it needs: media, firmware's variables, a kernel to start.
//!
//! The board's own properties (machine, processor) come from the image's manifest. Nothing here starts anything; what
//! is made goes with the machine unless it was asked to keep what it writes.

use crate::accel::Accelerator;
use crate::attached::Attached;
use crate::door;
use crate::error::{VmError, at_file};
use crate::firmware;
use crate::image::{self, Contents};
use crate::media::{self, Bus, Disk, Source};
use crate::setup::{Drive, Recording, Setup, Start};
use bakelite_spec::board::{Arch, Board, Qemu};
use bakelite_spec::cmdline::Cmdline;
use std::path::{Path, PathBuf};

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

/// A recording of the writes to two media in the one order in which they were made (boot.md, section 6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// A file that is made to stand for both media, the boot medium first; the media themselves stay as they are.
    pub whole: PathBuf,
    /// The log, made by QEMU; whole only after [`crate::Running::end`].
    pub log: PathBuf,
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
    /// Whether its screen is virtio's, in place of the machine's usual one.
    pub virtio_screen: bool,
    /// What is attached besides.
    pub attached: Vec<Attached>,
    /// Disks besides.
    pub disks: Vec<Disk>,
    /// Where each write to the boot medium and to the first disk is recorded, if it is.
    pub record: Option<Record>,
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
            virtio_screen: false,
            attached: Vec::new(),
            disks: Vec::new(),
            record: None,
            network: Network::None,
            kernel_arguments: String::new(),
            accelerator: None,
        }
    }

    /// Whether the image's machine tells its events to whoever runs it.
    ///
    /// # Errors
    /// When the image isn't one.
    pub fn tells_events(&self) -> Result<bool, VmError> {
        Ok(image::read(&self.image)?.manifest.board.console.events.is_some())
    }

    /// The architecture that the image is for.
    ///
    /// # Errors
    /// When the image isn't one.
    pub fn arch(&self) -> Result<Arch, VmError> {
        Ok(image::read(&self.image)?.manifest.board.arch)
    }

    /// What this host lacks to start the image's machine by any of these ways, if it lacks something.
    pub fn missing(&self, firmwares: &[Firmware]) -> Option<VmError> {
        let look = || {
            let board = image::read(&self.image)?.manifest.board;
            find_emulator(&board)?;
            for firmware in firmwares {
                if let Firmware::Uefi { secure_boot } = firmware {
                    firmware::find(board.arch, *secure_boot)?;
                }
            }
            Ok(())
        };
        look().err()
    }

    /// Makes the machine's files and finds its programs.
    ///
    /// # Errors
    /// When the image isn't one, something isn't installed, or a file can't be made.
    pub(crate) fn set_up(&self) -> Result<Setup, VmError> {
        let contents = image::read(&self.image)?;
        if contents.is_stick {
            // As it is: its table says how large it is, and no machine grows it.
            let machine = Self { bus: self.bus.of_stick(), size: 0, ..self.clone() };
            return machine.set_up_with(contents);
        }
        if contents.manifest.board.qemu.model.is_none() {
            return self.set_up_with(contents);
        }
        // A Raspberry Pi has one place for a card, and starts by what is on it; QEMU plays its firmware.
        if let Some(disk) = self.disks.iter().find(|disk| disk.bus != Bus::Usb) {
            return Err(VmError::Unsupported(format!("a Raspberry Pi has USB for disks, and no {:?}", disk.bus)));
        }
        let machine = Self { bus: Bus::Sd, firmware: Firmware::Direct, ..self.clone() };
        match &self.medium {
            Medium::File(path) => machine.set_up_with(image::read(path)?),
            Medium::Copy | Medium::Image | Medium::Absent => machine.set_up_with(contents),
        }
    }

    /// What a Raspberry Pi's firmware starts next from the medium as it is now; `tryboot` where it was told to try.
    ///
    /// # Errors
    /// When there is nothing on it that could be started.
    pub(crate) fn start_again(&self, setup: &Setup, tryboot: bool) -> Result<Start, VmError> {
        let medium = setup.medium.as_deref().unwrap_or(&self.image);
        let machine = Self { firmware: Firmware::Direct, ..self.clone() };
        machine.make_start(&image::read_as(medium, tryboot)?, Some(medium), setup.folder.path())
    }

    fn set_up_with(&self, contents: Contents) -> Result<Setup, VmError> {
        let board = &contents.manifest.board;
        let program = find_emulator(board)?;
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
            None => crate::accel::choose(&program, board.arch, &contents.kernel),
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
        let recording = self.record.as_ref().map(|record| record.prepare(&drives)).transpose()?;
        Ok(Setup {
            recording,
            program,
            name: contents.manifest.image.clone(),
            machine: board
                .qemu
                .machine
                .clone()
                .ok_or_else(|| VmError::Unsupported("its board has no `qemu` section".into()))?,
            cpu: board.qemu.cpu.clone(),
            arch: board.arch,
            fixed: board.qemu.model.is_some(),
            accelerator,
            memory: self.memory,
            cpus: self.cpus,
            virtio_screen: self.virtio_screen,
            attached: self.attached.clone(),
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

    /// Whether what is written stays; without a boot medium nothing says that it is thrown away.
    fn keeps(&self) -> bool {
        matches!(self.medium, Medium::Image | Medium::File(_) | Medium::Absent)
    }

    fn make_disk(&self, number: usize, disk: &Disk, folder: &Path) -> Result<Drive, VmError> {
        let id = disk.name.clone().unwrap_or_else(|| format!("disk{number}"));
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
                    device_tree: contents.device_tree.as_ref().map(|tree| put("tree.dtb", tree)).transpose()?,
                    options: options.render(),
                })
            }
        }
    }
}

impl Record {
    fn prepare(&self, drives: &[Drive]) -> Result<Recording, VmError> {
        let [boot, disk, ..] = drives else {
            return Err(VmError::Unsupported("a recording needs a boot medium and a disk".into()));
        };
        let parts = media::join(&[&boot.path, &disk.path], &self.whole)?;
        std::fs::File::create(&self.log).map_err(at_file("making", &self.log))?;
        Ok(Recording { whole: self.whole.clone(), log: self.log.clone(), parts })
    }
}

/// The emulator for a board; where it is missing, the error names the packages that bring it with its firmware. Not every QEMU has
/// every Raspberry Pi.
fn find_emulator(board: &Board) -> Result<PathBuf, VmError> {
    let (program, packages) = match board.arch {
        Arch::X86_64 => ("qemu-system-x86_64", "qemu-system-x86 ovmf"),
        Arch::Aarch64 => ("qemu-system-aarch64", "qemu-system-arm qemu-efi-aarch64"),
        Arch::Armv7 => ("qemu-system-arm", "qemu-system-arm"),
    };
    let path = door::find(program).ok_or(VmError::NoQemu { program, packages })?;
    if let Qemu { machine: Some(machine), model: Some(_), .. } = &board.qemu {
        let output = door::command(&path).args(["-machine", "help"]).output();
        let output = output.map_err(|source| VmError::Start { program: program.into(), source })?;
        if !lists(&String::from_utf8_lossy(&output.stdout), machine) {
            return Err(VmError::NoMachine { program, machine: machine.clone(), packages });
        }
    }
    Ok(path)
}

/// Whether QEMU's list of machines has one.
fn lists(help: &str, machine: &str) -> bool {
    help.lines().any(|line| line.split_whitespace().next() == Some(machine))
}

fn beside(image: &Path, ending: &str) -> PathBuf {
    let mut name = image.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{ending}"));
    image.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_qemu_that_is_too_old_for_a_machine_is_known_by_its_list() {
        let help = "Supported machines are:\nraspi0               Raspberry Pi Zero (revision 1.2)\n\
            raspi3b              Raspberry Pi 3B (revision 1.2)\nvirt                 QEMU 7.2 ARM Virtual Machine\n";
        assert!(lists(help, "raspi3b") && lists(help, "virt"));
        assert!(!lists(help, "raspi4b") && !lists(help, "raspi3") && !lists(help, "Raspberry"));
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
