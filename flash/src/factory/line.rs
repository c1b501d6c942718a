//! A line's YAML: which image, which table, which ports, where the record is. Paths in it are relative to the file.

use crate::error::{FlashError, io_error};
use crate::seed::SeedFile;
use crate::table::Row;
use bakelite_image::BuildError;
use bakelite_image::host::file;
use bakelite_image::start::random;
use bakelite_spec::quantity::Seconds;
use bakelite_spec::seed::PASS_KEY;
use bakelite_trust::pass::PassKey;
use serde::Deserialize;
use std::fs::Permissions;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
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
    /// Where media are plugged in: names as in /dev/disk/by-path, or `file:PATH` for a file that stands for a medium. None where
    /// installer sticks make all machines.
    #[serde(default)]
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
    /// Where machines report over the network; they do so on their media alone without it.
    #[serde(default)]
    pub pass: Option<Pass>,
    #[serde(skip)]
    common: Option<String>,
}

/// The pass over the network.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Pass {
    /// The address and port that reports are heard at.
    pub listen: SocketAddr,
    /// As machines reach it, where that is another one.
    #[serde(default)]
    pub address: Option<SocketAddr>,
    /// For so long after a medium was written its machine is waited for.
    #[serde(default = "an_hour")]
    pub within: Seconds,
}

fn an_hour() -> Seconds {
    Seconds(3600)
}

impl Pass {
    /// As machines reach it.
    pub fn address(&self) -> SocketAddr {
        self.address.unwrap_or(self.listen)
    }
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
        if line.ports.is_empty() && line.pass.is_none() {
            let problem = "ports: names no port; `ls /dev/disk/by-path` shows those of what is plugged in. A line whose machines \
                           installer sticks make hears them with `pass`";
            return Err(wrong(problem.into()));
        }
        if let Some(pass) = &line.pass
            && (pass.address().ip().is_unspecified() || pass.address().port() == 0)
        {
            let problem =
                "pass: machines can't reach this address; name this computer's own with `address: 192.0.2.1:7411`";
            return Err(wrong(problem.into()));
        }
        line.common = match &line.seed {
            Some(path) => Some(std::fs::read_to_string(path).map_err(io_error("reading", path))?),
            None => None,
        };
        Ok(line)
    }

    /// The seed of a row; with the line's key also what its machine needs to report over the network.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn seed(&self, row: &Row, ticket: &str, key: Option<&PassKey>) -> Result<SeedFile, FlashError> {
        let mut sets = row.sets.clone();
        sets.push(("seed.ticket".into(), ticket.into()));
        if let (Some(pass), Some(key)) = (&self.pass, key) {
            sets.push(("seed.pass".into(), pass.address().to_string()));
            sets.push((format!("seed.secrets.{PASS_KEY}"), key.of_machine(ticket).to_text()));
        }
        SeedFile::make(self.common.as_deref(), &sets)
    }

    /// The line's own key, of which its machines' are made; it lies beside the record, and is made once. `None` without a pass
    /// over the network.
    ///
    /// # Errors
    /// When it can't be read or written.
    pub fn key(&self) -> Result<Option<PassKey>, FlashError> {
        if self.pass.is_none() {
            return Ok(None);
        }
        let path = self.record.with_extension("key");
        if !path.exists() {
            let text = format!("{}\n", PassKey::new(random()?).to_text());
            let mut half = file::begin(file::folder_of(&path)).map_err(BuildError::from)?;
            half.as_file()
                .set_permissions(Permissions::from_mode(0o600))
                .and_then(|()| half.write_all(text.as_bytes()))
                .map_err(io_error("writing", &path))?;
            // Of two programs that make one at a time, the second takes the first one's.
            file::publish_new(half, &path).map_err(BuildError::from)?;
        }
        let text = std::fs::read_to_string(&path).map_err(io_error("reading", &path))?;
        let key = PassKey::parse(&text).ok_or_else(|| FlashError::Line {
            path,
            problem:
                "it isn't a line's key; put the right one back, or remove it: then machines that were made with it are \
                      passed by their media alone"
                    .into(),
        })?;
        Ok(Some(key))
    }
}
