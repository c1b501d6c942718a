//! Makes a stick with bundles: each by the command, as a person makes one, and then perhaps damaged.

use crate::door;
use crate::steps::{DamageBundle, MakeBundles};
use crate::stick;
use anyhow::{Context, Result};
use bakelite_trust::stick::{BUNDLES, FOLDER};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Makes the stick; `program` is the command, and `images` holds the images.
pub fn make(program: &str, images: &Path, path: &Path, wanted: &MakeBundles) -> Result<()> {
    let work = tempfile::tempdir()?;
    let folder = work.path().join(FOLDER).join(BUNDLES);
    std::fs::create_dir_all(&folder)?;
    for (number, bundle) in wanted.bundles.iter().enumerate() {
        let key = work.path().join(format!("{number}.key"));
        stick::write(&key, stick::keys(bundle.by_a_stranger).to_text().as_bytes())?;
        let output = folder.join(format!("{}-{number}.bundle", bundle.of));
        let image = images.join(format!("{}.img", bundle.of)).display().to_string();
        let (key, target) = (key.display().to_string(), output.display().to_string());
        door::run(program, &["bundle", &image, "--output", &target, "--key", &key], work.path())
            .with_context(|| format!("making a bundle of {}", bundle.of))?;
        match bundle.damage {
            Some(DamageBundle::Flipped) => flip(&output)?,
            Some(DamageBundle::Truncated) => {
                let length = std::fs::metadata(&output)?.len();
                File::options().write(true).open(&output)?.set_len(length / 2)?;
            }
            None => {}
        }
    }
    stick::fill(path, wanted.size.0, &work.path().join(FOLDER))
}

/// Turns one bit over, near the end, where the system is.
fn flip(path: &Path) -> Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let at = file.metadata()?.len() - (1 << 20);
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    byte[0] ^= 1;
    Ok(file.write_all_at(&byte, at)?)
}
