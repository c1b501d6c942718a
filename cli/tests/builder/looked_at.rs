//! Plan, inspect and lint through the real command: on a whole image, and on damaged ones.

use crate::bakery::{Bakery, Bench, PLAIN, bakery, command, end, good, put, refused};
use crate::outputs::copy;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

fn inspect(bakery: &Bakery, image: &Path, arguments: &[&str]) -> Value {
    let said = good(command(&bakery.program).args(["--json", "inspect"]).arg(image).args(arguments));
    serde_json::from_str(&said).unwrap()
}

#[test]
fn an_image_tells_what_is_in_it() {
    let Some(bakery) = bakery() else { return };
    good(command(&bakery.program).arg("lint").arg(&bakery.path));
    let image = inspect(bakery, &bakery.path, &[])["image"].take();
    let lock: Value = serde_json::from_str(&bakery.lock).unwrap();
    let packages = image["packages"]["is"].as_array().unwrap();
    assert_eq!(packages.len(), lock["packages"].as_array().unwrap().len());
    assert_eq!(image["manifest"]["is"]["board-name"], "qemu-x86_64");
    assert_eq!(image["partitions"]["is"].as_array().unwrap().len(), 4);
    let settings = image["settings"]["is"].as_array().unwrap();
    let board = settings.iter().find(|setting| setting["key"] == "board.name").unwrap();
    assert_eq!((&board["value"], &board["set-by"]), (&"qemu-x86_64".into(), &"appliance".into()));
    let names = |at: &str| -> Vec<String> {
        let entries = inspect(bakery, &bakery.path, &[at])["entries"].take();
        entries.as_array().unwrap().iter().map(|entry| entry["path"].as_str().unwrap().to_string()).collect()
    };
    assert!(names("/usr/lib/bakelite").contains(&"/usr/lib/bakelite/firstboot".into()));
    assert!(names("boot:/loader/entries").contains(&"/loader/entries/bakelite-a+3.conf".into()));
    assert!(names("initramfs:").contains(&"/init".into()));
    let content = |at: &str| good(command(&bakery.program).args(["inspect", "--content"]).arg(&bakery.path).arg(at));
    assert!(content("/etc/passwd").starts_with("root:*:0:0:"));
    assert!(content("boot:loader/entries/bakelite-a+3.conf").contains("bakelite.slot=a"));
    assert!(content("initramfs:bakelite/appliance.json").contains("qemu-x86_64"));
    refused(command(&bakery.program).arg("inspect").arg(&bakery.path).arg("/nowhere"), 1, &["/nowhere is not there"]);
}

/// A link to a busybox that lacks the applet is found by the operator who needs it.
#[test]
fn each_link_to_busybox_names_an_applet_that_it_has() {
    let Some(bakery) = bakery() else { return };
    let mut read = command(&bakery.program);
    let busybox =
        read.args(["inspect", "--content"]).arg(&bakery.path).arg("/usr/bin/busybox").output().unwrap().stdout;
    let known: BTreeSet<&[u8]> = busybox.split(|byte| *byte == 0).collect();
    let entries = inspect(bakery, &bakery.path, &["/usr/bin"])["entries"].take();
    let links: Vec<&str> = entries
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["target"] == "busybox")
        .map(|entry| entry["path"].as_str().unwrap().trim_start_matches("/usr/bin/"))
        .collect();
    assert!(links.len() > 50, "only {} links", links.len());
    let dead: Vec<_> = links.into_iter().filter(|name| !known.contains(name.as_bytes())).collect();
    assert!(dead.is_empty(), "busybox has no {dead:?}");
}

#[test]
fn a_plan_says_what_the_image_has_and_writes_none() {
    let Some(bakery) = bakery() else { return };
    let mut plan = command(&bakery.program);
    plan.args(["--json", "plan", "--offline", "--cache"]).arg(&bakery.cache).arg(&bakery.config);
    let said = good(&mut plan);
    let plan: Value =
        serde_json::from_str(said.lines().find(|line| line.contains("\"event\":\"plan\"")).unwrap()).unwrap();
    let image = inspect(bakery, &bakery.path, &[])["image"].take();
    let plan = &plan["plan"];
    assert_eq!(plan["units"], image["units"]["is"]);
    assert_eq!(plan["settings"], image["settings"]["is"]);
    assert_eq!(plan["kernel"], image["manifest"]["is"]["system"]["kernel"]);
    let bytes = |entries: &Value| -> u64 {
        entries.as_array().unwrap().iter().filter_map(|entry| entry["size"].as_u64()).sum()
    };
    let folders: u64 = image["folders"]["is"].as_object().unwrap().values().map(|bytes| bytes.as_u64().unwrap()).sum();
    assert_eq!(bytes(&plan["root"]), folders);
    assert!(bytes(&plan["dropped"]) > folders);
    // A lock that isn't there is made for the plan alone.
    let bench = Bench::new(bakery, PLAIN);
    let text =
        good(command(&bakery.program).args(["plan", "--offline", "--cache"]).arg(&bakery.cache).arg(&bench.config));
    assert!(text.contains("board.name = \"qemu-x86_64\" (appliance)"), "{text}");
    assert_eq!(fs::read_dir(bench.output.parent().unwrap()).unwrap().count(), 0);
}

#[test]
fn damaged_images_are_told_and_break_nothing() {
    let Some(bakery) = bakery() else { return };
    let bench = Bench::empty(PLAIN);
    let image = bench.at("damaged.img");
    copy(bakery, &image);
    let file = fs::File::options().read(true).write(true).open(&image).unwrap();
    let start = |number: u64| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, 1024 + (number - 1) * 128 + 32).unwrap();
        u64::from_le_bytes(bytes) * 512
    };
    let (boot, slot) = (start(2), start(3));
    let mut reserved = [0; 2];
    file.read_exact_at(&mut reserved, boot + 14).unwrap();
    let tables = boot + u64::from(u16::from_le_bytes(reserved)) * 512;
    // The boot sector's numbers, the tables, the squashfs's superblock, its tables' places, its content.
    let places = [boot + 11, boot + 44, tables, slot, slot + 12, slot + 40, slot + 72, slot + (1 << 20)];
    for place in places {
        for byte in [0x00, 0xff] {
            let mut before = [0; 4];
            file.read_exact_at(&mut before, place).unwrap();
            file.write_all_at(&[byte; 4], place).unwrap();
            let linted = end(command(&bakery.program).arg("lint").arg(&image));
            assert!(matches!(linted.code, Some(1 | 3)), "{place}: {}", linted.said);
            let inspected = end(command(&bakery.program).arg("inspect").arg(&image));
            assert!(matches!(inspected.code, Some(0)), "{place}: {}", inspected.said);
            for said in [linted.said, inspected.said] {
                assert!(!said.contains("panicked"), "{place}: {said}");
            }
            file.write_all_at(&before, place).unwrap();
        }
    }
    drop(file);
    for content in [&b""[..], b"no image", &[0; 70_000]] {
        put(&image, content);
        refused(command(&bakery.program).arg("lint").arg(&image), 1, &["FAILED"]);
        let said = good(command(&bakery.program).arg("inspect").arg(&image));
        assert!(said.contains("unreadable"), "{said}");
    }
    refused(command(&bakery.program).arg("lint").arg(bench.at("absent")), 3, &["absent"]);
    refused(command(&bakery.program).arg("inspect").arg(bench.at("absent")), 1, &["absent"]);
}
