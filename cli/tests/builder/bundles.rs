//! `bakelite bundle`: of a configuration and of its image the same bytes; with a wrong key, version or name, nothing.

use crate::bakery::{Bench, bakery, command, good, put, refused, sum_of};
use std::path::Path;
use std::process::Command;

const SHOP: &str = "board: qemu-x86_64\nk3s: none\nimage: {name: shop, version: \"1.4\"}\n";

#[test]
fn a_bundle_of_a_configuration_is_that_of_its_image_and_the_same_each_time() {
    let Some(bakery) = bakery() else { return };
    let bench = Bench::new(bakery, SHOP);
    good(command(&bakery.program).args(["new", "--board", "qemu-x86_64"]).arg(bench.at("other.yaml")));
    let key = bench.at("other.key");
    let bundle = |of: &Path, output: &str| -> Command {
        let mut command = command(&bakery.program);
        command.arg("bundle").arg(of).arg("--output").arg(bench.at(output)).arg("--key").arg(&key);
        command.arg("--cache").arg(&bench.cache).env("TMPDIR", &bench.temporary);
        command
    };
    good(&mut bench.build(bakery));
    let said = good(&mut bundle(&bench.output, "of-image.bundle"));
    assert!(said.contains("shop 1.4 (image "), "{said}");
    good(&mut bundle(&bench.config, "of-config.bundle"));
    let sums = ["of-image.bundle", "of-config.bundle"].map(|name| sum_of(&bench.at(name)));
    assert_eq!(sums[0], sums[1]);
    let listed = good(command("tar").arg("tf").arg(bench.at("of-image.bundle")));
    assert_eq!(listed, "manifest.json\nmanifest.json.sig\nvmlinuz\ninitrd\nsystem.squashfs\n");

    refused(&mut bundle(&bench.output, "of-image.bundle"), 1, &["is there already", "--force"]);
    good(bundle(&bench.output, "of-image.bundle").arg("--force"));
    assert_eq!(sum_of(&bench.at("of-image.bundle")), sums[0]);
    refused(bundle(&bench.output, "x.bundle").args(["--after", "v1"]), 1, &["`v1` is no version"]);
    put(&bench.at("no.key"), "nothing");
    refused(bundle(&bench.output, "x.bundle").arg("--key").arg(bench.at("no.key")), 2, &["--key"]);
    put(&key, "nothing");
    refused(&mut bundle(&bench.output, "x.bundle"), 1, &["is no key file", "bakelite new"]);
    assert!(!bench.at("x.bundle").exists());
}
