//! Each image that a manifest or a chart names, looked up in the archives: an air-gapped box that would pull from the
//! network is found here. So are images that are there twice.

use super::User;
use super::archive::{self, Image};
use super::reference::Reference;
use crate::config::Config;
use crate::payload::Payload;
use crate::tree::Blob;
use bakelite_spec::appliance::Payload as Kind;
use bakelite_spec::finding::{Finding, Severity};
use std::path::Path;

/// What only k3s's own archive holds, which isn't at hand while an appliance is only checked.
const K3S_OWN: &str = "docker.io/rancher/";

/// An image that something names.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// The image.
    pub(super) image: Reference,
    /// Where it is named: file, place and key; what is wrong is said here.
    pub(super) at: Finding,
}

/// Images with the name of the archive that they are in.
struct Known {
    archive: String,
    images: Vec<Image>,
}

pub(super) fn findings(user: &User, config: &Config, payload: Option<&Payload>) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut known: Vec<Known> = Vec::new();
    let own = payload.filter(|payload| payload.manifest.kind == Kind::Official);
    let is_asked = !user.archives.is_empty() || !user.wanted.is_empty();
    for path in own.filter(|_| is_asked).into_iter().flat_map(archives_of) {
        match archive::names_in(path) {
            Ok(images) => known.push(Known { archive: "k3s's own archive".into(), images }),
            Err(problem) => {
                let text = format!("{} {}", path.display(), problem.problem);
                found.push(config.placed(Finding::error("k3s", text, "the release's own file")));
            }
        }
    }
    for archive in &user.archives {
        for name in archive.images.iter().flat_map(|image| &image.names) {
            let other = known.iter().find(|known| known.images.iter().any(|image| image.names.contains(name)));
            if let Some(other) = other {
                let problem = format!("{} holds {name}, which {} holds as well", archive.path.display(), other.archive);
                found.push(config.placed(Finding::error(&archive.key, problem, "taking it out of one of them")));
            }
        }
        known.push(Known { archive: archive.path.display().to_string(), images: archive.images.clone() });
    }
    let images = || known.iter().flat_map(|known| &known.images);
    for wanted in &user.wanted {
        let is_there = images().any(|image| is_meant(&wanted.image, image));
        let may_be_k3s_own = own.is_none() && wanted.image.repository.starts_with(K3S_OWN);
        if is_there || may_be_k3s_own {
            continue;
        }
        found.push(missing(wanted, config, images()));
    }
    found
}

fn archives_of(payload: &Payload) -> impl Iterator<Item = &Path> {
    let files = payload.manifest.files.iter().zip(&payload.blobs).filter(|(file, _)| file.images);
    files.filter_map(|(_, blob)| match blob {
        Blob::File { path, .. } => Some(path.as_path()),
        Blob::Bytes(_) | Blob::Part { .. } => None,
    })
}

fn is_meant(wanted: &Reference, image: &Image) -> bool {
    let named = image.names.iter().any(|name| {
        name.repository == wanted.repository
            && (name.tag == wanted.tag || wanted.tag.is_empty() && wanted.digest.is_some())
    });
    // What an archive keeps no digest of can't be told to have another one, but k3s won't find it by that digest.
    named && wanted.digest.is_none() || wanted.digest.is_some() && image.digest == wanted.digest
}

fn missing<'a>(wanted: &Wanted, config: &Config, mut images: impl Iterator<Item = &'a Image>) -> Finding {
    let name = &wanted.image;
    let same_name = images.find(|image| {
        image.names.iter().any(|known| known.repository == name.repository)
            && name.digest.is_some() == name.tag.is_empty()
    });
    let near =
        same_name.and_then(|image| image.names.first()).map_or_else(String::new, |name| format!(" (they hold {name})"));
    let why = if name.digest.is_some() {
        format!("the image {name} is in no archive under that digest{near}")
    } else {
        format!("the image {name} is in no archive{near}")
    };
    let has_mirrors = !config.appliance.registries.mirrors.is_empty();
    let (severity, then) = match (config.appliance.k3s.airgap, has_mirrors) {
        (true, _) => (Severity::Error, "and `k3s.airgap` says that there is no network to pull it from"),
        (false, true) => (Severity::Warning, "so the machine needs one of its `registries.mirrors` to start it"),
        (false, false) => (Severity::Warning, "so the machine needs a network to start it"),
    };
    let hint = format!("`docker save {name} -o FILE.tar` and `images: [FILE.tar]`");
    Finding { problem: format!("{why}, {then}"), hint, severity, ..wanted.at.clone() }
}
