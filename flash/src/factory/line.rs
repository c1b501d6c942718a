//! A line's YAML: which image, which table, which ports, where the record is. Paths in it are relative to the file.

use crate::error::{FlashError, io_error};
use crate::seed::SeedFile;
use crate::table::Row;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The line.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Line {
    /// Its own file.
    #[serde(skip)]
    pub path: PathBuf,
    /// The image.
    pub image: PathBuf,
    /// The sum of the image's file.
    pub sha256: String,
    /// Its block map, where that isn't beside it.
    #[serde(default)]
    pub bmap: Option<PathBuf>,
    /// The table of machines.
    pub rows: PathBuf,
    /// Where media are plugged in: names as in /dev/disk/by-path, or `file:PATH` for a file that stands for a medium.
    pub ports: Vec<String>,
    /// The record; `LINE.sqlite` beside the file without one.
    #[serde(default)]
    pub record: PathBuf,
    /// What the seeds of all machines have in common.
    #[serde(default)]
    pub seed: Option<PathBuf>,
    /// Who works here.
    #[serde(default)]
    pub operator: Option<String>,
    /// The label of each device.
    #[serde(default)]
    pub label: Option<Label>,
    #[serde(skip)]
    common: Option<String>,
}

/// A label.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// Its text; `{row}`, `{ticket}`, `{disk}` and `{COLUMN}` stand for what the device has.
    pub text: String,
    /// The file or printer's device that gets a line for each.
    pub to: PathBuf,
}

impl Line {
    /// Reads a line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(path: &Path) -> Result<Self, FlashError> {
        let wrong = |problem: String| FlashError::Line { path: path.into(), problem };
        let text = std::fs::read_to_string(path).map_err(io_error("reading", path))?;
        let mut line: Self = serde_yaml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        line.path = path.into();
        let folder = path.parent().unwrap_or(Path::new("."));
        if line.record.as_os_str().is_empty() {
            line.record = path.with_extension("sqlite").file_name().map(PathBuf::from).unwrap_or_default();
        }
        for one in
            [&mut line.image, &mut line.rows, &mut line.record].into_iter().chain(&mut line.bmap).chain(&mut line.seed)
        {
            *one = folder.join(&*one);
        }
        line.label.iter_mut().for_each(|label| label.to = folder.join(&label.to));
        for port in &mut line.ports {
            if let Some(file) = port.strip_prefix("file:") {
                *port = format!("file:{}", folder.join(file).display());
            }
        }
        if line.sha256.len() != 64 || !line.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong("sha256: takes the sum of the image's file, as `sha256sum` writes it".into()));
        }
        line.sha256.make_ascii_lowercase();
        if line.ports.is_empty() {
            return Err(wrong("ports: names no port; `ls /dev/disk/by-path` shows those of what is plugged in".into()));
        }
        line.common = match &line.seed {
            Some(path) => Some(std::fs::read_to_string(path).map_err(io_error("reading", path))?),
            None => None,
        };
        Ok(line)
    }

    /// The seed of a row.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn seed(&self, row: &Row, ticket: &str) -> Result<SeedFile, FlashError> {
        let ticket = ("seed.ticket".to_string(), ticket.to_string());
        let sets: Vec<_> = row.sets.iter().cloned().chain([ticket]).collect();
        SeedFile::make(self.common.as_deref(), &sets)
    }
}
