//! What counts of several layers, right and wrong ones.

use super::testing::{machine, write};
use super::*;

const SEEN: &str = "/run/bakelite/overlay.json";

fn saw(root: &Path, seen: &Seen) {
    write(root, SEEN, &serde_json::to_string(seen).unwrap());
}

fn wait(root: &Path) -> (u64, Vec<String>, Overlay) {
    let settings = settings(root).unwrap();
    (settings.appliance.network.wait.0, settings.local.refused, settings.local.overlay)
}

#[test]
fn a_person_at_the_boot_menu_sets_what_is_allowed_and_well_formed() {
    let line = "bakelite.slot=a bakelite.network.wait=5 bakelite.debug=true bakelite.k3s=rehearsal bakelite.nope=1 \
                bakelite.memory.zram=maybe bakelite.k3s.tier=1G quiet";
    let tree = from_cmdline(&Cmdline::parse(line), &json!({ "board": { "name": "x" } }));
    assert_eq!(tree, json!({ "board": { "name": "x" }, "network": { "wait": 5 }, "k3s": { "tier": "1G" } }));
}

#[test]
fn the_stronger_layer_counts() {
    let root = machine("network: {wait: 1}\n");
    let root = root.path();
    assert_eq!(wait(root), (1, Vec::new(), Overlay::Unknown));
    saw(root, &Seen::Text("network: {wait: 2}\n".into()));
    assert_eq!(wait(root), (2, Vec::new(), Overlay::Accepted("network: {wait: 2}\n".into())));
    write(root, paths::APPLIED, "network: {wait: 3}\n");
    assert_eq!(wait(root).0, 3);
    write(root, "/proc/cmdline", "bakelite.network.wait=4");
    assert_eq!(wait(root).0, 4);
    assert_eq!(read(root).unwrap().effective.set_by["network.wait"], Layer::CommandLine);
}

#[test]
fn a_bad_overlay_keeps_the_last_accepted_one_and_says_so() {
    let root = machine("network: {wait: 1}\n");
    let root = root.path();
    write(root, paths::OVERLAY, "network: {wait: 2}\n");
    for (bad, words) in [
        ("network: {wait: soon}\n", "bakelite.yaml:1:17: network.wait: `soon` is not a quantity"),
        ("netwrk: {}\n", "netwrk: is not a known key"),
        ("network: [\n", "bakelite.yaml"),
        ("debug: true\n", "debug: can't be set at the machine"),
        ("network: {links: [{mac: 'dc:a6:32:01:02:03', gateway: 10.0.0.1}]}\n", "has a gateway without an address"),
        ("wait: 1\nssh: {keys: []}\n", "wait: is not a known key"),
    ] {
        saw(root, &Seen::Text(bad.into()));
        let (wait, refused, overlay) = wait(root);
        assert_eq!((wait, overlay), (2, Overlay::Unknown), "{bad}");
        assert!(refused.len() == 1 && refused[0].contains(words), "{refused:?}");
    }
    saw(root, &Seen::Unreadable("mounting it".into()));
    assert_eq!(wait(root), (2, vec!["mounting it".into()], Overlay::Unknown));
    // Also what was accepted may be wrong for a newer image; then the image's own counts.
    write(root, paths::OVERLAY, "network: {wait: never}\n");
    let (wait, refused, _) = wait(root);
    assert_eq!((wait, refused.len()), (1, 2));
}

#[test]
fn an_overlay_that_was_taken_away_is_gone_and_one_that_came_by_a_seal_stays() {
    let root = machine("network: {wait: 1}\n");
    let root = root.path();
    write(root, paths::OVERLAY, "network: {wait: 2}\n");
    saw(root, &Seen::Absent);
    assert_eq!(wait(root), (2, Vec::new(), Overlay::Absent));
    write(root, OVERLAY_SEEN, "yes\n");
    assert_eq!(wait(root), (1, Vec::new(), Overlay::Absent));
}

const SEED: &str = "/run/bakelite/seed.yaml";
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

#[test]
fn a_seed_counts_above_the_image_and_below_a_person() {
    let root = machine("network: {wait: 1}\n");
    let root = root.path();
    write(root, SEED, &format!("network: {{wait: 4}}\nssh: {{keys: [{KEY}]}}\nseed: {{node: shop-017, wifi: x}}\n"));
    let layers = read(root).unwrap();
    assert_eq!((layers.effective.set_by["network.wait"], layers.settings.appliance.network.wait.0), (Layer::Seed, 4));
    assert_eq!(layers.settings.appliance.ssh.keys, [KEY]);
    saw(root, &Seen::Text("network: {wait: 5}\n".into()));
    assert_eq!(wait(root).0, 5);
    saw(root, &Seen::Absent);
    // Taken: what is kept of it counts, as JSON, with a section of its own.
    durable_remove(root, SEED);
    assert_eq!(wait(root).0, 1);
    write(root, paths::SEED, "{\"network\":{\"wait\":6},\"seed\":{\"node\":\"shop-017\",\"number\":\"17\"}}\n");
    assert_eq!(wait(root), (6, Vec::new(), Overlay::Absent));
}

#[test]
fn a_seed_for_another_node_and_a_wrong_one_do_not_count() {
    let root = machine("network: {wait: 1}\n");
    let root = root.path();
    write(root, paths::SEED, "{\"network\":{\"wait\":6}}\n");
    write(root, RECORD, "{\"format\":1,\"node\":\"shop-1\"}");
    write(root, SEED, "network: {wait: 4}\nseed: {node: shop-017}\n");
    assert_eq!(wait(root).0, 6);
    write(root, SEED, "network: {wait: 4}\nseed: {node: shop-1}\n");
    assert_eq!(wait(root).0, 4);
    for (text, words) in [
        ("network: {wait: 4}\ndebug: true\n", "seed.yaml:2:1: debug: can't be set at the machine"),
        ("network: {wait: 4}\nk3s: {role: agent}\n", "k3s.server"),
        ("seed: {fresh: 1}\n", "`seed.fresh` takes true"),
    ] {
        write(root, SEED, text);
        assert_eq!(wait(root).0, 6, "{text}");
        let Some(bakelite_plan::seed::Seed::Refused(why)) = crate::seed::seen(root) else { panic!("{text}") };
        assert!(why.contains(words), "{why}");
    }
}

fn durable_remove(root: &Path, path: &str) {
    bakelite_sys::durable::remove_file(root.join(path.trim_start_matches('/'))).unwrap();
}
