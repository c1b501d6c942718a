//! A factory line at work beside a machine: `bakelite factory` with the boot medium in its only port, or with no port for what an
//! installer stick makes, which hears the machine's report over the network.

use crate::door;
use crate::server::HOST;
use crate::steps::LineSays;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

/// A line's own file, in the scenario's folder, and the key that it makes beside its record.
pub const LINE: &str = "line.yaml";
const KEY: &str = "line.key";
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
        let ports = format!("['file:{}']", medium.display());
        let mut line = Self::start(folder, image, &format!("row,hostname\n1,{hostname}\n"), &ports)?;
        line.until(FLASHED, "hasn't flashed", |line| line.said().contains("\"event\":\"ended\""))?;
        Ok(line)
    }

    /// Has a line listen whose machines with this table are made elsewhere.
    pub fn hear(folder: &Path, image: &Path, rows: &str) -> Result<Self> {
        let mut line = Self::start(folder, image, rows, "[]")?;
        line.until(FLASHED, "hasn't begun", |_| folder.join(KEY).exists())?;
        Ok(line)
    }

    fn start(folder: &Path, image: &Path, rows: &str, ports: &str) -> Result<Self> {
        // Free a moment ago; the line says so if it isn't any more.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let pass = format!("{{listen: '127.0.0.1:{port}', address: '{HOST}:{port}', within: 1h}}");
        let summed = door::run("sha256sum", &[&image.display().to_string()], folder)?;
        let sum = summed.split(' ').next().unwrap_or_default();
        let image = std::path::absolute(image)?;
        let put = |name: &str, text: &str| door::write(&folder.join(name), text);
        put("rows.csv", rows)?;
        let image = image.display();
        put(LINE, &format!("image: {image}\nsha256: {sum}\nrows: rows.csv\nports: {ports}\npass: {pass}\n"))?;
        let running = door::begin(&door::program(), &["--json", "factory", LINE], folder, &folder.join("line.log"))?;
        Ok(Self { running, folder: folder.into() })
    }

    fn until(&mut self, time: Duration, what: &str, holds: impl Fn(&Self) -> bool) -> Result<()> {
        let until = Instant::now() + time;
        while !holds(self) {
            ensure!(self.running.try_wait()?.is_none(), "the line ended: {}", self.said());
            ensure!(Instant::now() < until, "the line {what}: {}", self.said());
            std::thread::sleep(PAUSE);
        }
        Ok(())
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
        let device = self.device()?;
        let (verdict, heard) = (device["verdict"].as_str(), device["heard"].as_str());
        let is_so = verdict == Some(&wanted.verdict) && heard == Some(&wanted.heard);
        ensure!(is_so, "the line's record has {device}");
        Ok(())
    }

    /// Takes over what a stick has recorded; the device, which is known by its report, has its disk in the record then.
    pub fn merges(&self, stick: &Path) -> Result<()> {
        let before = self.device()?;
        let stick = stick.display().to_string();
        door::bakelite(&["factory", "merge", LINE, &stick], &self.folder)?;
        let after = self.device()?;
        let is_so = before["medium"] == "" && after["medium"] != "" && after["disk"] != before["disk"];
        ensure!(is_so && before["verdict"] == after["verdict"], "the line's record had {before}, and has {after}");
        Ok(())
    }

    /// The one device of its record.
    fn device(&self) -> Result<Value> {
        let words = ["factory", "record", LINE, "--form", "json"];
        let text = door::run(&door::program(), &words, &self.folder)?;
        let devices: Vec<Value> = serde_json::from_str(&text).context("reading the line's record")?;
        let [device] = &devices[..] else { bail!("the record has {} devices", devices.len()) };
        Ok(device.clone())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ = self.running.kill();
        let _ = self.running.wait();
    }
}
