//! An image with a kernel of another archive, as Raspberry Pi's makers publish theirs, by a board's properties alone: baked
//! from repositories of made-up packages, each signed by a key of its own, and read as the firmware reads it.

use crate::binaries::Binaries;
use crate::boards;
use crate::config::{self, Config};
use crate::decide::packages;
use crate::host::{file, tool};
use crate::opened::Opened;
use crate::prepare::Inputs;
use crate::progress::Silent;
use crate::source::lock::{Lock, LockRequest, make_lock};
use crate::source::testing::{FakeArchive, FakeKey, NOW, Published, RawEntry, cache, make_deb, publish_all};
use crate::{apply, firmware, payload, repositories, user};
use object::{Object, ObjectSection};
use std::ffi::OsStr;
use std::path::Path;

/// As those packages call their kernel.
const RELEASE: &str = "6.12.47+rpt-rpi-v8";

const BOARD: &str = "description: Raspberry Pi with a kernel of its makers\narch: aarch64\nextends: rpi3\n\
    boot: {flow: raspberry-pi, models: [3b, zero-2-w, 4b, cm4]}\n\
    kernel: {package: linux-image-rpi-v8, downstream: true, tryboot: true}\n\
    cmdline: [\"console=ttyS1,115200\", quiet, cgroup_enable=memory, cgroup_memory=1]\n";

/// Stands for depmod: writes the list of the modules that are there.
const DEPMOD: &str = r#"
#define _XOPEN_SOURCE 700
#include <ftw.h>
#include <stdio.h>
#include <string.h>

static FILE *list;
static size_t skip;

static int each(const char *path, const struct stat *about, int kind, struct FTW *place) {
    (void)about, (void)place;
    if (kind == FTW_F && strstr(path, ".ko")) fprintf(list, "%s:\n", path + skip);
    return 0;
}

int main(int count, char **words) {
    char folder[4096], path[4200];
    if (count != 4) return 1;
    snprintf(folder, sizeof folder, "%s/usr/lib/modules/%s/", words[2], words[3]);
    skip = strlen(folder);
    snprintf(path, sizeof path, "%smodules.dep", folder);
    list = fopen(path, "w");
    return !list || nftw(folder, each, 16, FTW_PHYS) || fclose(list);
}
"#;

fn debian(name: &str, arch: &'static str, entries: &[RawEntry<'_>]) -> Published {
    package(name, "1", arch, "", entries)
}

fn package(name: &str, version: &str, arch: &'static str, fields: &str, entries: &[RawEntry<'_>]) -> Published {
    Published {
        name: name.into(),
        version: version.into(),
        arch,
        fields: fields.into(),
        pool: format!("pool/{name}_{version}_{arch}.deb"),
        deb: make_deb(name, ".xz", entries),
    }
}

/// A kmod for this machine with what it is linked with.
fn kmod(folder: &Path) -> Published {
    let (source, program) = (folder.join("depmod.c"), folder.join("depmod"));
    file::write(&source, DEPMOD.as_bytes()).unwrap();
    let words = |more: &[&OsStr]| tool::run(OsStr::new("cc"), more, &[], None).unwrap().stdout;
    words(&[OsStr::new("-o"), program.as_os_str(), source.as_os_str()]);
    let library = String::from_utf8(words(&[OsStr::new("-print-file-name=libc.so.6")])).unwrap();
    let program = std::fs::read(program).unwrap();
    let elf = object::File::parse(&program[..]).unwrap();
    let loader = elf.section_by_name(".interp").unwrap().data().unwrap().to_vec();
    let loader = String::from_utf8(loader).unwrap();
    let [loader, library] = [loader.trim_end_matches('\0'), library.trim()].map(|path| std::fs::read(path).unwrap());
    let entries = [
        RawEntry::file("./usr/bin/kmod", &program),
        RawEntry::file("./usr/lib/host/ld-linux.so.1", &loader),
        RawEntry::file("./usr/lib/host/libc.so.6", &library),
    ];
    debian("kmod", "amd64", &entries)
}

