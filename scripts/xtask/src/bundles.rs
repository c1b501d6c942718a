//! Makes bundles, and a stick with some: each by the command, as a person makes one, and then perhaps damaged.

use crate::door;
use crate::steps::{DamageBundle, MakeApps, MakeBundle, MakeBundles};
use crate::stick;
use anyhow::{Context, Result};
use bakelite_spec::hexadecimal::hexadecimal;
use bakelite_trust::stick::{BUNDLES, FOLDER};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Makes the stick; `program` is the command, and `images` holds the images.
pub fn make(program: &str, images: &Path, path: &Path, wanted: &MakeBundles) -> Result<()> {
    let work = tempfile::tempdir()?;
    let folder = work.path().join(FOLDER).join(BUNDLES);
    std::fs::create_dir_all(&folder)?;
    for (number, bundle) in wanted.bundles.iter().enumerate() {
        one(program, images, &folder, number, bundle)?;
    }
    stick::fill(path, wanted.size.0, &work.path().join(FOLDER))
}

/// Makes one bundle in a folder; its path.
pub fn one(program: &str, images: &Path, folder: &Path, number: usize, bundle: &MakeBundle) -> Result<PathBuf> {
    let made = tempfile::tempdir()?;
    let work = made.path();
    let key = work.join(format!("{number}.key"));
    stick::write(&key, stick::keys(bundle.by_a_stranger).to_text().as_bytes())?;
    let output = folder.join(format!("{}-{number}.bundle", bundle.of));
    let (key, target) = (key.display().to_string(), output.display().to_string());
    let image = |of: &str| images.join(format!("{of}.img")).display().to_string();
    let older = bundle.from.as_deref().map(image);
    let (source, more) = match (&bundle.apps, &older) {
        (Some(apps), _) => {
            (write_apps(&work.join(number.to_string()), &bundle.of, apps)?.display().to_string(), vec!["--apps"])
        }
        (None, Some(older)) => (image(&bundle.of), vec!["--from", older]),
        (None, None) => (image(&bundle.of), Vec::new()),
    };
    let words = [vec!["bundle", &source, "--output", &target, "--key", &key], more].concat();
    door::run(program, &words, work).with_context(|| format!("making a bundle of {}", bundle.of))?;
    match bundle.damage {
        Some(DamageBundle::Flipped) => flip(&output)?,
        Some(DamageBundle::Truncated) => {
            let length = std::fs::metadata(&output)?.len();
            File::options().write(true).open(&output)?.set_len(length / 2)?;
        }
        None => {}
    }
    Ok(output)
}

/// Writes an appliance with apps into a folder; its path.
fn write_apps(folder: &Path, of: &str, apps: &MakeApps) -> Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    let base = door::root().join(format!("scripts/scenarios/appliances/{of}.yaml"));
    let mut appliance: Value = serde_yaml::from_str(&std::fs::read_to_string(base)?)?;
    appliance["image"]["version"] = apps.version.clone().into();
    let (mut images, mut manifests) = (Vec::new(), Vec::new());
    for name in &apps.deploys {
        let image = format!("{name}:{}", apps.version);
        if !apps.lacks.contains(name) {
            images.push(format!("{name}.tar"));
            stick::write(&folder.join(format!("{name}.tar")), &archive(&image)?)?;
        }
        manifests.push(format!("{name}.yaml"));
        let text = serde_yaml::to_string(&deployment(name, &image))?;
        stick::write(&folder.join(format!("{name}.yaml")), text.as_bytes())?;
    }
    appliance["images"] = images.into();
    appliance["manifests"] = manifests.into();
    let path = folder.join("apps.yaml");
    stick::write(&path, serde_yaml::to_string(&appliance)?.as_bytes())?;
    Ok(path)
}

fn deployment(name: &str, image: &str) -> Value {
    let resources = json!({ "requests": { "cpu": "1m" }, "limits": { "memory": "1Mi" } });
    let container = json!({ "name": name, "image": image, "resources": resources });
    let template = json!({ "metadata": { "labels": { "app": name } }, "spec": { "containers": [container] } });
    let spec = json!({ "selector": { "matchLabels": { "app": name } }, "template": template });
    json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name }, "spec": spec })
}

/// As `docker save` writes it: one image of one layer.
fn archive(image: &str) -> Result<Vec<u8>> {
    let sum = |bytes: &[u8]| hexadecimal(Sha256::digest(bytes));
    let layer = format!("the layer of {image}").into_bytes();
    let ids = json!({ "diff_ids": [format!("sha256:{}", sum(&layer))] });
    let config = json!({ "architecture": "amd64", "os": "linux", "rootfs": ids }).to_string().into_bytes();
    let name = format!("{}.json", sum(&config));
    let list = json!([{ "Config": name, "RepoTags": [image], "Layers": ["1/layer.tar"] }]).to_string();
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content) in [("1/layer.tar", layer), (&name, config), ("manifest.json", list.into_bytes())] {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, &content[..])?;
    }
    Ok(archive.into_inner()?)
}

/// Turns one bit over, near the end, where the system is, or its delta.
fn flip(path: &Path) -> Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let length = file.metadata()?.len();
    let at = length - (length / 4).min(1 << 20);
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    byte[0] ^= 1;
    Ok(file.write_all_at(&byte, at)?)
}
