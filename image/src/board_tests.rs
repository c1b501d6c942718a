//! What each board's image is made of, as far as no mirror is asked: compared with the files in tests/boards.
//!
//! After a change that is meant: `BAKELITE_BLESS=1 cargo test -p bakelite-image board`, and read the difference.

use crate::boards::{self, BOARDS};
use crate::config::{self, Config};
use crate::decide::{boot, packages, units};
use bakelite_spec::appliance::Payload;
use bakelite_spec::layers::Layer;
use bakelite_spec::layout::{layout, slot_size};
use bakelite_spec::manifest::PayloadManifest;
use bakelite_spec::unit::Unit;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// An appliance that says a little of everything that a board might meddle with.
const APPLIANCE: &str = "hostname: shop-{serial}\nk3s: rehearsal\ndebug: true\nstorage: {settle: 3s}\n\
    ssh: {keys: [\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB me\"]}\n\
    kernel: {cmdline: [mitigations=off]}\n";

fn on(board: &str) -> Config {
    config::read("shop.yaml", &format!("board: {board}\n{APPLIANCE}"), PathBuf::new())
        .unwrap_or_else(|findings| panic!("{board}: {findings:?}"))
}

fn units_of(config: &Config) -> Vec<Unit> {
    let program = "/usr/lib/bakelite/rehearsal-k3s".into();
    let payload = PayloadManifest { kind: Payload::Rehearsal, version: String::new(), program, files: Vec::new() };
    units::units(&config.appliance, &config.board, &payload)
}

/// The part of the BuildPlan that neither a mirror nor a kernel package decides.
fn plan(name: &str) -> Value {
    let config = on(name);
    let board = &config.board;
    let modules = |sets: &[String]| boards::modules_of(sets, board.arch).unwrap();
    let layout = layout(board.boot.flow.scheme(), slot_size(config.appliance.image.slot_size, 0));
    let partition = |one: &bakelite_spec::layout::Partition| json!([one.role.label(), one.start, one.length]);
    json!({
        "arch": board.arch, "boot": board.boot, "kernel": board.kernel, "console": board.console, "watchdog": board.watchdog, "qemu": board.qemu,
        "packages": packages::wanted(board, &config.appliance),
        "modules": { "initramfs": modules(&board.modules.initramfs), "root": modules(&board.modules.root) },
        "cmdline": boot::cmdline(&config, "a"),
        "partitions": layout.partitions.iter().map(partition).collect::<Vec<_>>(),
        "units": units_of(&config).iter().map(|unit| format!("{}: {}", unit.name, unit.command.join(" "))).collect::<Vec<_>>(),
    })
}

#[test]
fn each_board_is_made_of_what_was_agreed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/boards");
    for (name, _) in BOARDS {
        let path = folder.join(format!("{name}.json"));
        let text = serde_json::to_string_pretty(&plan(name)).unwrap() + "\n";
        if std::env::var_os("BAKELITE_BLESS").is_some() {
            fs::create_dir_all(&folder).unwrap();
            crate::host::file::write(&path, text.as_bytes()).unwrap();
        }
        assert!(
            fs::read_to_string(&path).unwrap_or_default() == text,
            "{} is not this any more:\n{text}",
            path.display()
        );
    }
    assert_eq!(fs::read_dir(folder).unwrap().count(), BOARDS.len(), "a file of a board that there isn't");
}

#[test]
fn the_same_appliance_is_the_same_on_each_board_but_for_what_the_board_says() {
    let first = on(BOARDS[0].0);
    for (name, _) in BOARDS {
        let other = on(name);
        let own = |config: &Config| {
            let set = config.effective.set_by.iter().filter(|(_, layer)| **layer == Layer::Board);
            set.map(|(key, _)| key.clone()).collect::<Vec<_>>()
        };
        // What a board changes is its own word, and known as such.
        let said_by_boards = [own(&first), own(&other), vec!["board.name".into()]].concat();
        let common = |config: &Config| {
            let mut values = config.effective.values.clone();
            for key in &said_by_boards {
                values.pointer_mut(&format!("/{}", key.replace('.', "/"))).map(Value::take);
            }
            values
        };
        assert_eq!(common(&first), common(&other), "{name}");
        // The shell's terminal is the one thing in the units that a board says.
        let but_shell = |config: &Config| {
            let shell = |unit: &Unit| unit.name != "shell";
            units_of(config).into_iter().filter(shell).collect::<Vec<_>>()
        };
        assert_eq!(but_shell(&first), but_shell(&other), "{name}");
    }
}