/// The makers' repository: firmware newer than Debian's, the kernel with its own names of device trees, and overlays.
fn makers(config: &Config, lacking: &[&str]) -> Vec<Published> {
    let board = &config.board;
    let sets = [&board.modules.initramfs[..], &board.modules.root].concat();
    let module = crate::decide::modules::testing::module("depends=\0");
    let mut modules = boards::modules_of(&sets, board.arch).unwrap();
    modules.retain(|name| !lacking.contains(&name.as_str()));
    let modules: Vec<String> = modules
        .iter()
        .filter_map(|names| names.split('|').next())
        .map(|name| format!("./lib/modules/{RELEASE}/kernel/drivers/{name}.ko"))
        .collect();
    let trees = ["bcm2710-rpi-3-b", "bcm2710-rpi-zero-2-w", "bcm2711-rpi-4-b", "bcm2711-rpi-cm4"];
    let trees = trees.map(|name| format!("./usr/lib/linux-image-{RELEASE}/broadcom/{name}.dtb"));
    let kernel = format!("./boot/vmlinuz-{RELEASE}");
    let overlay = format!("./usr/lib/linux-image-{RELEASE}/overlays/vc4-kms-v3d.dtbo");
    let files = modules.iter().map(|path| RawEntry::file(path, &module));
    let files = files.chain(trees.iter().map(|path| RawEntry::file(path, path.as_bytes())));
    let files: Vec<_> =
        files.chain([RawEntry::file(&kernel, b"the makers' kernel"), RawEntry::file(&overlay, b"overlay")]).collect();
    let names = ["bootcode.bin", "start.elf", "fixup.dat", "start4.elf", "fixup4.dat"];
    let names = names.map(|name| format!("./usr/lib/raspi-firmware/{name}"));
    let firmware: Vec<_> = names.iter().map(|path| RawEntry::file(path, b"the makers' firmware")).collect();
    let real = format!("linux-image-{RELEASE}");
    vec![
        package("linux-image-rpi-v8", "1:6.12.47-1+rpt1", "arm64", &format!("Depends: {real}\n"), &[]),
        package(&real, "1:6.12.47-1+rpt1", "arm64", "", &files),
        package("raspi-firmware", "1:1.20250915-1", "arm64", "", &firmware),
    ]
}

struct World {
    debian: FakeArchive,
    config: Config,
    folder: tempfile::TempDir,
}

impl World {
    fn new(board: &str) -> Self {
        Self::without(board, &[])
    }

    /// The same, with a kernel that lacks some modules.
    fn without(board: &str, lacking: &[&str]) -> Self {
        let (debian_archive, key) = (FakeArchive::new(&[], &[]), FakeKey::new());
        let folder = tempfile::tempdir().unwrap();
        file::write(&folder.path().join("makers.gpg"), key.armored().as_bytes()).unwrap();
        let text = format!(
            "board: rpi3\nk3s: none\nrepositories:\n  - {{name: makers, url: \"{}\", suite: stable, key: makers.gpg, \
             fingerprint: {}, prefer: [raspi-firmware]}}\n",
            debian_archive.server.url("/makers"),
            key.id()
        );
        let mut config = config::read("shop.yaml", &text, folder.path().into()).unwrap();
        config.board = boards::read(board).unwrap();
        let wanted = packages::wanted(&config.board, &config.appliance);
        let of_debian = wanted.iter().filter(|name| **name != config.board.kernel.package);
        let mut packages: Vec<Published> = of_debian.map(|name| debian(name, "arm64", &[])).collect();
        packages.extend([kmod(folder.path()), debian("liblzma5", "amd64", &[])]);
        {
            let mut files = debian_archive.files.lock().unwrap();
            let archs = ["arm64", "amd64"];
            for (root, suite, packages) in [
                ("/debian", "trixie", &packages[..]),
                ("/debian", "trixie-updates", &[]),
                ("/debian-security", "trixie-security", &[]),
            ] {
                let names = format!("Codename: {suite}");
                publish_all(&mut files, &debian_archive.key, root, &names, "21 Nov 2026", &archs, packages);
            }
            // It has nothing for the machine that bakes.
            let names = "Codename: trixie\nSuite: stable";
            publish_all(&mut files, &key, "/makers", names, "21 Nov 2026", &["arm64"], &makers(&config, lacking));
        }
        Self { debian: debian_archive, config, folder }
    }

    fn lock(&self) -> Lock {
        let request = LockRequest {
            suite: "trixie".into(),
            arch: "arm64".into(),
            packages: packages::wanted(&self.config.board, &self.config.appliance),
            backports: packages::backports(&self.config.board),
            without: packages::without(&self.config.appliance),
            build_arch: "amd64".into(),
            tools: packages::TOOLS.iter().map(ToString::to_string).collect(),
            repositories: repositories::requested(&self.config),
        };
        let further = repositories::load(&self.config).unwrap();
        let (mirrors, keys) = (self.debian.mirrors(), self.debian.key.trusted());
        make_lock(&request, &mirrors, &keys, &further, &cache(self.folder.path(), false), NOW, &Silent).unwrap()
    }

