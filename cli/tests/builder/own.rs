//! What a person adds, in a whole image; and a cache that is filled before there is no network.

use crate::bakery::{Bench, PLAIN, bakery, command, good, installed, put, refused, sum_of};
use crate::disk_full::local_mirror;
use std::fs;

#[test]
fn a_cache_is_filled_for_a_build_without_a_network() {
    let Some(bakery) = bakery() else { return };
    let bench = Bench::empty(PLAIN);
    put(&bench.lock(), &bakery.lock);
    let mirror = local_mirror(bakery, &bench);
    let fetch = |arguments: &[&str]| {
        let mut fetch = command(&bakery.program);
        fetch.arg("fetch").arg(&bench.config).arg("--cache").arg(&bench.cache).args(arguments);
        fetch
    };
    refused(&mut fetch(&["--offline"]), 1, &["is not in the cache"]);
    let said = good(&mut fetch(&["--mirror", &mirror]));
    assert!(said.contains("are in the cache"), "{said}");
    good(&mut fetch(&["--offline"]));
    bench.cache_is_whole();
    good(bench.build(bakery).arg("--offline"));
    assert_eq!(sum_of(&bench.output), bakery.image);
    assert_eq!(fs::read_to_string(bench.lock()).unwrap(), bakery.lock, "a lock that is there is obeyed");
    put(&bench.config, format!("{PLAIN}packages: [netbase, kmod, iproute2]\n"));
    refused(&mut fetch(&["--mirror", &mirror]), 1, &["was made for other packages", "bakelite lock"]);
}

const OWN: &str = "board: qemu-x86_64\nk3s: rehearsal\nmanifests: [app]\nfiles:\n  - {from: till.sh, to: /usr/local/bin/till, mode: \"0755\", owner: 7}\n  \
                   - {text: \"pw={secret: till-db}\", to: /etc/till/db.conf, mode: \"0600\"}\nunits:\n  - {name: till, command: [/usr/local/bin/till]}\n\
                   registries: {configs: {\"r:5000\": {auth: {username: u, password: {seed: registry}}}}}\n";
const CONFIG_MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: till}\ndata: {a: b}\n";

#[test]
fn a_users_own_things_are_in_the_image_and_the_same_each_time() {
    let Some(bakery) = bakery() else { return };
    let sums = [(); 2].map(|()| {
        let bench = Bench::new(bakery, OWN);
        put(&bench.at("till.sh"), "#!/bin/sh\nexec sleep 1000\n");
        put(&bench.at("app/till.yaml"), CONFIG_MAP);
        good(bench.build(bakery).arg("--offline"));
        if installed("unsquashfs", "squashfs-tools") {
            let image = fs::read(&bench.output).unwrap();
            let entry = &image[1024 + 2 * 128..];
            let offset = (u64::from_le_bytes(entry[32..40].try_into().unwrap()) * 512).to_string();
            let listed = good(command("unsquashfs").args(["-lln", "-o", &offset]).arg(&bench.output));
            for words in [
                "-rwxr-xr-x 7/0 ",
                "usr/local/bin/till",
                "etc/till/db.conf -> /run/bakelite/files/etc/till/db.conf",
                "usr/lib/bakelite/user/files/etc/till/db.conf",
                "usr/lib/bakelite/user/k3s/registries.yaml",
                "usr/lib/bakelite/user/manifests/bakelite-app-till.yaml",
            ] {
                assert!(listed.contains(words), "no {words}");
            }
        }
        sum_of(&bench.output)
    });
    assert_eq!(sums[0], sums[1]);
}

#[test]
fn what_is_wrong_with_them_is_told_at_once_and_nothing_is_written() {
    let Some(bakery) = bakery() else { return };
    let bench = Bench::new(bakery, OWN);
    put(&bench.at("till.sh"), "-----BEGIN RSA PRIVATE KEY-----\nhunter2\n");
    put(&bench.at("app/till.yaml"), "apiVersion: v1\nkind: Secret\nmetadata: {name: till}\nstringData: {a: hunter2}\n");
    let words =
        ["files[0].from: holds a private key", "till.yaml:4:17: stringData.a: Secret till has a secret written out"];
    for arguments in [&["check"][..], &["build", "--offline", "--output"]] {
        let mut run = command(&bakery.program);
        run.args(arguments);
        if arguments[0] == "build" {
            run.arg(&bench.output).arg("--cache").arg(&bench.cache).env("TMPDIR", &bench.temporary);
        }
        let said = refused(run.arg(&bench.config), 2, &words);
        assert!(!said.contains("hunter2"), "{said}");
    }
    // What can only be seen with the root tree at hand.
    put(&bench.at("till.sh"), "#!/usr/bin/perl\n");
    put(&bench.at("app/till.yaml"), CONFIG_MAP);
    let words = [
        "units[0].command: /usr/local/bin/till is a script for /usr/bin/perl, which is not in the image",
        "`packages`",
    ];
    refused(bench.build(bakery).arg("--offline"), 2, &words);
    bench.nothing_left();
}
