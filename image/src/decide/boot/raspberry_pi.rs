//! The Raspberry Pi: its makers' firmware, config.txt, and in the slot's folder kernel, initramfs, Debian's device trees and
//! the kernel's arguments. No other boot loader.
//!
//! What is started is said by the one file that config.txt includes ([`bakelite_spec::pi`]). tryboot.txt is laid out from
//! the start; until there are updates it says the same. A person's own lines stand last, and must not change what is started.

use super::{MissingFile, entry};
use crate::config::Config;
use crate::tree::Tree;
use bakelite_spec::appliance::{Appliance, BoardChoice};
use bakelite_spec::board::{Arch, Board, Flow};
use bakelite_spec::finding::Finding;
use bakelite_spec::pi::config_txt::Files;
use bakelite_spec::pi::firmware::start;
use bakelite_spec::pi::models::{Model, find};
use bakelite_spec::pi::{self, COMMIT, CONFIG, Commit, INITRAMFS, KERNEL, LINE, TRY_COMMIT, TRYBOOT};

/// Where Debian's package has the makers' firmware.
pub(super) const FIRMWARE: &str = "usr/lib/raspi-firmware";

impl Files for Tree {
    fn has(&self, path: &str) -> bool {
        self.entries().any(|(other, _)| other.eq_ignore_ascii_case(path))
    }

    fn text(&self, path: &str) -> Option<String> {
        let (own, _) = self.entries().find(|(other, _)| other.eq_ignore_ascii_case(path))?;
        Some(String::from_utf8_lossy(&self.blob(own)?.read().ok()?).into_owned())
    }
}

fn models(board: &Board) -> impl Iterator<Item = &'static Model> {
    board.boot.models.iter().filter_map(|name| find(name))
}

/// Firmware's own files for a board's models, each once.
fn firmware(board: &Board) -> Vec<String> {
    let of_model = |model: &'static Model| {
        let start = model.start("").into_iter().flat_map(|(start, fixup)| [start, fixup]);
        model.loader().iter().map(ToString::to_string).chain(start)
    };
    let mut names: Vec<String> = models(board).flat_map(of_model).collect();
    names.sort();
    names.dedup();
    names
}

