//! Payload: links to the archives of container images, under names with their digest, where k3s looks for them.
//!
//! k3s skips a file that isn't newer than the one it imported, so a new archive needs a new name. Only links that
//! point into a system partition are ours; files and links of anybody else's are never touched.

use crate::Settings;
use crate::action::Action;
use crate::facts::Facts;
use crate::step::Decision;
use bakelite_spec::appliance::Payload as Kind;
use bakelite_spec::manifest::PayloadFile;
use bakelite_spec::status::paths;
use std::collections::BTreeMap;

/// Where k3s looks for archives.
pub const IMAGES: &str = "/var/lib/rancher/k3s/agent/images";

/// Decides about the links.
pub fn decide(facts: &Facts, settings: &Settings) -> Decision {
    let payload = &settings.manifest.payload;
    if payload.kind == Kind::None {
        return Decision::Skip("this image has no payload".into());
    }
    let wanted: BTreeMap<String, &str> =
        payload.files.iter().filter(|file| file.images).map(|file| (link_path(file), file.path.as_str())).collect();
    let ours = format!("{}/", paths::LIBRARY);
    let stale = facts
        .image_links
        .iter()
        .filter(|(path, target)| target.starts_with(&ours) && !wanted.contains_key(*path))
        .map(|(path, _)| Action::Unlink { path: path.clone() });
    let missing = wanted
        .iter()
        .filter(|(path, target)| facts.image_links.get(*path).map(String::as_str) != Some(**target))
        .map(|(path, target)| Action::Link { path: path.clone(), target: (*target).into() });
    let actions: Vec<Action> = stale.chain(missing).collect();
    let title = payload.title();
    let count = wanted.len();
    Decision::of(
        actions,
        format!("{title} finds its {count} archive(s) of images"),
        format!("{title} gets {count} archive(s) of images"),
    )
}

/// `…/k3s-airgap-images-amd64-0123456789ab.tar.zst` for `…/k3s-airgap-images-amd64.tar.zst`.
fn link_path(file: &PayloadFile) -> String {
    let name = file.path.rsplit('/').next().unwrap_or(&file.path);
    let (stem, ending) =
        name.split_once(".tar").map_or((name, String::new()), |(stem, rest)| (stem, format!(".tar{rest}")));
    let digest: String = file.sha256.chars().take(12).collect();
    format!("{IMAGES}/{stem}-{digest}{ending}")
}