    /// Bakes it, which proves it by lint's rules.
    fn bake(&self) -> Result<Opened, String> {
        let lock = self.lock();
        let (cache, mirrors) = (cache(self.folder.path(), false), self.debian.mirrors());
        lock.fetch(Some(&mirrors), &cache, &Silent).unwrap();
        let programs = self.folder.path().join("lib/aarch64");
        file::make_folder(&programs).unwrap();
        let mut program = b"\x7fELF\x02\x01\x01".to_vec();
        program.resize(64, 0);
        program[18] = 183;
        for name in ["init", "firstboot"] {
            file::write(&programs.join(name), &program).unwrap();
        }
        let binaries = Binaries::below(&self.folder.path().join("lib"), self.config.board.arch).unwrap();
        let (payload, user) = (payload::none(), user::load(&self.config).unwrap());
        let inputs = Inputs {
            config: &self.config,
            binaries: &binaries,
            lock: &lock,
            mirrors: Some(&mirrors),
            cache: &cache,
            payload: &payload,
            user: &user,
        };
        let output = self.folder.path().join("shop.img");
        let request = apply::Request { inputs, output: &output, force: false };
        apply::build(&request, &Silent).map_err(|error| error.to_string())?;
        Ok(Opened::new(&output).unwrap())
    }
}

#[test]
fn a_kernel_of_another_archive_is_a_matter_of_properties() {
    let world = World::new(BOARD);
    let lock = world.lock();
    let from = |name: &str| lock.packages.iter().find(|one| one.name == name).unwrap().suite.clone();
    assert_eq!((from("raspi-firmware"), from("linux-image-rpi-v8")), ("makers".into(), "makers".into()));
    assert_eq!(from("busybox-static"), "trixie");

    let image = world.bake().unwrap();
    let read = |path: &str| String::from_utf8(image.on_boot(path).unwrap()).unwrap();
    let starts = firmware::starts(&image).unwrap();
    assert_eq!(starts.len(), 2 * world.config.board.boot.models.len());
    let trees = ["bcm2710-rpi-3-b", "bcm2710-rpi-zero-2-w", "bcm2711-rpi-4-b", "bcm2711-rpi-cm4"];
    for (number, start) in starts.iter().enumerate() {
        assert!(start.problems.is_empty(), "{}: {:?}", start.model, start.problems);
        assert!(start.cmdline.ends_with(" cgroup_enable=memory cgroup_memory=1"), "{}", start.cmdline);
        let tree = start.loads.device_tree.as_deref().unwrap();
        assert_eq!(tree, format!("bakelite/a/{}.dtb", trees[number / 2]), "{}", start.model);
        assert!(read(tree).ends_with(&format!("broadcom/{}.dtb", trees[number / 2])));
        assert_eq!(read(&start.loads.kernel), "the makers' kernel");
        assert_eq!(start.loads.initramfs, ["bakelite/a/initrd"]);
        assert!(start.loads.firmware.iter().all(|path| read(path) == "the makers' firmware"));
    }
    let initramfs = image.initramfs.as_ref().unwrap();
    assert!(initramfs.keys().any(|path| path.starts_with(&format!("usr/lib/modules/{RELEASE}/"))));
    assert!(initramfs.contains_key("init"));
    assert_eq!(image.manifest.as_ref().unwrap().system.kernel, RELEASE);
}

#[test]
fn a_board_that_the_archives_kernel_does_not_know_stops_the_build() {
    // Debian's names are looked for, unless the board says that the kernel is the makers' own.
    let error = World::new(&BOARD.replace("downstream: true, ", "")).bake().err().unwrap();
    assert!(error.contains("no bcm2837-rpi-3-b.dtb") && error.contains("doesn't know this model"), "{error}");
    let pi5 = BOARD.replace("cmdline:", "modules: {initramfs: [system], root: [disks-pi5]}\ncmdline:");
    let world = World::without(&pi5, &["rp1_pci", "sdhci_brcmstb"]);
    let error = world.bake().err().unwrap();
    let words = "the package linux-image-rpi-v8 can't drive this board: it has no module rp1_pci, sdhci_brcmstb;";
    assert!(error.contains(words) && error.contains("`kernel.package`"), "{error}");
    let error = World::new(&BOARD.replace("[3b, zero-2-w, 4b, cm4]", "[\"400\"]")).bake().err().unwrap();
    assert!(error.contains("device tree of the Pi 400") && error.contains(RELEASE), "{error}");
}
