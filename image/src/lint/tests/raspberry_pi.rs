//! A Raspberry Pi's card: whole, and broken in one thing each.

use super::*;
use crate::tree::Tree;
use bakelite_spec::pi::{COMMIT, Commit, TRY_COMMIT, TRYBOOT};

/// The parts of an image for a board with two models.
fn card() -> Parts {
    let mut parts = parts();
    let config = crate::config::read("a.yaml", "board: rpi3\nk3s: rehearsal\n", "".into()).unwrap();
    let mut packages = Tree::default();
    let release = RELEASE;
    for name in ["bootcode.bin", "start.elf", "fixup.dat"] {
        packages.file(&format!("usr/lib/raspi-firmware/{name}"), 0o644, name);
    }
    for model in bakelite_spec::pi::models::MODELS {
        packages.file(&format!("usr/lib/linux-image-{release}/broadcom/{}", model.upstream), 0o644, model.name);
    }
    let loader = crate::decide::boot::loader(&config, &packages, release).unwrap();
    let kernel = vec![7u8; 20_000].into();
    parts.boot = crate::decide::boot::partition(&loader, &config, "0", "0", kernel, "".into());
    parts.boot.retain(|path, _| path != "bakelite/a/initrd");
    parts.scheme = Scheme::Mbr;
    parts.manifest["board"] = serde_json::to_value(&config.board).unwrap();
    parts.manifest["board-name"] = "rpi3".into();
    parts.settings = serde_json::to_value(&config.effective).unwrap();
    for name in ["init", "firstboot", "payload/rehearsal-k3s"] {
        parts.root.file(&format!("usr/lib/bakelite/{name}"), 0o755, program(183));
    }
    parts.manifest["payload"]["files"][0]["sha256"] = sum(&program(183)).into();
    parts
}

fn broken(change: impl Fn(&mut Tree)) -> Vec<&'static str> {
    let mut parts = card();
    change(&mut parts.boot);
    bake(parts).broken()
}

fn say(tree: &mut Tree, path: &str, from: &str, to: &str) {
    let text = String::from_utf8(tree.blob(path).unwrap().read().unwrap()).unwrap();
    assert!(text.contains(from), "{path}: {text}");
    tree.file(path, 0o644, text.replacen(from, to, 1));
}

#[test]
fn a_whole_card_is_proved_by_every_rule() {
    for verdict in lint(&bake(card()).path).unwrap() {
        assert_eq!(verdict.outcome, Outcome::Proved, "{}", verdict.rule);
    }
}

#[test]
fn what_firmware_would_trip_over_is_found() {
    assert_eq!(broken(|boot| boot.retain(|path, _| path != "start.elf")), ["pi-firmware"]);
    assert_eq!(broken(|boot| boot.retain(|path, _| !path.ends_with("zero-2-w.dtb"))), ["pi-firmware"]);
    assert_eq!(broken(|boot| boot.retain(|path, _| path != TRYBOOT)), ["pi-firmware"]);
    assert_eq!(broken(|boot| say(boot, "config.txt", "arm_64bit=1", "arm_64bit=0")), ["pi-firmware"]);
    assert_eq!(broken(|boot| say(boot, "config.txt", "initramfs initrd", "initramfs=initrd")), ["pi-firmware"]);
    assert_eq!(broken(|boot| say(boot, "config.txt", "include commit.txt", "")), ["pi-firmware"]);
    let other = Commit { slot: "b".into(), generation: 1 };
    assert_eq!(broken(|boot| boot.file(TRY_COMMIT, 0o644, other.render())), ["pi-firmware", "pi-commit"]);
    assert_eq!(broken(|boot| say(boot, COMMIT, "cmdline-1", "cmdline-2")), ["pi-firmware", "pi-commit"]);
    assert_eq!(broken(|boot| say(boot, COMMIT, "######", "")), ["pi-commit"], "another length");
    let arguments = "bakelite/a/cmdline-1.txt";
    assert_eq!(broken(|boot| say(boot, arguments, "slot=a", "slot=b")), ["pi-firmware"]);
    assert_eq!(broken(|boot| say(boot, arguments, "quiet", "")), ["cmdline"]);
    assert_eq!(broken(|boot| say(boot, arguments, "quiet", "quiet cgroup_disable=memory")), ["cgroups"]);
}

#[test]
fn a_card_with_room_for_one_slot_only_is_found() {
    assert_eq!(broken(|boot| boot.file("bakelite/a/more.dtb", 0o644, vec![1; 300 << 20])), ["update-room"]);
    // The makers' firmware is there once for both slots.
    assert!(broken(|boot| boot.file("start4.elf", 0o644, vec![1; 300 << 20])).is_empty());
}

#[test]
fn a_table_of_the_wrong_kind_is_found() {
    let mut parts = parts();
    parts.manifest["board"]["boot"]["flow"] = "raspberry-pi".into();
    assert_eq!(bake(parts).broken(), ["partition-table"]);
    let image = bake(card());
    image.flip(446 + 4);
    assert_eq!(image.broken(), ["gpt-whole", "slot-footer"], "no MBR of ours, and no GPT");
}
