//! Rules about a recovery stick: whose word it is, and whether its files are those that were signed.

use super::Found;
use super::system::drain;
use crate::opened::Opened;
use crate::source::digest::Hashing;
use bakelite_spec::layers::Effective;
use bakelite_trust::recovery::{MANIFEST, Manifest};
use bakelite_trust::signature;

fn manifest(image: &Opened) -> Result<Manifest, String> {
    Manifest::parse(&image.on_boot(MANIFEST)?).map_err(|error| error.to_string())
}

pub fn signed(image: &Opened) -> Found {
    let members = image.initramfs.as_ref().map_err(Clone::clone)?;
    let appliance = members.get("bakelite/appliance.json").ok_or("the initramfs holds no bakelite/appliance.json")?;
    let settings: Effective = serde_json::from_slice(&appliance.content).map_err(|error| error.to_string())?;
    let owners: Vec<String> = serde_json::from_value(settings.values["owner"]["keys"].clone()).unwrap_or_default();
    let (bytes, text) = (image.on_boot(MANIFEST)?, image.on_boot(&format!("{MANIFEST}{}", signature::ENDING))?);
    let read = Manifest::read(&owners, &bytes, &String::from_utf8_lossy(&text));
    Ok(read.err().map(|error| error.to_string()).into_iter().collect())
}

pub fn files(image: &Opened) -> Found {
    let manifest = manifest(image)?;
    let volume = image.boot.as_ref().map_err(Clone::clone)?;
    let mut found = Vec::new();
    for file in &manifest.files {
        if volume.files.get(&file.path).is_none_or(|there| there.size != file.size) {
            found.push(format!("/{} isn't there with {} bytes", file.path, file.size));
            continue;
        }
        let mut hashing = Hashing::new(image.file_on_boot(&file.path)?);
        drain(&mut hashing).map_err(|error| format!("/{}: {error}", file.path))?;
        if hashing.finish().0.to_string() != file.sha256 {
            found.push(format!("/{} isn't the file that was signed", file.path));
        }
    }
    let system = manifest.system().map(|file| (file.size, file.sha256.as_str()));
    if system != Some((manifest.image.system.length, manifest.image.system.sha256.as_str())) {
        found.push("the system isn't the one of the image that the manifest speaks of".into());
    }
    Ok(found)
}
