//! A model of the Raspberry Pi's firmware: what it would load from a boot partition, for each model of the Pi. Pure.
//!
//! After the makers' documentation (config.txt: boot options, conditional filters, device trees). It is what lint proves
//! an image with, what QEMU is started with, and what a person's own lines of config.txt are checked by. What real
//! firmware does is seen on hardware only.

use super::config_txt::{Files, Read, number, read};
use super::models::{Chip, Model};
use super::{CONFIG, TRYBOOT};
use serde::Serialize;

/// What a model loads, by paths on the boot partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Loads {
    /// Firmware's own files.
    pub firmware: Vec<String>,
    /// The kernel.
    pub kernel: String,
    /// Whether it is started with 64 bits.
    pub sixty_four: bool,
    /// The device tree; without one only old kernels start.
    pub device_tree: Option<String>,
    /// The parts of the initramfs.
    pub initramfs: Vec<String>,
    /// Overlays of the device tree.
    pub overlays: Vec<String>,
    /// The file with the kernel's arguments.
    pub cmdline: Option<String>,
}

/// What firmware does with a boot partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Start {
    /// What it loads.
    pub loads: Loads,
    /// What doesn't go as it is written, each in words.
    pub problems: Vec<String>,
}

/// Plays a model's firmware on a boot partition; `tryboot` where it was told to try.
pub fn start(model: &Model, files: &dyn Files, tryboot: bool) -> Start {
    let config = read(if tryboot { TRYBOOT } else { CONFIG }, files, model, tryboot);
    let mut player = Player { model, files, config: &config, problems: config.problems.clone() };
    let loads = player.play();
    Start { loads, problems: player.problems }
}

struct Player<'a> {
    model: &'a Model,
    files: &'a dyn Files,
    config: &'a Read,
    problems: Vec<String>,
}

impl Player<'_> {
    fn play(&mut self) -> Loads {
        let (kernel, sixty_four) = self.kernel();
        let trees = self.device_trees();
        let prefix = self.prefix(&kernel, &trees);
        let is_there = |name: &&String| self.files.has(&path(&prefix, name));
        let device_tree = trees.iter().find(is_there).or(trees.first()).map(|name| path(&prefix, name));
        let loads = Loads {
            firmware: self.firmware(),
            kernel: path(&prefix, &kernel),
            sixty_four,
            device_tree,
            initramfs: self.initramfs(&prefix),
            overlays: self.overlays(&prefix),
            cmdline: Some(path(&prefix, self.config.value("cmdline").unwrap_or("cmdline.txt"))),
        };
        self.look(&loads);
        loads
    }

    /// The kernel's name, and whether it is started with 64 bits.
    fn kernel(&mut self) -> (String, bool) {
        let named = self.config.value("kernel").filter(|name| !name.is_empty());
        // A name that firmware knows says more than the setting.
        let by_name = match named {
            Some("kernel8.img" | "kernel_2712.img") => Some(true),
            Some("kernel.img" | "kernel7.img" | "kernel7l.img") => Some(false),
            _ => None,
        };
        let said = self.config.is_on("arm_64bit");
        let sixty_four = by_name.or(said).unwrap_or(self.model.prefers_64_bits());
        if self.model.chip == Chip::Bcm2836 && sixty_four {
            self.problems.push(format!("the {} has no 64 bits, and is told to start with them", self.model.title));
        }
        let mut kernel = named.unwrap_or(self.model.kernel(sixty_four));
        // The one default that has a second choice.
        if named.is_none() && kernel == "kernel_2712.img" && !self.files.has(kernel) {
            kernel = "kernel8.img";
        }
        (kernel.into(), sixty_four)
    }

    /// The names that the device tree may have, the best first.
    fn device_trees(&self) -> Vec<String> {
        match self.config.value("device_tree") {
            Some("") => Vec::new(),
            Some(name) => vec![name.into()],
            None if self.config.is_on("upstream_kernel") == Some(true) => {
                vec![self.model.upstream.into(), self.model.downstream.into()]
            }
            None => vec![self.model.downstream.into()],
        }
    }

    /// The prefix of the system's files: what is set, unless kernel or device tree aren't there.
    fn prefix(&mut self, kernel: &str, trees: &[String]) -> String {
        let upstream = self.config.is_on("upstream_kernel") == Some(true);
        let said = self.config.value("os_prefix");
        let prefix = said.unwrap_or(if upstream { "upstream/" } else { "" });
        let has_tree = trees.is_empty() || trees.iter().any(|name| self.files.has(&path(prefix, name)));
        if prefix.is_empty() || (self.files.has(&path(prefix, kernel)) && has_tree) {
            return prefix.into();
        }
        if said.is_some() {
            let missing = if has_tree { kernel } else { trees.first().map_or(kernel, String::as_str) };
            self.problems.push(format!("os_prefix={prefix} is ignored, as there is no {}", path(prefix, missing)));
        }
        String::new()
    }

    /// Firmware's own files: which variant of them depends on settings.
    fn firmware(&self) -> Vec<String> {
        let variant = match self.config.value("gpu_mem").and_then(number) {
            Some(..=16) => "cd",
            _ if self.config.is_on("start_debug") == Some(true) => "db",
            _ if self.config.is_on("start_x") == Some(true) => "x",
            _ => "",
        };
        let mut names: Vec<String> = self.model.loader().iter().map(ToString::to_string).collect();
        if let Some((start, fixup)) = self.model.start(variant) {
            names.push(self.config.value("start_file").map_or(start, String::from));
            names.push(self.config.value("fixup_file").map_or(fixup, String::from));
        }
        names
    }

    fn initramfs(&self, prefix: &str) -> Vec<String> {
        let said = self.config.value("initramfs").and_then(|value| value.split_whitespace().next());
        let names = said.or(self.config.value("ramfsfile")).unwrap_or_default();
        names.split(',').filter(|name| !name.is_empty()).map(|name| path(prefix, name)).collect()
    }

    fn overlays(&self, prefix: &str) -> Vec<String> {
        let folder = self.config.value("overlay_prefix").unwrap_or("overlays/");
        let own = format!("{prefix}{folder}");
        let folder = if self.files.has(&format!("{own}README")) { own } else { folder.into() };
        let overlays = self.config.settings.iter().filter(|setting| setting.key == "dtoverlay");
        let names = overlays.filter_map(|setting| setting.value.split([',', ':']).next());
        names.filter(|name| !name.is_empty()).map(|name| format!("{folder}{name}.dtbo")).collect()
    }

    /// What is to be loaded and isn't there.
    fn look(&mut self, loads: &Loads) {
        let first = [&loads.kernel].into_iter().chain(&loads.device_tree).chain(&loads.cmdline);
        let all = loads.firmware.iter().chain(first).chain(&loads.initramfs).chain(&loads.overlays);
        let missing: Vec<&String> = all.filter(|path| !self.files.has(path)).collect();
        self.problems.extend(missing.into_iter().map(|path| format!("/{path} is to be loaded, and is not there")));
        if loads.device_tree.is_none() {
            self.problems.push("no device tree is to be loaded, without which the kernel finds nothing".into());
        }
    }
}

