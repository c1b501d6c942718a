//! One whole small image, and for each rule one that breaks it and nothing else.

mod raspberry_pi;

use super::*;
use crate::parallel;
use crate::tree::{Blob, Entry, Node, Tree};
use crate::write::{cpio, fat as fat_writer, squashfs};
use bakelite_disk::footer::Footer;
use bakelite_disk::table::Table;
use bakelite_spec::hexadecimal::hexadecimal;
use bakelite_spec::layout::{self, Layout, RECORD, Role, Scheme};
use bakelite_spec::quantity::Size;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

const TIME: i64 = 1_763_719_271;
const RELEASE: &str = "6.12-test";

/// What an image is made of, to be spoilt before it is made.
struct Parts {
    root: Tree,
    initramfs: Tree,
    boot: Tree,
    manifest: serde_json::Value,
    settings: serde_json::Value,
    /// Changes what the boot partition holds after the manifest was made.
    afterwards: fn(&mut Tree),
    /// The initramfs's settings are private.
    mode: u16,
    slot: Size,
    scheme: Scheme,
}

/// The head of a program for a processor.
fn program(machine: u8) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    bytes[18] = machine;
    bytes
}

fn sum(bytes: &[u8]) -> String {
    hexadecimal(Sha256::digest(bytes))
}

fn parts() -> Parts {
    let config = crate::config::read("a.yaml", "board: qemu-x86_64\nk3s: rehearsal\n", "".into()).unwrap();
    let mut root = Tree::default();
    for name in ["init", "firstboot", "payload/rehearsal-k3s"] {
        root.file(&format!("usr/lib/bakelite/{name}"), 0o755, program(62));
    }
    let folder = format!("usr/lib/modules/{RELEASE}");
    root.file(&format!("{folder}/modules.dep"), 0o644, "kernel/nic.ko:\n");
    root.file(&format!("{folder}/kernel/nic.ko"), 0o644, crate::decide::modules::testing::module("firmware=nic.fw\0"));
    root.file("usr/lib/firmware/nic.fw", 0o644, "firmware");
    root.file("etc/passwd", 0o644, "root:*:0:0:root:/root:/bin/sh\n");
    let mut initramfs = Tree::default();
    initramfs.file("init", 0o755, program(62));
    initramfs.file(&format!("{folder}/modules.dep"), 0o644, "kernel/squashfs.ko:\n");
    initramfs.file(&format!("{folder}/kernel/squashfs.ko"), 0o644, "module");
    let options: Vec<&str> = config.board.cmdline.iter().map(String::as_str).collect();
    let entry = format!(
        "title x\nlinux /bakelite/a/vmlinuz\ninitrd /bakelite/a/initrd\noptions bakelite.slot=a {}\n",
        options.join(" ")
    );
    let mut boot = Tree::default();
    boot.file("EFI/BOOT/BOOTX64.EFI", 0o644, "shim");
    boot.file("loader/entries/bakelite-a+3.conf", 0o644, entry);
    boot.file("bakelite/a/vmlinuz", 0o644, vec![7u8; 20_000]);
    let program_path = "/usr/lib/bakelite/payload/rehearsal-k3s";
    let file = serde_json::json!({"path": program_path, "size": 64, "sha256": sum(&program(62)), "images": false});
    let manifest = serde_json::json!({
        "format": 1, "version": "0", "image": "0123456789abcdef", "time": TIME, "board-name": "qemu-x86_64",
        "board": config.board, "system": {"length": 0, "sha256": "", "kernel": RELEASE},
        "payload": {"kind": "rehearsal", "version": "0", "program": program_path, "files": [file]},
    });
    let settings = serde_json::to_value(&config.effective).unwrap();
    let (mode, slot, scheme) = (0o600, Size(4 << 20), Scheme::Gpt);
    Parts { root, initramfs, boot, manifest, settings, afterwards: |_| {}, mode, slot, scheme }
}

struct Image {
    _folder: tempfile::TempDir,
    path: std::path::PathBuf,
    file: File,
    layout: Layout,
}

