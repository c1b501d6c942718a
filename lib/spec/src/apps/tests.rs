//! What is laid over an image, while it is tried, after it and when it is undone.

use super::*;
use crate::appliance::Payload;
use crate::board::Board;
use crate::keys::{BOARD, defaults};
use crate::layers::{Effective, Layer};
use crate::manifest::PayloadManifest;
use serde_json::json;

fn image(version: &str) -> Manifest {
    let file = |path: &str| PayloadFile { path: path.into(), size: 1, sha256: "s".into(), images: true };
    let own = format!("{ARCHIVES}/till.tar");
    let files = vec![file("/usr/lib/bakelite/payload/k3s-airgap.tar.zst"), file(&own)];
    let payload = PayloadManifest { kind: Payload::Official, version: String::new(), program: String::new(), files };
    let board = json!({ "description": "x", "arch": "x86_64", "kernel": { "package": "linux" } });
    let board = Effective { values: defaults(BOARD), ..Effective::default() }.with(Layer::Appliance, &board);
    let mut manifest = Manifest::unbaked("b", Board::from_values(&board.values).unwrap(), payload);
    manifest.appliance = version.into();
    let to = |path: String| placed("/usr/x".into(), path, None);
    manifest.user.placed = vec![
        to("/etc/rancher/k3s/registries.yaml".into()),
        to(format!("{MANIFESTS}/bakelite-old.yaml")),
        to(format!("{MANIFESTS}/bakelite-till.yaml")),
    ];
    manifest
}

fn bundle(version: &str, archive: &str, manifests: &[&str]) -> Bundle {
    let part = |name: String, sha256: &str, to| Part { name, size: 7, sha256: sha256.into(), to, ..Part::default() };
    let files = manifests.iter().map(|name| {
        part(format!("manifests/{name}"), &format!("of-{name}-{version}"), Some(format!("{MANIFESTS}/{name}")))
    });
    let parts = std::iter::once(part("images/till.tar".into(), archive, None)).chain(files).collect();
    Bundle { version: version.into(), image: format!("id-{version}"), parts, ..Bundle::default() }
}

fn put(record: &Record, bundle: &Bundle) -> Record {
    let apps = Apps::of(bundle, 5, record.apps.as_ref(), record.round + 1);
    record.begun(apps, Trial::default())
}

/// Where each file comes from, by where it goes.
fn seen(record: &Record, image: &Manifest) -> Vec<(String, String)> {
    let laid = record.lay(image);
    let mut seen: Vec<_> = laid.user.placed.into_iter().map(|file| (last(&file.to).into(), file.from)).collect();
    seen.extend(laid.payload.files.iter().map(|file| (last(&file.path).into(), record.round(file, image).to_string())));
    seen.sort();
    seen
}

fn names(seen: &[(&str, &str)]) -> Vec<(String, String)> {
    seen.iter().map(|(to, from)| (to.to_string(), from.to_string())).collect()
}

#[test]
fn apps_take_the_place_of_the_images_own_and_of_nothing_else() {
    let image = image("1.0");
    let record = put(&Record::default(), &bundle("1.1", "new", &["bakelite-till.yaml", "bakelite-web.yaml"]));
    let in_store = |name: &str| format!("{STORE}/of-{name}-1.1/{name}");
    let (till, web) = (in_store("bakelite-till.yaml"), in_store("bakelite-web.yaml"));
    let expected = |old: &str| {
        names(&[
            ("bakelite-old.yaml", old),
            ("bakelite-till.yaml", &till),
            ("bakelite-web.yaml", &web),
            ("k3s-airgap.tar.zst", "0"),
            ("registries.yaml", "/usr/x"),
            ("till.tar", "1"),
        ])
    };
    assert_eq!(seen(&record, &image), expected("/usr/x"), "nothing is deleted while it may be wanted back");
    assert_eq!(seen(&record.proved(), &image), expected(NOTHING));
    assert_eq!(Record::default().lay(&image), image);
    // Undone: the image's own is there under another name for k3s, and what only the bundle had is deleted.
    let undone = record.undone();
    let expected = names(&[
        ("bakelite-old.yaml", "/usr/x"),
        ("bakelite-till.yaml", "/usr/x"),
        ("bakelite-web.yaml", NOTHING),
        ("k3s-airgap.tar.zst", "0"),
        ("registries.yaml", "/usr/x"),
        ("till.tar", "2"),
    ]);
    assert_eq!(seen(&undone, &image), expected);
    assert!(undone.trial.is_none() && undone.digests().is_empty());
}

