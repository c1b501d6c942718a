//! What the firmware of each of a board's models loads from an image: the model of it (`bakelite_spec::pi`) over the image's FAT.

use crate::opened::{Opened, Seen};
use bakelite_spec::layout::Scheme;
use bakelite_spec::pi::config_txt::Files;
use bakelite_spec::pi::firmware::{Loads, start};
use bakelite_spec::pi::models::find;
use serde::Serialize;

/// What one model does with an image.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ModelStart {
    /// What people call the model.
    pub model: String,
    /// Whether it was told to try: then it reads another file.
    pub tries: bool,
    /// What it loads, by paths on the boot partition.
    pub loads: Loads,
    /// The kernel's arguments, as far as they come from the medium.
    pub cmdline: String,
    /// What doesn't go as it is written.
    pub problems: Vec<String>,
}

impl Files for Opened {
    fn has(&self, path: &str) -> bool {
        own_name(self, path).is_some()
    }

    fn text(&self, path: &str) -> Option<String> {
        Some(String::from_utf8_lossy(&self.on_boot(own_name(self, path)?).ok()?).into_owned())
    }
}

/// A path as the FAT has it, which compares names without case.
fn own_name<'a>(image: &'a Opened, path: &str) -> Option<&'a str> {
    let files = &image.boot.as_ref().ok()?.files;
    files.keys().find(|own| own.eq_ignore_ascii_case(path)).map(String::as_str)
}

/// What each model does, also when it tries; nothing for boards that other firmware starts.
///
/// # Errors
/// Why it can't be told.
pub fn starts(image: &Opened) -> Seen<Vec<ModelStart>> {
    if image.table.as_ref().map_err(Clone::clone)?.scheme != Scheme::Mbr {
        return Ok(Vec::new());
    }
    image.boot.as_ref().map_err(Clone::clone)?;
    let names = &image.manifest.as_ref().map_err(Clone::clone)?.board.boot.models;
    let models = names.iter().filter_map(|name| find(name));
    let one = |(model, tries)| {
        let played = start(model, image, tries);
        let cmdline = played.loads.cmdline.as_deref().and_then(|path| image.text(path)).unwrap_or_default();
        ModelStart {
            model: model.title.into(),
            tries,
            loads: played.loads,
            cmdline: cmdline.trim().into(),
            problems: played.problems,
        }
    };
    Ok(models.flat_map(|model| [(model, false), (model, true)]).map(one).collect())
}