fn bake(mut parts: Parts) -> Image {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.img");
    let mut file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    let layout = layout::layout(parts.scheme, parts.slot);
    file.set_len(layout.length).unwrap();
    let slot = *layout.partition(Role::SystemA).unwrap();
    file.seek(SeekFrom::Start(slot.start)).unwrap();
    let mut writer = squashfs::Writer::new(&file, None, parallel::threads()).unwrap();
    let blobs: Vec<&Blob> = parts.root.entries().filter_map(|(path, _)| parts.root.blob(path)).collect();
    writer.groups(&[blobs]).unwrap();
    let length = writer.finish(&parts.root, TIME as u32).unwrap();
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, slot.start).unwrap();
    let footer = Footer { length, sha256: Sha256::digest(&bytes).into() };
    file.write_all_at(&footer.encode(), slot.start + slot.length - RECORD).unwrap();
    if parts.manifest["system"]["sha256"] == "" {
        parts.manifest["system"]["sha256"] = sum(&bytes).into();
        parts.manifest["system"]["length"] = length.into();
    }
    let mut initramfs = Vec::new();
    cpio::write(&parts.initramfs, TIME as u32, &mut initramfs).unwrap();
    let said = |path: &str, bytes: &[u8], continues: bool| serde_json::json!({"path": path, "size": bytes.len(), "sha256": sum(bytes), "continues": continues});
    let kernel = parts.boot.entries().find(|(path, _)| path.ends_with("vmlinuz")).unwrap().0.to_string();
    let kernel = said(&kernel, &parts.boot.blob(&kernel).unwrap().read().unwrap(), false);
    parts.manifest["boot"] = serde_json::json!([kernel, said("bakelite/a/initrd", &initramfs, true)]);
    let mut baked = Tree::default();
    baked.file("bakelite/manifest.json", parts.mode, parts.manifest.to_string());
    baked.file("bakelite/appliance.json", parts.mode, parts.settings.to_string());
    baked.file("bakelite/units.json", parts.mode, "[]");
    cpio::write(&baked, TIME as u32, &mut initramfs).unwrap();
    parts.boot.file("bakelite/a/initrd", 0o644, initramfs);
    (parts.afterwards)(&mut parts.boot);
    let boot = *layout.partition(Role::Boot).unwrap();
    let window = fat_writer::Window::new(&mut file, boot.start, boot.length);
    fat_writer::write(&parts.boot, TIME, 7, boot.length, window).unwrap();
    let image = Image { _folder: folder, path, file, layout };
    image.write_table(|_| {});
    image
}

impl Image {
    fn write_table(&self, change: impl Fn(&mut Table)) {
        let mut table = Table::of_layout(&self.layout);
        change(&mut table);
        table.write(&mut self.file.try_clone().unwrap()).unwrap();
    }

    fn at(&self, role: Role) -> u64 {
        self.layout.partition(role).unwrap().start
    }

    fn flip(&self, at: u64) {
        let mut byte = [0];
        self.file.read_exact_at(&mut byte, at).unwrap();
        self.file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
    }

    /// The first place of some bytes in the boot partition's first megabytes.
    fn find_on_boot(&self, wanted: &[u8]) -> u64 {
        let mut bytes = vec![0; 8 << 20];
        self.file.read_exact_at(&mut bytes, self.at(Role::Boot)).unwrap();
        self.at(Role::Boot) + bytes.windows(wanted.len()).position(|window| window == wanted).unwrap() as u64
    }

    /// The rules that aren't proved.
    fn broken(&self) -> Vec<&'static str> {
        let verdicts = lint(&self.path).unwrap();
        assert_eq!(verdicts.len(), RULES.iter().filter(|rule| rule.of != Of::Stick).count());
        verdicts
            .iter()
            .filter(|verdict| matches!(verdict.outcome, Outcome::Failed(_)))
            .map(|verdict| verdict.rule)
            .collect()
    }
}

fn spoilt(spoil: impl Fn(&mut Parts)) -> Vec<&'static str> {
    let mut parts = parts();
    spoil(&mut parts);
    bake(parts).broken()
}

#[test]
fn a_whole_image_is_proved_by_every_rule() {
    for verdict in lint(&bake(parts()).path).unwrap() {
        assert_eq!(verdict.outcome, Outcome::Proved, "{}", verdict.rule);
    }
}