/// config.txt, or what is read instead for a try.
fn config_txt(board: &Board, appliance: &Appliance, commit: &str) -> String {
    let sixty_four = u8::from(board.arch != Arch::Armv7);
    let upstream = u8::from(!board.kernel.downstream);
    let mut text = format!(
        "# Bakelite's. A line of your own belongs into `board.config-txt` of the appliance.\n\
         [all]\narm_64bit={sixty_four}\nenable_uart=1\nupstream_kernel={upstream}\nkernel={KERNEL}\n\
         initramfs {INITRAMFS} followkernel\ninclude {commit}\n"
    );
    for line in board.boot.config.iter().chain(&appliance.board.config_txt) {
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// The files that stay as they are.
pub(super) fn loader(config: &Config, packages: &Tree, release: &str, slot: &str) -> Result<Tree, MissingFile> {
    let board = &config.board;
    let mut tree = Tree::default();
    for name in firmware(board) {
        let path = format!("{FIRMWARE}/{name}");
        let missing =
            || MissingFile { path: path.clone(), needed_for: "the Raspberry Pi's firmware starts with".into() };
        tree.file(&name, 0o644, packages.blob(&path).ok_or_else(missing)?.clone());
    }
    let of_makers = board.kernel.downstream;
    for model in models(board) {
        let wanted = model.device_tree(of_makers);
        let missing = || MissingFile {
            path: wanted.into(),
            needed_for: format!(
                "is the device tree of the {}; the kernel of `kernel.package` ({}, {release}) doesn't know this model",
                model.title, board.kernel.package
            ),
        };
        let found = device_tree(board, packages, release, wanted).ok_or_else(missing)?;
        for name in model.device_trees(of_makers) {
            if let Some(blob) = packages.blob(&found) {
                tree.file(&format!("{}{name}", pi::folder(slot)), 0o644, blob.clone());
            }
        }
    }
    add_texts(&mut tree, board, &config.appliance);
    Ok(tree)
}

fn add_texts(tree: &mut Tree, board: &Board, appliance: &Appliance) {
    tree.file(CONFIG, 0o644, config_txt(board, appliance, COMMIT));
    tree.file(TRYBOOT, 0o644, config_txt(board, appliance, TRY_COMMIT));
}

/// Where the packages have a device tree: below one of the board's folders, in whatever folder there.
fn device_tree(board: &Board, packages: &Tree, release: &str, name: &str) -> Option<String> {
    board.kernel.device_trees.iter().find_map(|place| {
        let place = super::device_trees(place, release);
        let is_it =
            |path: &str| path.starts_with(&place) && path.strip_suffix(name).is_some_and(|rest| rest.ends_with('/'));
        packages.entries().map(|(path, _)| path).find(|path| is_it(path)).map(String::from)
    })
}

/// Adds the kernel's arguments, and says that they are what is started, also when it is tried.
pub(super) fn add_generation(tree: &mut Tree, config: &Config, slot: &str) {
    let (line, set) = pi::files(&entry(config, slot, ""));
    let commit = Commit { slot: slot.into(), generation: 1 };
    tree.file(&format!("{}{}", pi::folder(slot), pi::arguments(1)), 0o644, line);
    if let Some(set) = set {
        tree.file(&format!("{}{}", pi::folder(slot), pi::set(1)), 0o644, set);
    }
    for name in [COMMIT, TRY_COMMIT] {
        tree.file(name, 0o644, commit.render());
    }
}

/// What is wrong with a person's own lines of config.txt: the firmware's model is played with them and without.
pub fn contradictions(appliance: &Appliance, board: &Board) -> Vec<Finding> {
    let lines = &appliance.board.config_txt;
    if lines.is_empty() {
        return Vec::new();
    }
    if board.boot.flow != Flow::RaspberryPi {
        let hint = "taking the lines out, or a Raspberry Pi's board";
        return vec![Finding::error("board.config-txt", "means nothing to this board, which has no config.txt", hint)];
    }
    let mut findings = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let problem = match line {
            _ if line.contains('\n') => "holds a line end; each line is an entry of its own".into(),
            _ if line.chars().count() > LINE => format!("is longer than the {LINE} letters that firmware reads"),
            _ => continue,
        };
        findings.push(Finding::error(format!("board.config-txt[{number}]"), problem, "a shorter line"));
    }
    let bare = BoardChoice { config_txt: Vec::new(), ..appliance.board.clone() };
    let without = Appliance { board: bare, ..appliance.clone() };
    let (before, after) = (sketch(board, &without), sketch(board, appliance));
    for model in models(board) {
        let (was, is) = (start(model, &before, false), start(model, &after, false));
        let text = |tree: &Option<String>| tree.clone().unwrap_or_else(|| "none".into());
        let loaded = [
            ("kernel", was.loads.kernel.clone(), is.loads.kernel.clone()),
            ("device tree", text(&was.loads.device_tree), text(&is.loads.device_tree)),
            ("arguments", text(&was.loads.cmdline), text(&is.loads.cmdline)),
            ("initramfs", was.loads.initramfs.join(","), is.loads.initramfs.join(",")),
            ("64 bits", was.loads.sixty_four.to_string(), is.loads.sixty_four.to_string()),
        ];
        let changed = loaded.into_iter().filter(|(_, was, is)| was != is);
        let changed = changed.map(|(what, was, is)| format!("{what} {is} instead of {was}"));
        let news = is.problems.iter().filter(|problem| !was.problems.contains(problem)).cloned();
        for problem in changed.chain(news) {
            let problem = format!("contradicts what is started: on a {}, {problem}", model.title);
            let hint = "taking the line out; kernel arguments belong into `kernel.cmdline`";
            findings.push(Finding::error("board.config-txt", problem, hint));
        }
    }
    findings
}

/// The boot partition by its names alone, before there are packages.
fn sketch(board: &Board, appliance: &Appliance) -> Tree {
    let mut tree = Tree::default();
    let folder = pi::folder(super::SLOT);
    let trees = models(board).map(|model| model.device_tree(board.kernel.downstream).to_string());
    let of_slot = trees.chain([KERNEL.into(), INITRAMFS.into(), pi::arguments(1)]);
    for name in of_slot.map(|name| format!("{folder}{name}")).chain(firmware(board)) {
        tree.file(&name, 0o644, "");
    }
    add_texts(&mut tree, board, appliance);
    for name in [COMMIT, TRY_COMMIT] {
        tree.file(name, 0o644, Commit { slot: super::SLOT.into(), generation: 1 }.render());
    }
    tree
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::boot;

    const RELEASE: &str = "6.6-other";

    fn config(text: &str) -> Config {
        crate::config::read("a.yaml", text, "".into()).unwrap()
    }

    fn packages(places: &[&str]) -> Tree {
        let mut tree = Tree::default();
        for name in ["start4.elf", "fixup4.dat"] {
            tree.file(&format!("{FIRMWARE}/{name}"), 0o644, name);
        }
        places.iter().for_each(|place| tree.file(place, 0o644, "tree"));
        tree
    }

    #[test]
    fn both_places_of_debians_are_looked_into_and_a_missing_tree_is_told() {
        let mut config = config("board: rpi4\n");
        config.board.boot.models = vec!["4b".into()];
        for place in ["linux-image-6.6-other/broadcom", "modules/6.6-other/dtb/broadcom"] {
            let packages = packages(&[&format!("usr/lib/{place}/bcm2711-rpi-4-b.dtb")]);
            assert!(boot::loader(&config, &packages, RELEASE).is_ok(), "{place}");
        }
        let others = packages(&[
            "usr/lib/linux-image-6.5/broadcom/bcm2711-rpi-4-b.dtb",
            "usr/lib/linux-image-6.6-other/x-bcm2711-rpi-4-b.dtb",
        ]);
        let error = boot::loader(&config, &others, RELEASE).unwrap_err().to_string();
        assert!(
            error.contains("device tree of the Pi 4 B") && error.contains("(linux-image-arm64, 6.6-other)"),
            "{error}"
        );
    }

    #[test]
    fn a_cards_texts_and_what_a_person_adds_to_them() {
        let config =
            config("board: {name: rpi4, config-txt: [dtparam=audio=off]}\nkernel: {cmdline: [nosmt, loglevel=6]}\n");
        let trees = ["4-b", "400", "cm4-io"]
            .map(|name| format!("usr/lib/linux-image-{RELEASE}/broadcom/bcm2711-rpi-{name}.dtb"));
        let packages = packages(&trees.each_ref().map(String::as_str));
        let loader = boot::loader(&config, &packages, RELEASE).unwrap();
        let tree = boot::partition(&loader, &config, "0", "0", "kernel".into(), "initramfs".into());
        let text = tree.text("config.txt").unwrap();
        assert!(text.ends_with("include commit.txt\n[cm4]\notg_mode=1\n[all]\ndtparam=audio=off\n"), "{text}");
        assert_eq!(tree.text("tryboot.txt").unwrap(), text.replace("commit.txt", "trycommit.txt"));
        let line = tree.text("bakelite/a/cmdline-1.txt").unwrap();
        assert!(
            line.ends_with(" quiet panic=30 usb-storage.quirks=152d:0578:u,152d:1561:u nosmt loglevel=6\n"),
            "{line}"
        );
        assert_eq!(tree.text("bakelite/a/cmdline-1.set").unwrap(), "#set nosmt loglevel=6\n#was loglevel=4\n");
    }
}
