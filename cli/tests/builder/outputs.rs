//! What comes beside an image: the block map and the list of parts.

use crate::bakery::{Bakery, Bench, PLAIN, bakery, command, good, installed, sum_of};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

fn beside(bakery: &Bakery, ending: &str) -> PathBuf {
    bakery.path.with_extension(format!("img.{ending}"))
}

/// A copy of the image whose holes stay holes.
pub fn copy(bakery: &Bakery, to: &Path) {
    good(command("cp").arg("--sparse=always").arg(&bakery.path).arg(to));
}

#[test]
fn the_map_is_what_bmaptool_reads() {
    let Some(bakery) = bakery() else { return };
    if !installed("bmaptool", "bmap-tools") {
        return;
    }
    let bench = Bench::empty(PLAIN);
    let map = beside(bakery, "bmap");
    good(command("bmaptool").args(["copy", "--bmap"]).arg(&map).arg(&bakery.path).arg(bench.at("medium")));
    assert_eq!(sum_of(&bench.at("medium")), bakery.image);
}

#[test]
fn what_the_map_leaves_out_may_hold_anything() {
    let Some(bakery) = bakery() else { return };
    let bench = Bench::empty(PLAIN);
    let medium = bench.at("medium");
    copy(bakery, &medium);
    let map = fs::read_to_string(beside(bakery, "bmap")).unwrap();
    let ranges: Vec<(u64, u64)> = map
        .lines()
        .filter_map(|line| line.split_once("\"> ")?.1.strip_suffix(" </Range>"))
        .map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            (first.parse().unwrap(), last.parse().unwrap())
        })
        .collect();
    assert!(ranges.len() > 4, "{map}");
    let file = fs::File::options().write(true).open(&medium).unwrap();
    let mut spoilt = 0;
    for pair in ranges.windows(2) {
        // What a used medium still has: behind each range, and before the next.
        for at in [pair[0].1 + 1, pair[1].0 - 1] {
            if at > pair[0].1 && at < pair[1].0 {
                file.write_all_at(&[0xa5; 4096], at * 4096).unwrap();
                spoilt += 1;
            }
        }
    }
    assert!(spoilt >= 6, "{ranges:?}");
    good(command(&bakery.program).arg("lint").arg(&medium));
}

#[test]
fn the_list_of_parts_names_every_package_with_its_licence() {
    let Some(bakery) = bakery() else { return };
    let list: Value = serde_json::from_str(&fs::read_to_string(beside(bakery, "spdx.json")).unwrap()).unwrap();
    let lock: Value = serde_json::from_str(&bakery.lock).unwrap();
    assert_eq!(list["spdxVersion"], "SPDX-2.3");
    let parts = list["packages"].as_array().unwrap();
    let mut known = 0;
    for package in lock["packages"].as_array().unwrap() {
        let part = parts.iter().find(|part| part["name"] == package["name"]).unwrap();
        assert_eq!(part["versionInfo"], package["version"]);
        assert_eq!(part["checksums"][0]["checksumValue"], package["sha256"]);
        known += usize::from(part["licenseDeclared"] != "NOASSERTION");
    }
    assert!(known > 10, "{known} licences are known");
    let licence = |name: &str| parts.iter().find(|part| part["name"] == name).unwrap()["licenseDeclared"].to_string();
    assert!(licence("kmod").contains("LGPL-2.1-or-later"), "{}", licence("kmod"));
    // Each reference has its text, and each identifier is there once.
    let texts: Vec<&str> = list["hasExtractedLicensingInfos"]
        .as_array()
        .unwrap()
        .iter()
        .map(|text| text["licenseId"].as_str().unwrap())
        .collect();
    for part in parts {
        let declared = part["licenseDeclared"].as_str().unwrap();
        for word in declared.split([' ', '(', ')']).filter(|word| word.starts_with("LicenseRef-")) {
            assert!(texts.contains(&word), "{word} has no text");
        }
    }
    let mut names: Vec<&str> = parts.iter().map(|part| part["SPDXID"].as_str().unwrap()).chain(texts).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}