#[test]
fn what_is_in_the_parts_breaks_one_rule_each() {
    let entry = "loader/entries/bakelite-a+3.conf";
    let text = String::from_utf8(parts().boot.blob(entry).unwrap().read().unwrap()).unwrap();
    let say = |parts: &mut Parts, from: &str, to: &str| parts.boot.file(entry, 0o644, text.replace(from, to));
    let folder = format!("usr/lib/modules/{RELEASE}/kernel");
    let init = "usr/lib/bakelite/init";
    assert_eq!(
        spoilt(|parts| parts
            .root
            .put("usr/bin/su", Entry { mode: 0o4755, owner: 0, group: 0, node: Node::File("x".into()) })),
        ["setuid"]
    );
    assert_eq!(spoilt(|parts| parts.root.file(init, 0o755, program(183))), ["architecture"]);
    assert_eq!(spoilt(|parts| parts.root.file("etc/key", 0o600, "-----BEGIN PRIVATE KEY-----\nx\n")), ["secrets"]);
    assert_eq!(spoilt(|parts| parts.root.file("srv/x.yaml", 0o644, "kind: Secret\ndata: {a: eA==}\n")), ["secrets"]);
    let reference = "apiVersion: v1\nkind: Secret\nstringData: {a: {secret: db}}\n";
    assert_eq!(spoilt(|parts| parts.root.file("srv/x.yaml", 0o644, reference)), [""; 0]);
    let written_out = "apiVersion: v1\nkind: List\nitems: [{kind: ConfigMap}]\n---\nkind: Secret\ndata: {a: eA==}\n";
    assert_eq!(spoilt(|parts| parts.root.file("srv/x.yaml", 0o644, written_out)), ["secrets"]);
    assert_eq!(spoilt(|parts| parts.settings["values"]["k3s"]["config"]["token"] = "abc".into()), ["secrets"]);
    let refers = |parts: &mut Parts| parts.settings["values"]["k3s"]["token"] = serde_json::json!({"secret": "abc"});
    assert_eq!(spoilt(refers), [""; 0]);
    assert_eq!(spoilt(|parts| parts.root.retain(|path, _| !path.ends_with("nic.fw"))), ["firmware"]);
    assert_eq!(spoilt(|parts| parts.root.retain(|path, _| !path.ends_with("nic.ko"))), ["modules-indexed"]);
    assert_eq!(spoilt(|parts| parts.initramfs.retain(|path, _| !path.ends_with("squashfs.ko"))), ["initramfs-root"]);
    let packed = |parts: &mut Parts| {
        parts.root.retain(|path, _| !path.ends_with("nic.ko"));
        let module = crate::source::testing::pack_xz(&crate::decide::modules::testing::module("firmware=none.fw\0"));
        parts.root.file(&format!("{folder}/nic.ko.xz"), 0o644, module);
        parts.root.file(&format!("usr/lib/modules/{RELEASE}/modules.dep"), 0o644, "kernel/nic.ko.xz:\n");
    };
    assert_eq!(spoilt(packed), ["firmware"], "a module that is still packed");
    assert_eq!(spoilt(|parts| parts.initramfs.file("init", 0o644, program(62))), ["initramfs-root"]);
    assert_eq!(spoilt(|parts| parts.mode = 0o644), ["settings"]);
    assert_eq!(spoilt(|parts| parts.manifest["payload"]["files"][0]["sha256"] = "00".into()), ["payload-hashes"]);
    assert_eq!(spoilt(|parts| parts.manifest["system"]["sha256"] = "00".into()), ["slot-hash"]);
    assert_eq!(spoilt(|parts| say(parts, "quiet", "")), ["cmdline"]);
    assert_eq!(spoilt(|parts| say(parts, "slot=a", "slot=z")), ["cmdline"]);
    assert_eq!(spoilt(|parts| say(parts, "options", "options cgroup_disable=memory")), ["cgroups"]);
    let asked = |parts: &mut Parts| {
        let line = parts.manifest["board"]["cmdline"].as_array_mut().unwrap();
        line.push("cgroup_enable=memory".into());
    };
    assert_eq!(spoilt(asked), ["cgroups"]);
    assert_eq!(spoilt(|parts| say(parts, "a/vmlinuz", "c/vmlinuz")), ["loader"]);
    let kernel = |boot: &mut Tree| boot.file("bakelite/a/vmlinuz", 0o644, vec![8u8; 20_000]);
    assert_eq!(spoilt(|parts| parts.afterwards = kernel), ["boot-hashes"]);
    let uncounted = |parts: &mut Parts| {
        parts.boot.retain(|path, _| path != entry);
        parts.boot.file("loader/entries/bakelite-a.conf", 0o644, text.clone());
    };
    assert_eq!(spoilt(uncounted), ["boot-counter"]);
    // Two of these don't fit into the 512 MiB that a boot partition has.
    assert_eq!(spoilt(|parts| parts.boot.file("bakelite/a/more", 0o644, vec![1; 300 << 20])), ["update-room"]);
    assert_eq!(spoilt(|parts| parts.boot.file("bakelite/b/more", 0o644, vec![1; 300 << 20])), ["update-room"]);
    assert!(parts().root.get(&folder).is_some());
}

