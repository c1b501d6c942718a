//! The settings of this machine: what was baked, and on top of it what a person wrote for it or at it.
//!
//! The order is fixed: baked < seed (seed.yaml, by the flasher) < overlay (bakelite.yaml on the boot partition) <
//! applied (`bakelite config`) < kernel command line. A layer that is wrong counts as it was last accepted, as a whole;
//! on the command line, a word that is wrong is left out.

use crate::error::FirstbootError;
use crate::overlay::{self, Seen};
use crate::seed;
use bakelite_plan::identity::{Identity, RECORD};
use bakelite_plan::settings::OVERLAY_SEEN;
use bakelite_plan::{Local, Overlay, Settings};
use bakelite_spec::appliance::Appliance;
use bakelite_spec::check::{check, expand, is_known};
use bakelite_spec::cmdline::Cmdline;
use bakelite_spec::finding::Finding;
use bakelite_spec::keys::APPLIANCE;
use bakelite_spec::laid;
use bakelite_spec::layers::{Effective, Layer, fixed};
use bakelite_spec::manifest::Manifest;
use bakelite_spec::status::paths;
use bakelite_spec::yaml::Document;
use bakelite_sys::read_text;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::path::Path;

/// All layers, merged.
pub struct Layers {
    /// What counts, as types.
    pub settings: Settings,
    /// What counts, with who set it.
    pub effective: Effective,
}

/// Everything below the settings that are applied on the device.
pub struct Below {
    manifest: Manifest,
    effective: Effective,
    local: Local,
    cmdline: Cmdline,
}

/// Reads and merges.
///
/// # Errors
/// When the baked settings can't be read.
pub fn read(root: &Path) -> Result<Layers, FirstbootError> {
    let mut below = below(root)?;
    let text = |path: &str| std::fs::read_to_string(at(root, path)).ok();
    // What is tried and what was confirmed stand in for each other; a trial was checked before it began.
    for (path, text) in [paths::TRIAL, paths::APPLIED].into_iter().filter_map(|path| Some((path, text(path)?))) {
        match lay(&below.effective, &below.manifest, Layer::Applied, path, &text) {
            Ok(with) => {
                below.effective = with;
                break;
            }
            Err(findings) => below.local.refused.push(laid::line(&findings)),
        }
    }
    below.finish(&at(root, paths::BAKED).join("appliance.json"))
}

/// The settings of this machine, as decisions need them.
///
/// # Errors
/// As [`read`].
pub fn settings(root: &Path) -> Result<Settings, FirstbootError> {
    read(root).map(|layers| layers.settings)
}

/// Reads and merges everything below the settings that are applied on the device.
///
/// # Errors
/// When the baked settings can't be read.
pub fn below(root: &Path) -> Result<Below, FirstbootError> {
    let baked = |name: &str| at(root, paths::BAKED).join(name);
    let manifest: Manifest = baked_file(&baked("manifest.json"))?;
    let mut effective: Effective = baked_file(&baked("appliance.json"))?;
    let mut local = Local::default();
    match seed(root) {
        Some(Ok(document)) => {
            effective = laid::lay(&effective, &manifest.board, Layer::Seed, &document).unwrap_or(effective)
        }
        Some(Err(findings)) => local.refused.push(laid::line(&findings)),
        None => {}
    }
    let seen = overlay::seen(root);
    let kept = std::fs::read_to_string(at(root, paths::OVERLAY)).ok();
    if let Some(Seen::Unreadable(why)) = &seen {
        local.refused.push(why.clone());
    }
    if let Some(Seen::Text(text)) = &seen {
        match lay(&effective, &manifest, Layer::Overlay, overlay::NAME, text) {
            Ok(with) => {
                effective = with;
                local.overlay = Overlay::Accepted(text.clone());
            }
            Err(findings) => local.refused.push(laid::line(&findings)),
        }
    }
    if seen == Some(Seen::Absent) {
        local.overlay = Overlay::Absent;
    }
    // Taken away by a person, it no longer counts; on a card that never had one, it came by another card's seal.
    let taken_away = local.overlay == Overlay::Absent && at(root, OVERLAY_SEEN).exists();
    let is_open = !matches!(local.overlay, Overlay::Accepted(_)) && !taken_away;
    if let Some(kept) = kept.filter(|_| is_open) {
        match lay(&effective, &manifest, Layer::Overlay, paths::OVERLAY, &kept) {
            Ok(with) => effective = with,
            Err(findings) => local.refused.push(laid::line(&findings)),
        }
    }
    let cmdline = Cmdline::parse(&read_text(root.join("proc/cmdline")).unwrap_or_default());
    Ok(Below { manifest, effective, local, cmdline })
}

