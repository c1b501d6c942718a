//! A factory line at work beside a machine: `bakelite factory` with the boot medium in its only port, which hears the machine's
//! report over the network.

use crate::door;
use crate::server::HOST;
use crate::steps::LineSays;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

/// For flashing a small image.
const FLASHED: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_millis(300);

/// The line.
pub struct Line {
    running: Child,
    folder: PathBuf,
}

impl Line {
    /// Has a line flash the boot medium as the machine of this name, and go on listening.
    pub fn begin(folder: &Path, image: &Path, medium: &Path, hostname: &str) -> Result<Self> {
        // Free a moment ago; the line says so if it isn't any more.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let pass = format!("{{listen: '127.0.0.1:{port}', address: '{HOST}:{port}', within: 1h}}");
        let summed = door::run("sha256sum", &[&image.display().to_string()], folder)?;
        let sum = summed.split(' ').next().unwrap_or_default();
        let (image_path, medium) = (image.display(), medium.display());
        let put = |name: &str, text: &str| door::write(&folder.join(name), text);
        put("rows.csv", &format!("row,hostname\n1,{hostname}\n"))?;
        put(
            "line.yaml",
            &format!("image: {image_path}\nsha256: {sum}\nrows: rows.csv\nports: ['file:{medium}']\npass: {pass}\n"),
        )?;
        let words = ["--json", "factory", "line.yaml"];
        let mut line = Self {
            running: door::begin(&door::program(), &words, folder, &folder.join("line.log"))?,
            folder: folder.into(),
        };
        let until = Instant::now() + FLASHED;
        while !line.said().contains("\"event\":\"ended\"") {
            ensure!(line.running.try_wait()?.is_none(), "the line ended: {}", line.said());
            ensure!(Instant::now() < until, "the line hasn't flashed: {}", line.said());
            std::thread::sleep(PAUSE);
        }
        Ok(line)
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.folder.join("line.log")).unwrap_or_default()
    }

    /// Waits until the line has heard of all it has made, and looks at its record.
    pub fn says(&mut self, wanted: &LineSays) -> Result<()> {
        let until = Instant::now() + Duration::from_secs_f64(wanted.within);
        while self.running.try_wait()?.is_none() {
            ensure!(Instant::now() < until, "the line still waits: {}", self.said());
            std::thread::sleep(PAUSE);
        }
        let words = ["factory", "record", "line.yaml", "--form", "json"];
        let text = door::run(&door::program(), &words, &self.folder)?;
        let devices: Vec<Value> = serde_json::from_str(&text).context("reading the line's record")?;
        let [device] = &devices[..] else { bail!("the record has {} devices", devices.len()) };
        let (verdict, heard) = (device["verdict"].as_str(), device["heard"].as_str());
        let is_so = verdict == Some(&wanted.verdict) && heard == Some(&wanted.heard);
        ensure!(is_so, "the line's record has {device}");
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ = self.running.kill();
        let _ = self.running.wait();
    }
}
