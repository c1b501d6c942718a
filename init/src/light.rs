//! The board's light: the one thing that somebody sees who stands there without a screen.
//!
//! The kernel blinks by itself (its timer trigger), so nothing wakes up for it here. A light that can't be set is no fault.

use bakelite_sys::{durable, names_in};
use std::path::{Path, PathBuf};

/// The module that lets the kernel blink.
pub const MODULE: &str = "ledtrig_timer";

/// What it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shows {
    /// The machine gets ready: slow.
    Starting,
    /// A recovery stick's medic looks and repairs: short flashes with long pauses.
    Mending,
    /// All is well: on.
    Working,
    /// Somebody has to act: quick.
    NeedsHuman,
}

impl Shows {
    /// How long it is on and off, in milliseconds; `None` where it just shines.
    fn rhythm(self) -> Option<(u32, u32)> {
        match self {
            Self::Starting => Some((900, 900)),
            Self::Mending => Some((120, 1400)),
            Self::Working => None,
            Self::NeedsHuman => Some((120, 120)),
        }
    }
}

/// The first of a board's lights that is there.
#[derive(Debug)]
pub struct Light {
    folder: PathBuf,
    names: Vec<String>,
    shown: Option<Shows>,
}

impl Light {
    /// A board's light by the names that it may have; `root` is `/` but in tests. Its driver may come later.
    pub fn new(root: &Path, names: &[String]) -> Self {
        Self { folder: root.join("sys/class/leds"), names: names.to_vec(), shown: None }
    }

    /// Shows something, if it isn't shown already.
    pub fn show(&mut self, shows: Shows) {
        if self.shown == Some(shows) || self.names.is_empty() {
            return;
        }
        let there = names_in(&self.folder);
        let Some(name) = self.names.iter().find(|name| there.contains(name)) else { return };
        if set(&self.folder.join(name), shows).is_ok() {
            self.shown = Some(shows);
        }
    }
}

fn set(light: &Path, shows: Shows) -> Result<(), bakelite_sys::SysError> {
    let put = |file: &str, text: &str| durable::write_plain(light.join(file), text);
    // Without a trigger first: the timer's files are made anew with it, and a running one would go on in its old rhythm.
    put("trigger", "none")?;
    match shows.rhythm() {
        None => put("brightness", "255"),
        Some((on, off)) => {
            put("trigger", "timer")?;
            put("delay_on", &on.to_string())?;
            put("delay_off", &off.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bakelite_sys::read_text;

    #[test]
    fn the_first_light_that_is_there_shows_the_state() {
        let root = tempfile::tempdir().unwrap();
        let names = ["led-act".to_string(), "ACT".to_string()];
        let mut light = Light::new(root.path(), &names);
        light.show(Shows::Starting);
        let folder = root.path().join("sys/class/leds/ACT");
        for file in ["trigger", "brightness", "delay_on", "delay_off"] {
            durable::make_folder(&folder).unwrap();
            durable::replace(folder.join(file), b"", 0o644).unwrap();
        }
        let says = |file: &str| read_text(folder.join(file)).unwrap();
        light.show(Shows::Starting);
        assert_eq!(
            (says("trigger"), says("delay_on"), says("delay_off")),
            ("timer".into(), "900".into(), "900".into())
        );
        light.show(Shows::NeedsHuman);
        assert_eq!(says("delay_on"), "120");
        light.show(Shows::Working);
        assert_eq!((&says("trigger")[..4], says("brightness").as_str()), ("none", "255"));
        durable::replace(folder.join("trigger"), b"by hand", 0o644).unwrap();
        light.show(Shows::Working);
        assert_eq!(says("trigger"), "by hand", "what is shown isn't written again");
    }
}