/// The seed that counts: a new one that is right and for this machine, else the one that was taken.
fn seed(root: &Path) -> Option<Result<Document, Vec<Finding>>> {
    let own = read_text(at(root, RECORD)).ok().and_then(|text| Identity::read(&text));
    let is_ours = |named: &Option<String>| match (named, &own) {
        (Some(named), Some(own)) => *named == own.node,
        _ => true,
    };
    match seed::text(root).filter(|seed| is_ours(&seed.new.node)) {
        Some(seed) => Some(Ok(seed.whole.document)),
        None => {
            let kept = std::fs::read_to_string(at(root, paths::SEED)).ok()?;
            Some(Document::read_seed(paths::SEED, &kept, APPLIANCE))
        }
    }
}

/// What is wrong with a seed, laid upon what was baked.
pub fn refused_seed(root: &Path, document: &Document) -> Option<String> {
    let baked = |name: &str| at(root, paths::BAKED).join(name);
    let manifest: Manifest = baked_file(&baked("manifest.json")).ok()?;
    let effective: Effective = baked_file(&baked("appliance.json")).ok()?;
    laid::lay(&effective, &manifest.board, Layer::Seed, document).err().map(|findings| laid::line(&findings))
}

impl Below {
    /// Lays the settings of a file on top, and what is above it.
    ///
    /// # Errors
    /// All findings in the file, or what it comes to with the layers below.
    pub fn with(mut self, file: &str, text: &str) -> Result<Layers, Vec<Finding>> {
        self.effective = lay(&self.effective, &self.manifest, Layer::Applied, file, text)?;
        self.finish(Path::new(file)).map_err(|error| vec![Finding::error("", bakelite_sys::words(&error), "")])
    }

    /// The command line on top; what makes no appliance is left out.
    fn finish(self, baked: &Path) -> Result<Layers, FirstbootError> {
        let words = from_cmdline(&self.cmdline, &self.effective.values);
        let with_words = self.effective.clone().with(Layer::CommandLine, &words);
        let (appliance, effective) = match Appliance::from_values(&with_words.values) {
            Ok(appliance) => (appliance, with_words),
            Err(error) => {
                log::warn!("the kernel command line's settings don't fit: {error}");
                let appliance = Appliance::from_values(&self.effective.values)
                    .map_err(|source| FirstbootError::ReadBaked { path: baked.display().to_string(), source })?;
                (appliance, self.effective)
            }
        };
        Ok(Layers { settings: Settings { appliance, manifest: self.manifest, local: self.local }, effective })
    }
}

fn at(root: &Path, path: &str) -> std::path::PathBuf {
    root.join(path.trim_start_matches('/'))
}

fn baked_file<T: DeserializeOwned>(path: &Path) -> Result<T, FirstbootError> {
    let text = read_text(path)?;
    serde_json::from_str(&text).map_err(|source| FirstbootError::ReadBaked { path: path.display().to_string(), source })
}

/// Checks a layer like a build does, and lays it on top.
fn lay(
    below: &Effective,
    manifest: &Manifest,
    layer: Layer,
    file: &str,
    text: &str,
) -> Result<Effective, Vec<Finding>> {
    laid::lay(below, &manifest.board, layer, &Document::read_layer(file, text, APPLIANCE)?)
}

/// `bakelite.network.wait=5` as a tree; only keys that are known, allowed and well-formed.
fn from_cmdline(cmdline: &Cmdline, baked: &Value) -> Value {
    let mut tree = json!({});
    for (key, text) in cmdline.with_prefix("bakelite.") {
        if key == "slot" || !is_known(APPLIANCE, key) {
            continue;
        }
        let value = serde_yaml::from_str(text).unwrap_or_else(|_| Value::String(text.into()));
        let mut one = key.rsplit('.').fold(value, |inner, name| json!({ name: inner }));
        expand(&mut one);
        if !fixed(Layer::CommandLine, &one).is_empty() {
            continue;
        }
        one["board"] = baked["board"].clone();
        match check(&one, APPLIANCE).first() {
            Some(located) => log::warn!("kernel command line: {}", located.finding),
            None => tree = Effective { values: tree, ..Effective::default() }.with(Layer::CommandLine, &one).values,
        }
    }
    tree
}

#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
