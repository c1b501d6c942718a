//! What an archive says its images are, by docker's manifest or an OCI index, each proved blob by blob.

use super::{Image, Members, Problem, SAVE_AGAIN, refused};
use crate::user::reference::{Reference, is_digest};
use bakelite_spec::board::Arch;
use serde::Deserialize;
use std::collections::BTreeMap;

/// How deep an index may stand in an index.
const DEPTH: usize = 4;

/// One entry of docker's manifest.json.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

impl Saved {
    fn names(&self) -> Vec<Reference> {
        self.repo_tags.iter().flatten().filter_map(|name| Reference::parse(name)).collect()
    }
}

/// An image's configuration, and the platform in an index.
#[derive(Debug, Default, Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    variant: String,
    #[serde(default)]
    rootfs: RootFs,
}

#[derive(Debug, Default, Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<String>,
}

impl Platform {
    /// As `docker --platform` takes it.
    fn name(&self) -> String {
        let variant = if self.variant.is_empty() { String::new() } else { format!("/{}", self.variant) };
        format!("{}/{}{variant}", self.os, self.architecture)
    }

    fn fits(&self, arch: Arch) -> bool {
        let architecture = match arch {
            Arch::X86_64 => self.architecture == "amd64",
            Arch::Aarch64 => self.architecture == "arm64",
            Arch::Armv7 => self.architecture == "arm" && matches!(self.variant.as_str(), "" | "v5" | "v6" | "v7"),
        };
        self.os == "linux" && architecture
    }
}

fn platform_of(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "linux/amd64",
        Arch::Aarch64 => "linux/arm64",
        Arch::Armv7 => "linux/arm/v7",
    }
}

