//! The consoles that the kernel uses, written to without ever waiting for them: a stuck terminal must not stop PID 1.

use bakelite_sys::{raw, read_text};
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// The consoles.
pub struct Consoles {
    /// Serial and other line-wise consoles.
    lines: Vec<File>,
    /// The screen, if there is one.
    screen: Option<File>,
    /// Whether the screen is somebody else's.
    is_given: bool,
}

fn open(path: &Path) -> Option<File> {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).ok().map(File::from)
}

impl Consoles {
    /// Opens what there is.
    pub fn open() -> Self {
        let active = read_text("/sys/class/tty/console/active").unwrap_or_default();
        let is_screen = |name: &str| name.strip_prefix("tty").is_some_and(|n| n.parse::<u32>().is_ok());
        let lines = active.split_whitespace().filter(|name| !is_screen(name));
        Self {
            lines: lines.filter_map(|name| open(&Path::new("/dev").join(name))).collect(),
            screen: open(Path::new("/dev/tty0")),
            is_given: false,
        }
    }

    /// Writes one line to all line-wise consoles; to the screen only where nothing else is there to show it.
    pub fn line(&mut self, text: &str) {
        for file in &mut self.lines {
            let _ = file.write_all(format!("{text}\r\n").as_bytes());
        }
    }

    /// Shows a whole page: the screen is wiped first, line-wise consoles get it as lines.
    pub fn page(&mut self, text: &str) {
        let text = text.replace('\n', "\r\n");
        self.write_screen(&text);
        for file in &mut self.lines {
            let _ = file.write_all(format!("{text}\r\n").as_bytes());
        }
    }

    /// Shows a page on the screen alone.
    pub fn screen(&mut self, text: &str) {
        self.write_screen(&text.replace('\n', "\r\n"));
    }

    fn write_screen(&mut self, text: &str) {
        if let Some(screen) = self.screen.as_mut().filter(|_| !self.is_given) {
            let _ = screen.write_all(format!("\x1b[H\x1b[2J{text}\r\n").as_bytes());
        }
    }

    /// Leaves the screen to somebody else, or takes it back from whoever has it. Whether that is a change.
    ///
    /// In graphics mode the kernel draws neither text nor cursor; back in text mode it draws at once, also over a program
    /// that has the display to itself.
    pub fn give_screen(&mut self, away: bool) -> bool {
        let changes = self.is_given != away;
        if let Some(screen) = self.screen.as_ref().filter(|_| changes) {
            let mode = if away { raw::Terminal::Graphics } else { raw::Terminal::Text };
            let _ = raw::set_terminal(screen, mode);
        }
        self.is_given = away;
        changes
    }
}
