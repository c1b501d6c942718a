//! Bundles of apps: what is in one, and what none is made of.

use super::*;
use crate::user::testing::{chart, docker, tar};
use bakelite_spec::apps::{CHARTS, MANIFESTS};
use bakelite_spec::secret::Quoting;
use bakelite_trust::keys::OwnerKeys;
use std::path::PathBuf;

const SHOP: &str =
    "board: qemu-x86_64\nk3s: rehearsal\nimage: {name: till, version: \"1.5\"}\nbackup: {recipients: []}\n";
const TILL: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: till}\nspec: {template: {spec: {containers: [{name: till, image: \"till:1.5\", \
                    resources: {requests: {cpu: 1m}, limits: {memory: 1Mi}}}]}}}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: x}\nstringData: {a: {secret: till}}\n---\n\
                    apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: till}\n";

struct Shop(tempfile::TempDir);

impl Shop {
    fn new(text: &str) -> Self {
        let shop = Self(tempfile::tempdir().unwrap());
        let keys = OwnerKeys::generate([1; 32]);
        let owner = format!("owner: {{keys: [\"{}\"]}}\n", keys.owner_key());
        let files: [(&str, Vec<u8>); 5] = [
            ("shop.yaml", format!("{text}{owner}").into_bytes()),
            ("shop.key", keys.to_text().as_bytes().to_vec()),
            ("till.tar", tar(&docker("till:1.5", "amd64"))),
            ("till.yaml", TILL.into()),
            ("till-1.0.0.tgz", chart("")),
        ];
        for (name, bytes) in files {
            file::write(&shop.path(name), &bytes).unwrap();
        }
        shop
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn make(&self) -> Result<Made, MakeError> {
        let (output, key) = (self.path("till.bundle"), self.path("shop.key"));
        let wanted =
            Wanted { output: &output, key: &key, after: "1.2", until: "", from: None, drops: &[], force: true };
        make_apps(&self.path("shop.yaml"), &wanted)
    }
}

#[test]
fn it_has_the_archives_manifests_and_charts_and_nothing_else() {
    let shop = Shop::new(&format!(
        "{SHOP}images: [till.tar]\nmanifests: [till.yaml]\ncharts: [till-1.0.0.tgz]\nregistries: {{mirrors: {{\"*\": {{endpoint: [\"https://r\"]}}}}}}\n"
    ));
    let made = shop.make().unwrap();
    assert!(!made.notes.iter().any(|note| note.contains("owner.keys")), "{:?}", made.notes);
    assert_eq!(made.bundle.holds, Some(vec!["persistentvolumeclaims/default/till".into()]));
    let parts: Vec<_> =
        made.bundle.parts.iter().map(|part| (part.name.as_str(), part.to.clone(), part.quoting)).collect();
    let manifest = format!("{MANIFESTS}/bakelite-till.yaml");
    let expected = [
        ("images/till.tar", None, None),
        ("manifests/bakelite-till.yaml", Some(manifest), Some(Quoting::Json)),
        ("charts/till-1.0.0.tgz", Some(format!("{CHARTS}/till-1.0.0.tgz")), None),
    ];
    assert_eq!(parts, expected);
    assert_eq!(made.bundle.words(), format!("till 1.5 (apps {} for qemu-x86_64)", made.bundle.image));
    let bytes = std::fs::read(shop.path("till.bundle")).unwrap();
    assert_eq!(shop.make().unwrap().bundle, made.bundle);
    assert_eq!(std::fs::read(shop.path("till.bundle")).unwrap(), bytes, "the same bytes each time");
    // It reads back as what was signed, whole.
    let owners = [OwnerKeys::generate([1; 32]).owner_key()];
    let mut read = Vec::new();
    let bundle = bundle::read::<bundle::BundleError>(
        &owners,
        &bytes[..],
        |_| Ok(()),
        |_, part, input| {
            io::copy(input, &mut io::sink())
                .map_err(|source| bundle::BundleError::Stream { act: "reading", source })?;
            read.push(part.name.clone());
            Ok(())
        },
    );
    assert_eq!((bundle.unwrap(), read.len()), (made.bundle, 3));
}

#[test]
fn what_it_would_lack_is_told_with_its_key() {
    let said = |text: &str| match Shop::new(text).make() {
        Err(error) => {
            let MakeError::Build(BuildError::Config { findings }) = error else { panic!("{error}") };
            findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        }
        Ok(made) => panic!("{:?}", made.bundle),
    };
    assert!(said(SHOP).contains("there are no `images`, `manifests` or `charts`"));
    let without = SHOP.replace(", version: \"1.5\"", "");
    assert!(said(&format!("{without}images: [till.tar]\n")).contains("a bundle of apps needs it"));
    assert!(said(&format!("{SHOP}images: [none.tar]\n")).contains("none.tar"));
}