#[test]
fn what_is_in_the_bytes_breaks_one_rule_each() {
    let image = bake(parts());
    image.flip(image.layout.length - 512 + 60);
    assert_eq!(image.broken(), ["gpt-whole"], "the backup");
    image.write_table(|table| table.entries.get_mut(&4).unwrap().guid = table.entries[&3].guid);
    assert_eq!(image.broken(), ["guids"]);
    image.write_table(|table| table.disk.0[0] ^= 1);
    assert_eq!(image.broken(), ["guids"], "a stamped disk with unstamped partitions");
    image.write_table(|table| table.entries.get_mut(&1).unwrap().type_guid = table.disk);
    assert_eq!(image.broken(), ["partition-types"]);
    image.write_table(|table| table.entries.get_mut(&1).unwrap().last += 100);
    assert_eq!(image.broken(), ["partition-places"]);
    image.write_table(|_| {});

    let boot = image.at(Role::Boot);
    image.file.write_all_at(&[1], boot + 65).unwrap();
    assert_eq!(image.broken(), ["fat-clean"], "the dirty mark");
    image.file.write_all_at(&[0], boot + 65).unwrap();
    let mut first = [0; 64];
    image.file.read_exact_at(&mut first, boot).unwrap();
    let reserved = u64::from(u16::from_le_bytes([first[14], first[15]])) * 512;
    let table_length = u64::from(u32::from_le_bytes(first[36..40].try_into().unwrap())) * 512;
    for copy in 0..2 {
        image
            .file
            .write_all_at(&0x0fff_ffffu32.to_le_bytes(), boot + reserved + copy * table_length + 50_000 * 4)
            .unwrap();
    }
    assert_eq!(image.broken(), ["fat-clean"], "a lost cluster");
    image.file.write_all_at(&[0; 4], boot + reserved + 50_000 * 4).unwrap();
    assert_eq!(image.broken(), ["fat-clean"], "two tables that differ");
    image.file.write_all_at(&[0; 4], boot + reserved + table_length + 50_000 * 4).unwrap();
    let entry = image.find_on_boot(b"VMLINUZ    ");
    let mut date = [0; 2];
    image.file.read_exact_at(&mut date, entry + 24).unwrap();
    image.file.write_all_at(&[0, 0], entry + 24).unwrap();
    assert_eq!(image.broken(), ["fat-dates"]);
    image.file.write_all_at(&date, entry + 24).unwrap();

    let (slot, length) = (image.at(Role::SystemA), image.layout.partition(Role::SystemA).unwrap().length);
    let other = image.at(Role::SystemB) + length - RECORD;
    let mut footer = vec![0; RECORD as usize];
    image.file.read_exact_at(&mut footer, slot + length - RECORD).unwrap();
    image.file.write_all_at(&footer, other).unwrap();
    assert_eq!(image.broken(), ["slot-b-empty"]);
    image.file.write_all_at(&vec![0; RECORD as usize], other).unwrap();
    image.flip(slot + length - RECORD + 30);
    assert_eq!(image.broken(), ["slot-footer"]);
    image.flip(slot + length - RECORD + 30);
    // In the padding, which no other rule reads.
    let end = u64::from_le_bytes(footer[16..24].try_into().unwrap());
    image.flip(slot + end - 1);
    assert_eq!(image.broken(), ["slot-hash"]);
    image.flip(slot + end - 1);
    assert_eq!(image.broken(), [""; 0]);
}

#[test]
fn what_cannot_be_read_is_unknown_and_nothing_panics() {
    let image = bake(parts());
    image.file.write_all_at(&[0; 512], image.at(Role::Boot)).unwrap();
    let verdicts = lint(&image.path).unwrap();
    let of = |rule: &str| &verdicts.iter().find(|verdict| verdict.rule == rule).unwrap().outcome;
    assert!(matches!(of("fat-clean"), Outcome::Unknown(why) if why.contains("FAT32")));
    assert!(matches!(of("payload-hashes"), Outcome::Unknown(_)));
    assert_eq!(*of("gpt-whole"), Outcome::Proved);
    for content in [&b""[..], b"no image", &[0; 70_000]] {
        let path = image.path.with_extension("other");
        let mut file = File::create(&path).unwrap();
        file.write_all(content).unwrap();
        let verdicts = lint(&path).unwrap();
        assert!(verdicts.iter().all(|verdict| verdict.outcome != Outcome::Proved));
    }
    assert!(lint(&image.path.with_extension("absent")).is_err());
}

#[test]
fn a_compressed_image_is_looked_at_like_any() {
    let image = bake(parts());
    let path = image.path.with_extension("img.zst");
    zstd::stream::copy_encode(File::open(&image.path).unwrap(), File::create(&path).unwrap(), 1).unwrap();
    assert!(lint(&path).unwrap().iter().all(|verdict| verdict.outcome == Outcome::Proved));
}

#[test]
fn the_documentation_lists_every_rule() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/lint.md")).unwrap_or_default();
    for rule in RULES {
        let weight = if rule.severity == Severity::Warning { " (a warning)" } else { "" };
        let line = format!("| `{}` | {}{weight} |", rule.id, rule.proves);
        assert!(page.contains(&line), "docs/lint.md lacks the line: {line}");
    }
    assert_eq!(page.lines().filter(|line| line.starts_with("| `")).count(), RULES.len());
}
