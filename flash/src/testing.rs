//! What tests of the press need and no bakery has to make: a small image of ours, and a machine that reports on its medium.

use crate::factory::device::{Device, State};
use bakelite_disk::boot;
use bakelite_disk::table::Table;
use bakelite_image::config;
use bakelite_image::source::digest::Sha256;
use bakelite_image::tree::Tree;
use bakelite_image::write::fat::{self, Window};
use bakelite_image::write::{bmap, cpio};
use bakelite_spec::account::{Account, Acknowledged, Available, GoodBoot, NAME};
use bakelite_spec::layout::{Role, SECTOR, Scheme, layout};
use bakelite_spec::quantity::Size;
use bakelite_spec::seed::{self, Seed};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const TIME: i64 = 1_763_719_271;
/// The id of the image.
pub const IMAGE: &str = "0123456789abcdef";
/// Bytes of the system, which are noise.
const SYSTEM: u64 = 1 << 20;

/// Makes `shop.img` and its block map in a folder. It has all that a flasher looks at, and boots on no machine.
///
/// # Errors
/// When it can't be written.
pub fn image(folder: &Path) -> io::Result<PathBuf> {
    let wrong = |what: &str| io::Error::other(what.to_string());
    let config = config::read("a.yaml", "board: qemu-x86_64\nk3s: none\n", "".into()).map_err(|_| wrong("config"))?;
    let manifest = serde_json::json!({
        "format": 1, "version": "0", "image": IMAGE, "time": TIME, "board-name": "qemu-x86_64",
        "board": config.board, "system": {"length": SYSTEM, "sha256": "", "kernel": "6.12-test"},
        "payload": {"kind": "rehearsal", "version": "", "program": "", "files": []},
    });
    let path = folder.join("shop.img");
    let mut file = File::options().read(true).write(true).create_new(true).open(&path)?;
    let layout = layout(Scheme::Gpt, Size(4 << 20));
    file.set_len(layout.length)?;
    let mut initramfs = Vec::new();
    let mut first = Tree::default();
    first.file("init", 0o755, vec![7; 100_000]);
    cpio::write(&first, TIME as u32, &mut initramfs)?;
    let mut last = Tree::default();
    last.file("bakelite/manifest.json", 0o600, manifest.to_string());
    last.file("bakelite/appliance.json", 0o600, serde_json::to_string(&config.effective)?);
    cpio::write(&last, TIME as u32, &mut initramfs)?;
    let mut tree = Tree::default();
    tree.file("bakelite/a/initrd", 0o644, initramfs);
    let boot = *layout.partition(Role::Boot).ok_or_else(|| wrong("boot"))?;
    let slot = *layout.partition(Role::SystemA).ok_or_else(|| wrong("slot"))?;
    fat::write(&tree, TIME, 7, boot.length, Window::new(&mut file, boot.start, boot.length))?;
    let noise: Vec<u8> =
        (0..SYSTEM as u32 / 4).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    file.write_all_at(&noise, slot.start)?;
    Table::of_layout(&layout).write(&mut file).map_err(io::Error::other)?;
    let mut summed = Vec::new();
    for (start, length) in bmap::ranges(&layout, 4 << 20, SYSTEM) {
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, start)?;
        summed.push(((start, length), Sha256::of(&bytes)));
    }
    File::create(folder.join("shop.img.bmap"))?.write_all(bmap::text(layout.length, &summed).as_bytes())?;
    Ok(path)
}

/// The seed that waits on a medium; `None` where the medium doesn't boot or has none.
pub fn seed_on(medium: &Path) -> Option<Seed> {
    let mut file = File::open(medium).ok()?;
    let length = file.metadata().ok()?.len();
    let bytes = crate::baked::on_boot(&mut file, length, &[seed::NAME]).ok()??;
    Seed::parse(&bytes).ok()
}

/// Does with a medium what its machine does in a good boot: takes the seed and leaves its account.
///
/// # Errors
/// When the medium isn't one of ours with a seed.
pub fn come_up(medium: &Path, change: &dyn Fn(&mut Account)) -> io::Result<()> {
    let seed = seed_on(medium).ok_or(io::ErrorKind::NotFound)?;
    let mut account = account(&seed);
    change(&mut account);
    let mut file = File::options().read(true).write(true).open(medium)?;
    let length = file.metadata()?.len();
    let (start, length) = boot::partition(&mut file, length / SECTOR).map_err(io::Error::other)?;
    let report = serde_json::to_vec(&account)?;
    fat::add(Window::new(&mut file, start, length), NAME, &report, TIME)?;
    fat::add(Window::new(&mut file, start, length), seed::NAME, b"taken 2026-01-01\n", TIME)
}

/// What the machine with a seed says of itself after a good boot.
pub fn account(seed: &Seed) -> Account {
    let hostname = seed.settings["hostname"].as_str().map(String::from);
    Account {
        image: IMAGE.into(),
        node: seed.node.clone().or(hostname).unwrap_or_default(),
        seed: Some(Acknowledged {
            ticket: seed.ticket.clone().unwrap_or_default(),
            took: seed.keys(),
            refused: String::new(),
        }),
        last_good: Some(GoodBoot { at: 1, image: IMAGE.into(), slot: "a".into() }),
        available: Some(Available { at: 1, image: IMAGE.into(), workloads: Vec::new() }),
        ..Account::default()
    }
}

/// A device of a record.
pub fn device(node: &str) -> Device {
    Device {
        id: 1,
        row: "1".into(),
        row_sum: String::new(),
        node: node.into(),
        ticket: "t-1".into(),
        state: State::Written,
        port: "file:1".into(),
        attachment: "1".into(),
        medium: "1".into(),
        image: String::new(),
        operator: String::new(),
        began: 0,
        ended: None,
        written: None,
        write_seconds: None,
        verified: None,
        verify_seconds: None,
        disk: None,
        why: String::new(),
        label: None,
        reported: None,
        heard: None,
        serial: None,
        merged: None,
    }
}