/// An index or a manifest of an OCI layout.
#[derive(Debug, Deserialize)]
struct Oci {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
struct Descriptor {
    digest: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    platform: Option<Platform>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// The images of an archive, proved.
///
/// # Errors
/// The first thing that is wrong.
pub fn images(members: &Members, arch: Arch) -> Result<Vec<Image>, Problem> {
    let images = if let Some(saved) = members.json::<Vec<Saved>>("manifest.json")? {
        saved.iter().map(|saved| docker_image(members, saved, arch)).collect::<Result<Vec<_>, _>>()?
    } else if let Some(index) = members.json::<Oci>("index.json")? {
        index.manifests.iter().map(|entry| oci_image(members, entry, arch)).collect::<Result<Vec<_>, _>>()?
    } else {
        let problem = "holds neither manifest.json nor index.json: it is no archive of container images";
        return refused(problem, "`docker save NAME -o FILE.tar`, or an OCI layout in a tar");
    };
    match images.iter().find(|image| image.names.is_empty()) {
        _ if images.is_empty() => refused("holds no image", SAVE_AGAIN),
        Some(_) => refused(
            "holds an image without a name, which k3s could not find",
            "saving it by its name and tag, not by its id",
        ),
        None => Ok(images),
    }
}

/// The names that docker's manifest has, unproved.
pub fn names(members: &Members) -> Result<Vec<Image>, Problem> {
    let saved = members.json::<Vec<Saved>>("manifest.json")?.unwrap_or_default();
    Ok(saved.iter().map(|saved| Image { names: saved.names(), digest: None }).collect())
}

fn docker_image(members: &Members, saved: &Saved, arch: Arch) -> Result<Image, Problem> {
    let names = saved.names();
    let called = names.first().map_or_else(|| "an image".into(), |name| format!("the image {name}"));
    let Some(config) = members.json::<Platform>(&saved.config)? else {
        return refused(format!("lacks {}, the description of {called}", saved.config), SAVE_AGAIN);
    };
    let promised = saved.config.rsplit('/').next().unwrap_or_default().trim_end_matches(".json");
    let sum = members.file(&saved.config).map(|(sum, ..)| sum.to_string()).unwrap_or_default();
    if promised.len() == 64 && promised != sum {
        return refused(format!("is damaged: {} has the sum {sum}", saved.config), SAVE_AGAIN);
    }
    check_platform(&config, arch, &called)?;
    for (number, layer) in saved.layers.iter().enumerate() {
        let Some((sum, ..)) = members.file(layer) else {
            return refused(format!("lacks {layer}, a layer of {called}"), SAVE_AGAIN);
        };
        // A layer is named by its own sum, or told by the image's description where it isn't compressed.
        let sum = sum.to_string();
        let by_name = layer.strip_prefix("blobs/sha256/").is_some_and(|name| name == sum);
        let by_description =
            config.rootfs.diff_ids.get(number).is_some_and(|id| id.strip_prefix("sha256:") == Some(&sum));
        if !by_name && !by_description {
            return refused(format!("is damaged: {layer}, a layer of {called}, has the sum {sum}"), SAVE_AGAIN);
        }
    }
    Ok(Image { names, digest: None })
}

fn oci_image(members: &Members, entry: &Descriptor, arch: Arch) -> Result<Image, Problem> {
    // containerd's own annotation has the whole name; the standard's may be a tag alone, which is nobody's name.
    let name = ["io.containerd.image.name", "org.opencontainers.image.ref.name"]
        .iter()
        .filter_map(|key| entry.annotations.get(*key))
        .filter(|name| name.contains(['/', ':', '@']))
        .find_map(|name| Reference::parse(name));
    let called = name.as_ref().map_or_else(|| "an image".into(), |name| format!("the image {name}"));
    let mut others = Vec::new();
    if !prove(members, entry, arch, &called, &mut others, 0)? {
        let found = if others.is_empty() { "no platform".into() } else { others.join(", ") };
        return not_for(&called, &found, arch);
    }
    Ok(Image { names: name.into_iter().collect(), digest: Some(entry.digest.clone()) })
}

/// Whether an image for the board is there and whole below an index or a manifest; other platforms are told.
fn prove(
    members: &Members,
    entry: &Descriptor,
    arch: Arch,
    called: &str,
    others: &mut Vec<String>,
    depth: usize,
) -> Result<bool, Problem> {
    if depth > DEPTH {
        return refused(format!("has an index within an index within an index for {called}"), SAVE_AGAIN);
    }
    let lacks = |digest: &str| refused(format!("lacks the blob {digest} of {called}"), SAVE_AGAIN);
    if let Some(platform) = entry.platform.as_ref().filter(|platform| !platform.fits(arch)) {
        // Attestations stand there as a platform that nobody has.
        if platform.architecture != "unknown" {
            others.push(platform.name());
        }
        return Ok(false);
    }
    if !is_digest(&entry.digest) {
        return refused(format!("names a blob by {:?}, which is no SHA-256 digest", entry.digest), SAVE_AGAIN);
    }
    let Some(found) = members.blob::<Oci>(&entry.digest)? else { return lacks(&entry.digest) };
    let Some(config) = found.config else {
        let mut any = false;
        for inner in &found.manifests {
            any |= prove(members, inner, arch, called, others, depth + 1)?;
        }
        return Ok(any);
    };
    let Some(platform) = members.blob::<Platform>(&config.digest)? else { return lacks(&config.digest) };
    if !platform.fits(arch) {
        others.push(platform.name());
        return Ok(false);
    }
    for layer in &found.layers {
        if !members.proved(&layer.digest, Some(layer.size))? {
            return lacks(&layer.digest);
        }
    }
    Ok(true)
}

fn check_platform(platform: &Platform, arch: Arch, called: &str) -> Result<(), Problem> {
    if platform.fits(arch) { Ok(()) } else { not_for(called, &platform.name(), arch) }
}

fn not_for<T>(called: &str, found: &str, arch: Arch) -> Result<T, Problem> {
    let wanted = platform_of(arch);
    let problem = format!(
        "has {called} for {found}, but the board is {wanted}: on the device it would end with \"exec format error\""
    );
    refused(problem, format!("`docker pull --platform {wanted} NAME`, then saving it again"))
}