/// A system file's path: with the prefix in front, unless its name begins at the root.
fn path(prefix: &str, name: &str) -> String {
    name.strip_prefix('/').map_or_else(|| format!("{prefix}{name}"), String::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pi::config_txt::testing::Card;
    use crate::pi::models::find;

    const CONFIG_TEXT: &str =
        "arm_64bit=1\nupstream_kernel=1\nkernel=vmlinuz\ninitramfs initrd followkernel\ninclude commit.txt\n";

    /// A card with what all models need, and a config.txt.
    fn card(text: &str) -> Card {
        let mut card = Card::of(&[
            ("config.txt", text),
            ("commit.txt", "os_prefix=bakelite/a/\ncmdline=cmdline-1.txt\n"),
            ("bakelite/a/cmdline-1.txt", "quiet"),
        ]);
        for name in ["vmlinuz", "initrd", "bcm2837-rpi-3-b.dtb", "bcm2711-rpi-4-b.dtb", "bcm2712-rpi-5-b.dtb"] {
            card.put(&format!("bakelite/a/{name}"), "");
        }
        for name in ["bootcode.bin", "start.elf", "fixup.dat", "start4.elf", "fixup4.dat"] {
            card.put(name, "");
        }
        card
    }

    fn play(card: &Card, model: &str) -> Start {
        start(find(model).unwrap(), card, false)
    }

    #[test]
    fn each_model_loads_its_own() {
        for (model, tree, firmware) in [
            ("3b", "bcm2837-rpi-3-b.dtb", &["bootcode.bin", "start.elf", "fixup.dat"][..]),
            ("4b", "bcm2711-rpi-4-b.dtb", &["start4.elf", "fixup4.dat"]),
            ("5", "bcm2712-rpi-5-b.dtb", &[]),
        ] {
            let Start { loads, problems } = play(&card(CONFIG_TEXT), model);
            assert!(problems.is_empty(), "{model}: {problems:?}");
            assert_eq!((loads.kernel.as_str(), loads.sixty_four), ("bakelite/a/vmlinuz", true));
            assert_eq!(loads.device_tree, Some(format!("bakelite/a/{tree}")));
            assert_eq!(
                (loads.initramfs, loads.firmware),
                (vec!["bakelite/a/initrd".to_string()], firmware.iter().map(ToString::to_string).collect())
            );
            assert_eq!(loads.cmdline.as_deref(), Some("bakelite/a/cmdline-1.txt"));
        }
    }

    #[test]
    fn a_prefix_without_kernel_or_tree_is_ignored() {
        for name in ["vmlinuz", "bcm2837-rpi-3-b.dtb"] {
            let mut card = card(CONFIG_TEXT);
            card.0.remove(&format!("bakelite/a/{name}"));
            let Start { loads, problems } = play(&card, "3b");
            assert_eq!(loads.kernel, "vmlinuz");
            assert!(problems[0].starts_with("os_prefix=bakelite/a/ is ignored"), "{problems:?}");
        }
        // The prefix that upstream_kernel brings is given up without a word.
        let mut plain = card("upstream_kernel=1\n");
        for name in ["kernel8.img", "bcm2711-rpi-4-b.dtb", "cmdline.txt"] {
            plain.put(name, "");
        }
        let Start { loads, problems } = play(&plain, "4b");
        assert_eq!((loads.kernel.as_str(), problems.len()), ("kernel8.img", 0), "{problems:?}");
        plain.put("upstream/kernel8.img", "");
        plain.put("upstream/bcm2711-rpi-4-b.dtb", "");
        assert_eq!(play(&plain, "4b").loads.kernel, "upstream/kernel8.img");
    }

    #[test]
    fn without_a_word_each_model_has_its_own_names() {
        let kernel = |model, text: &str| play(&card(text), model).loads;
        assert_eq!(kernel("2b", "").kernel, "kernel7.img");
        assert_eq!(kernel("3b", "").device_tree.as_deref(), Some("bcm2710-rpi-3-b.dtb"));
        assert_eq!(kernel("3b", "arm_64bit=1").kernel, "kernel8.img");
        assert_eq!(kernel("4b", "").kernel, "kernel8.img");
        assert_eq!(kernel("4b", "arm_64bit=0").kernel, "kernel7l.img");
        assert_eq!(kernel("5", "").kernel, "kernel8.img");
        assert!(!kernel("4b", "kernel=kernel7l.img\narm_64bit=1").sixty_four);
        assert_eq!(kernel("4b", "kernel=/a/b").kernel, "a/b");
        assert!(play(&card(CONFIG_TEXT), "2b").problems.iter().any(|problem| problem.contains("no 64 bits")));
    }

    #[test]
    fn other_variants_of_firmware_and_overlays_have_to_be_there() {
        let problems = |more: &str| play(&card(&format!("{CONFIG_TEXT}{more}")), "4b").problems;
        assert_eq!(problems("gpu_mem=16").len(), 2);
        assert!(problems("start_x=1")[0].contains("start4x.elf"));
        assert!(problems("dtoverlay=disable-bt,x=1")[0].contains("/overlays/disable-bt.dtbo"));
        assert!(problems("device_tree=")[0].contains("no device tree"));
        let mut own = card(&format!("{CONFIG_TEXT}dtoverlay=disable-bt"));
        own.put("bakelite/a/overlays/README", "");
        own.put("bakelite/a/overlays/disable-bt.dtbo", "");
        let Start { loads, problems } = play(&own, "4b");
        assert_eq!((loads.overlays, problems.len()), (vec!["bakelite/a/overlays/disable-bt.dtbo".into()], 0));
    }

    #[test]
    fn what_is_tried_has_a_file_of_its_own() {
        let mut card = card(CONFIG_TEXT);
        let model = find("4b").unwrap();
        assert!(start(model, &card, true).problems[0].contains("/tryboot.txt is not there"));
        card.put("tryboot.txt", &CONFIG_TEXT.replace("commit", "trycommit"));
        card.put("trycommit.txt", "os_prefix=bakelite/b/\ncmdline=cmdline-1.txt\n");
        for name in ["vmlinuz", "initrd", "bcm2711-rpi-4-b.dtb", "cmdline-1.txt"] {
            card.put(&format!("bakelite/b/{name}"), "");
        }
        let tried = start(model, &card, true);
        assert_eq!((tried.loads.kernel.as_str(), tried.problems.len()), ("bakelite/b/vmlinuz", 0));
        assert_eq!(start(model, &card, false).loads.kernel, "bakelite/a/vmlinuz");
    }
}
