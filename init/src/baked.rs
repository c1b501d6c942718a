//! What the workshop baked for this machine, read from the initramfs and kept in /run over the change of root.

use crate::error::InitError;
use bakelite_spec::appliance::Appliance;
use bakelite_spec::layers::Effective;
use bakelite_spec::manifest::Manifest;
use bakelite_spec::status::paths;
use bakelite_spec::unit::Unit;
use bakelite_sys::{SysError, durable};
use serde::de::DeserializeOwned;
use std::path::Path;

/// Where the initramfs has them.
const IN_INITRAMFS: &str = "/bakelite";
const FILES: [&str; 3] = ["manifest.json", "appliance.json", "units.json"];

/// The baked settings.
pub struct Baked {
    /// What is in the image.
    pub manifest: Manifest,
    /// What it is to do.
    pub appliance: Appliance,
    /// The programs to keep running.
    pub units: Vec<Unit>,
}

/// Copies the baked files from the initramfs to /run.
///
/// # Errors
/// When one of them isn't there.
pub fn keep() -> Result<(), InitError> {
    durable::make_folder(paths::BAKED)?;
    for file in FILES {
        let path = Path::new(IN_INITRAMFS).join(file);
        let bytes = std::fs::read(&path).map_err(|source| SysError::Read { path, source })?;
        durable::replace(Path::new(paths::BAKED).join(file), &bytes, 0o644)?;
    }
    Ok(())
}

fn read<T: DeserializeOwned>(file: &'static str) -> Result<T, InitError> {
    let path = Path::new(paths::BAKED).join(file);
    let bytes = std::fs::read(&path).map_err(|source| SysError::Read { path, source })?;
    serde_json::from_slice(&bytes).map_err(|source| InitError::Baked { file, source })
}

impl Baked {
    /// Reads the settings that [`keep`] has put into /run.
    ///
    /// # Errors
    /// When one of the files can't be read or understood.
    pub fn read() -> Result<Self, InitError> {
        let effective: Effective = read("appliance.json")?;
        let appliance = Appliance::from_values(&effective.values)
            .map_err(|source| InitError::Baked { file: "appliance.json", source })?;
        Ok(Self { manifest: read("manifest.json")?, appliance, units: read("units.json")? })
    }
}