#[test]
fn what_is_undone_is_what_was_there_before() {
    let image = image("1.0");
    let first = put(&Record::default(), &bundle("1.1", "one", &["bakelite-till.yaml"])).proved();
    let second = put(&first, &bundle("1.2", "two", &["bakelite-web.yaml"]));
    assert!(second.digests().is_superset(&first.digests()), "both are kept");
    assert!(!second.proved().digests().contains("one"));
    let in_trial = seen(&second, &image).into_iter().find(|(to, _)| to == "bakelite-till.yaml").unwrap().1;
    assert_eq!(in_trial, first.apps.as_ref().unwrap().files[0].path());
    let proved = seen(&second.proved(), &image).into_iter().find(|(to, _)| to == "bakelite-till.yaml").unwrap().1;
    assert_eq!(proved, NOTHING);
    let undone = second.undone();
    let before = |record: &Record| {
        let apps = record.apps.clone().unwrap();
        (apps.id, apps.files)
    };
    assert_eq!(before(&undone), before(&first));
    assert_eq!(undone.apps.as_ref().unwrap().archives[0].round, 3, "k3s imports it anew");
    let web = seen(&undone, &image).into_iter().find(|(to, _)| to == "bakelite-web.yaml");
    assert_eq!(web.unwrap().1, NOTHING);
    // The same archive in the next one stays what k3s has imported.
    let same = put(&first, &bundle("1.2", "one", &[]));
    assert_eq!(same.apps.unwrap().archives, first.apps.unwrap().archives);
}

#[test]
fn an_image_that_is_as_new_contains_them() {
    let record = put(&Record::default(), &bundle("1.5", "one", &["bakelite-till.yaml", "bakelite-web.yaml"]));
    assert!(!record.is_contained(&image("1.4.9")));
    let image = image("1.5");
    let seen = seen(&record.proved(), &image);
    let of = |name: &str| seen.iter().find(|(to, _)| to == name).map(|(_, from)| from.as_str());
    assert_eq!((of("bakelite-till.yaml"), of("bakelite-old.yaml")), (Some("/usr/x"), Some("/usr/x")));
    // What the image doesn't bring stays with k3s, as after any update.
    assert_eq!((of("bakelite-web.yaml"), of("till.tar")), (None, Some("2")));
    let left = record.left_to_the_image();
    let own = &left.lay(&image).payload.files[1];
    assert_eq!((left.round(own, &image), left.lay(&image)), (2, image), "k3s doesn't import it once more");
}

#[test]
fn a_manifest_with_the_same_name_for_k3s_is_never_emptied() {
    let first = put(&Record::default(), &bundle("1.1", "one", &["bakelite-till.json"])).proved();
    let second = put(&first, &bundle("1.2", "one", &["bakelite-till.yaml"]));
    for record in [&second, &second.proved()] {
        let laid = record.lay(&image("1.0"));
        assert!(!laid.user.placed.iter().any(|file| file.to.ends_with(".json")));
    }
}

#[test]
fn files_go_where_k3s_looks_and_nowhere_else() {
    for good in ["/server/manifests/bakelite-a.yaml", "/server/static/charts/a-1.0.tgz"] {
        assert!(may_be_placed(&format!("/var/lib/rancher/k3s{good}")), "{good}");
    }
    for bad in
        ["/server/manifests/coredns.yaml", "/server/manifests/bakelite-/../../x", "/server/static/charts/.x", "/x"]
    {
        assert!(!may_be_placed(&format!("/var/lib/rancher/k3s{bad}")), "{bad}");
    }
    assert!(!may_be_placed("/etc/passwd"));
}
