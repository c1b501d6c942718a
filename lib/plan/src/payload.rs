//! Payload: k3s's files in the image are what was baked, and k3s finds its container images.
//!
//! The files are compared with the manifest once for each image that this machine runs: reading 300 MB takes a card
//! some ten seconds. Archives get links under names with their digest, as k3s skips a file that isn't newer than the one
//! it imported. Only links that point into a system partition or the store of apps are ours; files and links of anybody
//! else's are never touched. `.cache.json` is what k3s remembers of its imports: without it every start imports everything,
//! and with it a store that was lost stays empty (k3s.md 3.6, 5.6).

use crate::action::Action;
use crate::facts::{Facts, Store};
use crate::step::{Decision, publish};
use crate::{Settings, apps};
use bakelite_spec::appliance::Payload as Kind;
use bakelite_spec::apps::STORE as STORED;
use bakelite_spec::fault::{Code, Fault};
use bakelite_spec::manifest::PayloadFile;
use bakelite_spec::status::paths;
use std::collections::BTreeMap;

/// Where k3s looks for archives.
pub const IMAGES: &str = "/var/lib/rancher/k3s/agent/images";
/// What k3s remembers of archives that it imported.
pub const CACHE: &str = "/var/lib/rancher/k3s/agent/images/.cache.json";
/// The container runtime's store.
pub const STORE: &str = "/var/lib/rancher/k3s/agent/containerd";
/// A damaged store, out of the way.
pub const STORE_ASIDE: &str = "/var/lib/rancher/k3s/agent/containerd.aside";
/// That what the first start unpacked is on the medium, in this boot.
pub const WRITTEN: &str = "/run/bakelite/payload-written";
/// The image whose payload was compared with its manifest, on state.
pub const VERIFIED: &str = "/var/lib/bakelite/payload-verified";

/// Nothing imported. k3s opens the file and never makes it (pkg/agent/containerd/watcher.go).
const NOTHING: &str = "{}\n";

/// Decides about the payload's files.
pub fn decide(facts: &Facts, settings: &Settings) -> Decision {
    let payload = &settings.manifest.payload;
    if payload.kind == Kind::None {
        return Decision::Skip("this image has no payload".into());
    }
    let verified = format!("{}\n", settings.manifest.image);
    if facts.file(VERIFIED) != Some(verified.as_str()) {
        return match facts.payload_checked.as_deref() {
            None => Decision::Run(
                format!("{} is compared with its hashes", payload.title()),
                vec![Action::VerifyPayload { files: payload.files.clone() }],
            ),
            Some("") => {
                let actions = publish(facts, VERIFIED, verified, 0o600).into_iter().collect();
                Decision::Run(format!("{} is what was baked", payload.title()), actions)
            }
            Some(path) => {
                Decision::Refuse(Fault::new(Code::PayloadDamaged, format!("{path} isn't what the manifest says")))
            }
        };
    }
    let (record, laid) = (apps::of(facts), apps::laid(facts, settings));
    let archives = laid.payload.files.iter().filter(|file| file.images);
    let wanted: BTreeMap<String, &str> =
        archives.map(|file| (link_path(file, record.round(file, &settings.manifest)), file.path.as_str())).collect();
    let ours = [paths::LIBRARY, STORED].map(|folder| format!("{folder}/"));
    let stale = facts
        .image_links
        .iter()
        .filter(|(path, target)| ours.iter().any(|ours| target.starts_with(ours)) && !wanted.contains_key(*path))
        .map(|(path, _)| Action::Unlink { path: path.clone() });
    let missing = wanted
        .iter()
        .filter(|(path, target)| facts.image_links.get(*path).map(String::as_str) != Some(**target))
        .map(|(path, target)| Action::Link { path: path.clone(), target: (*target).into() });
    let actions: Vec<Action> = store(facts).into_iter().chain(stale).chain(missing).collect();
    let title = payload.title();
    let count = wanted.len();
    let damaged = if facts.store == Store::Damaged { ", and a damaged store is set aside" } else { "" };
    Decision::of(
        actions,
        format!("{title} finds its {count} archive(s) of images"),
        format!("{title} gets {count} archive(s) of images{damaged}"),
    )
}

/// What k3s remembers has to fit what is in the store. It forgets first: imported twice is no harm.
fn store(facts: &Facts) -> Vec<Action> {
    let remembers = facts.file(CACHE);
    let readable = remembers.is_some_and(|text| serde_json::from_str::<serde_json::Value>(text).is_ok());
    let forgets = facts.store != Store::Whole || !readable;
    let cache = forgets.then(|| publish(facts, CACHE, NOTHING.into(), 0o644)).flatten();
    let aside = (facts.store == Store::Damaged).then(|| Action::SetAside { path: STORE.into() });
    cache.into_iter().chain(aside).collect()
}

/// Decides what is done once the payload is ready for the first time: k3s writes its programs without fsync, and a plug
/// pulled within half a minute would leave empty files that it trusts for ever (k3s.md 2.1).
pub fn born(facts: &Facts, settings: &Settings) -> Decision {
    if settings.manifest.payload.kind == Kind::None {
        return Decision::Skip("this image has no payload".into());
    }
    let mut actions = Vec::new();
    if facts.has(STORE_ASIDE) {
        actions.push(Action::RemoveFolder { path: STORE_ASIDE.into() });
    }
    if !facts.has(WRITTEN) {
        actions.push(Action::Sync { path: "/var/lib/rancher".into() });
        actions.push(Action::Tell { path: WRITTEN.into(), text: String::new(), mode: 0o644 });
    }
    let what = "what k3s unpacked is on the medium";
    Decision::of(actions, what, what)
}

/// `…/k3s-airgap-images-amd64-0123456789ab.tar.zst` for `…/k3s-airgap-images-amd64.tar.zst`. In another round than the
/// first it has another name, so that k3s imports it once more.
fn link_path(file: &PayloadFile, round: u32) -> String {
    let name = file.path.rsplit('/').next().unwrap_or(&file.path);
    let (stem, ending) =
        name.split_once(".tar").map_or((name, String::new()), |(stem, rest)| (stem, format!(".tar{rest}")));
    let digest: String = file.sha256.chars().take(12).collect();
    let round = if round > 0 { format!("-{round}") } else { String::new() };
    format!("{IMAGES}/{stem}-{digest}{round}{ending}")
}
